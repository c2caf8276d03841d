"""Reliability diagrams and learning curves of a report, as inline SVG."""

# B bins; coordinates in CSS pixels, y downwards

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from stmulnet.evaluation.metrics import ReliabilityBins, expected_calibration_error, wilson_interval
from stmulnet.evaluation.svg import Chart, coordinate, percent

NUM_LINE_STYLES = 6
MAX_DOTS = 40
LINE_WIDTH_PX, LINE_HEIGHT_PX = 480.0, 270.0
RELIABILITY_SIDE_PX, HISTOGRAM_PX = 250.0, 80.0


@dataclass(frozen=True)
class LearningCurve:
    """How the training of one network went; the lists have one entry per epoch, NaN where nothing was measured.

    Attributes:
        name: Name of the network.
        epochs: Epoch numbers.
        train_loss: Mean training loss.
        validation_accuracy: Share of right validation videos, 0..1.
    """

    name: str
    epochs: Sequence[float]
    train_loss: Sequence[float]
    validation_accuracy: Sequence[float]


@dataclass(frozen=True)
class Reliability:
    """How often a network is right when it is so sure: B bins over the confidence 0..1."""

    name: str
    bins: ReliabilityBins

    @property
    def expected_error(self) -> float:
        """Expected calibration error, 0..1."""
        return expected_calibration_error(self.bins)

    @property
    def mean_confidence(self) -> float:
        """Mean highest probability, 0..1."""
        return float(np.nansum(self.bins.counts * self.bins.confidence) / self.bins.counts.sum())

    @property
    def mean_accuracy(self) -> float:
        """Share of right videos, 0..1."""
        return float(np.nansum(self.bins.counts * self.bins.accuracy) / self.bins.counts.sum())


def reliability_figure(reliability: Reliability) -> str:
    """Reliability diagram with 95 % intervals over a histogram of the confidences, as SVG."""
    left, top, side = 60.0, 10.0, RELIABILITY_SIDE_PX
    histogram_top = top + side + 24
    bottom = histogram_top + HISTOGRAM_PX
    error = percent(reliability.expected_error)
    label = f"Reliability diagram of {reliability.name}: expected calibration error {error}"
    chart = Chart(left + side + 22, bottom + 40, label)
    for tick in range(0, 101, 20):
        x, y = left + side * tick / 100, top + side * (1 - tick / 100)
        chart.line("grid", left, y, left + side, y)
        chart.text(f"{tick} %", left - 6, y + 4, anchor="end")
        chart.text(f"{tick} %", x, bottom + 16, anchor="middle")
    chart.line("grid", left, bottom, left + side, bottom)
    chart.text("share of right videos", 12, top + side / 2, anchor="middle", turn=-90)
    chart.text("videos", 12, histogram_top + HISTOGRAM_PX / 2, anchor="middle", turn=-90)
    chart.text("confidence", left + side / 2, bottom + 34, anchor="middle")
    width = side / len(reliability.bins.counts)
    for index, count in enumerate(reliability.bins.counts):
        if count:
            _reliability_bin(chart, reliability.bins, index, left + index * width, (top, bottom, width))
    chart.line("ideal", left, top + side, left + side, top)
    return chart.svg()


def curve_figures(curves: Sequence[LearningCurve]) -> tuple[str, str]:
    """Training loss and validation accuracy over the epochs, one line per network, as two SVGs."""
    losses = [(curve.name, curve.epochs, curve.train_loss) for curve in curves]
    accuracies = [(curve.name, curve.epochs, curve.validation_accuracy) for curve in curves]
    return (
        _line_chart(losses, "training loss", share=False),
        _line_chart(accuracies, "validation accuracy", share=True),
    )


def _reliability_bin(
    chart: Chart, bins: ReliabilityBins, index: int, x: float, place: tuple[float, float, float]
) -> None:
    top, bottom, width = place
    side, num_bins = RELIABILITY_SIDE_PX, len(bins.counts)
    count, accuracy, confidence = int(bins.counts[index]), float(bins.accuracy[index]), float(bins.confidence[index])
    low, high = wilson_interval(round(accuracy * count), count)
    title = (
        f"confidence {100 * index / num_bins:.0f} to {100 * (index + 1) / num_bins:.0f} %: {count} videos, "
        f"{percent(accuracy)} right (interval {percent(low)} to {percent(high)}), "
        f"mean confidence {percent(confidence)}"
    )
    chart.add("rect", "bar", title, x=x + 1, y=top + side * (1 - accuracy), width=width - 2, height=side * accuracy)
    middle = x + width / 2
    chart.line("whisker", middle, top + side * (1 - low), middle, top + side * (1 - high))
    for end in (low, high):
        chart.line("whisker", middle - 4, top + side * (1 - end), middle + 4, top + side * (1 - end))
    height = max(1.0, HISTOGRAM_PX * count / int(bins.counts.max()))
    chart.add("rect", "bar", title, x=x + 1, y=bottom - height, width=width - 2, height=height)
    chart.text(str(count), middle, bottom - height - 3, anchor="middle", size=10)


def _line_chart(lines: Sequence[tuple[str, Sequence[float], Sequence[float]]], what: str, *, share: bool) -> str:
    """Lines of (name, x, y) over a common pair of axes; ``share`` has a y axis of 0 to 100 %."""
    left, top, right, bottom = 46.0, 12.0, LINE_WIDTH_PX - 12, LINE_HEIGHT_PX - 42
    epochs = [float(x) for _, xs, _ in lines for x in xs] or [0.0]
    values = [float(y) for _, _, ys in lines for y in ys if math.isfinite(y)] or [0.0]
    x_low, x_high = min(epochs), max(max(epochs), min(epochs) + 1)
    y_ticks = np.linspace(0, 1, 6) if share else MaxNLocator(5).tick_values(0, max(max(values), 1e-9))
    y_high = float(y_ticks[-1])
    chart = Chart(
        LINE_WIDTH_PX, LINE_HEIGHT_PX, f"{what} over the epochs for {', '.join(name for name, _, _ in lines)}"
    )

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * (x - x_low) / (x_high - x_low), bottom - (bottom - top) * y / y_high

    for tick in y_ticks:
        y = place(x_low, float(tick))[1]
        chart.line("grid", left, y, right, y)
        chart.text(f"{100 * tick:.0f} %" if share else f"{tick:g}", left - 6, y + 4, anchor="end")
    for tick in MaxNLocator(8, integer=True).tick_values(x_low, x_high):
        if x_low <= tick <= x_high:
            chart.text(f"{tick:g}", place(float(tick), 0)[0], bottom + 18, anchor="middle")
    chart.text("epoch", (left + right) / 2, bottom + 36, anchor="middle")
    for number, (name, xs, ys) in enumerate(lines):
        known = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        style = f"s{number % NUM_LINE_STYLES}"
        radius = 2.6 if len(known) <= MAX_DOTS else 1.2  # of many, dots would hide the line
        points = " ".join(",".join(map(coordinate, place(*point))) for point in known)
        chart.add("polyline", f"curve {style}", points=points)
        for x, y in known:
            value = percent(y) if share else f"{y:.3g}"
            cx, cy = place(x, y)
            chart.add("circle", f"dot {style}", f"{name}, epoch {x:g}: {value}", cx=cx, cy=cy, r=radius)
    return chart.svg()
