"""Frame sampling against tables of the official rule and an exact reference in fractions."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmulnet.datasets import sampling
from stmulnet.datasets.calls import LoaderCall
from stmulnet.errors import ConfigError, VideoTooShortError

LENGTHS = range(11, 2001)
lengths = st.integers(11, 2000)
seeds = st.integers(0, 2**64)
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


class _Loader:
    """The official training loader, transcribed with its state: `opts.temporalStride` outlives a video of the call."""

    def __init__(self, stride: int, count: int = 5) -> None:
        self.stride = stride
        self.count = count

    def candidates(self, num_frames: int) -> list[int]:
        frames = list(range(6, num_frames - 4, self.stride)) if self.stride > 0 else []
        if len(frames) < self.count:
            frames = _linspace(6, num_frames - 5, self.count)
            self.stride = frames[1] - frames[0]
        return frames

    def clips(self, num_frames: int) -> list[list[int]]:
        """Every clip that can be drawn: frames s+1 ... s+count for s = 1 ... L-count, 1-based, or all there are."""
        frames = self.candidates(num_frames)
        starts = range(1, len(frames) - self.count + 1) if len(frames) > self.count else [0]
        return [frames[s : s + self.count] for s in starts]


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
    for n in range(35, 2001):
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


@given(num_frames=lengths, count=st.integers(2, 80))
def test_test_frames_of_any_length_and_count(num_frames: int, count: int) -> None:
    frames = sampling.test_frames(num_frames, count)
    assert frames == _reference_test_frames(num_frames, count)
    assert len(frames) == count
    assert set(frames) <= set(range(6, num_frames - 4))
    if count <= num_frames - 10:
        assert frames == sorted(set(frames))
    else:
        assert set(frames) == set(range(6, num_frames - 4))


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


@given(num_frames=lengths, stride=st.integers(0, 60), count=st.integers(2, 12), seed=seeds)
def test_a_training_clip_is_one_of_those_the_official_loader_can_draw(
    num_frames: int, stride: int, count: int, seed: int
) -> None:
    loader = _Loader(stride, count)
    frames, afterwards = sampling.train_frames(num_frames, stride, count=count, rng=np.random.default_rng(seed))
    assert frames in loader.clips(num_frames)
    assert afterwards == loader.stride
    assert sampling.flow_numbers(frames[0])[0] >= 1
    assert sampling.flow_numbers(frames[-1])[-1] <= num_frames - 1


def test_every_run_but_the_first_is_as_likely() -> None:
    starts = [sampling.train_frames(46, 5, rng=np.random.default_rng(seed))[0][0] for seed in range(3000)]
    counts = np.unique(starts, return_counts=True)
    assert counts[0].tolist() == [11, 16, 21]
    assert counts[1] / 3000 == pytest.approx(np.full(3, 1 / 3), abs=0.03)


def test_repaired_the_first_run_is_as_likely_as_the_others() -> None:
    draws = [
        sampling.train_frames(46, 5, rng=np.random.default_rng(seed), first_run=True)[0][0] for seed in range(4000)
    ]
    counts = np.unique(draws, return_counts=True)
    assert counts[0].tolist() == [6, 11, 16, 21]
    assert counts[1] / 4000 == pytest.approx(np.full(4, 1 / 4), abs=0.03)
    assert sampling.train_frames(30, 5, rng=np.random.default_rng(0), first_run=True) == ([6, 11, 16, 20, 25], 5)


@given(earlier=st.lists(lengths, max_size=8), stride=st.integers(0, 60), count=st.integers(1, 8))
def test_stride_in_force_is_that_of_the_official_loader(earlier: list[int], stride: int, count: int) -> None:
    loader = _Loader(stride, count)
    if count > 1:  # MATLAB would fail on the second of one frame
        for num_frames in earlier:
            loader.candidates(num_frames)
    elif earlier and not stride:
        loader.stride = 0
    assert sampling.stride_in_force(stride, earlier, count=count) == loader.stride


def test_short_videos_change_the_stride_of_the_call() -> None:
    assert sampling.stride_in_force(35, [250]) == 35
    assert sampling.stride_in_force(35, [100]) == 22
    assert sampling.stride_in_force(35, [100, 50, 250]) == 10
    assert sampling.stride_in_force(35, [11]) == 0
    assert sampling.stride_in_force(35, [11, 100]) == 22
    assert sampling.stride_in_force(5, [9]) == 5  # refused when its own turn comes


def _call(earlier: Sequence[int], seed: int) -> LoaderCall:
    return LoaderCall(tuple(earlier), np.random.default_rng(seed))


@given(videos=st.lists(lengths, min_size=1, max_size=6), seed=seeds)
def test_videos_of_a_call_share_a_stride_as_in_the_official_loader(videos: list[int], seed: int) -> None:
    first = int(np.random.default_rng(seed).integers(5, 36))
    loader = _Loader(first)
    for place, num_frames in enumerate(videos):
        rule = sampling.RandomStrideFrames().in_call(_call(videos[:place], seed))
        assert rule(num_frames, np.random.default_rng([seed, place])) in loader.clips(num_frames)


def test_repaired_a_video_does_not_depend_on_its_call() -> None:
    rule = sampling.RandomStrideFrames(shared=False)
    for seed in range(20):
        in_call = rule.in_call(_call([11, 40], seed))
        assert in_call(300, np.random.default_rng(seed)) == rule(300, np.random.default_rng(seed))
    clips = [rule.in_call(_call([], 0))(400, np.random.default_rng(seed)) for seed in range(60)]
    assert len({clip[1] - clip[0] for clip in clips}) > 15


def test_alone_in_its_call_a_video_draws_every_stride() -> None:
    sample = sampling.RandomStrideFrames()
    rng = np.random.default_rng(1)
    strides = [frames[1] - frames[0] for frames in (sample(600, rng) for _ in range(2000))]
    assert set(strides) == set(range(5, 36))


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


@pytest.mark.parametrize(("with_flow", "first", "last"), [(True, 6, 15), (False, 1, 20)])
def test_a_random_frame_is_any_of_them(with_flow: bool, first: int, last: int, rng: np.random.Generator) -> None:
    frames = sampling.RandomFrame(with_flow=with_flow)
    drawn = [frame for _ in range(4000) for frame in frames(20, rng)]
    counts = np.bincount(drawn, minlength=last + 1)
    assert counts[:first].sum() == 0
    assert len(counts) == last + 1
    expected = 4000 / (last - first + 1)
    assert np.abs(counts[first:] - expected).max() < 5 * np.sqrt(expected)
    assert frames(11, rng) == [6] or not with_flow
    with pytest.raises(VideoTooShortError, match="the video has 10 frames"):
        frames(10, rng)
