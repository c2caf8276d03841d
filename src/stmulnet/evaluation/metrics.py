"""Figures of merit over score tables, in NumPy float64."""

# V videos, K classes, B bins of confidence

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution

Scores = NDArray[np.floating]
Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Proportion:
    """A share of videos with its uncertainty.

    Attributes:
        correct: Number of videos counted as right.
        total: Number of videos.
        low: Lower end of the 95 % Wilson interval, 0..1.
        high: Upper end of the 95 % Wilson interval, 0..1.
    """

    correct: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, 0..1."""
        return self.correct / self.total


@dataclass(frozen=True)
class ClassRow:
    """One line of the table of classes.

    Attributes:
        name: The class.
        videos: Its test videos.
        correct: Those of them that were recognised.
        confused_with: The class that most of the others were taken for; None if there are no others.
        confused: How many of them.
    """

    name: str
    videos: int
    correct: int
    confused_with: str | None
    confused: int

    @property
    def accuracy(self) -> float | None:
        """Share of its videos, 0..1; None without videos."""
        return self.correct / self.videos if self.videos else None


class Confused(NamedTuple):
    """A frequent mistake: ``videos`` of the ``total`` videos of a class were taken for another class."""

    true: str
    predicted: str
    videos: int
    total: int


class ReliabilityBins(NamedTuple):
    """How often scores are right when they are so sure.

    Attributes:
        counts: (B,) videos whose highest probability lies in the bin.
        confidence: (B,) mean of these probabilities, 0..1; NaN in an empty bin.
        accuracy: (B,) share of these videos that are right, 0..1; NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def proportion(correct: int, total: int) -> Proportion:
    """``correct`` of ``total`` videos, with the 95 % Wilson interval."""
    return Proportion(correct, total, *wilson_interval(correct, total))


def wilson_interval(correct: int, total: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (Wilson, JASA 1927).

    Args:
        correct: Number of successes, 0..total.
        total: Number of trials, at least 1.
        z: Normal quantile of the confidence level; 1.96 gives 95 %.

    Returns:
        Lower and upper end, within 0..1.
    """
    if not 0 <= correct <= total or total < 1:
        raise ConfigError(f"a proportion needs 0 <= correct <= total and total >= 1, got {correct} of {total}")
    share = correct / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At 0 and at `total` successes the ends are exactly 0 and 1; rounding could leave them just outside.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == total else centre + half)


def predictions(scores: Scores) -> NDArray[np.int64]:
    """Class of the highest score per video, (V, K) -> (V,); equal scores: the first class (MATLAB's ``max``)."""
    return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)


def top_k_correct(scores: Scores, labels: Labels, k: int = 1) -> NDArray[np.bool_]:
    """Whether the right class is among the ``k`` highest scores of each video.

    Args:
        scores: (V, K) scores, higher is better.
        labels: (V,) classes, 0-based.
        k: Number of guesses; with more guesses than classes every video is right.

    Returns:
        (V,) booleans. Equal scores count in class order, so that ``k = 1`` agrees with ``predictions``.
    """
    scores, labels = _checked(scores, labels)
    if k < 1:
        raise ConfigError(f"k of top-k must be at least 1, got {k}")
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.asarray((order == labels[:, None]).any(axis=1))


def top_k_accuracy(scores: Scores, labels: Labels, k: int = 1) -> float:
    """Share of videos, 0..1, whose right class is among the ``k`` highest scores."""
    return float(top_k_correct(scores, labels, k).mean())


def top_k_proportion(scores: Scores, labels: Labels, k: int = 1) -> Proportion:
    """Top-k accuracy with its 95 % interval."""
    correct = top_k_correct(scores, labels, k)
    return proportion(int(correct.sum()), correct.size)


def confusion_matrix(scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """Counts (K, K): row is the true class, column the predicted one."""
    scores, labels = _checked(scores, labels)
    num_classes = scores.shape[1]
    pairs = labels * num_classes + predictions(scores)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_accuracies(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    """Accuracy of each class, (K,) in 0..1; NaN for a class without videos."""
    counts = confusion_matrix(scores, labels)
    totals = counts.sum(axis=1)
    accuracies = np.full(totals.shape, np.nan)
    np.divide(np.diag(counts), totals, out=accuracies, where=totals > 0)
    return accuracies


def mean_class_accuracy(scores: Scores, labels: Labels) -> float:
    """Mean of the class accuracies over the classes that have videos, 0..1."""
    return float(np.nanmean(class_accuracies(scores, labels)))


def most_confused(counts: NDArray[np.integer], class_names: Sequence[str], count: int) -> list[Confused]:
    """The most frequent mistakes of a confusion matrix (K, K), up to ``count``; equal ones in class order."""
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    cells = [divmod(int(flat), len(class_names)) for flat in order]
    return [
        Confused(class_names[row], class_names[column], int(mistakes[row, column]), int(counts[row].sum()))
        for row, column in cells
        if mistakes[row, column]
    ]


def class_table(counts: NDArray[np.integer], class_names: Sequence[str]) -> list[ClassRow]:
    """Accuracy of each class and what it is most often taken for, from a confusion matrix (K, K); in class order."""
    rows = []
    for label, name in enumerate(class_names):
        others = np.where(np.arange(len(class_names)) == label, 0, counts[label])
        worst = int(others.argmax())
        wrong = int(others[worst])
        other = class_names[worst] if wrong else None
        rows.append(ClassRow(name, int(counts[label].sum()), int(counts[label, label]), other, wrong))
    return rows


def reliability_bins(scores: Scores, labels: Labels, bins: int = 10) -> ReliabilityBins:
    """Confidence against accuracy, in bins of equal width over 0..1 (Guo et al., ICML 2017).

    The confidence of a video is its highest softmax probability; a bin holds its upper end and not its lower one.

    Args:
        scores: (V, K) raw scores.
        labels: (V,) classes, 0-based.
        bins: Number of bins.
    """
    table, labels = _checked(scores, labels)
    if bins < 1:
        raise ConfigError(f"a reliability diagram needs 1 bin or more, got {bins}")
    confidence = softmax(table).max(axis=1)
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    right = predictions(table) == labels
    sums = [np.bincount(places, weights=values, minlength=bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which says that a bin is empty
        return ReliabilityBins(counts, *(total / counts for total in sums))


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Gap between accuracy and confidence, mean over the videos, 0..1 (Guo et al., ICML 2017)."""
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(bins.counts * gaps) / bins.counts.sum())


def softmax(scores: Scores) -> NDArray[np.float64]:
    """Softmax over the last axis, for display only: the protocol averages raw scores."""
    shifted = np.asarray(scores, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def top_classes(scores: Scores, class_names: Sequence[str], count: int) -> list[tuple[str, float]]:
    """The ``count`` best classes of raw scores (K,) with their softmax probabilities, best first."""
    probabilities = softmax(scores)
    order = np.argsort(-np.asarray(scores), kind="stable")[:count]
    return [(class_names[index], float(probabilities[index])) for index in order]


def _checked(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    table, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if table.ndim != 2 or labels.shape != table.shape[:1] or labels.size == 0:
        raise ConfigError(
            f"metrics need scores (videos, classes) and one label per video, got {table.shape} and {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= table.shape[1]:
        raise ConfigError(f"labels must lie in 0..{table.shape[1] - 1}, got {labels.min()}..{labels.max()}")
    if not np.isfinite(table).all():
        raise ConfigError(f"{int((~np.isfinite(table)).any(axis=1).sum())} videos have scores that are not finite")
    return table, labels.astype(np.int64)
