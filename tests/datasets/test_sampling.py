"""Frame sampling against tables of the official rule and an exact reference in fractions."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from stmulnet.datasets import sampling
from stmulnet.errors import ConfigError, VideoTooShortError

LENGTHS = range(11, 1801)
TEST_TABLE = {
    11: [6] * 25,
    15: [*range(6, 11)] * 5,
    20: [*range(6, 16), *range(6, 16), *range(6, 11)],
    30: [*range(6, 26), *range(21, 26)],
    50: [6, 8, 9, 11, 13, 14, 16, 17, 19, 21, 22, 24, 26, 27, 29, 30, 32, 34, 35, 37, 39, 40, 42, 43, 45],
    100: [6, 10, 13, 17, 21, 25, 28, 32, 36, 39, 43, 47, 51, 54, 58, 62, 65, 69, 73, 76, 80, 84, 88, 91, 95],
    250: [*range(6, 127, 10), *range(135, 246, 10)],
}
# (frames, stride) -> every clip that can be drawn and, where the candidates are too few, the stride afterwards
TRAIN_TABLE: dict[tuple[int, int], tuple[list[list[int]], int]] = {
    **{(11, stride): ([[6] * 5], 0) for stride in (5, 15, 35)},
    **{(15, stride): ([[6, 7, 8, 9, 10]], 1) for stride in (5, 15, 35)},
    **{(20, stride): ([[6, 8, 11, 13, 15]], 2) for stride in (5, 15, 35)},
    **{(30, stride): ([[6, 11, 16, 20, 25]], 5) for stride in (5, 15, 35)},
    (50, 5): ([[*range(a, a + 21, 5)] for a in (11, 16, 21)], 5),
    **{(50, stride): ([[6, 16, 26, 35, 45]], 10) for stride in (15, 35)},
    (100, 5): ([[*range(a, a + 21, 5)] for a in range(11, 72, 5)], 5),
    (100, 15): ([[21, 36, 51, 66, 81]], 15),
    (100, 35): ([[6, 28, 51, 73, 95]], 22),
    (250, 5): ([[*range(a, a + 21, 5)] for a in range(11, 222, 5)], 5),
    (250, 15): ([[*range(a, a + 61, 15)] for a in range(21, 172, 15)], 15),
    (250, 35): ([[*range(a, a + 141, 35)] for a in (41, 76)], 35),
}


def _rounded(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


def _linspace(first: int, last: int, count: int) -> list[int]:
    return [_rounded(first + Fraction(k * (last - first), count - 1)) for k in range(count)]


def _reference_test_frames(num_frames: int, count: int) -> list[int]:
    admissible = list(range(6, num_frames - 4))
    if len(admissible) >= count:
        return _linspace(6, num_frames - 5, count)
    whole, rest = divmod(count, len(admissible))
    # The pieces alternate tail, head, tail ...; only the last one is cut, so its side follows from its index.
    cut = [] if rest == 0 else (admissible[-rest:] if whole % 2 == 1 else admissible[:rest])
    return admissible * whole + cut


@pytest.mark.parametrize("num_frames", TEST_TABLE)
def test_test_frames_follow_the_table(num_frames: int) -> None:
    assert sampling.test_frames(num_frames) == TEST_TABLE[num_frames]


@pytest.mark.parametrize("count", [2, 5, 11, 25, 60])
def test_test_frames_are_exact_for_every_length(count: int) -> None:
    for num_frames in LENGTHS:
        assert sampling.test_frames(num_frames, count) == _reference_test_frames(num_frames, count), num_frames


@pytest.mark.parametrize("num_frames", [207, 415, 783, 807, 1567])
def test_lengths_where_floating_point_fails(num_frames: int) -> None:
    naive = [int(x) for x in np.floor(np.linspace(1, num_frames - 10, 25) + 0.5) + 5]
    assert sampling.test_frames(num_frames) == _linspace(6, num_frames - 5, 25) != naive


def test_the_closed_form() -> None:
    for n in range(35, 1801):
        assert sampling.test_frames(n) == [6 + (2 * k * (n - 11) + 24) // 48 for k in range(25)]


def test_seven_admissible_frames_are_padded_from_the_list_itself() -> None:
    seven = [*range(6, 13)]
    assert sampling.test_frames(17) == [*seven, *seven, *seven, 9, 10, 11, 12]


def test_a_single_frame_is_the_last_admissible_one_as_in_matlab() -> None:
    assert sampling.test_frames(40, 1) == [35]


def test_stacks_stay_inside_the_video() -> None:
    for n in LENGTHS:
        frames = sampling.test_frames(n)
        assert sampling.flow_numbers(min(frames))[0] >= 1
        assert sampling.flow_numbers(max(frames))[-1] <= n - 1


def test_flow_numbers_are_not_centred() -> None:
    assert sampling.flow_numbers(6) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("key", TRAIN_TABLE, ids=str)
def test_train_frames_follow_the_table(key: tuple[int, int]) -> None:
    clips, stride_afterwards = TRAIN_TABLE[key]
    seen = set()
    for seed in range(20 * len(clips)):
        frames, stride = sampling.train_frames(*key, rng=np.random.default_rng(seed))
        seen.add(tuple(frames))
        assert stride == stride_afterwards
    assert seen == {tuple(clip) for clip in clips}


@pytest.mark.parametrize("stride", [0, 1, 5, 17, 35])
def test_train_frames_against_candidates_written_out(stride: int, rng: np.random.Generator) -> None:
    for n in LENGTHS:
        candidates = list(range(6, n - 4, stride)) if stride else []
        frames, afterwards = sampling.train_frames(n, stride, rng=rng)
        if len(candidates) < 5:
            assert frames == _linspace(6, n - 5, 5)
            assert afterwards == frames[1] - frames[0]
        elif len(candidates) == 5:
            assert (frames, afterwards) == (candidates, stride)
        else:
            start = candidates.index(frames[0])
            assert 1 <= start <= len(candidates) - 5
            assert (frames, afterwards) == (candidates[start : start + 5], stride)


def test_one_training_frame_is_any_candidate_but_the_first() -> None:
    seen = {sampling.train_frames(20, 1, count=1, rng=np.random.default_rng(s))[0][0] for s in range(200)}
    assert seen == set(range(7, 16))


def test_random_stride_frames_draws_both_ends() -> None:
    sample = sampling.RandomStrideFrames(count=5, strides=(5, 7))
    rng = np.random.default_rng(0)
    differences = {frames[1] - frames[0] for frames in (sample(400, rng) for _ in range(100))}
    assert differences == {5, 6, 7}


def test_uniform_frames_need_no_draw(rng: np.random.Generator) -> None:
    state = rng.bit_generator.state
    assert sampling.UniformFrames()(100, rng) == TEST_TABLE[100]
    assert rng.bit_generator.state == state


@pytest.mark.parametrize("num_frames", [0, 1, 10])
def test_short_videos_are_refused(num_frames: int, rng: np.random.Generator) -> None:
    with pytest.raises(VideoTooShortError, match=f"{num_frames} frames.*at least 11"):
        sampling.test_frames(num_frames)
    with pytest.raises(VideoTooShortError, match=f"{num_frames} frames"):
        sampling.train_frames(num_frames, 5, rng=rng)


def test_senseless_arguments_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="got 0"):
        sampling.test_frames(50, 0)
    with pytest.raises(ConfigError, match="got -1"):
        sampling.train_frames(50, -1, rng=rng)
    with pytest.raises(ConfigError, match=r"\(9, 3\)"):
        sampling.RandomStrideFrames(strides=(9, 3))
