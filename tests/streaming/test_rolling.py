import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmulnet.errors import VideoDecodeError, VideoTooShortError
from stmulnet.streaming.rolling import Kept, LatestFrames, RollingWindow

IMAGE = np.zeros((2, 2, 3), np.uint8)


def put(latest: LatestFrames, count: int) -> None:
    for _ in range(count):
        latest.put(IMAGE, float(latest.arrived))


def test_nothing_is_dropped_while_there_is_room() -> None:
    latest = LatestFrames(4)
    put(latest, 4)
    assert [(frame.number, frame.at_s) for frame in latest.take()] == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)]
    put(latest, 2)
    assert [frame.number for frame in latest.take()] == [5, 6]
    assert (latest.arrived, latest.dropped) == (6, 0)


@given(size=st.integers(2, 8), batches=st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_the_newest_stays_and_what_is_left_is_spread_evenly(size: int, batches: list[int]) -> None:
    latest = LatestFrames(size)
    before = 0
    kept = 0
    for count in batches:
        put(latest, count)
        numbers = [frame.number for frame in latest.take()]
        assert numbers[-1] == latest.arrived
        assert len(numbers) == min(count, size)
        gaps = np.diff([before, *numbers])
        assert gaps.max() <= 4 * max(1.0, count / size)  # no worse than four times an even spread
        before = numbers[-1]
        kept += len(numbers)
    assert latest.dropped == sum(batches) - kept


def test_the_end() -> None:
    latest = LatestFrames(4)
    put(latest, 2)
    latest.close()
    assert len(latest.take()) == 2
    assert latest.take() == []
    put(latest, 2)
    latest.close(discard=True)
    assert latest.take() == []


def test_waiting_for_a_frame() -> None:
    latest = LatestFrames(4)
    threading.Timer(0.05, put, (latest, 1)).start()
    assert [frame.number for frame in latest.take()] == [1]


def frames(numbers: range, rate: float = 10.0) -> list[Kept]:
    return [Kept(number, number / rate, IMAGE, None) for number in numbers]


def test_the_window_reaches_back_so_many_seconds() -> None:
    rolling = RollingWindow(2.0)
    rolling.extend(frames(range(1, 22)))
    assert [frame.number for frame in rolling.wait(None, 1.0)] == list(range(2, 22))
    assert rolling.first_s == 0.1
    rolling.extend(frames(range(22, 100)))
    assert [frame.number for frame in rolling.wait(2.1, 1.0)] == list(range(80, 100))


def test_at_least_eleven_frames_are_kept() -> None:
    rolling = RollingWindow(2.0)
    rolling.extend(frames(range(1, 40), rate=2.0))
    assert [frame.number for frame in rolling.wait(None, 1.0)] == list(range(29, 40))


def test_windows_are_due_by_the_stride() -> None:
    rolling = RollingWindow(1.2)
    rolling.extend(frames(range(1, 14)))
    assert rolling.wait(None, 0.5)[-1].number == 13
    threading.Timer(0.05, rolling.extend, (frames(range(14, 19)),)).start()
    assert rolling.wait(1.3, 0.5)[-1].number == 18
    threading.Timer(0.05, rolling.extend, (frames(range(19, 20)),)).start()
    assert rolling.wait(1.8, 0.0)[-1].number == 19  # a stride of 0 still waits for something new


def test_the_end_gives_what_is_new_and_then_nothing() -> None:
    rolling = RollingWindow(60.0)
    rolling.extend(frames(range(1, 13)))
    threading.Timer(0.05, rolling.end).start()
    assert len(rolling.wait(None, 1.0)) == 12
    assert rolling.wait(1.2, 1.0) == []


def test_too_few_frames() -> None:
    rolling = RollingWindow(2.0)
    rolling.extend(frames(range(1, 11)))
    rolling.end()
    with pytest.raises(VideoTooShortError, match="only 10 frames came, at least 11 are needed"):
        rolling.wait(None, 1.0)


def test_an_error_is_raised_where_windows_are_waited_for() -> None:
    rolling = RollingWindow(2.0)
    threading.Timer(0.05, rolling.end, (VideoDecodeError("gone"),)).start()
    with pytest.raises(VideoDecodeError, match="gone"):
        rolling.wait(None, 1.0)
    rolling.end()  # the first word counts
    with pytest.raises(VideoDecodeError, match="gone"):
        rolling.wait(None, 1.0)
