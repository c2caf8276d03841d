"""Confusion matrices of a report as inline SVG, readable with a hundred classes."""

# K classes; coordinates in CSS pixels, y downwards

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stmulnet.evaluation.svg import Chart, percent, text_px

MAX_CLASSES_WITH_COUNTS = 20
GUIDE_EVERY = 5  # a line across a large matrix after every so many classes
CLUSTER_SHARE = 0.05  # classes of which this share is confused, on average, stand together in a large matrix
MAX_NAME_PX = 170.0
MAX_GROWTH = 1.35
TITLE_PX = 20.0  # room for the title of an axis
DARK_HEAT = 0.72  # from this opacity on a number needs a light colour


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
    groups = clusters or [[number] for number in range(len(class_names))]
    order = [number for group in groups for number in group]
    matrix = _Matrix([class_names[number] for number in order], f"Confusion matrix of {name}, {_total(counts)}")
    matrix.frame()
    ordered = counts[np.ix_(order, order)]
    for row, column in np.argwhere(ordered).tolist():
        matrix.cell(row, column, int(ordered[row, column]), int(ordered[row].sum()))
    matrix.labels()
    start = 0
    for group in groups:
        if len(group) > 1:
            matrix.square(start, len(group))
        start += len(group)
    return matrix.chart.svg()


def heat(share: float) -> float:
    """Opacity of a cell of the heat map, 0..1, for a share 0..1 of its row; one video of many stays visible."""
    return 0.0 if share <= 0 else 0.22 + 0.78 * min(1.0, share) ** 0.7


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


class _Matrix:
    """Where the parts of a confusion matrix lie, and how they look."""

    def __init__(self, names: Sequence[str], label: str) -> None:
        self.names = names
        self.large = len(names) > MAX_CLASSES_WITH_COUNTS
        self.pitch = min(20.0, max(9.0, 900 / len(names))) if self.large else min(46.0, max(26.0, 320 / len(names)))
        self.font_px = min(12.0, 0.91 * self.pitch) if self.large else 12.5
        self.side = self.pitch * len(names)
        room = 8 + min(MAX_NAME_PX, max(text_px(name, self.font_px) for name in names))
        self.left = TITLE_PX + room
        # The names of the columns stand upright, above and below; with few classes they lean, out to the right.
        self.top = TITLE_PX + (room if self.large else 6 + 0.75 * room)
        right, below = (2.0, room) if self.large else (max(2.0, 0.75 * room - self.pitch / 2), 2.0)
        width = self.left + self.side + right
        self.chart = Chart(width, self.top + self.side + below, label)
        if self.large:  # pages show it larger where there is room, never smaller
            self.chart.root.set("style", f"min-width:{width:.0f}px;max-width:{MAX_GROWTH * width:.0f}px")

    def frame(self) -> None:
        """The grid and the titles of the axes."""
        left, top, side, middle = self.left, self.top, self.side, self.side / 2
        self.chart.add("rect", "field", x=left, y=top, width=side, height=side)
        for step in range(0, len(self.names) + 1, GUIDE_EVERY if self.large else 1):
            at = step * self.pitch
            self.chart.line("grid", left, top + at, left + side, top + at)
            self.chart.line("grid", left + at, top, left + at, top + side)
        self.chart.text("predicted class", left + middle, 12, anchor="middle", style="title")
        self.chart.text("true class", 12, top + middle, anchor="middle", style="title", turn=-90)

    def cell(self, row: int, column: int, count: int, total: int) -> None:
        """One cell: ``count`` of the ``total`` videos of its row."""
        x, y, share = self.left + column * self.pitch, self.top + row * self.pitch, count / total
        truth, guess = self.names[row], self.names[column]
        answer = "recognised" if row == column else f"taken for {guess}"
        title, style = f"{truth}, {answer}: {count} of {total} ({percent(share)})", "hit" if row == column else "miss"
        strength = heat(share)
        self.chart.add("rect", style, title, x=x, y=y, width=self.pitch, height=self.pitch, fill_opacity=strength)
        if not self.large:
            style, middle = "strong" if strength > DARK_HEAT else "", self.pitch / 2
            self.chart.text(str(count), x + middle, y + middle + 4.5, anchor="middle", size=13, style=style)

    def labels(self) -> None:
        """The names of the classes along both axes."""
        size, drop = self.font_px, 0.35 * self.font_px
        for number, name in enumerate(self.names):
            shown, at = _shortened(name, size), (number + 0.5) * self.pitch
            self.chart.text(shown, self.left - 5, self.top + at + drop, anchor="end", size=size)
            x = self.left + at + (drop if self.large else 0)
            self.chart.text(shown, x, self.top - 5, size=size, turn=-90 if self.large else -45)
            if self.large:
                self.chart.text(shown, x, self.top + self.side + 5, anchor="end", size=size, turn=-90)

    def square(self, start: int, count: int) -> None:
        """A frame around classes that are confused with each other."""
        at, side = start * self.pitch, count * self.pitch
        self.chart.add("rect", "group", x=self.left + at, y=self.top + at, width=side, height=side)


def _total(counts: NDArray[np.integer]) -> str:
    return f"{int(np.trace(counts))} of {int(counts.sum())} videos on the diagonal"


def _shortened(name: str, font_px: float) -> str:
    """The name, or its beginning, so that it fits the margin of a matrix."""
    if text_px(name, font_px) <= MAX_NAME_PX:
        return name
    while text_px(name + "…", font_px) > MAX_NAME_PX:
        name = name[:-1]
    return name + "…"
