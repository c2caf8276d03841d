"""Paired differences: against NumPy, against Student's t and the bootstrap alone, and in simulations."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from stmulnet.errors import ConfigError
from stmulnet.evaluation.paired import Difference, paired_difference

Table = NDArray[np.bool_]


def simulated(rng: np.random.Generator, offset: float, *, seeds: int, videos: int, spread: float) -> Table:
    """(S, V) of a network: videos and runs differ in how easily it recognises them."""
    noise = rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 0.7, (seeds, videos))
    return np.asarray(offset + rng.normal(0, 1, videos) + noise > 0)


def test_value_is_the_difference_of_the_means(rng: np.random.Generator) -> None:
    one, other = (simulated(rng, offset, seeds=4, videos=30, spread=0.3) for offset in (1.0, 0.0))
    found = paired_difference(one, other)
    assert found.value == pytest.approx(one.mean() - other.mean())
    assert found.low < found.value < found.high
    assert found == paired_difference(one, other)
    back = paired_difference(other, one)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low), abs=0.02)


def test_one_seed_is_the_bootstrap_over_videos(rng: np.random.Generator) -> None:
    one, other = (simulated(rng, offset, seeds=1, videos=40, spread=0) for offset in (0.8, 0.0))
    drawn = rng.integers(0, 40, (20_000, 40))
    differences = one[0].astype(float) - other[0]
    expected = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    found = paired_difference(one, other)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.026)  # ends are multiples of 1 / 40


def test_where_videos_agree_it_is_students_interval(rng: np.random.Generator) -> None:
    """Every video is right or wrong with the run: only the seeds differ."""
    right = np.array([True, True, False, True, True, False, True])
    one = np.repeat(right[:, None], 50, axis=1)
    other = np.zeros_like(one)
    found = paired_difference(one, other, resamples=200_000)
    low, high = stats.t.interval(0.95, 6, loc=right.mean(), scale=right.std(ddof=1) / np.sqrt(7))
    assert (found.low, found.high) == pytest.approx((low, min(high, 1)), abs=0.01)


def test_groups_are_drawn_as_one(rng: np.random.Generator) -> None:
    """Ten clips of each of eight recordings that succeed or fail together are eight observations, not eighty."""
    one = np.repeat(np.array([[True, True, False, True, False, False, True, True]]), 10, axis=1)
    groups = [f"g{video // 10}" for video in range(80)]
    order = rng.permutation(80)
    single = paired_difference(one, ~one)
    grouped = paired_difference(one[:, order], ~one[:, order], groups=[groups[video] for video in order])
    drawn = rng.integers(0, 8, (20_000, 8))
    expected = np.quantile((2 * one[0, ::10].astype(float) - 1)[drawn].mean(axis=1), [0.025, 0.975])
    assert (grouped.low, grouped.high) == pytest.approx(expected, abs=1e-9)
    assert grouped.high - grouped.low > 2 * (single.high - single.low)


def test_groups_of_other_sizes_count_by_their_videos(rng: np.random.Generator) -> None:
    sizes = [1, 2, 30]
    groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    one = np.array([[group == "2" for group in groups]])
    found = paired_difference(one, np.zeros_like(one), groups=groups)
    assert found.value == pytest.approx(30 / 33)
    assert (found.low, found.high) == (0, 1)  # resamples without and with nothing but the large one


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.5), (5, 1.0)])
def test_intervals_hold_the_truth(seeds: int, spread: float, rng: np.random.Generator) -> None:
    """Of simulated experiments with new seeds and videos each; resampling the seeds would hold it in 4 of 5."""
    width = np.sqrt(1 + 0.7**2 + spread**2)
    truth = stats.norm.cdf(1.2 / width) - stats.norm.cdf(0.2 / width)
    held = 0
    for number in range(400):
        one, other = (simulated(rng, offset, seeds=seeds, videos=60, spread=spread) for offset in (1.2, 0.2))
        found = paired_difference(one, other, resamples=1000, seed=number)
        held += found.low <= truth <= found.high
    assert held >= 0.93 * 400


def test_verdicts() -> None:
    ends = {(0.01, 0.2): "better", (-0.2, -0.01): "worse", (-0.1, 0.1): "undecided", (0.0, 0.0): "undecided"}
    assert {pair: Difference(0, *pair).verdict for pair in ends} == ends
    everything, nothing = np.ones((3, 5), bool), np.zeros((3, 5), bool)
    assert paired_difference(everything, nothing) == Difference(1, 1, 1)
    assert paired_difference(everything, everything).verdict == "undecided"


def test_bad_tables_are_refused() -> None:
    table = np.ones((2, 5), bool)
    with pytest.raises(ConfigError, match=r"two tables \(seeds, videos\), .* got \(2, 5\) and \(2, 4\)"):
        paired_difference(table, table[:, :4])
    with pytest.raises(ConfigError, match="two tables"):
        paired_difference(table[:, :0], table[:, :0])
    with pytest.raises(ConfigError, match="one group per video, got 2 for 5 videos"):
        paired_difference(table, table, groups=["a", "b"])
    with pytest.raises(ConfigError, match="needs 1 resample or more, got 0"):
        paired_difference(table, table, resamples=0)
