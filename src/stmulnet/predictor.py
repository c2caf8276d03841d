"""From a video file to the recognised action: decode, flow, test protocol."""

# T frames, H x W pixels, K classes; frame numbers and times are 1-based, flow field i leads from frame i to i + 1

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.console import notice
from stmulnet.constants import FLOW_CHANNELS, JPEG_QUALITY, MIN_FRAMES, STORED_SHORT_SIDE, TEST_FRAMES
from stmulnet.datasets.sampling import flow_numbers, test_frames
from stmulnet.datasets.transforms import TestTransform
from stmulnet.device import choose_device
from stmulnet.errors import ConfigError, VideoTooShortError
from stmulnet.evaluation.metrics import top_classes
from stmulnet.evaluation.protocol import VideoScores, video_scores
from stmulnet.flow.estimate import estimate_flow, flow_record
from stmulnet.flow.quantize import to_uint8
from stmulnet.models.checkpoint import load_model
from stmulnet.models.multiplier import Network
from stmulnet.rendering import rankings_html
from stmulnet.video.io import iter_frames
from stmulnet.video.pool import default_workers
from stmulnet.video.store import through_jpeg

Ranking = list[tuple[str, float]]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """The answer for one video.

    Attributes:
        label: Name of the class with the highest fused score.
        score: Its probability, 0..1: softmax of the fused raw scores. The protocol itself averages raw scores.
        top_k: (class, probability) of the best classes by the fused score, best first.
        appearance: The same by the appearance stream alone; None without that stream.
        motion: The same by the motion stream alone; None without that stream.
        num_frames: Frames of the video.
        preset: The settings that decide about the scores, in words.
        flow_record: How the flow was computed; None if the network needs none.
        seconds: Time spent on ``decode``, ``flow``, ``network`` and in ``total``.
        scores: Raw scores of all classes.
    """

    label: str
    score: float
    top_k: Ranking
    appearance: Ranking | None
    motion: Ranking | None
    num_frames: int
    preset: str
    flow_record: dict[str, Any] | None
    seconds: dict[str, float]
    scores: VideoScores

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; the raw scores are left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "scores"}
        for name in ("top_k", "appearance", "motion"):
            if values[name] is not None:
                values[name] = [{"label": label, "score": score} for label, score in values[name]]
        return values

    def _repr_html_(self) -> str:
        streams = {"appearance stream": self.appearance, "motion stream": self.motion}
        rankings = {title: ranking for title, ranking in streams.items() if ranking is not None}
        if len(rankings) == 2:
            rankings = {"both streams": self.top_k, **rankings}
        times = ", ".join(f"{name} {value:.2f} s" for name, value in self.seconds.items())
        return rankings_html(rankings, [f"{self.num_frames} frames of video; {times}", self.preset])


@dataclass(frozen=True)
class PreparedVideo:
    """What the network sees of one video.

    Attributes:
        times: Numbers of the T sampled frames, 1-based; those of short videos repeat.
        rgb: Frames (T, 3, H, W), uint8; None without appearance stream.
        flow: Stacks (T, 20, H, W), uint8; None without motion stream.
        num_frames: Frames of the video.
    """

    times: list[int]
    rgb: Tensor | None
    flow: Tensor | None
    num_frames: int


