"""Convolutions of an ONNX file with 8-bit numbers, and what that does to the scores."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stmulnet.commands.annotate import annotate
from stmulnet.commands.exporting import Runner, clip_frames, open_onnx
from stmulnet.commands.scoring import OpenSplit, open_candidate, open_test_list
from stmulnet.console import notice
from stmulnet.datasets.annotations import annotation_path
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.loading import ClipLoader
from stmulnet.datasets.moving_shapes import make_moving_shapes
from stmulnet.datasets.sampling import UniformFrames
from stmulnet.datasets.transforms import TestTransform
from stmulnet.errors import AnnotationError
from stmulnet.evaluation.metrics import top_k_correct
from stmulnet.evaluation.protocol import ScoreTable, evaluate_videos
from stmulnet.models.exportable import output_names
from stmulnet.models.multiplier import Network
from stmulnet.video.extract import extract_videos

SHAPES_GROUPS = 2  # per class: twelve videos to set the ranges, twelve to compare scores


@dataclass(frozen=True)
class Int8Job:
    """What is made smaller, and with which videos.

    Attributes:
        network: The network.
        weights: Its file.
        dataset: Folder of the data set; None takes moving shapes.
        split: Of the data set.
        calibration_clips: Training clips that set the ranges.
        allow_mismatch: Score weights that have seen test videos.
    """

    network: Network
    weights: Path
    dataset: Path | None
    split: int
    calibration_clips: int
    allow_mismatch: bool


@dataclass(frozen=True)
class Change:
    """What 8-bit numbers do to the scores of the test protocol.

    Attributes:
        videos: Test videos.
        dataset: Where they are from.
        top1: Share of right answers before and after; None where the network knows other classes.
        agreement: Share of videos with the same answer before and after.
        score: Mean difference of the scores, in parts of their standard deviation.
    """

    videos: int
    dataset: str
    top1: tuple[float, float] | None
    agreement: float
    score: float

    def in_words(self) -> str:
        """One line."""
        accuracy = "accuracy not measured without --dataset"
        if self.top1 is not None:
            accuracy = f"top-1 {100 * self.top1[0]:.1f} % before, {100 * self.top1[1]:.1f} % after"
        return (
            f"int8 on {self.videos} test videos of {self.dataset}: {accuracy}; the same answer for "
            f"{100 * self.agreement:.1f} %; scores differ by {self.score:.2g} of their spread"
        )


def quantize(job: Int8Job, path: Path) -> tuple[Path, Change]:
    """Write an int8 file beside an ONNX file, and compare the two.

    Returns:
        The int8 file, and how its scores differ.
    """
    small = path.with_name(f"int8-{path.name}")
    if job.dataset is not None:
        return small, _quantize(job, path, small, job.dataset)
    with TemporaryDirectory() as folder:
        notice("making moving shapes to set the ranges; --dataset takes your own clips, and measures the accuracy")
        size = job.network.config.input_size
        made = make_moving_shapes(Path(folder), groups_train=SHAPES_GROUPS, groups_test=SHAPES_GROUPS, size=size)
        extract_videos(made.videos, Path(folder) / "dataset", short_side=size, workers=1)
        annotate(made.lists, Path(folder) / "dataset")
        return small, _quantize(job, path, small, Path(folder) / "dataset")


def _quantize(job: Int8Job, path: Path, small: Path, dataset: Path) -> Change:
    tests = _test_videos(job, dataset)
    _write_int8(path, small, _training_clips(job, dataset))
    before, after = (_score(job.network, tests, open_onnx(file)) for file in (path, small))
    right = [float(top_k_correct(table.fused, table.labels).mean()) for table in (before, after)]
    return Change(
        videos=len(before.videos),
        dataset=job.dataset.resolve().name if job.dataset else "moving shapes",
        top1=(right[0], right[1]) if job.dataset else None,
        agreement=float((before.fused.argmax(1) == after.fused.argmax(1)).mean()),
        score=float(np.abs(before.fused - after.fused).mean() / before.fused.std()),
    )


def _test_videos(job: Int8Job, dataset: Path) -> TwoStreamDataset:
    if job.dataset is None:
        return open_test_list(dataset, annotation_path(dataset, 1), job.network, clip_frames(job.network))
    tests = OpenSplit.open(dataset, job.split)
    return open_candidate(job.weights, tests, allow_mismatch=job.allow_mismatch).videos


def _training_clips(job: Int8Job, dataset: Path) -> Iterator[list[Tensor]]:
    """Whole training videos as the test protocol sees them, some frames of each, spread over the list."""
    videos = TwoStreamDataset.in_folder(
        annotation_path(dataset, job.split if job.dataset else 1),
        dataset,
        subset="training",
        sampling=UniformFrames(clip_frames(job.network)),
        transform=TestTransform(job.network.config.input_size),
        streams=job.network.config.streams,
    )
    if not len(videos):
        raise AnnotationError(f"{dataset}: the training list is empty, so that no clips can set the ranges")
    count = min(job.calibration_clips, len(videos))
    chosen = np.linspace(0, len(videos) - 1, count).round().astype(int).tolist()
    for sample in ClipLoader(videos, order=chosen, workers=0):
        yield [clip[None] for clip in (sample.rgb, sample.flow) if clip.numel()]


def _write_int8(path: Path, small: Path, clips: Iterator[list[Tensor]]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc] # without hints
        def get_next(self) -> dict[str, Any] | None:
            given = next(clips, None)
            return None if given is None else dict(zip(names, (clip.numpy() for clip in given), strict=True))

    names = _names(path)
    logger = logging.getLogger()  # it advises a preparation that has nothing to do for files without BatchNorm
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quantize_static(
            path,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],  # the gate's products have a range that 8 bits do not cover
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logger.setLevel(level)


def _names(path: Path) -> list[str]:
    import onnx

    return [value.name for value in onnx.load(path).graph.input]


class _Maps(NamedTuple):
    appearance_map: Tensor | None
    motion_map: Tensor | None


def _score(network: Network, videos: TwoStreamDataset, run: Runner) -> ScoreTable:
    """The test protocol with an exported file."""
    places = {name: index for index, name in enumerate(output_names(network.config))}

    def scorer(*clips: Tensor) -> _Maps:
        outputs = run(*clips)
        maps = [places.get(f"{stream}_map") for stream in ("appearance", "motion")]
        return _Maps(*(None if place is None else torch.from_numpy(outputs[place]) for place in maps))

    return evaluate_videos(scorer, ClipLoader(videos, workers=0), total=len(videos))
