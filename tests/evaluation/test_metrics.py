import math

import numpy as np
import pytest
from scipy.stats import binomtest

from stmulnet.errors import ConfigError
from stmulnet.evaluation import metrics


@pytest.fixture
def table(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 57 videos and 7 classes; class 4 has no videos."""
    labels = rng.choice([0, 1, 2, 3, 5, 6], size=57)
    return rng.normal(size=(57, 7)) + 1.2 * np.eye(7)[labels], labels


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_top_k_against_a_loop(table: tuple[np.ndarray, np.ndarray], k: int) -> None:
    scores, labels = table
    right = sum(label in sorted(range(7), key=lambda c: -row[c])[:k] for row, label in zip(scores, labels, strict=True))
    assert metrics.top_k_accuracy(scores, labels, k) == right / 57
    assert metrics.top_k_proportion(scores, labels, k).correct == right


def test_equal_scores_prefer_the_first_class() -> None:
    scores, labels = np.zeros((2, 3)), np.array([0, 1])
    assert metrics.predictions(scores).tolist() == [0, 0]
    assert metrics.top_k_correct(scores, labels).tolist() == [True, False]
    assert metrics.top_k_correct(scores, labels, 2).tolist() == [True, True]


def test_confusion_rows_are_true_classes(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    expected = np.zeros((7, 7), dtype=int)
    for row, label in zip(scores, labels, strict=True):
        expected[label, int(np.argmax(row))] += 1
    counts = metrics.confusion_matrix(scores, labels)
    np.testing.assert_array_equal(counts, expected)
    assert not np.array_equal(counts, counts.T)


def test_class_without_videos_is_nan_and_left_out_of_the_mean(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    guesses = scores.argmax(axis=1)
    shares = [float(np.mean(guesses[labels == c] == c)) for c in (0, 1, 2, 3, 5, 6)]
    accuracies = metrics.class_accuracies(scores, labels)
    assert math.isnan(accuracies[4])
    np.testing.assert_allclose(np.delete(accuracies, 4), shares)
    assert metrics.mean_class_accuracy(scores, labels) == pytest.approx(np.mean(shares))


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 46), (46, 46), (17, 46), (3456, 3783)])
def test_wilson_against_scipy(correct: int, total: int) -> None:
    expected = binomtest(correct, total).proportion_ci(method="wilson")
    interval = metrics.proportion(correct, total)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_softmax_of_large_scores(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(4, 5))
    expected = np.exp(scores) / np.exp(scores).sum(axis=1)[:, None]
    np.testing.assert_allclose(metrics.softmax(scores), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.softmax(scores + 5000.0), expected, rtol=1e-9)


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_reliability_against_a_loop(table: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    scores, labels = table
    found = metrics.reliability_bins(scores, labels, bins)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1)[:, None]
    error = 0.0
    for b in range(bins):
        members = [v for v in range(57) if b / bins < probabilities[v].max() <= (b + 1) / bins]
        assert found.counts[b] == len(members)
        if not members:
            assert math.isnan(found.confidence[b])
            assert math.isnan(found.accuracy[b])
            continue
        confidence = np.mean([probabilities[v].max() for v in members])
        accuracy = np.mean([scores[v].argmax() == labels[v] for v in members])
        assert (found.confidence[b], found.accuracy[b]) == pytest.approx((confidence, accuracy))
        error += len(members) / 57 * abs(confidence - accuracy)
    assert metrics.expected_calibration_error(found) == pytest.approx(error)


def test_sure_and_right_is_calibrated() -> None:
    bins = metrics.reliability_bins(np.array([[1000.0, 0.0], [0.0, 1000.0]]), np.array([0, 1]))
    assert bins.counts.tolist() == [0] * 9 + [2]
    assert metrics.expected_calibration_error(bins) == 0
    with pytest.raises(ConfigError, match="1 bin or more, got 0"):
        metrics.reliability_bins(np.zeros((1, 2)), np.array([0]), 0)


def test_classes_and_what_they_are_taken_for() -> None:
    counts = np.array([[3, 0, 2, 2], [0, 0, 0, 0], [0, 0, 4, 0], [5, 1, 0, 0]])
    names = ["Walk", "Run", "Sit", "Wave"]
    rows = metrics.class_table(counts, names)
    assert [(row.name, row.videos, row.accuracy) for row in rows] == [
        ("Walk", 7, 3 / 7),
        ("Run", 0, None),
        ("Sit", 4, 1.0),
        ("Wave", 6, 0.0),
    ]
    assert [(row.confused_with, row.confused) for row in rows] == [("Sit", 2), (None, 0), (None, 0), ("Walk", 5)]
    assert metrics.most_confused(counts, names, 3) == [
        ("Wave", "Walk", 5, 6),
        ("Walk", "Sit", 2, 7),
        ("Walk", "Wave", 2, 7),
    ]
    assert len(metrics.most_confused(counts, names, 99)) == 4


@pytest.mark.parametrize(
    ("scores", "labels", "k", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3, dtype=int), 1, r"got \(2, 3\) and \(3,\)"),
        (np.zeros((0, 3)), np.zeros(0, dtype=int), 1, r"got \(0, 3\)"),
        (np.zeros((2, 3)), np.array([0, 3]), 1, r"labels must lie in 0..2, got 0..3"),
        (np.full((2, 3), np.nan), np.array([0, 1]), 1, "2 videos have scores that are not finite"),
        (np.zeros((2, 3)), np.array([0, 1]), 0, "at least 1, got 0"),
    ],
)
def test_bad_input_is_named(scores: np.ndarray, labels: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        metrics.top_k_accuracy(scores, labels, k)


def test_bad_proportion_is_named() -> None:
    with pytest.raises(ConfigError, match="got 3 of 2"):
        metrics.wilson_interval(3, 2)
