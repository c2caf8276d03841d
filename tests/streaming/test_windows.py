import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmulnet.datasets import sampling
from stmulnet.errors import ConfigError, VideoTooShortError
from stmulnet.streaming.windows import Window, Windowing


def windows_of(windowing: Windowing, num_frames: int) -> list[Window]:
    """All windows of a stream, as a scorer would meet them."""
    found: list[Window] = []
    for number in range(1, num_frames + 1):
        if number == windowing.window(len(found)).last:
            found.append(windowing.window(len(found)))
    left = windowing.last_window(num_frames, len(found))
    return [*found, left] if left else found


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (11, [(1, 11)]),  # shorter than a window
        (20, [(1, 20)]),
        (21, [(1, 20), (2, 21)]),  # moved back
        (28, [(1, 20), (9, 28)]),
        (29, [(1, 20), (9, 28), (10, 29)]),
    ],
)
def test_overlapping_windows(num_frames: int, expected: list[tuple[int, int]]) -> None:
    assert windows_of(Windowing(20, 8), num_frames) == expected


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (20, [(1, 20)]),
        (50, [(1, 20)]),  # between two windows
        (51, [(1, 20), (32, 51)]),  # a window has begun
        (70, [(1, 20), (51, 70)]),
    ],
)
def test_windows_with_gaps(num_frames: int, expected: list[tuple[int, int]]) -> None:
    assert windows_of(Windowing(20, 50), num_frames) == expected


@given(frames=st.integers(11, 60), stride=st.integers(1, 80), num_frames=st.integers(11, 300))
def test_every_frame_of_a_begun_window_is_seen(frames: int, stride: int, num_frames: int) -> None:
    windows = windows_of(Windowing(frames, stride), num_frames)
    seen = {number for first, last in windows for number in range(first, last + 1)}
    begun = {n for n in range(1, num_frames + 1) if (n - 1) % stride < frames}
    assert begun <= seen
    assert all(first >= 1 and last <= num_frames for first, last in windows)
    assert all(window.num_frames == min(frames, num_frames) for window in windows)
    assert len(set(windows)) == len(windows)


@given(frames=st.integers(11, 60), stride=st.integers(1, 80), count=st.integers(1, 30))
def test_needed_fields_are_those_of_complete_windows(frames: int, stride: int, count: int) -> None:
    windowing = Windowing(frames, stride, count)
    needed = {
        index * stride + field
        for index in range(400 // stride + 2)
        for time in sampling.test_frames(frames, count)
        for field in sampling.flow_numbers(time)
    }
    numbers = range(1, 300)
    assert [n for n in numbers if windowing.needs_field(n)] == [n for n in numbers if n in needed]


def test_too_short() -> None:
    with pytest.raises(VideoTooShortError, match="the video has 10 frames, at least 11"):
        Windowing(20, 8).last_window(10, 0)


def test_seconds() -> None:
    assert Windowing.in_seconds(4, 2, 29.97, 10) == Windowing(120, 60, 10)
    with pytest.raises(ConfigError, match=r"windows of 0.5 s every 1 s at 10 frames/s: .* 11 to 3000 frames.*, got 5"):
        Windowing.in_seconds(0.5, 1, 10)
    with pytest.raises(ConfigError, match=r"the stride of windows must be 1 frame or more, got 0"):
        Windowing.in_seconds(2, 0.01, 25)
    with pytest.raises(ConfigError, match="got 90000"):
        Windowing.in_seconds(3600, 1, 25)


def test_frames_of_a_window() -> None:
    window = Windowing(30, 7, 5).window(3)
    assert window == (22, 51)
    np.testing.assert_array_equal(Windowing(30, 7, 5).sampled(window), [21 + t for t in sampling.test_frames(30, 5)])


@given(st.integers(11, 140), st.integers(1, 60), st.integers(2, 30))
def test_shared_frames_are_those_that_two_windows_sample(frames: int, stride: int, count: int) -> None:
    windowing = Windowing(frames, stride, count)
    first, second = (windowing.sampled(windowing.window(index)) for index in (0, 1))
    tails = [length for length in range(1, count + 1) if first[-length:] == second[:length]]
    if windowing.shared:
        assert windowing.shared in tails
    elif len(set(np.diff(first).tolist())) == 1:  # no rounding, and so no agreement by chance
        assert not tails


def test_the_nearest_windows_that_share_frames() -> None:
    assert Windowing(100, 50, 25).nearest_shared() == Windowing(95, 49, 25)
    assert Windowing(100, 50, 10).nearest_shared() == Windowing(101, 50, 10)
    assert Windowing(107, 48, 25).nearest_shared() == Windowing(107, 48, 25)  # they do already
    assert Windowing(107, 48, 25).shared == 25 - 12
    assert Windowing(100, 100, 25).nearest_shared() is None  # windows that hardly overlap
    assert Windowing(100, 50, 25).nearest_shared(tolerance=0.01) is None
    assert Windowing(11, 1, 25).nearest_shared() is None


@pytest.mark.parametrize(("index", "firsts"), [(0, [9, 17]), (3, [33, 41])])
def test_windows_that_overlap_one(index: int, firsts: list[int]) -> None:
    assert [window.first for window in Windowing(20, 8).after(index)] == firsts
