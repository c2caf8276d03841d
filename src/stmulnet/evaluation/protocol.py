"""The official test protocol: whole frames, original and mirrored, raw scores averaged."""

# T frames, H x W pixels, K classes, W windows of the temporal pooling, h x w positions of the last map, V videos

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.console import progress
from stmulnet.constants import FLOW_CHANNELS
from stmulnet.errors import ConfigError
from stmulnet.mirror import mirror_clip


class ClipScorer(Protocol):
    """A network: ``(1, T, 3, H, W)`` and / or ``(1, T, 20, H, W)`` in, maps of raw scores ``(1, K, W, h, w)`` out."""

    def __call__(self, *clips: Tensor) -> Any:
        """Return an object with ``appearance_map`` and ``motion_map``; None for a stream the network lacks."""


class VideoSample(Protocol):
    """One test video: every frame of the protocol, each side already clamped to [input size, 2 x input size]."""

    @property
    def rgb(self) -> Tensor:
        """Frames (T, 3, H, W), uint8; without elements if the network takes flow only."""

    @property
    def flow(self) -> Tensor:
        """Flow stacks (T, 20, H, W), uint8; without elements if the network takes frames only."""

    @property
    def label(self) -> int:
        """True class, 0-based."""

    @property
    def video(self) -> str:
        """Name of the video."""


@dataclass(frozen=True)
class VideoScores:
    """Raw scores (no softmax) of one video, float64; None for a stream that the network lacks.

    Attributes:
        appearance: (K,) scores of the appearance stream.
        motion: (K,) scores of the motion stream.
        fused: (K,) mean of the streams present.
    """

    appearance: NDArray[np.float64] | None
    motion: NDArray[np.float64] | None
    fused: NDArray[np.float64]


@dataclass(frozen=True)
class ScoreTable:
    """Raw scores of many videos, float64; None for a stream that the network lacks.

    Attributes:
        videos: V names.
        labels: (V,) true classes, 0-based.
        appearance: (V, K) scores of the appearance stream.
        motion: (V, K) scores of the motion stream.
        fused: (V, K) mean of the streams present.
    """

    videos: list[str]
    labels: NDArray[np.int64]
    appearance: NDArray[np.float64] | None
    motion: NDArray[np.float64] | None
    fused: NDArray[np.float64]

    def streams(self) -> dict[str, NDArray[np.float64]]:
        """Score tables by name: the streams present, then ``fused`` where there are two."""
        tables = {"appearance": self.appearance, "motion": self.motion}
        present = {name: table for name, table in tables.items() if table is not None}
        return {**present, "fused": self.fused} if len(present) == 2 else present


def video_scores(
    model: ClipScorer, rgb: Tensor | None, flow: Tensor | None, *, device: torch.device | str | None = None
) -> VideoScores:
    """Score one video by the official test protocol (STMuNet_test.m; cnn_train_dag.m:302-317, 340-420).

    Two passes, original and mirrored. Per pass and stream the raw scores are averaged over positions, then over
    windows; the streams' scores are the means over the passes, the fused score the mean of the streams.

    Args:
        model: Network in evaluation mode.
        rgb: Frames (T, 3, H, W), uint8, each side in [input size, 2 x input size]; None if the network takes flow only.
        flow: Flow stacks (T, 20, H, W), uint8, of the same T, H and W; None if the network takes frames only.
        device: Where the network is; the clips travel there as uint8. None: they are there already.

    Returns:
        Raw scores.

    Raises:
        ConfigError: The clips' shapes are not as above.
    """
    _check_clips(rgb, flow)
    rgb, flow = (clip if clip is None or device is None else clip.to(device) for clip in (rgb, flow))
    views = ((rgb, flow), mirror_clip(rgb, flow))
    with torch.inference_mode():
        outputs = [model(*(clip[None] for clip in view if clip is not None)) for view in views]
    appearance = _mean_scores([output.appearance_map for output in outputs])
    motion = _mean_scores([output.motion_map for output in outputs])
    streams = [scores for scores in (appearance, motion) if scores is not None]
    return VideoScores(appearance, motion, np.mean(streams, axis=0))


def evaluate_videos(
    model: ClipScorer, samples: Iterable[VideoSample], *, total: int, device: torch.device | str | None = None
) -> ScoreTable:
    """Score every video of an iterable, with a progress bar.

    Args:
        model: Network in evaluation mode.
        samples: Test videos, see ``VideoSample``.
        total: Number of videos, for the progress bar and as a check that none is lost.
        device: Where the network is; None: the clips are there already.

    Returns:
        Scores in the order of ``samples``.

    Raises:
        ConfigError: There are no videos, or not ``total`` of them.
    """
    videos: list[str] = []
    labels: list[int] = []
    scores: list[VideoScores] = []
    with progress(total, "evaluate", "videos") as advance:
        for sample in samples:
            rgb, flow = (clip if clip.numel() else None for clip in (sample.rgb, sample.flow))
            scores.append(video_scores(model, rgb, flow, device=device))
            videos.append(sample.video)
            labels.append(int(sample.label))
            advance(1)
    if len(videos) != total or not videos:
        raise ConfigError(f"{len(videos)} videos were evaluated, {total} expected (at least one is needed)")
    return ScoreTable(
        videos,
        np.asarray(labels, dtype=np.int64),
        _stack([video.appearance for video in scores]),
        _stack([video.motion for video in scores]),
        np.stack([video.fused for video in scores]),
    )


def _check_clips(rgb: Tensor | None, flow: Tensor | None) -> None:
    clips = {"rgb": (rgb, 3), "flow": (flow, FLOW_CHANNELS)}
    present = {name: (clip, channels) for name, (clip, channels) in clips.items() if clip is not None}
    if not present:
        raise ConfigError("the test protocol needs rgb frames, flow stacks or both, got neither")
    for name, (clip, channels) in present.items():
        if clip.ndim != 4 or clip.shape[1] != channels or clip.dtype != torch.uint8:
            raise ConfigError(
                f"{name} must be uint8 of shape (T, {channels}, H, W), got {clip.dtype} {tuple(clip.shape)}"
            )
    if rgb is not None and flow is not None and (rgb.shape[0], rgb.shape[2:]) != (flow.shape[0], flow.shape[2:]):
        raise ConfigError(
            f"rgb and flow must agree in frames, height and width, got {tuple(rgb.shape)} and {tuple(flow.shape)}"
        )


def _mean_scores(maps: list[Tensor | None]) -> NDArray[np.float64] | None:
    """Maps (1, K, W, h, w), one per pass, to (K,): positions, then windows, then passes."""
    passes = [scores.float().cpu().double().mean(dim=(3, 4)).mean(dim=2)[0] for scores in maps if scores is not None]
    return torch.stack(passes).mean(dim=0).numpy() if passes else None


def _stack(rows: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    present = [row for row in rows if row is not None]
    return np.stack(present) if present else None
