"""The test protocol: raw scores averaged over positions, windows and views; by default the official one's views."""

# T frames, H x W pixels, K classes, W windows of the temporal pooling, h x w positions of the last map, V videos,
# P views (passes through the network)

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.console import progress
from stmulnet.constants import FLOW_CHANNELS
from stmulnet.errors import ConfigError
from stmulnet.evaluation.clip_views import ViewMaker, official_views


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
        appearance_views: (P, K) scores of each view, whose mean ``appearance`` is.
        motion_views: (P, K), likewise.
    """

    appearance: NDArray[np.float64] | None
    motion: NDArray[np.float64] | None
    fused: NDArray[np.float64]
    appearance_views: NDArray[np.float64] | None = None
    motion_views: NDArray[np.float64] | None = None

    @classmethod
    def of_views(cls, appearance: NDArray[np.float64] | None, motion: NDArray[np.float64] | None) -> "VideoScores":
        """The scores of a video from those (P, K) of its views, one stream at least."""
        means = [None if views is None else views.mean(axis=0) for views in (appearance, motion)]
        fused = np.mean([scores for scores in means if scores is not None], axis=0)
        return cls(means[0], means[1], fused, appearance, motion)


@dataclass(frozen=True)
class ScoredVideo:
    """A test video with its true class, 0-based, and its scores."""

    video: str
    label: int
    scores: VideoScores


@dataclass(frozen=True)
class ScoreTable:
    """Raw scores of many videos, float64; None for what there is not.

    Attributes:
        videos: V names.
        labels: (V,) true classes, 0-based.
        appearance: (V, K) scores of the appearance stream.
        motion: (V, K) scores of the motion stream.
        fused: (V, K) mean of the streams present, weighted where so wanted.
        appearance_views: (V, P, K) scores of each view.
        motion_views: (V, P, K), likewise.
        external: (V, K) scores of another method.
        combined: (V, K) ``fused`` and ``external`` together.
    """

    videos: list[str]
    labels: NDArray[np.int64]
    appearance: NDArray[np.float64] | None
    motion: NDArray[np.float64] | None
    fused: NDArray[np.float64]
    appearance_views: NDArray[np.float64] | None = None
    motion_views: NDArray[np.float64] | None = None
    external: NDArray[np.float64] | None = None
    combined: NDArray[np.float64] | None = None

    def streams(self) -> dict[str, NDArray[np.float64]]:
        """Score tables by name: the streams present, ``fused`` where there are two, what was added; the last counts."""
        fused = self.fused if self.appearance is not None and self.motion is not None else None
        tables = {"appearance": self.appearance, "motion": self.motion, "fused": fused}
        tables |= {"external": self.external, "combined": self.combined}
        return {name: table for name, table in tables.items() if table is not None}

    @property
    def final(self) -> NDArray[np.float64]:
        """(V, K) scores that decide: ``combined`` where there is another method, else ``fused``."""
        return self.fused if self.combined is None else self.combined


def video_scores(
    model: ClipScorer,
    rgb: Tensor | None,
    flow: Tensor | None,
    *,
    device: torch.device | str | None = None,
    views: ViewMaker = official_views,
) -> VideoScores:
    """Score one video by the test protocol (STMuNet_test.m; cnn_train_dag.m:302-317, 340-420).

    One pass per view; officially two, original and mirrored. Per pass and stream the raw scores are averaged over
    positions, then over windows; the streams' scores are the means over the passes, the fused score the mean of the
    streams.

    Args:
        model: Network in evaluation mode.
        rgb: Frames (T, 3, H, W), uint8, each side in [input size, 2 x input size]; None if the network takes flow only.
        flow: Flow stacks (T, 20, H, W), uint8, of the same T, H and W; None if the network takes frames only.
        device: Where the network is; the clips travel there as uint8. None: they are there already.
        views: Makes the views of the video.

    Returns:
        Raw scores.

    Raises:
        ConfigError: The clips' shapes are not as above.
    """
    _check_clips(rgb, flow)
    rgb, flow = (clip if clip is None or device is None else clip.to(device) for clip in (rgb, flow))
    with torch.inference_mode():
        outputs = [model(*(clip[None] for clip in view if clip is not None)) for view in views(rgb, flow)]
    appearance = _view_scores([output.appearance_map for output in outputs])
    motion = _view_scores([output.motion_map for output in outputs])
    return VideoScores.of_views(appearance, motion)


def score_each(
    model: ClipScorer,
    samples: Iterable[VideoSample],
    *,
    total: int,
    device: torch.device | str | None = None,
    views: ViewMaker = official_views,
) -> Iterator[ScoredVideo]:
    """Score the videos of an iterable one by one, with a progress bar; arguments are those of `evaluate_videos`."""
    with progress(total, "evaluate", "videos") as advance:
        for sample in samples:
            rgb, flow = (clip if clip.numel() else None for clip in (sample.rgb, sample.flow))
            scores = video_scores(model, rgb, flow, device=device, views=views)
            yield ScoredVideo(sample.video, int(sample.label), scores)
            advance(1)


def evaluate_videos(
    model: ClipScorer,
    samples: Iterable[VideoSample],
    *,
    total: int,
    device: torch.device | str | None = None,
    views: ViewMaker = official_views,
) -> ScoreTable:
    """Score every video of an iterable, with a progress bar.

    Args:
        model: Network in evaluation mode.
        samples: Test videos, see ``VideoSample``.
        total: Number of videos, for the progress bar and as a check that none is lost.
        device: Where the network is; None: the clips are there already.
        views: Makes the views of a video.

    Returns:
        Scores in the order of ``samples``.

    Raises:
        ConfigError: There are no videos, or not ``total`` of them.
    """
    scored = list(score_each(model, samples, total=total, device=device, views=views))
    if len(scored) != total or not scored:
        raise ConfigError(f"{len(scored)} videos were evaluated, {total} expected (at least one is needed)")
    return score_table(scored)


def score_table(scored: Sequence[ScoredVideo]) -> ScoreTable:
    """The table of some videos, one at least, in their order."""
    scores = [video.scores for video in scored]
    return ScoreTable(
        [video.video for video in scored],
        np.array([video.label for video in scored], dtype=np.int64),
        _stack([video.appearance for video in scores]),
        _stack([video.motion for video in scores]),
        np.stack([video.fused for video in scores]),
        _stack([video.appearance_views for video in scores]),
        _stack([video.motion_views for video in scores]),
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


def _view_scores(maps: list[Tensor | None]) -> NDArray[np.float64] | None:
    """Maps (1, K, W, h, w), one per view, to (P, K): means over positions, then windows."""
    passes = [scores.float().cpu().double().mean(dim=(3, 4)).mean(dim=2)[0] for scores in maps if scores is not None]
    return torch.stack(passes).numpy() if passes else None


def _stack(rows: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    present = [row for row in rows if row is not None]
    return np.stack(present) if present else None
