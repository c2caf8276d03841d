"""`stmulnet evaluate`: the test protocol over the test list of a data set."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from stmulnet.console import notice
from stmulnet.constants import FLOW_STACK_BEFORE, FLOW_ZERO_LEVEL, TEST_FRAMES
from stmulnet.datasets.annotations import Annotation, load_annotation
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.loading import ClipLoader
from stmulnet.datasets.sampling import UniformFrames, test_frames
from stmulnet.datasets.transforms import TestTransform
from stmulnet.device import choose_device
from stmulnet.errors import AnnotationError, CheckpointError, ConfigError
from stmulnet.evaluation.metrics import Proportion, top_k_correct
from stmulnet.evaluation.protocol import ScoreTable, evaluate_videos
from stmulnet.evaluation.report import (
    Example,
    Report,
    ResultRow,
    choose_examples,
    confusion,
    example_scores,
    result_row,
    write_report,
)
from stmulnet.files import atomic_path, check_output, write_json
from stmulnet.flow.quantize import to_pixels
from stmulnet.models.checkpoint import load_model
from stmulnet.models.multiplier import Network
from stmulnet.video.manifest import Manifest, load_manifests
from stmulnet.video.pool import default_workers

Images = NDArray[np.uint8]
Flow = NDArray[np.float32]

MAX_WORKERS = 4  # decoding one video is far quicker than scoring it
FRAMES_PER_EXAMPLE = 5
STREAM_NOTES = {
    "appearance": "appearance stream: frames",
    "motion": "motion stream: optical flow",
    "fused": "mean of the two streams' scores",
}


@dataclass(frozen=True)
class EvaluateSummary:
    """Results of `evaluate`.

    Attributes:
        rows: Figures of merit of each stream and, with two streams, of the fused scores (last).
        scores: Raw scores of every video.
        class_names: Names in class order.
        frames: Frames sampled per video.
    """

    rows: list[ResultRow]
    scores: ScoreTable
    class_names: list[str]
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able results: per stream top-1 (and top-5) accuracy with interval, and mean class accuracy."""
        streams = {
            row.name: {
                "top1": _share(row.accuracy),
                "top5": None if row.top5 is None else _share(row.top5),
                "mean_class_accuracy": row.mean_class,
            }
            for row in self.rows
        }
        protocol = f"{self.frames} frames, whole frame, original and mirrored, raw scores averaged"
        return {"videos": len(self.scores.videos), "protocol": protocol, "streams": streams}


def evaluate(
    *,
    dataset: Path,
    weights: Path,
    split: int = 1,
    out: Path | None = None,
    frames: int = TEST_FRAMES,
    examples: int = 8,
    workers: int | None = None,
    device: str = "auto",
) -> EvaluateSummary:
    """Score the test videos of a split by the official protocol and print the accuracy.

    Args:
        dataset: Folder with frames and flow, in any known tree, and annotations/annot01.json ... (from extract or
            import-archive, and annotate).
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file;
            with the classes of the data set.
        split: Number of the split; its validation list is evaluated.
        out: Folder for scores.npz, metrics.json and report.html; without it the results are only printed.
        frames: Frames sampled per video (official: 25).
        examples: Videos shown in the report.
        workers: Processes that read frames, up to four by default; 0 reads in this one and needs no shared memory.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        Figures of merit and scores.
    """
    network = load_model(weights)
    annotation_path = dataset / "annotations" / f"annot{split:02d}.json"
    _check_arguments(network, frames, examples, workers)
    annotation = load_annotation(annotation_path)
    videos = open_test_list(dataset, annotation, network, frames)
    _check_classes(network, weights, videos.class_names, annotation_path)
    if out is not None:
        check_output(out)
    notice(f"{dataset}: {videos.tree.kind}")
    left_out = len(annotation.left_out.get("validation", []))
    if left_out:
        notice(f"{annotation_path} lacks {left_out} videos of the test list: accuracies are those of the others")
    manifest = load_manifests(dataset)
    _check_flow(network, manifest, frames)
    _compare_records(network, manifest)
    chosen = choose_device(device)
    table = score_videos(network, videos, device=chosen, workers=workers)
    rows = [result_row(name, scores, table.labels, note=STREAM_NOTES[name]) for name, scores in table.streams().items()]
    summary = EvaluateSummary(rows, table, videos.class_names, frames)
    _print_table(summary)
    if out is not None:
        _write_results(out, summary)
        facts = [("Data set", str(dataset)), ("Split", str(split)), ("Weights", str(weights))]
        facts += [("Not tested", f"{left_out} videos of the test list that were not on disk")] if left_out else []
        write_report(out / "report.html", _report(summary, videos, facts, examples))
        print(f"{out / 'report.html'}: the results as a page, with confusion matrix and examples")
    return summary


