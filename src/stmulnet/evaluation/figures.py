"""The charts of a report as inline SVG: confusion matrices, reliability diagrams and learning curves.

Colours come from the style sheet of the page (templates/report.css), so that a chart follows light, dark and print.
"""

# K classes, B bins; coordinates in CSS pixels, y downwards

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stmulnet.evaluation.metrics import ReliabilityBins, expected_calibration_error, wilson_interval
from stmulnet.evaluation.svg import Chart, coordinate, text_px

MAX_CLASSES_WITH_COUNTS = 20
GUIDE_EVERY = 5  # a line across a large matrix after every so many classes
CLUSTER_SHARE = 0.05  # classes of which this share is confused, on average, stand together in a large matrix
MAX_NAME_PX = 170.0
NUM_LINE_STYLES = 6
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


def confusion_figure(
    counts: NDArray[np.integer],
    class_names: Sequence[str],
    *,
    clusters: Sequence[Sequence[int]] | None = None,
    name: str = "",
) -> str:
    """Heat map of a confusion matrix (K, K) as SVG: the stronger a cell, the larger its share of the row.

    Right answers are blue, mistakes orange; every cell that is not empty says in words what it is. The counts are
    written into the cells up to 20 classes.

    Args:
        counts: (K, K) videos; rows are the true classes.
        class_names: K names.
        clusters: Classes in the order of rows and columns, in groups that get a frame; as numbered by default.
        name: Network, for readers who cannot see the picture.
    """
    large = len(class_names) > MAX_CLASSES_WITH_COUNTS
    clusters = [[number] for number in range(len(class_names))] if clusters is None else clusters
    order = [number for cluster in clusters for number in cluster]
    cell = 9.0 if large else min(46.0, max(26.0, 320.0 / len(class_names)))
    font = 8.2 if large else 12.5
    margin = min(MAX_NAME_PX, max(text_px(class_name, font) for class_name in class_names)) + 8
    side = cell * len(order)
    # Turned names lean to the right, beyond the last column; a large matrix has the names above and below.
    lean = 0.0 if large else 0.75 * margin
    total, right = int(counts.sum()), int(np.trace(counts))
    label = f"Confusion matrix of {name}: {right} of {total} videos on the diagonal".replace(" of :", ":")
    top = margin if large else 0.75 * margin + 6
    chart = Chart(margin + side + max(lean, 2), top + side + (margin if large else 2), label)
    _matrix_frame(chart, margin, top, cell, len(order), large)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, truth in enumerate(order):
        for column, guess in enumerate(order):
            if counts[truth, guess]:
                corner = (margin + column * cell, top + row * cell)
                _cell(chart, corner, cell, (truth, guess), counts, float(shares[truth, guess]), class_names, large)
    _matrix_names(chart, margin, top, cell, font, [class_names[number] for number in order], large)
    _cluster_frames(chart, margin, top, cell, clusters)
    return chart.svg()


def heat(share: float) -> float:
    """Opacity of a cell of the heat map, 0..1, for a share 0..1 of its row; one video of many stays visible."""
    return 0.0 if share <= 0 else 0.15 + 0.85 * min(1.0, share) ** 0.7


