import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from stmulnet.evaluation.figures import LearningCurve, Reliability, curve_figures, reliability_figure
from stmulnet.evaluation.metrics import reliability_bins

BIN = re.compile(
    r"confidence (\d+) to (\d+) %: (\d+) videos, (\d+\.\d) % right "
    r"\(interval (\d+\.\d) % to (\d+\.\d) %\), mean confidence (\d+\.\d) %"
)


@pytest.fixture
def table(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 5, size=300)
    return 1.5 * rng.normal(size=(300, 5)) + np.eye(5)[labels], labels


def shapes(figure: str, tag: str, style: str) -> list[ElementTree.Element]:
    return [shape for shape in ElementTree.fromstring(figure).iter(tag) if shape.get("class") == style]


def number(shape: ElementTree.Element, name: str) -> float:
    return float(shape.get(name, ""))


def test_reliability_diagram_shows_the_bins(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bars = shapes(reliability_figure(Reliability("fused", reliability_bins(scores, labels))), "rect", "bar")
    expected = [
        (low, (confidence > low / 10) & (confidence <= (low + 1) / 10))
        for low in range(10)
        if ((confidence > low / 10) & (confidence <= (low + 1) / 10)).any()
    ]
    assert len(bars) == 2 * len(expected)  # one for the share, one of the histogram
    largest = max(members.sum() for _, members in expected)
    for (low, members), bar, column in zip(expected, bars[::2], bars[1::2], strict=True):
        match = BIN.fullmatch(bar.findtext("title", ""))
        assert match
        values = [float(value) for value in match.groups()]
        assert values[:3] == [10 * low, 10 * low + 10, members.sum()]
        assert values[3] == pytest.approx(100 * right[members].mean(), abs=0.051)
        assert values[4] <= values[3] <= values[5]
        assert values[6] == pytest.approx(100 * confidence[members].mean(), abs=0.051)
        assert number(bar, "height") == pytest.approx(250 * right[members].mean(), abs=0.01)
        assert number(column, "height") == pytest.approx(max(1, 80 * members.sum() / largest), abs=0.01)


def test_calibration_error_is_the_mean_gap(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.ceil(10 * confidence)
    gaps = [abs((right - confidence)[places == place].sum()) for place in np.unique(places)]
    item = Reliability("fused", reliability_bins(scores, labels))
    assert item.expected_error == pytest.approx(sum(gaps) / 300)
    assert item.mean_confidence == pytest.approx(confidence.mean())
    assert item.mean_accuracy == pytest.approx(right.mean())
    assert f"calibration error {100 * sum(gaps) / 300:.1f} %" in reliability_figure(item)


def curves() -> list[LearningCurve]:
    losses = [2.0, 1.0, 0.5]
    return [
        LearningCurve("A <b>", [1, 2, 3], losses, [math.nan, 0.5, 0.75]),
        LearningCurve("B", [1, 2, 3], [2 * loss for loss in losses], [0.25, math.nan, 1.0]),
    ]


def test_curves_show_what_was_measured() -> None:
    loss, accuracy = curve_figures(curves())
    titles = [title.text for title in ElementTree.fromstring(loss).iter("title")]
    assert titles[:3] == ["A <b>, epoch 1: 2", "A <b>, epoch 2: 1", "A <b>, epoch 3: 0.5"]
    titles = [title.text for title in ElementTree.fromstring(accuracy).iter("title")]
    assert titles == [
        "A <b>, epoch 2: 50.0 %",
        "A <b>, epoch 3: 75.0 %",
        "B, epoch 1: 25.0 %",
        "B, epoch 3: 100.0 %",
    ]
    assert "<b>" not in loss + accuracy


def test_points_lie_where_the_axes_say() -> None:
    loss, accuracy = curve_figures(curves())
    for figure, unit, expected in ((loss, 1.0, [2.0, 1.0, 0.5]), (accuracy, 0.01, [0.5, 0.75])):
        texts = {text.text: text for text in ElementTree.fromstring(figure).iter("text")}
        labels = [text for text in texts if text and text.removesuffix(" %").replace(".", "").isdigit()]
        ticks = {text: number(texts[text], "y") - 4 for text in labels if texts[text].get("text-anchor") == "end"}
        values = [float(text.removesuffix(" %")) * unit for text in ticks]
        slope, offset = np.polyfit(list(ticks.values()), values, 1)
        dots = shapes(figure, "circle", "dot s0")
        heights = [slope * number(dot, "cy") + offset for dot in dots]
        assert heights == pytest.approx(expected, abs=0.01)
        line = shapes(figure, "polyline", "curve s0")[0].get("points", "").split()
        assert line == [f"{dot.get('cx')},{dot.get('cy')}" for dot in dots]


def test_one_epoch_and_nothing_measured_can_be_drawn() -> None:
    figures = curve_figures([LearningCurve("A", [1], [math.nan], [math.nan]), LearningCurve("B", [], [], [])])
    assert all("NaN" not in figure and "nan" not in figure for figure in figures)
