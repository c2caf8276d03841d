"""Draws the pictures of the documents: python docs/images/make.py (no data needed: the frames are moving shapes).

Axes: T frames, H x W pixels. Lengths of the drawings are in units of 0.1 inch.
"""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray

from stmulnet.datasets.moving_shapes import CLASSES, SIZE_PX, draw_group, draw_tokens, render
from stmulnet.evaluation.flow_colours import flow_colours, flow_wheel
from stmulnet.flow.tvl1 import tvl1

Images = NDArray[np.uint8]

FOLDER = Path(__file__).parent
INK, SOFT, EDGE, STAGE, WHITE = "#1f2933", "#52606d", "#9aa5b1", "#eef1f4", "#ffffff"
MOTION, APPEARANCE, GATE = "#d55e00", "#0072b2", "#8a2be2"
MOTION_Y, APPEARANCE_Y = 36.0, 17.0  # heights of the two streams
BOX, STAGE_WIDTH, STAGE_STEP, FIRST_STAGE_X = 4.6, 20.0, 21.2, 27.5
FULL_COLOUR_PX = 3.0  # speed with the full colour, pixels per frame
NUM_FRAMES = 24
TIMES = "\N{MULTIPLICATION SIGN}"


def clip(name: str, seed: int) -> tuple[Images, Images]:
    """Frames (T, H, W, 3) of a class of moving shapes and their flow in colours (T - 1, H, W, 3)."""
    rng = np.random.default_rng(seed)
    group = draw_group(rng, SIZE_PX, NUM_FRAMES)
    tokens = draw_tokens(CLASSES[name], group, rng, SIZE_PX, NUM_FRAMES)
    frames = np.stack(list(render(group, tokens, rng, SIZE_PX)))
    return frames, flow_colours(tvl1(frames), full_px=FULL_COLOUR_PX)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A white drawing; y grows upwards."""
    figure = Figure(figsize=(width / 10, height / 10), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """A rounded box whose left edge is at ``x`` and whose middle is at height ``y``."""
    style = "round,pad=0,rounding_size=0.8"
    axes.add_patch(
        FancyBboxPatch((x, y - height / 2), width, height, boxstyle=style, fc=WHITE, ec=colour, lw=1.6, zorder=3)
    )
    axes.text(x + width / 2, y - 0.1, text, ha="center", va="center", fontsize=9.5, color=INK, zorder=4)


def circle(axes: Axes, x: float, y: float, text: str, colour: str, *, filled: bool = False) -> None:
    """An operation on feature maps."""
    axes.add_patch(Circle((x, y), 1.35, fc=colour if filled else WHITE, ec=colour, lw=1.6, zorder=5))
    size = 13 if filled else 11
    axes.text(x, y - 0.12, text, ha="center", va="center", fontsize=size, color=WHITE if filled else INK, zorder=6)


def arrow(axes: Axes, points: list[tuple[float, float]], colour: str, *, width: float = 1.5) -> None:
    """A line through points with a head at the last one."""
    for (x0, y0), (x1, y1) in pairwise(points[:-1]):
        axes.plot([x0, x1], [y0, y1], color=colour, lw=width, solid_capstyle="round", zorder=2)
    head = FancyArrowPatch(
        points[-2], points[-1], arrowstyle="-|>", mutation_scale=10, color=colour, lw=width, shrinkA=0, shrinkB=0
    )
    head.set_zorder(2)
    axes.add_patch(head)


def fan(axes: Axes, images: Images, x: float, y: float) -> None:
    """Images one behind the other, the last one in front."""
    side, step = 9.0, 0.9
    for i, image in enumerate(images):
        left, bottom = x + i * step, y - side / 2 + (len(images) - 1 - 2 * i) * step / 2
        axes.imshow(image, extent=(left, left + side, bottom, bottom + side), zorder=3 + i, interpolation="bilinear")
        axes.plot(
            [left, left + side, left + side, left, left],
            [bottom, bottom, bottom + side, bottom + side, bottom],
            color=EDGE,
            lw=0.8,
            zorder=3 + i,
        )


def stage(axes: Axes, x: float, number: int) -> None:
    """One stage of both streams: unit a, the gate, unit b and the rest."""
    style = "round,pad=0,rounding_size=1.2"
    axes.add_patch(FancyBboxPatch((x, 8.4), STAGE_WIDTH, 34.2, boxstyle=style, fc=STAGE, ec="none", zorder=0))
    axes.text(x + STAGE_WIDTH / 2, 44.2, f"res{number}", ha="center", va="center", fontsize=11, color=SOFT)
    a, gate, b, total, rest = x + 0.9, x + 7.5, x + 9.9, x + 16.1, x + 17.5

    for y, colour in ((MOTION_Y, MOTION), (APPEARANCE_Y, APPEARANCE)):
        box(axes, a, y, BOX, 5.0, "a", colour)
        box(axes, b, y, BOX, 5.0, "b", colour)
        axes.plot([a + BOX, rest], [y, y], color=colour, lw=1.5, zorder=1)
        below = y - 4.7
        arrow(axes, [(a + BOX + 0.65, y), (a + BOX + 0.65, below), (total, below), (total, y - 1.35)], colour)
        circle(axes, total, y, "+", colour)
        axes.text(rest + 1.25, y - 0.1, "…", ha="center", va="center", fontsize=12, color=colour, zorder=4)
    arrow(axes, [(gate, MOTION_Y), (gate, APPEARANCE_Y + 1.35)], GATE, width=2.4)
    circle(axes, gate, APPEARANCE_Y, TIMES, GATE, filled=True)


def head(axes: Axes, x: float, y: float, name: str, colour: str, name_y: float) -> None:
    """Pooling over time and positions, classifier, scores."""
    box(axes, x, y, 10.2, 8.4, "max over\n5 frames,\naverage, fc", colour)
    axes.text(x + 5.1, name_y, f"{name} scores", ha="center", va="center", fontsize=10, color=colour)


def network() -> Figure:
    """The two streams and the gates between them."""
    figure, axes = canvas(126, 47)
    frames, flow = clip("RingSwingsCrossBobs", seed=3)
    for y, images, text, colour in (
        (MOTION_Y, flow[8:17:2], "10 flow fields\nper frame", MOTION),
        (APPEARANCE_Y, frames[5:20:5], "RGB frames", APPEARANCE),
    ):
        fan(axes, images, 1.0, y)
        axes.text(7.3, y - 8.6, text, ha="center", va="center", fontsize=10, color=colour, linespacing=1.1)
        box(axes, 18.3, y, 6.6, 5.6, "conv1\npool1", colour)
        arrow(axes, [(15.2, y), (18.0, y)], colour)
    for i in range(4):
        x = FIRST_STAGE_X + i * STAGE_STEP
        stage(axes, x, i + 2)
        for y, colour in ((MOTION_Y, MOTION), (APPEARANCE_Y, APPEARANCE)):
            start = 24.9 if i == 0 else x - STAGE_STEP + STAGE_WIDTH - 0.1
            arrow(axes, [(start, y), (x + 0.8, y)], colour)
    end = FIRST_STAGE_X + 3 * STAGE_STEP + STAGE_WIDTH
    for y, name, colour in ((MOTION_Y, "motion", MOTION), (APPEARANCE_Y, "appearance", APPEARANCE)):
        arrow(axes, [(end - 0.1, y), (end + 1.9, y)], colour)
        middle = (MOTION_Y + APPEARANCE_Y) / 2
        side = 1 if y > middle else -1
        head(axes, end + 2, y, name, colour, y + side * 6.2)
        arrow(axes, [(end + 7.1, y - side * 4.2), (end + 7.1, middle + side * 2.0)], colour)
    axes.text(end + 7.1, (MOTION_Y + APPEARANCE_Y) / 2 - 0.1, "mean", ha="center", va="center", fontsize=12, color=INK)
    legend(axes)
    return figure


def legend(axes: Axes) -> None:
    """What the signs mean."""
    circle(axes, 29.2, 4.9, TIMES, GATE, filled=True)
    lines = (
        "motion gates, value by value, what the residual branch of appearance unit b reads; its shortcut stays",
        "a, b, …: residual units; the b units also convolve over three frames",
    )
    for y, line in zip((4.8, 1.9), lines, strict=True):
        axes.text(31.6, y, line, ha="left", va="center", fontsize=10, color=INK)


def moving_shapes() -> Figure:
    """Two classes that differ only in which shape makes which motion: a frame and two flow fields of each."""
    figure, axes = canvas(88, 27)
    for x, name, times in ((1.0, "RingSwingsCrossBobs", (9, 13)), (45.0, "RingBobsCrossSwings", (11, 14))):
        frames, flow = clip(name, seed=3)
        axes.text(x, 25.2, name, ha="left", va="center", fontsize=11, color=INK)
        words = ("frame", "flow", f"flow, {times[1] - times[0]} frames later")
        for i, (picture, word) in enumerate(
            zip((frames[times[0]], flow[times[0]], flow[times[1]]), words, strict=True)
        ):
            left = x + i * 14.0
            axes.imshow(picture, extent=(left, left + 13.2, 10.4, 23.6), interpolation="bilinear")
            axes.text(left, 8.9, word, ha="left", va="center", fontsize=9, color=SOFT)
    axes.imshow(flow_wheel(240), extent=(1, 7, 0.8, 6.8), interpolation="bilinear")
    text = "flow: the colour is the direction, white is standstill"
    axes.text(8.5, 3.8, text, ha="left", va="center", fontsize=9, color=SOFT)
    axes.set(xlim=(0, 88), ylim=(0, 27))
    return figure


def main() -> None:
    """Write the pictures beside this file; the same input gives the same bytes."""
    mpl.rcParams["svg.hashsalt"] = "stmulnet"
    for name, figure in (("network", network()), ("moving_shapes", moving_shapes())):
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