class VideoPredictor:
    """Recognises the action in video files with one network.

    Frames are resized to the short side the network was trained with, flow is computed only where the sampled frames
    need it, and the scores come from the official test protocol.

    Deviation D11: by default frames and flow do not go through JPEG, which is quicker and loses nothing; with
    ``jpeg=True`` the scores are those of ``extract`` and ``evaluate``.

    Args:
        model: A network with class names, or the path of its weights.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ... (see ``choose_device``).
        num_frames: Frames sampled per video (official: 25).
        top: Number of classes in the rankings of a prediction.
        threads: Threads for the flow; None takes one per processor core.
        flow_backend: Implementation of the flow, see ``estimate_flow``.
        jpeg: Whether frames and flow are compressed as on disk before the network sees them.

    Raises:
        CheckpointError: The weights cannot be read.
        ConfigError: A network without class names, or an argument out of range.
    """

    def __init__(
        self,
        model: Network | str | Path,
        *,
        device: str = "auto",
        num_frames: int = TEST_FRAMES,
        top: int = 5,
        threads: int | None = None,
        flow_backend: str = "tvl1",
        jpeg: bool = False,
    ) -> None:
        for name, number in (("top", top), ("threads", 1 if threads is None else threads), ("num_frames", num_frames)):
            if number < 1:
                raise ConfigError(f"{name} must be 1 or more, got {number}")
        self.device = choose_device(device)
        network = model if isinstance(model, Network) else load_model(model)  # the seconds that bad input need not take
        if network.class_names is None:
            raise ConfigError(
                "the network has no class names to answer with; train it with `stmulnet train` or set model.class_names"
            )
        network.config.check_frames(num_frames)
        self.model = network.to(self.device).eval()
        self.class_names: list[str] = network.class_names
        self.num_frames = num_frames
        self.top = top
        self.threads = threads or default_workers()
        self.flow_backend = flow_backend
        self.flow_record = flow_record(flow_backend) if "motion" in network.config.streams else None
        self.jpeg = jpeg
        # What `stmulnet train` copied from the manifest of the data set; absent for networks made otherwise.
        record = network.metadata.get("preprocessing", {})
        self.short_side = int(record.get("frames", {}).get("short_side", STORED_SHORT_SIDE))
        self.jpeg_quality = int(record.get("frames", {}).get("jpeg_quality", JPEG_QUALITY))
        trained_with = record.get("flow", {}).get("backend", flow_backend)
        if self.flow_record and trained_with != flow_backend:
            notice(f"note: the network was trained with {trained_with} flow and now gets {flow_backend} flow")

    def __call__(self, path: str | Path) -> Prediction:
        """Recognise the action in one video.

        Args:
            path: Video file of at least 11 frames.

        Returns:
            The prediction.

        Raises:
            VideoDecodeError: The file cannot be decoded completely.
            VideoTooShortError: It has fewer than 11 frames.
        """
        seconds: dict[str, float] = {}
        with _clock(seconds, "total"):
            scores, num_frames = self._score(Path(path), seconds)
        rankings = {name: self._ranking(getattr(scores, name)) for name in ("fused", "appearance", "motion")}
        top_k = rankings["fused"]
        assert top_k is not None
        return Prediction(
            label=top_k[0][0],
            score=top_k[0][1],
            top_k=top_k,
            appearance=rankings["appearance"],
            motion=rankings["motion"],
            num_frames=num_frames,
            preset=self.preset,
            flow_record=self.flow_record,
            seconds=seconds,
            scores=scores,
        )

    @property
    def preset(self) -> str:
        """The settings that decide about the scores, in words."""
        flow = f", {self.flow_backend} flow" if self.flow_record else ""
        jpeg = ", through JPEG" if self.jpeg else ""
        return f"{self.num_frames} frames, short side {self.short_side}, original and mirrored{flow}{jpeg}"

    def prepare(self, path: str | Path, *, seconds: dict[str, float] | None = None) -> PreparedVideo:
        """Decode one video and compute its flow: what the network will see of it.

        Args:
            path: Video file of at least 11 frames.
            seconds: Gets the time spent on ``decode`` and ``flow``.

        Raises:
            VideoDecodeError: The file cannot be decoded completely.
            VideoTooShortError: It has fewer than 11 frames.
        """
        path, seconds = Path(path), {} if seconds is None else seconds
        with _clock(seconds, "decode"):
            # The number of frames decides which ones are needed, and headers are often wrong about it. Decoding twice
            # keeps at most the needed frames (275) in memory, however long the video is.
            num_frames = sum(1 for _ in iter_frames(path, threads=self.threads))
            if num_frames < MIN_FRAMES:
                raise VideoTooShortError(f"{path}: the video has {num_frames} frames, at least {MIN_FRAMES} are needed")
            times = test_frames(num_frames, self.num_frames)
            fields = sorted({number for t in times for number in flow_numbers(t)}) if self.flow_record else []
            frames = self._decode(path, {*times, *fields, *(number + 1 for number in fields)})
        with _clock(seconds, "flow"):
            flow = self._flow(frames, fields) if fields else None
        rgb = None
        if "appearance" in self.model.config.streams:
            rgb = {number: self._stored(frames[number]) for number in times}
        clips = protocol_clips(times, rgb, flow, TestTransform(self.model.config.input_size))
        return PreparedVideo(times, *clips, num_frames)

    def _score(self, path: Path, seconds: dict[str, float]) -> tuple[VideoScores, int]:
        prepared = self.prepare(path, seconds=seconds)
        with _clock(seconds, "network"):
            scores = video_scores(self.model, prepared.rgb, prepared.flow, device=self.device)
        return scores, prepared.num_frames

    def _decode(self, path: Path, numbers: set[int]) -> dict[int, Image]:
        decoded = iter_frames(path, short_side=self.short_side, threads=self.threads)
        return {number: frame for number, frame in enumerate(decoded, start=1) if number in numbers}

    def _flow(self, frames: dict[int, Image], fields: Sequence[int]) -> dict[int, Image]:
        """8-bit flow (2, H, W) of the given fields."""
        flow: dict[int, Image] = {}
        for first, last in consecutive_runs(fields):
            run = np.stack([frames[number] for number in range(first, last + 2)])
            flow_px = estimate_flow(run, backend=self.flow_backend, threads=self.threads, device=str(self.device))
            levels = to_uint8(flow_px)
            for number, field in zip(range(first, last + 1), levels, strict=True):
                flow[number] = np.stack([self._stored(component) for component in field])
        return flow

    def _stored(self, image: Image) -> Image:
        return through_jpeg(image, quality=self.jpeg_quality) if self.jpeg else image

    def _ranking(self, scores: NDArray[np.float64] | None) -> Ranking | None:
        return None if scores is None else top_classes(scores, self.class_names, self.top)


