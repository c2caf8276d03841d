"""A video that shows a timeline: frames, flow, and the scores of the window nearest to each frame, side by side."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmulnet.constants import FLOW_BOUND_PX, FLOW_ZERO_LEVEL
from stmulnet.evaluation.flow_colours import flow_colours
from stmulnet.evaluation.metrics import top_classes
from stmulnet.overlay import FULL_COLOUR_SHARE, column, score_panel
from stmulnet.predictor import VideoPredictor
from stmulnet.predictor.prediction import Ranking
from stmulnet.streaming.fields import FlowFrame
from stmulnet.streaming.scorer import Step, WindowScores
from stmulnet.streaming.timeline import last_nearest, seconds

Image = NDArray[np.uint8]


class _Answer(NamedTuple):
    """What the panel shows."""

    label: str
    top_k: Ranking
    appearance: object
    motion: object


def overlay_pictures(
    steps: Generator[Step, None, None], predictor: VideoPredictor, *, fps: float
) -> Generator[Image, None, None]:
    """Draw a picture per frame, of all fields.

    A frame waits until the window with the centre nearest to it is known: memory holds one window and one stride.

    Args:
        steps: Of a `WindowScorer` with ``all_flow``, closed at the end.
        predictor: What made them.
        fps: Frames per second.

    Yields:
        RGB images (384, W, 3), uint8.
    """
    full_px = max(1.0, FULL_COLOUR_SHARE * predictor.short_side)
    shows_flow = predictor.flow_record is not None
    waiting: deque[FlowFrame] = deque()
    shown: WindowScores | None = None  # the newest window, and its panel
    panel: Image | None = None
    with closing(steps):
        for frame, window in steps:
            if frame is not None:
                waiting.append(frame)
            if window is not None:
                if shown is not None and panel is not None:
                    yield from _pictures(waiting, last_nearest(shown.window, window.window), panel, full_px)
                shown = window
                panel = _panel(window, predictor, fps, full_px if shows_flow else None)
        if panel is not None:
            yield from _pictures(waiting, waiting[-1].number, panel, full_px)


def _pictures(waiting: deque[FlowFrame], last: int, panel: Image, full_px: float) -> Iterator[Image]:
    """Pictures of the waiting frames up to number ``last``, each with the flow that leads on from it, if there is."""
    while waiting and waiting[0].number <= last:
        frame = waiting.popleft()
        field = waiting[0].field if waiting else frame.field
        columns = [column(frame.image)]
        if field is not None:
            columns.append(column(_coloured(field, full_px)))
        yield np.concatenate([*columns, panel], axis=1)


def _panel(scored: WindowScores, predictor: VideoPredictor, fps: float, full_px: float | None) -> Image:
    scores = scored.scores
    top_k = top_classes(scores.fused, predictor.class_names, predictor.top)
    start, end = seconds(scored.window, fps)
    answer = _Answer(top_k[0][0], top_k, scores.appearance, scores.motion)
    return score_panel(f"{start:.1f} to {end:.1f} s", answer, full_px)


def _coloured(field: Image, full_px: float) -> Image:
    """Colours of an 8-bit field; level 128 is standstill, white."""
    flow_px = (field.astype(np.float32) - FLOW_ZERO_LEVEL) * np.float32(2 * FLOW_BOUND_PX / 255)
    return flow_colours(flow_px, full_px=full_px)
