"""Sliding windows over a stream of frames, scored one after the other in bounded memory."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmulnet.evaluation.protocol import VideoScores
from stmulnet.predictor import VideoPredictor
from stmulnet.predictor.overlapping import OverlappingClips
from stmulnet.streaming.fields import FieldMaker, FlowFrame, compute_fields, with_flow
from stmulnet.streaming.windows import Window, Windowing, fields_of
from stmulnet.video.ahead import in_thread

Image = NDArray[np.uint8]
AHEAD_FRAMES = 32  # frames with flow that wait for the network
LEAVE_SEC = 60.0  # whoever stops waits for a few pairs of flow


class Step(NamedTuple):
    """One frame further: the frame (None at the end of the stream) and the window that ends with it, if one does."""

    frame: FlowFrame | None
    window: "WindowScores | None"


@dataclass(frozen=True)
class WindowScores:
    """Raw scores of one window; without those of its views, since there may be many windows."""

    window: Window
    scores: VideoScores


class WindowScorer:
    """Scores sliding windows: each frame is taken once, each flow field computed once.

    Where windows sample the same frames, the network's work on these is shared, too (`stmulnet.models.sharing`).

    A thread reads frames and computes flow, of several pairs in parallel, ahead of the network. What is kept are the
    frames and 8-bit fields of one window, those that wait, and features that the next windows read: memory does not
    depend on the length of the stream.

    The scores of a window are those of the test protocol on exactly its frames: no flow leads into or out of it. Where
    windows share frames, oneDNN can add up in another order: the plain network's scores then differ by 1e-6 of the
    largest or so.

    Args:
        predictor: Network, device, size of the frames, flow.
        windowing: Where the windows lie.
        all_flow: Compute every field, not only those that a window needs.
        share: Whether windows share the network's work.
    """

    def __init__(
        self, predictor: VideoPredictor, windowing: Windowing, *, all_flow: bool = False, share: bool = True
    ) -> None:
        predictor.config.check_frames(windowing.count)
        self.predictor = predictor
        self.windowing = windowing
        self.share = share
        self._needs: Callable[[int], bool] = (lambda number: True) if all_flow else windowing.needs_field
        self._make_fields = FieldMaker(predictor)

    def windows(self, frames: Iterable[Image]) -> Iterator[WindowScores]:
        """Score the windows of a stream, in their order; as `steps`."""
        return (step.window for step in self.steps(frames) if step.window is not None)

    def steps(self, frames: Iterable[Image]) -> Generator[Step, None, None]:
        """Go through a stream frame by frame.

        Args:
            frames: RGB (H, W, 3), uint8, all of one size; each an array of its own.

        Yields:
            A step for every frame and, if a window is left at the end of the stream, one more.

        Raises:
            VideoTooShortError: The stream has fewer than 11 frames.
            VideoDecodeError: ``frames`` raised it; the windows before the damage have been given.
            ConfigError: Frames of another kind or of several sizes.
        """
        kept, shared = _Kept(self.windowing.frames), OverlappingClips()
        index = 0
        stream = with_flow(frames, self._make_fields, self._needs, short_side=self.predictor.short_side)
        with closing(in_thread(stream, ahead=AHEAD_FRAMES, name="timeline", leave_sec=LEAVE_SEC)) as ahead:
            for frame in ahead:
                kept.add(frame)
                window = self.windowing.window(index)
                ends = frame.number == window.last
                yield Step(frame, self._score(kept, shared, window, index) if ends else None)
                index += ends
        if left := self.windowing.last_window(kept.newest, index):
            yield Step(None, self._score(kept, shared, left, None))

    def _score(self, kept: "_Kept", shared: OverlappingClips, window: Window, index: int | None) -> WindowScores:
        """Score a window; ``index`` is None for the last one, if it was moved."""
        times = self.windowing.sampled(window)
        if self._make_fields.needed:  # the last window, moved back, may need others than complete windows do
            missing = [number for number in fields_of(times) if number not in kept.fields]
            kept.fields |= compute_fields(kept.images, missing, self._make_fields)
        upcoming = [] if index is None else map(self.windowing.sampled, self.windowing.after(index))
        through = partial(shared.scorer, times=times, upcoming=upcoming) if self.share else None
        scores = self.predictor.score_frames(times, kept.images, kept.fields, through)
        return WindowScores(window, replace(scores, appearance_views=None, motion_views=None))


class _Kept:
    """The frames and fields of the newest ``size`` frames."""

    def __init__(self, size: int) -> None:
        self.images: dict[int, Image] = {}
        self.fields: dict[int, Image] = {}
        self.newest = 0
        self._size = size

    def add(self, frame: FlowFrame) -> None:
        self.newest = frame.number
        self.images[frame.number] = frame.image
        if frame.field is not None:
            self.fields[frame.number - 1] = frame.field
        self.images.pop(frame.number - self._size, None)
        self.fields.pop(frame.number - self._size, None)
