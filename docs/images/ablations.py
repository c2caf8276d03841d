"""Draws docs/images/ablations.svg from the tables in docs/results/ablations: python docs/images/ablations.py."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parents[1]
INK, SOFT, EDGE, DOT = "#1f2933", "#52606d", "#d5dbe1", "#0072b2"
ROW, HEAD, FOOT, WIDTH = 0.28, 0.5, 0.45, 7.6  # inches
LEFT, RIGHT = 0.37, 0.97  # of the width: where accuracies are drawn


def rows_of(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of all classes, one per variant."""
    return [row for row in table["rows"] if row["classes"] == table["rows"][0]["classes"]]


def draw(axes: Axes, table: dict[str, Any]) -> None:
    """One ablation: a line per variant, a dot per seed, a stroke at the mean."""
    rows = rows_of(table)
    for y, row in enumerate(rows):
        shares = [100 * share for share in row["top1"]["seeds"]]
        decided = row["verdict"] != "undecided"
        axes.plot(
            shares, [y] * len(shares), "o", ms=6, mec=DOT, mfc=DOT if decided else "white", mew=1.3, clip_on=False
        )
        mean = 100 * row["top1"]["mean"]
        axes.plot([mean, mean], [y - 0.3, y + 0.3], color=INK, lw=1.4)
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [row["variant"] for row in rows], fontsize=9, color=INK)
    axes.set_title(table["question"], loc="right", fontsize=10, color=INK, fontweight="bold")
    axes.grid(axis="x", color=EDGE, lw=0.7)
    axes.tick_params(length=0, labelsize=9, labelcolor=SOFT)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def main() -> None:
    """Draw all tables, one below the other."""
    mpl.rcParams.update({"svg.hashsalt": "stmulnet", "font.family": "DejaVu Sans"})
    paths = sorted((DOCS / "results" / "ablations").glob("*.json"))
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    heights = [HEAD + ROW * len(rows_of(table)) for table in tables]
    height = sum(heights) + FOOT
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    top = height
    for table, taken in zip(tables, heights, strict=True):
        bottom = top - taken
        axes = figure.add_axes((LEFT, bottom / height, RIGHT - LEFT, (taken - HEAD) / height))
        draw(axes, table)
        top = bottom
    axes.set_xlabel(
        "top-1, %: a dot per seed, a stroke at the mean; hollow: not decided against the reference",
        fontsize=9, color=SOFT, loc="right",
    )  # fmt: skip
    figure.savefig(DOCS / "images" / "ablations.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
