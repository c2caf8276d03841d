"""What notebooks show: well-formed tables, escaped text, colours that can be seen on light and dark ground."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TinyProject

from stmulnet.commands.ablate import AblateSummary
from stmulnet.commands.demo import DemoSummary
from stmulnet.commands.predict import PredictSummary
from stmulnet.commands.results import EvaluateSummary, measure
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.evaluation.report import Report, result_row
from stmulnet.evaluation.scores import SavedScores, ScoresRecord
from stmulnet.predictor import Prediction, VideoPredictor
from stmulnet.rendering import BAR, page_html, rankings_html, table_html
from stmulnet.training.ablation_table import Row

NASTY = "<script>alert('&\")</script>"


class Reader(HTMLParser):
    """Checks that tags close in order; keeps the cells of every table, the styles and the other text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self.attributes: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("div", "b", "table", "tr", "th", "td", "iframe")
        self.open.append(tag)
        self.attributes |= {name: value or "" for name, value in attrs}
        self.styles += [value or "" for name, value in attrs if name == "style"]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def shown(value: object) -> Reader:
    return Reader(value._repr_html_())  # type: ignore[attr-defined]


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` by WCAG 2."""
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("ground", ["#ffffff", "#111111", "#1f1f1f"])
def test_bars_stand_out_from_light_and_dark_ground(ground: str) -> None:
    high, low = sorted((luminance(BAR), luminance(ground)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 3


def test_text_has_the_colour_of_the_notebook() -> None:
    page = Reader(rankings_html({"both": [("walk", 0.5)]}, ["note"]) + table_html(["a"], [["b"]]))
    assert page.styles
    assert all(not rule.strip().startswith("color") for style in page.styles for rule in style.split(";"))


def test_names_and_notes_are_escaped() -> None:
    ranking = rankings_html({NASTY: [(NASTY, 0.75)]}, [NASTY])
    table = table_html([NASTY], [[NASTY]], title=NASTY, notes=[NASTY])
    for html, times in ((ranking, 4), (table, 4)):
        assert "<script" not in html
        assert Reader(html).text.count(NASTY) == times


def test_bars_are_as_long_as_the_probability() -> None:
    html = rankings_html({"both": [("a", 1.0), ("b", 0.25), ("c", 0.0), ("d", 1.0000001)]})
    widths = [style.partition(";")[0] for style in Reader(html).styles if "height: 10px" in style]
    assert widths == ["width: 140px", "width: 35px", "width: 0px", "width: 140px"]


def test_page_in_a_frame_keeps_its_text_and_runs_no_scripts() -> None:
    page = f'<!doctype html><p title="x">{NASTY}</p>\'&amp;'
    frame = Reader(page_html(page))
    assert frame.attributes["srcdoc"] == page
    assert frame.attributes["sandbox"] == ""


def test_prediction(tiny_project: TinyProject) -> None:
    prediction = VideoPredictor(tiny_project.weights, threads=1)(next(tiny_project.videos.rglob("*.avi")))
    page = shown(prediction)
    titles = [table[0][0] for table in page.tables]
    assert titles == ["both streams", "appearance stream", "motion stream"]
    for table, ranking in zip(page.tables, (prediction.top_k, prediction.appearance, prediction.motion), strict=True):
        assert ranking is not None
        assert table[1:] == [[label, "", f"{100 * probability:.1f} %"] for label, probability in ranking]
    assert page.text[0] == prediction.label
    assert prediction.preset in page.text
    assert any(f"total {prediction.seconds['total']:.2f} s" in text for text in page.text)


def single_stream(label: str) -> Prediction:
    ranking = [(label, 0.9), ("other", 0.1)]
    scores = None  # not shown
    return Prediction(label, 0.9, ranking, None, ranking, 20, "preset", None, {"total": 1.0}, scores)  # type: ignore[arg-type]


def test_prediction_of_one_stream_is_shown_once() -> None:
    assert [table[0][0] for table in shown(single_stream("walk")).tables] == ["motion stream"]


def test_predict_summary() -> None:
    summary = PredictSummary({Path("a.avi"): single_stream(NASTY)}, {Path("b.avi"): "b.avi: the file is empty"})
    page = shown(summary)
    assert page.tables[0][1:] == [["a.avi", NASTY, "90.0"], ["b.avi", "not recognised", ""]]
    assert page.text[-1] == "b.avi: the file is empty"


def split(number: int, rng: np.random.Generator) -> EvaluateSummary:
    scores = [rng.normal(size=(12, 3)) for _ in range(2)]
    labels, videos = np.arange(12) % 3, [f"video{number}" for number in range(12)]
    table = ScoreTable(videos, labels, (scores[0] + scores[1]) / 2, *scores)
    record = ScoresRecord(dataset="shapes", split=number, views="official", frames=25)
    return EvaluateSummary([measure(SavedScores(table, ["a", "b", NASTY], record))])


def test_evaluate_summary_is_the_printed_table(rng: np.random.Generator) -> None:
    summary = split(1, rng)
    (table,) = shown(summary).tables
    assert [line[0] for line in table] == ["scores", "appearance", "motion", "fused"]
    assert [line[1] for line in table[1:]] == [f"{100 * row.accuracy.value:.1f}" for row in summary.rows]
    assert any("the bootstrap draws videos" in text for text in shown(summary).text)


def test_evaluate_summary_of_several_splits(rng: np.random.Generator) -> None:
    summary = EvaluateSummary([*split(1, rng).splits, *split(2, rng).splits])
    (table,) = shown(summary).tables
    assert [line[0] for line in table[1:]] == ["Split 1", "Split 2", "mean", "std"]
    assert table[3][-1] == f"{100 * summary.means()['fused']['mean_class_accuracy']['mean']:.1f}"


def test_demo_summary(rng: np.random.Generator) -> None:
    rows = [
        result_row("late fusion", rng.normal(size=(8, 6)), np.arange(8) % 6, groups={"pair classes": range(4)}),
    ]
    page = shown(DemoSummary(rows, "a", "b", Path("report.html")))
    assert page.tables[0][1][0] == "late fusion"
    assert page.tables[0][1][1] == f"{100 * rows[0].accuracy.value:.1f}"


def test_ablate_summary() -> None:
    rows = [Row(classes, 4, 4, "gate", [0.5, 1.0], {}, None) for classes in ("all classes", "pairs")]
    page = shown(AblateSummary({Path("runs/depth"): rows}, {"depth, no gate, seed 1": "out of memory"}))
    assert [table[1][:2] for table in page.tables[:2]] == [["gate", "75.0 ± 35.4"]] * 2
    assert "depth, pairs: top-1 %" in page.text
    assert page.text[-1] == "failed: depth, no gate, seed 1: out of memory"


def test_report_is_the_page(rng: np.random.Generator) -> None:
    rows = [result_row("net", rng.normal(size=(8, 3)), np.arange(8) % 3)]
    page = shown(Report(title=NASTY, lead="", class_names=["a", "b", "c"], rows=rows))
    assert page.attributes["srcdoc"].lower().startswith("<!doctype html>")
    assert NASTY not in page.attributes["srcdoc"]


def test_no_notebook_package_is_needed() -> None:
    code = (
        "import sys; sys.modules['IPython'] = None\nfrom stmulnet.rendering import rankings_html\n"
        "assert rankings_html({'both': [('walk', 1.0)]})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
