"""The order of an epoch and its loader calls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmulnet.datasets.calls import EpochCalls, LoaderCall, in_call
from stmulnet.datasets.sampling import RandomStrideFrames, UniformFrames
from stmulnet.errors import ConfigError

LENGTHS = [*range(100, 111)]


def _calls(*, size: int = 4, seed: int = 3, epoch: int = 0) -> EpochCalls:
    return EpochCalls(LENGTHS, size=size, seed=seed, epoch=epoch)


@given(count=st.integers(0, 40), size=st.integers(1, 9), seed=st.integers(0, 2**64), epoch=st.integers(0, 1000))
def test_calls_cut_the_order_into_consecutive_videos(count: int, size: int, seed: int, epoch: int) -> None:
    calls = EpochCalls(range(count), size=size, seed=seed, epoch=epoch)
    assert sorted(calls.order) == list(range(count))
    for position, index in enumerate(calls.order):
        start = position - position % size
        assert list(calls.of(index).earlier) == calls.order[start:position]


def test_videos_of_a_call_get_equal_generators_and_no_other_does() -> None:
    calls = _calls()
    draws = [int(calls.of(index).rng.integers(2**62)) for index in calls.order]
    assert draws == [d for d in (draws[0], draws[4], draws[8]) for _ in range(4)][:11]
    assert len(set(draws)) == 3


def test_order_and_draws_depend_on_seed_and_epoch_alone() -> None:
    calls, same = _calls(), _calls()
    assert calls.order == same.order
    assert calls.of(7).rng.integers(2**62) == same.of(7).rng.integers(2**62)
    for other in (_calls(seed=4), _calls(epoch=1)):
        assert other.order != calls.order
        assert other.of(7).rng.integers(2**62) != calls.of(7).rng.integers(2**62)


def test_what_is_shared_is_drawn_from_a_stream_of_its_own() -> None:
    """The generators of clips are seeded with seed, epoch and index; no call starts like one of them."""
    clips = {int(np.random.default_rng([3, 0, index]).integers(2**62)) for index in range(11)}
    assert not clips & {int(_calls().of(index).rng.integers(2**62)) for index in range(11)}


def test_rules_that_share_nothing_stay_what_they_are() -> None:
    def sampling(num_frames: int, rng: np.random.Generator) -> list[int]:
        return [num_frames]

    call = LoaderCall((11,), np.random.default_rng(0))
    assert in_call(sampling, call) is sampling
    uniform = UniformFrames()
    assert in_call(uniform, call) is uniform
    # After a video of 11 frames the stride is 0, and the frames are spread evenly.
    assert in_call(RandomStrideFrames(), call)(211, np.random.default_rng(0)) == [6, 56, 106, 156, 206]


def test_a_call_without_videos_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 0"):
        _calls(size=0)