def open_test_list(
    dataset: Path, annotation: Annotation | Path, network: Network, frames: int = TEST_FRAMES
) -> TwoStreamDataset:
    """The validation list of an annotation, sampled and sized for the test protocol of a network."""
    return TwoStreamDataset.in_folder(
        annotation,
        dataset,
        subset="validation",
        sampling=UniformFrames(frames),
        transform=TestTransform(network.config.input_size),
        streams=network.config.streams,
    )


def score_videos(
    network: Network, videos: TwoStreamDataset, *, device: torch.device, workers: int | None = None
) -> ScoreTable:
    """Run the test protocol over a data set, reading ahead in ``workers`` processes."""
    if not len(videos):
        raise AnnotationError("the annotation's validation list is empty; make it anew from the official lists")
    if workers is None:
        workers = min(MAX_WORKERS, default_workers() - 1)
    # A sample is some 50 MB at the official size and waits in shared memory: one per worker is enough.
    loader = ClipLoader(videos, batch_size=None, workers=workers, ahead=1, pin_memory=device.type == "cuda")
    return evaluate_videos(network.to(device).eval(), loader, total=len(videos), device=device)


def example_pictures(videos: TwoStreamDataset, index: int) -> tuple[Images | None, Flow | None]:
    """A few frames (n, H, W, 3) uint8 of a test video and the flow at them (n, 2, H, W) in pixels; None if not read."""
    sample = videos[index]
    count = max(len(sample.rgb), len(sample.flow))
    # Short videos repeat frames: show each at most once, in order.
    _, distinct = np.unique(test_frames(videos.records[index].num_frames, count), return_index=True)
    shown = distinct[np.linspace(0, len(distinct) - 1, min(FRAMES_PER_EXAMPLE, len(distinct))).round().astype(int)]
    frames = sample.rgb.numpy()[shown].transpose(0, 2, 3, 1) if sample.rgb.numel() else None
    if not sample.flow.numel():
        return frames, None
    u = 2 * FLOW_STACK_BEFORE  # field t of the stack t-5 ... t+4: from the frame shown to the next one
    levels = sample.flow.numpy()[shown, u : u + 2]
    # A level stands for the middle of its displacements; shifted so that standstill is exactly zero (white).
    return frames, to_pixels(levels) - to_pixels(np.array(FLOW_ZERO_LEVEL, dtype=np.uint8))


def _check_arguments(network: Network, frames: int, examples: int, workers: int | None) -> None:
    network.config.check_frames(frames)
    for name, number in (("examples", examples), ("workers", workers or 0)):
        if number < 0:
            raise ConfigError(f"{name} must be 0 or more, got {number}")


def _check_classes(network: Network, weights: Path, class_names: list[str], annotation: Path) -> None:
    if network.config.num_classes != len(class_names):
        raise CheckpointError(
            f"{weights} knows {network.config.num_classes} classes, {annotation} has {len(class_names)}: "
            "give weights trained on this data set"
        )
    if network.class_names is not None and network.class_names != class_names:
        ours, theirs = next(pair for pair in zip(network.class_names, class_names, strict=True) if pair[0] != pair[1])
        raise CheckpointError(
            f"{weights} and {annotation} name their classes differently, first {ours!r} against {theirs!r}: "
            "give weights trained on this data set"
        )