def consecutive_runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last number of each run without a gap in an ascending list."""
    breaks = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
    starts, ends = [0, *breaks], [*breaks, len(numbers)]
    return [(numbers[start], numbers[end - 1]) for start, end in zip(starts, ends, strict=True) if end > start]


def protocol_clips(
    times: Sequence[int], frames: dict[int, Image] | None, fields: dict[int, Image] | None, transform: TestTransform
) -> tuple[Tensor | None, Tensor | None]:
    """Build the tensors of the test protocol.

    Args:
        times: T frame numbers; they may repeat (short videos).
        frames: Number -> RGB frame (H, W, 3), uint8; None for a network without appearance stream.
        fields: Number -> flow field (2, H, W), uint8; None for a network without motion stream.
        transform: Limits the sides; applied once to each frame and field.

    Returns:
        Frames (T, 3, H', W') and stacks (T, 20, H', W'), uint8.
    """
    distinct, frame_at = np.unique(times, return_inverse=True)
    needed, field_at = np.unique([flow_numbers(t) for t in times], return_inverse=True)
    rgb = None if frames is None else _tensor([frames[number].transpose(2, 0, 1) for number in distinct.tolist()])
    flow = None if fields is None else _tensor([fields[number] for number in needed.tolist()])
    rgb, flow = transform(rgb, flow)
    if rgb is not None:
        rgb = rgb[torch.from_numpy(frame_at)]
    if flow is not None:
        flow = flow[torch.from_numpy(field_at).reshape(-1)].reshape(len(times), FLOW_CHANNELS, *flow.shape[-2:])
    return rgb, flow


def _tensor(images: list[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images))


@contextmanager
def _clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