def confusion_clusters(counts: NDArray[np.integer]) -> list[list[int]]:
    """Groups of classes that are confused with each other; most classes stay alone.

    Average linkage over the share of two classes' videos that are taken for the other of the two.

    Args:
        counts: (K, K) videos; rows are the true classes.

    Returns:
        The K classes, 0-based, neighbours within a group being those confused most; groups by their first class.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(counts) < 3:
        return [[number] for number in range(len(counts))]
    totals = counts.sum(axis=1)
    confused = (counts + counts.T) / np.maximum(totals[:, None] + totals, 1)
    np.fill_diagonal(confused, 1.0)
    tree = linkage(squareform(1.0 - confused, checks=False), method="average", optimal_ordering=True)
    groups: dict[int, list[int]] = {}
    names = fcluster(tree, 1.0 - CLUSTER_SHARE, criterion="distance")
    for leaf in leaves_list(tree):
        groups.setdefault(int(names[leaf]), []).append(int(leaf))
    return sorted(groups.values(), key=min)


def reliability_figure(reliability: Reliability) -> str:
    """Reliability diagram with 95 % intervals over a histogram of the confidences, as SVG."""
    left, top, side = 60.0, 10.0, RELIABILITY_SIDE_PX
    histogram_top = top + side + 24
    bottom = histogram_top + HISTOGRAM_PX
    error = _percent(reliability.expected_error)
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


def _matrix_frame(chart: Chart, left: float, top: float, cell: float, count: int, large: bool) -> None:
    side = cell * count
    chart.add("rect", "field", x=left, y=top, width=side, height=side)
    for step in range(0, count + 1, GUIDE_EVERY if large else 1):
        chart.line("grid", left, top + step * cell, left + side, top + step * cell)
        chart.line("grid", left + step * cell, top, left + step * cell, top + side)


def _cluster_frames(chart: Chart, left: float, top: float, cell: float, clusters: Sequence[Sequence[int]]) -> None:
    start = 0
    for cluster in clusters:
        side = cell * len(cluster)
        if len(cluster) > 1:
            chart.add("rect", "group", x=left + start * cell, y=top + start * cell, width=side, height=side)
        start += len(cluster)


def _matrix_names(
    chart: Chart, left: float, top: float, cell: float, font: float, names: Sequence[str], large: bool
) -> None:
    for number, name in enumerate(names):
        shown = _shortened(name, font)
        middle = (number + 0.5) * cell
        chart.text(shown, left - 5, top + middle + 0.35 * font, anchor="end", size=font)
        across = left + middle + (0.35 * font if large else 0)
        chart.text(shown, across, top - 5, size=font, turn=-90 if large else -45)
        if large:
            below = top + cell * len(names) + 5
            chart.text(shown, across, below, anchor="end", size=font, turn=-90)


def _cell(
    chart: Chart,
    corner: tuple[float, float],
    cell: float,
    classes: tuple[int, int],
    counts: NDArray[np.integer],
    share: float,
    names: Sequence[str],
    large: bool,
) -> None:
    (x, y), (truth, guess) = corner, classes
    count, total = int(counts[truth, guess]), int(counts[truth].sum())
    what = f"{names[truth]}, recognised" if truth == guess else f"{names[truth]}, taken for {names[guess]}"
    title = f"{what}: {count} of {total} ({_percent(share)})"
    style = "hit" if truth == guess else "miss"
    chart.add("rect", style, title, x=x, y=y, width=cell, height=cell, fill_opacity=heat(share))
    if not large:
        style = "strong" if heat(share) > 0.62 else ""
        chart.text(str(count), x + cell / 2, y + cell / 2 + 4.5, anchor="middle", size=13, style=style)


def _reliability_bin(
    chart: Chart, bins: ReliabilityBins, index: int, x: float, place: tuple[float, float, float]
) -> None:
    top, bottom, width = place
    side, num_bins = RELIABILITY_SIDE_PX, len(bins.counts)
    count, accuracy, confidence = int(bins.counts[index]), float(bins.accuracy[index]), float(bins.confidence[index])
    low, high = wilson_interval(round(accuracy * count), count)
    title = (
        f"confidence {100 * index / num_bins:.0f} to {100 * (index + 1) / num_bins:.0f} %: {count} videos, "
        f"{_percent(accuracy)} right (interval {_percent(low)} to {_percent(high)}), "
        f"mean confidence {_percent(confidence)}"
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
        points = " ".join(",".join(map(coordinate, place(*point))) for point in known)
        chart.add("polyline", f"curve {style}", points=points)
        for x, y in known:
            value = _percent(y) if share else f"{y:.3g}"
            cx, cy = place(x, y)
            chart.add("circle", f"dot {style}", f"{name}, epoch {x:g}: {value}", cx=cx, cy=cy, r=2.6)
    return chart.svg()


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _shortened(name: str, font_px: float) -> str:
    """The name, or its beginning, so that it fits the margin of a matrix."""
    if text_px(name, font_px) <= MAX_NAME_PX:
        return name
    while text_px(name + "…", font_px) > MAX_NAME_PX:
        name = name[:-1]
    return name + "…"
