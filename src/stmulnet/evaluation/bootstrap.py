"""Bootstrap intervals: how much figures of merit would vary with other test videos of the same kind.

Percentile intervals (Efron and Tibshirani 1993, section 13.3). Where clips are cut from common videos, as UCF-101's
are, those are what is drawn: their clips succeed or fail together, and an interval over single clips is too narrow.
"""

# V videos, K classes, G units that are drawn (videos, or groups of them), R resamples

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.evaluation.metrics import Labels, Scores, top_k_correct

RESAMPLES = 2000
LEVEL = 0.95
CHUNK = 256  # resamples that are in memory at once

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Bootstrap:
    """Ends of the 95 % intervals, each 0..1.

    Attributes:
        top1: Of the top-1 accuracy.
        top5: Of the top-5 accuracy.
        mean_class: Of the mean class accuracy.
        units: Videos, or groups of videos, that were drawn from.
    """

    top1: Interval
    top5: Interval
    mean_class: Interval
    units: int


def bootstrap(
    scores: Scores,
    labels: Labels,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """95 % percentile intervals of top-1, top-5 and mean class accuracy.

    A resample draws as many units as there are, with replacement. Its mean class accuracy is over the classes it has.

    Args:
        scores: (V, K) scores.
        labels: (V,) classes, 0-based.
        groups: Group of each video, drawn as one; None draws single videos.
        resamples: Number of resamples.
        seed: Of the draws.

    Returns:
        The intervals; the same for the same seed.

    Raises:
        ConfigError: Shapes that do not fit, or no resamples.
    """
    top1, top5 = (top_k_correct(scores, labels, k).astype(np.float64) for k in (1, 5))
    if groups is not None and len(groups) != len(top1):
        raise ConfigError(f"the bootstrap needs one group per video, got {len(groups)} for {len(top1)} videos")
    if resamples < 1:
        raise ConfigError(f"the bootstrap needs 1 resample or more, got {resamples}")
    one_hot = np.eye(scores.shape[1])[np.asarray(labels)]
    # Everything is a sum over units: columns [1, top-1, top-5, videos per class, right ones per class].
    columns = np.column_stack([np.ones_like(top1), top1, top5, one_hot, one_hot * top1[:, None]])
    units = columns if groups is None else _sum_by_group(columns, groups)
    ends = np.quantile(_resampled(units, resamples, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    intervals = [(float(low), float(high)) for low, high in ends.T]
    return Bootstrap(intervals[0], intervals[1], intervals[2], len(units))


def _sum_by_group(columns: Floats, groups: Sequence[str]) -> Floats:
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, places, columns)
    return sums


def _resampled(units: Floats, resamples: int, seed: int) -> Floats:
    """Top-1, top-5 and mean class accuracy of every resample, (R, 3)."""
    return np.concatenate([_figures(counts @ units) for counts in draw_units(len(units), resamples, seed)])


def draw_units(units: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each unit is drawn with replacement, (up to CHUNK, G) at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        yield rng.multinomial(units, np.full(units, 1 / units), size=size).astype(np.float64)


def _figures(sums: Floats) -> Floats:
    """Sums (r, 3 + 2 K) to figures (r, 3)."""
    videos, top1, top5 = sums[:, :3].T
    per_class, right = np.split(sums[:, 3:], 2, axis=1)
    present = per_class > 0
    shares = np.divide(right, per_class, out=np.zeros_like(right), where=present)
    return np.column_stack([top1 / videos, top5 / videos, shares.sum(axis=1) / present.sum(axis=1)])
