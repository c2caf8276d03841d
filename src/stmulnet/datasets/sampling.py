"""Which frames of a video are looked at: arithmetic on integers, no video needed.

Frame numbers are 1-based, as in the file names. A time t is admissible when its RGB frame and its flow stack
t-5 ... t+4 exist, i.e. for t in 6 ... num_frames - 5; the highest flow field used is num_frames - 1.

Source: cnn_get_im_flow_batch.m (frameSample 'temporalStrideRandom' and 'uniformly') of the official code.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from stmulnet.constants import (
    FLOW_STACK_AFTER,
    FLOW_STACK_BEFORE,
    MIN_FRAMES,
    TEST_FRAMES,
    TRAIN_FRAMES,
    TRAIN_STRIDES,
)
from stmulnet.datasets.calls import LoaderCall
from stmulnet.errors import ConfigError, VideoTooShortError

FIRST_TIME = FLOW_STACK_BEFORE + 1  # t = 6: its stack starts at field 1


def flow_numbers(time: int) -> list[int]:
    """Numbers t-5 ... t+4 of the flow fields in the stack of frame ``time`` (all 1-based)."""
    return list(range(time - FLOW_STACK_BEFORE, time + FLOW_STACK_AFTER + 1))


def test_frames(num_frames: int, count: int = TEST_FRAMES) -> list[int]:  # noqa: PT028 (no pytest test)
    """Frames the test protocol looks at: ``count`` times, evenly spread over the admissible ones.

    With fewer admissible frames than ``count``, all of them and then, in turn, as much as is missing of their
    tail and of their head; that result is not sorted.

    Args:
        num_frames: RGB frames of the video.
        count: Frames wanted (official: 25).

    Returns:
        ``count`` frame numbers, 1-based.

    Raises:
        VideoTooShortError: The video has fewer than 11 frames.
        ConfigError: ``count`` is below 1.
    """
    span = _admissible_span(num_frames, count)
    if span + 1 >= count:
        return _spread(span, count)
    admissible = list(range(FIRST_TIME, FIRST_TIME + span + 1))
    frames = list(admissible)
    from_tail = True
    while len(frames) < count:
        missing = min(count - len(frames), len(admissible))
        frames += admissible[-missing:] if from_tail else admissible[:missing]
        from_tail = not from_tail
    return frames


def train_frames(
    num_frames: int, stride: int, *, count: int = TRAIN_FRAMES, rng: np.random.Generator, first_run: bool = False
) -> tuple[list[int], int]:
    """Frames of one training clip: a random run of the candidates 6, 6 + stride, 6 + 2 stride, ...

    With fewer candidates than ``count`` the frames are spread evenly over the video, and the stride becomes their
    first difference: the official loader keeps that for the remaining videos of a call. It can be 0 (11 frames),
    which leaves no candidate.

    Args:
        num_frames: RGB frames of the video.
        stride: Frames from one candidate to the next, at least 0.
        count: Frames wanted (official: 5).
        rng: Generator of the one draw made when there are more candidates than wanted.
        first_run: Whether the run that starts at frame 6 may be drawn where there are others; officially it never is.

    Returns:
        The frame numbers (1-based, ascending) and the stride in force afterwards.

    Raises:
        VideoTooShortError: The video has fewer than 11 frames.
        ConfigError: ``count`` is below 1 or ``stride`` is negative.
    """
    span = _admissible_span(num_frames, count)
    if stride < 0:
        raise ConfigError(f"the stride between frames must be 0 or more, got {stride}")
    num_candidates = _num_candidates(span, stride)
    if num_candidates < count:
        frames = _spread(span, count)
        return frames, _first_difference(frames)
    skipped = 0
    if num_candidates > count:
        # Official: s = randi(L - count), frames s+1 ... s+count (1-based), so the first run is never drawn.
        skipped = int(rng.integers(0 if first_run else 1, num_candidates - count + 1))
    return [FIRST_TIME + stride * (skipped + i) for i in range(count)], stride


def stride_in_force(stride: int, earlier: Iterable[int], *, count: int = TRAIN_FRAMES) -> int:
    """Stride left of the one drawn for a loader call once the videos before in the call have been sampled.

    Args:
        stride: The stride drawn for the call.
        earlier: RGB frames of these videos, in order. One of fewer than 11 frames, on which the official loader
            would stop, changes nothing here: it is refused when its own turn comes.
        count: Frames wanted of each.

    Returns:
        The stride for the next video, at least 0.
    """
    for span in (num_frames - MIN_FRAMES for num_frames in earlier if num_frames >= MIN_FRAMES):
        if _num_candidates(span, stride) < count:
            stride = _first_difference(_spread(span, count))
    return stride


@dataclass(frozen=True)
class RandomStrideFrames:
    """Sampling for training: a stride drawn uniformly from ``strides`` (both ends included), then `train_frames`.

    Attributes:
        count: Frames of a clip (official: 5).
        strides: Smallest and largest stride (official: 5 and 35).
        shared: As the official loader does it: one stride for all videos of a loader call, which a video too short
            for it replaces, for the rest of the call, by the first difference of its own frames. False: every video
            draws its own, so that a clip does not depend on its neighbours.
        first_run: Whether the first run of a video can be drawn; officially it cannot.
    """

    count: int = TRAIN_FRAMES
    strides: tuple[int, int] = TRAIN_STRIDES
    shared: bool = True
    first_run: bool = False

    def __post_init__(self) -> None:
        first, last = self.strides
        if self.count < 1 or not 1 <= first <= last:
            raise ConfigError(
                f"training frames need count >= 1 and strides 1 <= first <= last, got {self.count} and {self.strides}"
            )

    def __call__(self, num_frames: int, rng: np.random.Generator) -> list[int]:
        """Frame numbers (1-based) of one clip of a video with ``num_frames`` RGB frames, alone in its call."""
        return self._frames(num_frames, rng, self._draw(rng))

    def in_call(self, call: LoaderCall) -> Callable[[int, np.random.Generator], list[int]]:
        """The sampling of a video that has others before it in its loader call."""
        if not self.shared:
            return self
        stride = stride_in_force(self._draw(call.rng), call.earlier, count=self.count)
        return lambda num_frames, rng: self._frames(num_frames, rng, stride)

    def _draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.strides[0], self.strides[1] + 1))

    def _frames(self, num_frames: int, rng: np.random.Generator, stride: int) -> list[int]:
        return train_frames(num_frames, stride, count=self.count, rng=rng, first_run=self.first_run)[0]


@dataclass(frozen=True)
class RandomFrame:
    """Sampling for training a stream by itself: one frame, all as likely (frameSample 'random').

    Attributes:
        with_flow: Only admissible frames; otherwise all of 1 ... N, as the official image base stream has them.
    """

    with_flow: bool = True

    def __call__(self, num_frames: int, rng: np.random.Generator) -> list[int]:
        """The number (1-based) of one frame of a video with ``num_frames`` RGB frames."""
        span = _admissible_span(num_frames, 1)  # a video that is too short is refused in any case
        return [FIRST_TIME + int(rng.integers(span + 1))] if self.with_flow else [1 + int(rng.integers(num_frames))]


@dataclass(frozen=True)
class UniformFrames:
    """Sampling for validation and test: `test_frames`; draws nothing."""

    count: int = TEST_FRAMES

    def __call__(self, num_frames: int, rng: np.random.Generator) -> list[int]:
        """Frame numbers (1-based) of a video with ``num_frames`` RGB frames; ``rng`` is not used."""
        return test_frames(num_frames, self.count)


def _admissible_span(num_frames: int, count: int) -> int:
    """Last minus first admissible time."""
    if count < 1:
        raise ConfigError(f"the number of frames to sample must be 1 or more, got {count}")
    if num_frames < MIN_FRAMES:
        raise VideoTooShortError(
            f"the video has {num_frames} frames; a flow stack of 10 fields around a frame needs at least {MIN_FRAMES}"
        )
    return num_frames - MIN_FRAMES


def _num_candidates(span: int, stride: int) -> int:
    return span // stride + 1 if stride else 0  # MATLAB's 6:0:N is empty


def _first_difference(frames: list[int]) -> int:
    return frames[1] - frames[0] if len(frames) > 1 else 0


def _spread(span: int, count: int) -> list[int]:
    """``round(linspace(6, 6 + span, count))``, halves rounded up as in MATLAB, in integers.

    Floating point goes wrong: np.linspace with floor(x + 0.5) at 207, 415, 783 ... frames, and rounding halves to
    even at most lengths. One point alone is the last one, as MATLAB's linspace has it.
    """
    if count == 1:
        return [FIRST_TIME + span]
    steps = count - 1
    return [FIRST_TIME + (2 * k * span + steps) // (2 * steps) for k in range(count)]
