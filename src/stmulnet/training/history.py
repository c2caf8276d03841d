"""What a run remembers of its epochs: a table, TensorBoard's files and a picture of the learning curves."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from stmulnet.errors import DatasetError
from stmulnet.files import atomic_path, write_text

METRICS_FILE = "metrics.csv"
CURVES_FILE = "curves.png"
COLUMNS = (
    *("epoch", "updates", "learning_rate", "train_loss", "train_top1"),
    *("val_top1", "val_top1_appearance", "val_top1_motion", "clips_per_second"),
)
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: distinguishable with colour-blindness
_SHOWN = ("train_loss", "train_top1", "val_top1", "clips_per_second")

Row = dict[str, float]


class History:
    """Metrics per epoch in ``metrics.csv``, rewritten in one step after each.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / METRICS_FILE
        self._curves = run / CURVES_FILE

    def rows(self) -> list[Row]:
        """One per epoch, oldest first; what was not measured is missing.

        Raises:
            DatasetError: The file is not as it was written.
        """
        if not self.path.is_file():
            return []
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        except (ValueError, TypeError) as error:
            raise DatasetError(f"{self.path}: not the metrics of a run ({error})") from error
        if any("epoch" not in row for row in rows):
            raise DatasetError(f"{self.path}: not the metrics of a run (it has no column epoch)")
        return rows

    def add(self, row: Row) -> None:
        """Append a row; those of the same and later epochs, of a run that was resumed, give way."""
        rows = [*(old for old in self.rows() if old["epoch"] < row["epoch"]), row]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([{name: f"{value:.8g}" for name, value in kept.items()} for kept in rows])
        write_text(self.path, text.getvalue())
        with atomic_path(self._curves) as temporary:
            curves(rows).savefig(temporary, dpi=110)


def in_words(row: Mapping[str, float]) -> str:
    """The most telling metrics of an epoch on one line."""
    return "  ".join(f"{name} {row[name]:.3f}" for name in _SHOWN if name in row)


def curves(rows: Sequence[Row]) -> Figure:
    """Loss, accuracy and learning rate over the epochs."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in rows]
    _plot(loss, "training loss, summed over streams and windows", epochs, {"": [row["train_loss"] for row in rows]})
    names = {
        "training": "train_top1",
        "validation": "val_top1",
        "appearance": "val_top1_appearance",
        "motion": "val_top1_motion",
    }
    lines = {label: [row.get(name, math.nan) for row in rows] for label, name in names.items()}
    measured = {label: values for label, values in lines.items() if not all(map(math.isnan, values))}
    _plot(accuracy, "top-1 accuracy", epochs, measured)
    accuracy.set_ylim(0, 1.02)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracy.legend(frameon=False, fontsize=8)
    rates = [row["learning_rate"] for row in rows]
    if len(set(rates)) > 1:
        rate.set_yscale("log")
    _plot(rate, "learning rate", epochs, {"": rates})
    return figure


def _plot(axes: Any, title: str, epochs: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
    for (label, values), colour in zip(lines.items(), _COLOURS, strict=False):
        points = [(x, y) for x, y in zip(epochs, values, strict=True) if not math.isnan(y)]
        axes.plot(*zip(*points, strict=True), label=label, color=colour, marker="." if len(points) < 30 else None)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
