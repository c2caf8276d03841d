import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from stmulnet.evaluation.figures import LearningCurve
from stmulnet.evaluation.metrics import top_classes
from stmulnet.evaluation.pictures import image_uri, thumbnails
from stmulnet.evaluation.report import (
    Example,
    Report,
    choose_examples,
    confusion,
    example_scores,
    render_report,
    result_row,
    write_report,
)

NAMES = ["Walk", "Run & <jump>", "Sit", "Stand", "Turn $x$", "Wave"]


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 6, size=40)


@pytest.fixture
def scores(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    return np.asarray(rng.normal(size=(40, 6)) + 1.5 * np.eye(6)[labels])


@pytest.fixture
def page(rng: np.random.Generator, scores: np.ndarray, labels: np.ndarray) -> str:
    frames = rng.integers(0, 256, size=(3, 20, 30, 3), dtype=np.uint8)
    flow_px = rng.normal(size=(3, 2, 20, 30))
    answers = [example_scores(name, table[0], NAMES) for name, table in (("A", scores), ("B", -scores))]
    report = Report(
        title="Two networks <compared>",
        lead="A lead.",
        class_names=NAMES,
        rows=[
            result_row("A", scores, labels, groups={"Legs": [0, 1]}, note="sees frames"),
            result_row("B", -scores, labels),
        ],
        facts=[("Data set", "x & y")],
        group_notes={"Legs": "classes of the legs."},
        confusions=[confusion("A", scores, labels), confusion("B", -scores, labels)],
        curves=[LearningCurve("A", [1, 2, 3], [2.0, 1.0, 0.5], [0.2, 0.5, 0.6])],
        examples=[Example("v_one", NAMES[labels[0]], frames, flow_px, answers)],
        examples_note="Chosen by hand.",
    )
    return render_report(report)


def test_page_needs_nothing_from_outside(page: str) -> None:
    assert "<script" not in page
    assert not re.search(r"https?://|@import|<link", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 7  # colour wheel, three frames and their flow
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in sources)


def test_names_are_escaped(page: str) -> None:
    assert "Two networks &lt;compared&gt;" in page
    assert "<jump>" not in page
    assert "Run &amp; &lt;jump&gt;" in page


def test_page_shows_the_measured_figures(page: str, scores: np.ndarray, labels: np.ndarray) -> None:
    right = int((scores.argmax(axis=1) == labels).sum())
    legs = np.isin(labels, [0, 1])
    legs_right = int((scores.argmax(axis=1) == labels)[legs].sum())
    assert f"{100 * right / 40:.1f}&nbsp;%" in page
    assert f"{right} of 40" in page
    assert f"{legs_right} of {legs.sum()}" in page
    assert "Top-5 accuracy" in page


def test_right_and_wrong_are_said_in_words(page: str, scores: np.ndarray, labels: np.ndarray) -> None:
    verdicts = re.findall(r'class="(right|wrong)">(.) (\w+)<', page)
    expected = [bool(table[0].argmax() == labels[0]) for table in (scores, -scores)]
    assert verdicts == [("right", "✓", "right") if right else ("wrong", "✗", "wrong") for right in expected]


def test_empty_sections_are_left_out(scores: np.ndarray, labels: np.ndarray) -> None:
    page = render_report(Report("T", "L", NAMES, [result_row("A", scores, labels)]))
    assert not re.search(r'id="(curves|confusions|examples)"', page)
    assert 'id="results"' in page


def test_top_5_is_left_out_with_five_classes(scores: np.ndarray, labels: np.ndarray) -> None:
    few = labels < 5
    row = result_row("A", scores[few][:, :5], labels[few])
    assert row.top5 is None
    assert "Top-5" not in render_report(Report("T", "L", NAMES[:5], [row]))


def test_group_without_videos_is_left_out(scores: np.ndarray, labels: np.ndarray) -> None:
    few = labels != 3
    row = result_row("A", scores[few], labels[few], groups={"Legs": [0, 1], "Stand": [3]})
    assert list(row.groups) == ["Legs"]


def test_top_classes_are_sorted_probabilities(scores: np.ndarray) -> None:
    top = top_classes(scores[0], NAMES, 3)
    order = np.argsort(-scores[0])[:3]
    probabilities = np.exp(scores[0]) / np.exp(scores[0]).sum()
    assert [name for name, _ in top] == [NAMES[index] for index in order]
    assert [share for _, share in top] == pytest.approx(probabilities[order])


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "chosen_wrong"), [(20, 20, 4), (20, 1, 1), (2, 20, 6), (0, 20, 8), (3, 2, 2)]
)
def test_examples_are_half_mistakes(num_right: int, num_wrong: int, chosen_wrong: int) -> None:
    right = np.arange(num_right + num_wrong) >= num_wrong
    chosen = choose_examples(right, 8)
    assert len(chosen) == len(set(chosen)) == min(8, len(right))
    assert chosen == sorted(chosen)
    assert sum(not right[index] for index in chosen) == chosen_wrong


def test_frames_and_flow_are_scaled_alike(rng: np.random.Generator) -> None:
    small = thumbnails(np.full((3, 40, 50, 3), 90, dtype=np.uint8))
    large = thumbnails(np.full((2, 400, 500, 3), 90, dtype=np.uint8))
    assert small.shape == (3, 144, 180, 3)
    assert large.shape == (2, 144, 180, 3)
    assert (small == 90).all()
    assert (large == 90).all()


def test_png_uri_keeps_the_pixels(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, size=(9, 14, 3), dtype=np.uint8)
    content = base64.b64decode(image_uri(image, "png").split(",")[1])
    read = matplotlib_image.imread(io.BytesIO(content))
    np.testing.assert_array_equal(np.rint(255 * read[:, :, :3]), image)


def test_write_report_makes_the_folder(tmp_path: Path, scores: np.ndarray, labels: np.ndarray) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, Report("T", "L", NAMES, [result_row("A", scores, labels)]))
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
