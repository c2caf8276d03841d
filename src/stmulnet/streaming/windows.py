"""Where the windows over a stream of frames lie: arithmetic on integers, no video needed.

Frame numbers are 1-based; flow field i leads from frame i to frame i + 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, takewhile
from math import ceil, floor
from typing import NamedTuple

from stmulnet.constants import MIN_FRAMES, TEST_FRAMES
from stmulnet.datasets.sampling import flow_numbers, test_frames
from stmulnet.errors import ConfigError, VideoTooShortError

MAX_WINDOW_FRAMES = 3000  # two minutes at 25 frames/s: about 1.3 GB of frames and flow at 341x256


class Window(NamedTuple):
    """The numbers of the first and of the last frame of a window."""

    first: int
    last: int

    @property
    def num_frames(self) -> int:
        """Frames in it."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Windowing:
    """Windows of one length at equal distances.

    Window k holds frames ``k * stride + 1 ... k * stride + frames``. Each is sampled as if it were a video by itself.
    At the end of the stream, a window that has begun but is not complete is moved back until it ends with the last
    frame, unless all of its frames lie in the window before; a stream shorter than one window is one window.

    Attributes:
        frames: Frames of a window, at least 11.
        stride: Frames from the start of one window to the start of the next, at least 1.
        count: Frames that the network sees of each window (official, of a whole video: 25).
    """

    frames: int
    stride: int
    count: int = TEST_FRAMES

    def __post_init__(self) -> None:
        if not MIN_FRAMES <= self.frames <= MAX_WINDOW_FRAMES:
            raise ConfigError(
                f"a window must have {MIN_FRAMES} to {MAX_WINDOW_FRAMES} frames (a flow stack takes {MIN_FRAMES}), "
                f"got {self.frames}"
            )
        if self.stride < 1:
            raise ConfigError(f"the stride of windows must be 1 frame or more, got {self.stride}")

    @classmethod
    def in_seconds(cls, window_sec: float, stride_sec: float, fps: float, count: int = TEST_FRAMES) -> "Windowing":
        """Windows by their length and distance in seconds, rounded to whole frames.

        Raises:
            ConfigError: Too few or too many frames.
        """
        try:
            return cls(round(window_sec * fps), round(stride_sec * fps), count)
        except ConfigError as error:
            given = f"windows of {window_sec:g} s every {stride_sec:g} s at {fps:g} frames/s"
            raise ConfigError(f"{given}: {error}") from error

    def window(self, index: int) -> Window:
        """Window number ``index``, from 0."""
        first = index * self.stride + 1
        return Window(first, first + self.frames - 1)

    def after(self, index: int) -> Iterator[Window]:
        """The windows after number ``index`` that begin before it ends."""
        last = self.window(index).last
        return takewhile(lambda window: window.first <= last, map(self.window, count(index + 1)))

    @property
    def shared(self) -> int:
        """Sampled frames that each window has in common with the one before; 0 where these are none or only a few.

        They are spread over S = ``frames`` - 11 steps from frame 6 on, the k-th at round(k S / (``count`` - 1)): the
        same again where the stride is a whole number of such steps.
        """
        span = self.frames - MIN_FRAMES
        if span < self.count - 1 or self.stride * (self.count - 1) % max(1, span):
            return 0
        return max(0, self.count - self.stride * (self.count - 1) // max(1, span))

    def nearest_shared(self, tolerance: float = 0.1) -> "Windowing | None":
        """The nearest windows that share a quarter of their frames or more.

        Args:
            tolerance: How much longer or shorter window and stride may be, as a share.
        """

        def change(windowing: Windowing) -> float:
            return max(abs(windowing.frames / self.frames - 1), abs(windowing.stride / self.stride - 1))

        lengths = _around(self.frames, tolerance, MIN_FRAMES, MAX_WINDOW_FRAMES)
        strides = _around(self.stride, tolerance, 1, self.frames)
        windowings = (Windowing(frames, stride, self.count) for frames in lengths for stride in strides)
        return min((found for found in windowings if 4 * found.shared >= found.count), key=change, default=None)

    def last_window(self, num_frames: int, complete: int) -> Window | None:
        """The window that is left when a stream ends.

        Args:
            num_frames: Frames of the stream.
            complete: Windows that were complete.

        Returns:
            The window, or None if no frame is left.

        Raises:
            VideoTooShortError: The whole stream has fewer than 11 frames.
        """
        if complete == 0:
            if num_frames < MIN_FRAMES:
                raise VideoTooShortError(f"the video has {num_frames} frames, at least {MIN_FRAMES} are needed")
            return Window(max(1, num_frames - self.frames + 1), num_frames)
        begun, seen = self.window(complete).first, self.window(complete - 1).last
        if num_frames < begun or num_frames <= seen:
            return None
        return Window(num_frames - self.frames + 1, num_frames)

    def sampled(self, window: Window) -> list[int]:
        """Numbers of the frames of a window that the network sees; those of short windows repeat."""
        return [window.first - 1 + time for time in test_frames(window.num_frames, self.count)]

    def needs_field(self, number: int) -> bool:
        """Whether a complete window needs flow field ``number``."""
        oldest = max(0, -((self.frames - 1 - number) // self.stride))  # windows before it end with an earlier field
        newest = (number - 1) // self.stride
        return any(number - index * self.stride in self._fields for index in range(oldest, newest + 1))

    @cached_property
    def _fields(self) -> frozenset[int]:
        """The fields that the first window needs."""
        return frozenset(fields_of(test_frames(self.frames, self.count)))


def _around(value: int, tolerance: float, least: int, most: int) -> range:
    """Whole numbers near a value."""
    return range(max(least, ceil(value * (1 - tolerance))), min(most, floor(value * (1 + tolerance))) + 1)


def fields_of(times: list[int]) -> list[int]:
    """Numbers of the flow fields in the stacks of some frames, ascending, each once."""
    return sorted({number for time in times for number in flow_numbers(time)})
