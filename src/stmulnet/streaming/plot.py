"""Class scores over time as a picture."""

# W windows, K classes

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from stmulnet.evaluation.metrics import predictions
from stmulnet.files import atomic_path
from stmulnet.streaming.timeline import Timeline

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito: safe for colour-blind readers
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MAX_CLASSES = len(COLOURS)
MAX_MARKED = 80  # points of a line; with more, marks would hide it
MAX_POINTS = 150  # of a line; with more windows a point is the mean of several
MAX_DIVIDED = 100  # segments; with more, lines between them would hide them
PALE = ("#cc79a7", "#e69f00", "#aab4be")  # which white text cannot be read on
INK, SOFT, GRID, OTHER = "#1f2933", "#52606d", "#e4e8ec", "#aab4be"
WIDTH_IN, HEIGHT_IN, DPI = 11.0, 4.6, 120
LABEL_GAP = 0.062  # between labels at the right, share of the axis
MAX_LABEL = 28  # characters

Values = NDArray[np.float64]


def write_plot(path: Path, timeline: Timeline) -> None:
    """Write the picture of a timeline, ``.png``; replaced in one step."""
    figure = timeline_figure(timeline)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def timeline_figure(timeline: Timeline) -> Figure:
    """Draw the probabilities of the leading classes over time and, below, what was recognised when.

    Leading are the classes that most windows are recognised as, then those of the highest mean probability.
    """
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), facecolor="white")
    FigureCanvasAgg(figure)
    curves = figure.add_axes((0.065, 0.34, 0.70, 0.54))
    strip = figure.add_axes((0.065, 0.17, 0.70, 0.09))
    classes = leading_classes(timeline)
    _draw_curves(curves, timeline, classes)
    _draw_segments(strip, timeline, classes)
    start, end = timeline.times[0, 0], timeline.times[-1, 1]
    for axes in (curves, strip):
        axes.set_xlim(start, end)
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=SOFT, length=0)
    length = "" if timeline.complete else f", read up to {end:.0f} s"
    name = timeline.source.rstrip("/").rpartition("/")[2]
    figure.text(0.065, 0.93, f"{name[-90:]}{length}", color=INK, fontsize=13, parse_math=False)
    return figure


def leading_classes(timeline: Timeline, count: int = MAX_CLASSES) -> list[int]:
    """Indices of the classes to draw, the first the most important."""
    num_classes = len(timeline.class_names)
    recognised = np.bincount(predictions(timeline.fused), minlength=num_classes)
    order = np.lexsort((-timeline.probabilities.mean(axis=0), -recognised))
    return [int(index) for index in order[:count]]


def _draw_curves(axes: Axes, timeline: Timeline, classes: list[int]) -> None:
    times, per_point = timeline.times, -(-len(timeline.windows) // MAX_POINTS)
    centres, probabilities = _means(times.mean(axis=1), per_point), _means(timeline.probabilities, per_point)
    x = np.concatenate([[times[0, 0]], centres, [times[-1, 1]]])
    heights = [_extended(probabilities[:, index]) for index in classes]
    names = [_label(timeline, index) for index in classes]
    colours = list(COLOURS[: len(classes)])
    rest = len(timeline.class_names) - len(classes)
    if rest:
        others = np.clip(1 - probabilities[:, classes].sum(axis=1), 0, 1)
        heights.append(_extended(others))
        (one, *_) = (index for index in range(len(timeline.class_names)) if index not in classes)
        names.append(f"the other {rest} together" if rest > 1 else _label(timeline, one))
        colours.append(OTHER)
    for place, (values, colour) in enumerate(zip(heights, colours, strict=True)):
        axes.plot(
            x,
            values,
            color=colour,
            linestyle=(*DASHES[: len(classes)], "-")[place],
            linewidth=2 if colour != OTHER else 1.2,
            clip_on=False,
        )
        if len(centres) <= MAX_MARKED and colour != OTHER:
            axes.plot(centres, values[1:-1], "o", color=colour, markersize=3.5, clip_on=False, zorder=3)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel("probability" + (f", means of {per_point} windows" if per_point > 1 else ""), color=SOFT)
    axes.set_xticks([])
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    _label_curves(axes, [float(values[-1]) for values in heights], names, colours)


def _label_curves(axes: Axes, ends: list[float], names: list[str], colours: list[str]) -> None:
    """Write the name of each curve beside its end, moved apart where ends are close."""
    order = np.argsort(ends, kind="stable")
    places = spread(np.array(ends)[order], LABEL_GAP)
    for index, place in zip(order, places, strict=True):
        options = {"xycoords": "axes fraction", "textcoords": "axes fraction", "annotation_clip": False}
        axes.annotate(
            names[index],
            xy=(1.0, ends[index]),
            xytext=(1.035, place),
            color=colours[index] if colours[index] != OTHER else SOFT,
            va="center",
            fontsize=10,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[index],
                "linewidth": 0.8,
                "shrinkA": 2,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
            **options,  # type: ignore[arg-type]
        )


def spread(places: Values, gap: float) -> Values:
    """Ascending places in 0..1, moved as little as simple rules can so that neighbours are ``gap`` apart or more."""
    moved = np.array(places, dtype=np.float64)
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    moved[-1:] = np.minimum(moved[-1:], 1.0)
    for index in range(len(moved) - 2, -1, -1):
        moved[index] = min(moved[index], moved[index + 1] - gap)
    return moved


def _draw_segments(axes: Axes, timeline: Timeline, classes: list[int]) -> None:
    colour_of = {timeline.class_names[index]: COLOURS[place] for place, index in enumerate(classes)}
    length = timeline.times[-1, 1] - timeline.times[0, 0]
    segments = timeline.segments()
    for segment in segments:
        width = segment.end_s - segment.start_s
        axes.barh(0, width, left=segment.start_s, height=1, color=colour_of.get(segment.label, OTHER))
        if len(segments) <= MAX_DIVIDED:
            axes.axvline(segment.end_s, color="white", linewidth=1)
        if width > 0.0092 * length * min(len(segment.label), MAX_LABEL):  # room for the name
            middle = segment.start_s + width / 2
            name = _shortened(segment.label)
            ink = INK if colour_of.get(segment.label, OTHER) in PALE else "white"
            axes.text(middle, 0, name, color=ink, ha="center", va="center", fontsize=8.5, parse_math=False)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    in_minutes = timeline.times[-1, 1] >= 180
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 1.5, 3, 6, 10] if in_minutes else [1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _clock(x) if in_minutes else f"{x:g}"))
    axes.set_xlabel("time" if in_minutes else "time, s", color=SOFT)


def _means(values: Values, count: int) -> Values:
    """Means of ``count`` neighbours along the first axis, of fewer at the end."""
    starts = np.arange(0, len(values), count)
    sizes = np.diff([*starts, len(values)])
    return np.asarray((np.add.reduceat(values, starts).T / sizes).T)


def _extended(values: Values) -> Values:
    """Values at the centres of the windows, kept up to both ends of the timeline."""
    return np.concatenate([values[:1], values, values[-1:]])


def _label(timeline: Timeline, index: int) -> str:
    return _shortened(timeline.class_names[index])


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
