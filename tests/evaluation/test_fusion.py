"""Late fusion against NumPy written out."""

from dataclasses import replace

import numpy as np
import pytest

from stmulnet.errors import ConfigError
from stmulnet.evaluation.fusion import add_external, fuse_streams, merge_tables, unit_norm
from stmulnet.evaluation.protocol import ScoreTable

VIDEOS = ["a", "b", "c", "d"]
LABELS = np.array([0, 2, 1, 2])


@pytest.fixture
def table(rng: np.random.Generator) -> ScoreTable:
    appearance, motion = rng.normal(size=(2, 4, 3))
    views = np.stack([appearance - 1, appearance + 1], axis=1), np.stack([motion, motion], axis=1)
    return ScoreTable(VIDEOS, LABELS, appearance, motion, (appearance + motion) / 2, *views)


def single(table: ScoreTable, stream: str) -> ScoreTable:
    scores, views = getattr(table, stream), getattr(table, f"{stream}_views")
    return ScoreTable(
        table.videos,
        table.labels,
        fused=scores,
        **{
            **dict.fromkeys(("appearance", "motion")),
            stream: scores,
            f"{stream}_views": views,
        },
    )


def test_equal_weights_are_the_official_mean_bit_by_bit(table: ScoreTable) -> None:
    for weights in ([1.0, 1.0], [3.0, 3.0]):
        np.testing.assert_array_equal(fuse_streams(table, weights).fused, table.fused)


@pytest.mark.parametrize("weights", [[1.0, 1.5], [0.0, 2.0], [3, 1]])
def test_weights_of_the_streams(table: ScoreTable, weights: list[float]) -> None:
    assert table.appearance is not None
    assert table.motion is not None
    expected = np.empty((4, 3))
    for video in range(4):
        for k in range(3):
            total = weights[0] * table.appearance[video, k] + weights[1] * table.motion[video, k]
            expected[video, k] = total / (weights[0] + weights[1])
    fused = fuse_streams(table, weights)
    np.testing.assert_allclose(fused.fused, expected, rtol=1e-12)
    np.testing.assert_array_equal(fused.appearance, table.appearance)


def test_appearance_and_motion_tables_make_one_of_both(table: ScoreTable) -> None:
    merged = merge_tables([single(table, "appearance"), single(table, "motion")], [1.0, 1.0])
    for name in ("appearance", "motion", "fused", "appearance_views", "motion_views"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(table, name))
    weighted = merge_tables([single(table, "motion"), single(table, "appearance")], [1.5, 1.0])
    np.testing.assert_allclose(weighted.fused, fuse_streams(table, [1.0, 1.5]).fused)


def test_networks_are_averaged_video_by_video(table: ScoreTable, rng: np.random.Generator) -> None:
    order = [2, 0, 3, 1]
    appearance, motion = rng.normal(size=(2, 4, 3))
    fused = (appearance + motion) / 2
    other = ScoreTable([VIDEOS[i] for i in order], LABELS[order], appearance[order], motion[order], fused[order])
    merged = merge_tables([table, other], [1.0, 3.0])
    assert merged.videos == VIDEOS
    np.testing.assert_allclose(merged.fused, (table.fused + 3 * fused) / 4)
    assert merged.appearance is not None
    assert table.appearance is not None
    np.testing.assert_allclose(merged.appearance, (table.appearance + 3 * appearance) / 4)
    assert merged.appearance_views is None


@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_another_method_is_weighed_by_unit_vectors(table: ScoreTable, rng: np.random.Generator, weight: float) -> None:
    margins = 100 * rng.normal(size=(4, 3))
    margins[2] = 0
    expected = np.empty((4, 3))
    for video in range(4):
        ours = table.fused[video] / np.sqrt(np.sum(table.fused[video] ** 2))
        length = np.sqrt(np.sum(margins[video] ** 2))
        theirs = margins[video] / length if length else margins[video]
        expected[video] = (ours + weight * theirs) / (1 + weight)
    combined = add_external(table, margins, weight)
    assert combined.combined is not None
    np.testing.assert_allclose(combined.combined, expected, rtol=1e-12)
    np.testing.assert_array_equal(combined.external, margins)
    np.testing.assert_array_equal(combined.fused, table.fused)
    assert list(combined.streams()) == ["appearance", "motion", "fused", "external", "combined"]
    assert combined.final is combined.combined
    if not weight:
        np.testing.assert_array_equal(combined.combined.argmax(axis=1), table.fused.argmax(axis=1))


def test_units_are_of_length_one(rng: np.random.Generator) -> None:
    rows = unit_norm(rng.normal(size=(5, 7)) * 1e6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("inf")], [1.0, float("nan")]])
def test_weights_that_weigh_nothing(table: ScoreTable, weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"need 2 weights of 0 or more, not all 0, such as \[1.0, 1.0\], got"):
        fuse_streams(table, weights)


def test_tables_that_do_not_fit(table: ScoreTable) -> None:
    with pytest.raises(ConfigError, match="there is only one"):
        fuse_streams(single(table, "motion"), [1.0, 1.0])
    fewer = ScoreTable(VIDEOS[:3], LABELS[:3], None, None, table.fused[:3])
    with pytest.raises(ConfigError, match="4 videos of 3 classes and 3 videos of 3 classes, 3 videos in common"):
        merge_tables([table, fewer], [1.0, 1.0])
    with pytest.raises(ConfigError, match="same labels, those of b differ"):
        merge_tables([table, replace(table, labels=np.array([0, 1, 1, 2]))], [1.0, 1.0])
