import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stmulnet.evaluation.metrics import softmax
from stmulnet.evaluation.protocol import VideoScores
from stmulnet.streaming.plot import MAX_POINTS, leading_classes, spread, timeline_figure, write_plot
from stmulnet.streaming.scorer import WindowScores
from stmulnet.streaming.timeline import Segment, Timeline, collect, last_nearest
from stmulnet.streaming.windows import Window, Windowing

NAMES = ["walk, slowly", "läuft", "$jump$", "sit"]


def timeline(labels: list[int], *, stride: int = 10, frames: int = 20, names: list[str] = NAMES) -> Timeline:
    """Windows of 20 frames at 10 frames/s, with the given classes on top."""
    rng = np.random.default_rng(len(labels))
    windowing = Windowing(frames, stride, 5)
    scored = []
    for index, label in enumerate(labels):
        appearance, motion = rng.normal(size=(2, len(names)))
        motion[label] += 9
        scores = VideoScores(appearance, motion, (appearance + motion) / 2)
        scored.append(WindowScores(windowing.window(index), scores))
    settings: dict[str, Any] = {"source": "dir/ä.mp4", "fps": 10.0, "num_frames": scored[-1].window.last}
    return collect(scored, names, windowing=windowing, preset="as told", flow_record={"backend": "dis"}, **settings)


def test_times_labels_and_probabilities() -> None:
    found = timeline([0, 0, 2, 3])
    np.testing.assert_allclose(found.times, [[0, 2], [1, 3], [2, 4], [3, 5]])
    assert found.labels == ["walk, slowly", "walk, slowly", "$jump$", "sit"]
    np.testing.assert_allclose(found.probabilities, softmax(found.fused))
    assert found.appearance is not None
    assert found.motion is not None
    np.testing.assert_allclose(found.fused, (found.appearance + found.motion) / 2)


def test_segments_are_runs_cut_where_the_nearest_window_changes() -> None:
    found = timeline([0, 0, 2, 0])
    scores = found.probabilities.max(axis=1)
    # centres of the windows: 10.5, 20.5, 30.5, 40.5
    assert found.segments() == [
        Segment("walk, slowly", 1, 25, 0.0, 2.5, scores[:2].mean(), 2),
        Segment("$jump$", 26, 35, 2.5, 3.5, scores[2], 1),
        Segment("walk, slowly", 36, 50, 3.5, 5.0, scores[3], 1),
    ]


def test_the_last_frame_that_is_nearest() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        first, length, later, other = rng.integers(1, 60, 4).tolist()
        windows = Window(first, first + length), Window(first + later, first + max(length, later) + other)
        centres = [(window.first + window.last) / 2 for window in windows]
        nearer = [n for n in range(1, 400) if abs(n - centres[0]) <= abs(n - centres[1])]
        assert last_nearest(*windows) == nearer[-1]


def test_csv(tmp_path: Path) -> None:
    found = timeline([0, 1, 2])
    found.to_csv(tmp_path / "t.csv")
    header, *rows = csv.reader(io.StringIO((tmp_path / "t.csv").read_text(encoding="utf-8")))
    assert header == [
        *("first_frame", "last_frame", "start_s", "end_s", "label", "score"),
        *("p:walk, slowly", "p:läuft", "p:$jump$", "p:sit"),
    ]
    assert [row[:5] for row in rows] == [
        ["1", "20", "0.0", "2.0", "walk, slowly"],
        ["11", "30", "1.0", "3.0", "läuft"],
        ["21", "40", "2.0", "4.0", "$jump$"],
    ]
    np.testing.assert_allclose(np.array([row[6:] for row in rows], float), found.probabilities, atol=1e-6)
    np.testing.assert_allclose([float(row[5]) for row in rows], found.probabilities.max(axis=1), atol=1e-6)


def test_json(tmp_path: Path) -> None:
    found = timeline([0, 1, 1])
    found.to_json(tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert content == json.loads(json.dumps(found.to_dict()))
    assert content["class_names"] == NAMES
    assert content["complete"] is True
    assert (content["window_frames"], content["stride_frames"], content["num_frames"]) == (20, 10, 40)
    assert content["windows"][1]["label"] == "läuft"
    assert content["segments"][1]["end_s"] == 4.0
    for name in ("fused", "appearance", "motion"):
        np.testing.assert_allclose(content["scores"][name], getattr(found, name), atol=1e-6)
    np.testing.assert_allclose(content["probabilities"], found.probabilities, atol=1e-6)
    assert max(map(len, text.splitlines())) < 200  # a line per window, not one per number nor one for all
    assert len(text.splitlines()) < 50


def test_in_a_notebook() -> None:
    page = timeline([0, 0, 2, 0])._repr_html_()
    assert "dir/ä.mp4" in page
    assert page.count("<tr>") == 4
    assert "$jump$" in page
    assert "4 windows of 50 frames" in page
    assert "and 70 more" in timeline([0, 1] * 60)._repr_html_()


def test_leading_classes_are_those_recognised_most_often() -> None:
    assert leading_classes(timeline([2, 2, 1, 2, 1, 0]), 3) == [2, 1, 0]


def test_labels_are_moved_apart_and_stay_inside() -> None:
    rng = np.random.default_rng(1)
    for count in (1, 2, 6):
        places = np.sort(rng.random(count) ** 3)
        moved = spread(places, 0.06)
        assert (np.diff(moved) >= 0.06 - 1e-12).all()
        assert moved.max() <= 1
        assert moved.min() >= -1e-12
    np.testing.assert_array_equal(spread(np.array([0.1, 0.5, 0.9]), 0.06), [0.1, 0.5, 0.9])


@pytest.mark.parametrize(
    "found", [timeline([1]), timeline([0, 1, 2, 3] * 90), timeline([0, 1], names=["a", "b"])], ids=["1", "360", "2"]
)
def test_plot(found: Timeline, tmp_path: Path) -> None:
    figure = timeline_figure(found)
    curves = figure.axes[0]
    assert all(len(line.get_xdata()) <= MAX_POINTS + 2 for line in curves.lines)  # type: ignore[arg-type]
    assert {text.get_text() for text in curves.texts} == set(found.class_names)
    assert figure.texts[0].get_text() == "ä.mp4"
    write_plot(tmp_path / "t.png", found)
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["t.png"]


def test_plot_of_many_classes_names_the_leading_ones_and_sums_the_others() -> None:
    six = timeline([0, 1, 2], names=list("abcdef"))
    assert {text.get_text() for text in timeline_figure(six).axes[0].texts} == set("abcdef")
    found = timeline([0, 1, 2, 3, 4, 5, 6, 0], names=[f"class {number}" for number in range(30)])
    labels = {text.get_text() for text in timeline_figure(found).axes[0].texts}
    assert "the other 25 together" in labels
    assert "class 0" in labels
    assert len(labels) == 6
    rest = timeline_figure(found).axes[0].lines[-1].get_ydata()
    expected = 1 - found.probabilities[:, leading_classes(found)].sum(axis=1)
    np.testing.assert_allclose(np.asarray(rest)[1:-1], expected)
