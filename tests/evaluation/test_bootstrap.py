"""Bootstrap intervals against loops, scipy and simulated truth."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from stmulnet.errors import ConfigError
from stmulnet.evaluation import bootstrap as module
from stmulnet.evaluation.bootstrap import bootstrap
from stmulnet.evaluation.metrics import mean_class_accuracy, top_k_accuracy, top_k_correct

Table = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def table(rng: np.random.Generator) -> Table:
    """Scores of 83 videos and 7 classes; class 4 has no videos."""
    labels = rng.choice([0, 1, 2, 3, 5, 6], size=83)
    return rng.normal(size=(83, 7)) + 1.2 * np.eye(7)[labels], labels


def resampled_by_hand(table: Table, units: list[np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """Intervals (3, 2) from the definition: draw units, list their videos, measure."""
    scores, labels = table
    rng, rows = np.random.default_rng(seed), []
    for counts in rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=resamples):
        videos = np.concatenate([np.repeat(unit, count) for unit, count in zip(units, counts, strict=True)])
        drawn = scores[videos], labels[videos]
        rows.append([top_k_accuracy(*drawn, 1), top_k_accuracy(*drawn, 5), mean_class_accuracy(*drawn)])
    return np.percentile(rows, [2.5, 97.5], axis=0).T


@pytest.mark.parametrize("chunk", [7, 256])
def test_against_a_loop_over_videos(table: Table, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = bootstrap(*table, resamples=50, seed=3)
    expected = resampled_by_hand(table, [np.array([i]) for i in range(83)], 50, 3)
    np.testing.assert_allclose([found.top1, found.top5, found.mean_class], expected, rtol=1e-12)
    assert found.units == 83


def test_against_a_loop_over_groups(table: Table, rng: np.random.Generator) -> None:
    groups = [f"g{number:02d}" for number in rng.integers(0, 11, size=83)]
    names = sorted(set(groups))
    members = [np.flatnonzero(np.array(groups) == name) for name in names]
    found = bootstrap(*table, groups=groups, resamples=50, seed=4)
    expected = resampled_by_hand(table, members, 50, 4)
    np.testing.assert_allclose([found.top1, found.top5, found.mean_class], expected, rtol=1e-12)
    assert found.units == len(names)


def test_against_scipy(table: Table) -> None:
    right = top_k_correct(*table)
    expected = scipy_bootstrap((right,), np.mean, method="percentile", n_resamples=4000, random_state=1)
    found = bootstrap(*table, resamples=4000)
    assert found.top1 == pytest.approx(tuple(expected.confidence_interval), abs=0.02)


def test_clips_that_fail_together_have_a_wider_interval(rng: np.random.Generator) -> None:
    right = np.repeat(rng.random(40) < 0.6, 5)
    labels = np.zeros(200, dtype=int)
    scores = np.where(right[:, None], [1.0, 0.0], [0.0, 1.0])
    groups = np.repeat([f"g{i}" for i in range(40)], 5).tolist()
    alone, together = bootstrap(scores, labels), bootstrap(scores, labels, groups=groups)
    widths = [high - low for low, high in (alone.top1, together.top1)]
    assert widths[1] / widths[0] == pytest.approx(5**0.5, rel=0.1)


def test_covers_the_truth_about_as_often_as_it_says(rng: np.random.Generator) -> None:
    covered = 0
    for seed in range(200):
        right = rng.random(120) < 0.7
        scores = np.where(right[:, None], [1.0, 0.0], [0.0, 1.0])
        low, high = bootstrap(scores, np.zeros(120, dtype=int), resamples=300, seed=seed).top1
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_seed_decides(table: Table) -> None:
    assert bootstrap(*table) == bootstrap(*table)
    assert bootstrap(*table) != bootstrap(*table, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"groups": ["a"]}, "one group per video, got 1 for 83 videos"), ({"resamples": 0}, "1 resample or more, got 0")],
)
def test_bad_input_is_named(table: Table, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bootstrap(*table, **options)  # type: ignore[arg-type]
