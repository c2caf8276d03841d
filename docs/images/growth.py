"""Draws docs/images/growth.png from docs/results/growth.json: python docs/images/growth.py [JSON [PNG]].

``python -m benchmarks growth --json docs/results/growth.json`` writes the figures.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parents[1]
INK, SOFT, EDGE, TIME, MEMORY = "#1f2933", "#52606d", "#d5dbe1", "#0072b2", "#d55e00"
TITLES = {
    "growth with frames": "frames of a clip",
    "growth with resolution": "side of the frames, pixels",
    "growth with depth": "layers of each ResNet",
    "growth with clips": "clips at once",
}


def draw(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """One quantity: operations, time and memory, each in units of the smallest case."""
    x = [int(re.findall(r"\d+", row["contender"])[0]) for row in rows]
    axes.plot(x, [row["flop"] / rows[0]["flop"] for row in rows], color=SOFT, lw=1.4, label="operations")
    ratios = [row["times_as_fast"] for row in rows]
    middle = [1 / ratio["median"] for ratio in ratios]
    below = [value - 1 / ratio["high"] for value, ratio in zip(middle, ratios, strict=True)]
    above = [1 / ratio["low"] - value for value, ratio in zip(middle, ratios, strict=True)]
    axes.errorbar(x, middle, [below, above], fmt="o", ms=6, color=TIME, lw=1.4, label="time (smallest to largest)")
    if all(row["peak_gb"] for row in rows):
        memory = [row["peak_gb"] / rows[0]["peak_gb"] for row in rows]
        axes.plot(x, memory, "s", ms=6, mec=MEMORY, mfc="none", mew=1.3, label="memory of the pass")
    axes.set_title(TITLES[rows[0]["work"]], fontsize=10, color=INK, fontweight="bold")
    axes.set(ylim=(0, None))
    axes.set_xticks(x, [str(value) for value in x])
    axes.grid(axis="y", color=EDGE, lw=0.7)
    axes.tick_params(length=0, labelsize=9, labelcolor=SOFT)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def main(source: Path = DOCS / "results" / "growth.json", out: Path = DOCS / "images" / "growth.png") -> None:
    """Draw the four quantities."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    rows = json.loads(source.read_text(encoding="utf-8"))["rows"]
    figure = Figure(figsize=(7.6, 5.2), facecolor="white", layout="constrained")
    for axes, work in zip(figure.subplots(2, 2).flat, TITLES, strict=True):
        draw(axes, [row for row in rows if row["work"] == work])
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=SOFT)
    figure.supylabel("times that of the smallest", fontsize=9, color=SOFT)
    figure.savefig(out, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
