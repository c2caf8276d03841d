"""The charts of an explanation, as inline SVG: how much each frame counts."""

# coordinates in CSS pixels, y downwards

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stmulnet.evaluation.svg import Chart

WIDTH_PX, HEIGHT_PX = 1046.0, 160.0
LEFT_PX, TOP_PX, BOTTOM_PX = 52.0, 8.0, 24.0
GAP_SHARE = 0.3  # of a frame's slot
HIDDEN_WORDS = {"rgb": "RGB image", "flow": "flow", "both": "RGB image and flow"}


def importance_chart(
    frames: Sequence[int], falls: Mapping[str, NDArray[np.floating]], *, low: float, high: float, name: str
) -> str:
    """Bars per frame: how far a score falls when the frame is hidden.

    Args:
        frames: Numbers of n frames.
        falls: By what is hidden ("rgb", "flow", "both") the fall (n,).
        low: Lower end of the axis, 0 or less.
        high: Upper end, above ``low``.
        name: Whose score, for readers of the text only.
    """
    chart = Chart(WIDTH_PX, HEIGHT_PX, f"Fall of the {name} without each frame")
    ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    slot = (WIDTH_PX - LEFT_PX) / len(frames)

    def y_px(value: float) -> float:
        return TOP_PX + (high - value) / (high - low) * (HEIGHT_PX - TOP_PX - BOTTOM_PX)

    for tick in ticks:
        chart.line("grid" if tick else "zero", LEFT_PX, y_px(tick), WIDTH_PX, y_px(tick))
        chart.text(f"{tick:+.4g}" if tick else "0", LEFT_PX - 7, y_px(tick) + 4, anchor="end")
    bar = slot * (1 - GAP_SHARE) / len(falls)
    for place, frame in enumerate(frames):
        left = LEFT_PX + slot * (place + GAP_SHARE / 2)
        for number, (hidden, values) in enumerate(falls.items()):
            fall = float(values[place])
            title = f"frame {frame} without its {HIDDEN_WORDS[hidden]}: {_signed(-fall)}"
            edges = sorted((y_px(0), y_px(fall)))
            height = max(edges[1] - edges[0], 0.01)
            chart.add("rect", hidden, title, x=left + number * bar, y=edges[0], width=bar * 0.92, height=height)
        if place % max(1, round(len(frames) / 25)) == 0:
            chart.text(str(frame), left + slot * (1 - GAP_SHARE) / 2, HEIGHT_PX - 6, anchor="middle", style="title")
    return chart.svg()


def common_axis(falls: Sequence[NDArray[np.floating]]) -> tuple[float, float]:
    """Ends of one axis for several charts: they hold all values, and 0."""
    low = min(0.0, *(float(values.min()) for values in falls))
    high = max(0.0, *(float(values.max()) for values in falls))
    margin = 0.05 * (high - low) or 1.0
    return low - margin * (low < 0), high + margin * (high > 0 or low == 0)


def _signed(value: float) -> str:
    return f"score {value:+.3f}"