def _check_flow(network: Network, manifest: Manifest | None, frames: int) -> None:
    """A data set for evaluation only has the flow of one number of frames."""
    present = manifest.only_for_test_frames if manifest else None
    if present and present != frames and "motion" in network.config.streams:
        raise ConfigError(
            f"the data set has only the flow that {present} frames per video need (extract --flow-only-needed), not "
            f"that of {frames}; evaluate {present} frames, or extract all of the flow into another folder"
        )


def _compare_records(network: Network, manifest: Manifest | None) -> None:
    """Say where frames or flow were made otherwise than those the network was trained on."""
    trained = network.metadata.get("preprocessing")
    if trained is None or manifest is None:
        return
    for part in ("frames", "flow"):
        before, now = trained.get(part, {}), manifest.settings.get(part, {})
        names = (before.keys() & now.keys()) - {"libraries"}
        if before.get("algorithm") != now.get("algorithm"):
            names -= {"parameters"}  # of another algorithm: they would not say more
        for name in sorted(names):
            if before.get(name) != now.get(name):
                notice(f"note: {part} {name}: {now.get(name)!r} here, {before.get(name)!r} in training")


def _share(share: Proportion) -> dict[str, Any]:
    return {"value": share.value, **asdict(share)}


def _print_table(summary: EvaluateSummary) -> None:
    table = Table(title=f"{len(summary.scores.videos)} videos, {summary.frames} frames each", title_justify="left")
    table.add_column("scores")
    for heading in ("top-1 %", "95 % interval", "top-5 %", "mean class %"):
        table.add_column(heading, justify="right")
    for row in summary.rows:
        interval = f"{100 * row.accuracy.low:.1f} to {100 * row.accuracy.high:.1f}"
        top5 = "" if row.top5 is None else f"{100 * row.top5.value:.1f}"
        table.add_row(row.name, f"{100 * row.accuracy.value:.1f}", interval, top5, f"{100 * row.mean_class:.1f}")
    Console(highlight=False).print(table)


def _write_results(out: Path, summary: EvaluateSummary) -> None:
    table = summary.scores
    arrays: dict[str, Any] = {
        "videos": np.array(table.videos),
        "labels": table.labels,
        "class_names": np.array(summary.class_names),
        **table.streams(),
    }
    with atomic_path(out / "scores.npz") as temporary:
        np.savez_compressed(temporary, **arrays)
    write_json(out / "metrics.json", summary.to_dict())


def _report(
    summary: EvaluateSummary, videos: TwoStreamDataset, facts: list[tuple[str, str]], num_examples: int
) -> Report:
    table, names = summary.scores, summary.class_names
    final = list(table.streams())[-1]
    right = top_k_correct(table.fused, table.labels)
    shown = [_example(videos, index, table, names) for index in choose_examples(right, num_examples)]
    return Report(
        title=f"Evaluation on {len(table.videos)} test videos",
        lead=(
            "How well a network recognises the action in videos it has not been trained on, "
            f"and which of the {len(names)} actions it takes for which."
        ),
        facts=[*facts, ("Frames per video", f"{summary.frames}, original and mirrored")],
        class_names=names,
        rows=summary.rows,
        confusions=[confusion(final, table.fused, table.labels)],
        examples=shown,
        examples_note="Half of them are mistakes, where there are as many.",
    )


def _example(videos: TwoStreamDataset, index: int, table: ScoreTable, names: list[str]) -> Example:
    answers = [example_scores(stream, scores[index], names) for stream, scores in table.streams().items()]
    return Example(table.videos[index], names[table.labels[index]], *example_pictures(videos, index), answers)
