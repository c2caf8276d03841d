"""Frames between threads in live recognition: the latest ones, and the rolling window."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmulnet.constants import MIN_FRAMES
from stmulnet.errors import VideoTooShortError
from stmulnet.streaming.windows import MAX_WINDOW_FRAMES

Image = NDArray[np.uint8]

_WAIT_SEC = 0.1  # after which a waiting thread looks whether it shall stop


class Arrived(NamedTuple):
    """A frame, its number in the source (from 1), and when it came, s of the clock."""

    number: int
    at_s: float
    image: Image


class Kept(NamedTuple):
    """A frame that was not dropped, and the 8-bit field (2, H, W) that leads to it from the kept one before."""

    number: int
    at_s: float
    image: Image
    field: Image | None


class LatestFrames:
    """A few frames between who brings them and who takes them; when it is full, one gives way to the newest.

    The one that gives way is the one whose absence leaves the smallest gap, so that what is left is spread evenly.

    Args:
        size: Frames that it holds at most, 2 or more.
    """

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self.arrived = 0
        self._size = size
        self._waiting: list[Arrived] = []
        self._taken = 0  # number of the last frame that was taken
        self._closed = False
        self._changed = threading.Condition()

    def put(self, image: Image, at_s: float) -> None:
        """Bring a frame; never waits."""
        with self._changed:
            self.arrived += 1
            self._waiting.append(Arrived(self.arrived, at_s, image))
            if len(self._waiting) > self._size:
                self._drop_one()
            self._changed.notify_all()

    def take(self) -> list[Arrived]:
        """Wait for frames and take all; an empty list is the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait(_WAIT_SEC)
            taken, self._waiting = self._waiting, []
            if taken:
                self._taken = taken[-1].number
            return taken

    def close(self, *, discard: bool = False) -> None:
        """No more frames come; with ``discard`` those that wait are not wanted any more."""
        with self._changed:
            self._closed = True
            if discard:
                self._waiting = []
            self._changed.notify_all()

    def _drop_one(self) -> None:
        numbers = [self._taken, *(frame.number for frame in self._waiting)]
        gaps = [numbers[place + 2] - numbers[place] for place in range(len(numbers) - 2)]
        del self._waiting[int(np.argmin(gaps))]
        self.dropped += 1


class RollingWindow:
    """The kept frames of the last seconds, but at least 11, which is what one flow stack needs.

    Args:
        window_sec: How far it reaches back, by arrival.
    """

    def __init__(self, window_sec: float) -> None:
        self.first_s = 0.0  # when the first frame came
        self._window_sec = window_sec
        self._kept: deque[Kept] = deque(maxlen=MAX_WINDOW_FRAMES)
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def extend(self, frames: Iterable[Kept]) -> None:
        """Add newer frames, and let go of those that have become too old."""
        with self._changed:
            for frame in frames:
                if not self._kept:
                    self.first_s = frame.at_s
                self._kept.append(frame)
                while len(self._kept) > MIN_FRAMES and self._kept[0].at_s <= frame.at_s - self._window_sec:
                    self._kept.popleft()
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more frames come; an error is raised where the window is waited for."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def wait(self, after_s: float | None, stride_sec: float) -> list[Kept]:
        """Wait until a window is due and return it.

        The first one is due when the frames reach back as far as wanted, each later one when the newest frame came
        ``stride_sec`` or more after ``after_s``, and a last one, of what is new, when no more frames come.

        Returns:
            Its frames; an empty list is the end.

        Raises:
            VideoTooShortError: There were fewer than 11 frames in all.
        """
        with self._changed:
            while not self._due(after_s, stride_sec) and not self._ended:
                self._changed.wait(_WAIT_SEC)
            if self._error is not None:
                raise self._error
            if self._ended and after_s is None and len(self._kept) < MIN_FRAMES:
                raise VideoTooShortError(f"only {len(self._kept)} frames came, at least {MIN_FRAMES} are needed")
            is_new = bool(self._kept) and (after_s is None or self._kept[-1].at_s > after_s)
            return list(self._kept) if is_new else []

    def _due(self, after_s: float | None, stride_sec: float) -> bool:
        if len(self._kept) < MIN_FRAMES:
            return False
        if after_s is None:
            return self._kept[-1].at_s - self.first_s >= self._window_sec
        return self._kept[-1].at_s > after_s and self._kept[-1].at_s - after_s >= stride_sec
