"""A video that shows a prediction: the frames, their optical flow in colour, and the scores, side by side."""

# T frames, H x W pixels

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stmulnet.console import Advance, progress
from stmulnet.evaluation.flow_colours import flow_colours, flow_wheel
from stmulnet.flow.estimate import estimate_flow
from stmulnet.predictor import Prediction, VideoPredictor
from stmulnet.predictor.prediction import Ranking
from stmulnet.video.inputs import FrameSource, open_source
from stmulnet.video.io import write_video

HEIGHT_PX = 384
PANEL_WIDTH_PX = 400
GAP_PX = 8
CHUNK_FRAMES = 16
FULL_COLOUR_SHARE = 0.025  # of the short side, per frame: 6.4 px at 256
DPI = 100
DEFAULT_FPS = 25.0
INK, SOFT, BAR, WASH = "#1f2933", "#52606d", "#0072b2", "#eef1f4"

Image = NDArray[np.uint8]


class Answer(Protocol):
    """What the panel needs to know of a prediction."""

    @property
    def label(self) -> str:
        """The recognised class."""

    @property
    def top_k(self) -> Ranking:
        """(class, probability), best first."""

    @property
    def appearance(self) -> object:
        """None for a network without appearance stream."""

    @property
    def motion(self) -> object:
        """None for a network without motion stream."""


def write_overlay(path: Path, video: Path | FrameSource, prediction: Prediction, predictor: VideoPredictor) -> None:
    """Write the overlay of one video.

    The flow of every frame is computed anew: the prediction itself needs only part of it. A network without motion
    stream gets no flow column.

    Args:
        path: File to write, ``.mp4``; replaced in one step.
        video: The video that was recognised; can be read again.
        prediction: What ``predictor`` said about it.
        predictor: Gives size, flow backend and threads.
    """
    source = open_source(video)
    full_px = max(1.0, FULL_COLOUR_SHARE * predictor.short_side)
    shows_flow = prediction.flow_record is not None
    panel = score_panel(Path(source.name).name, prediction, full_px if shows_flow else None)
    with progress(prediction.num_frames, f"overlay {path.name}", "frames") as advance:
        frames = source.frames(predictor.short_side, predictor.threads)
        shown = _columns(frames, predictor, full_px, advance) if shows_flow else _frames_only(frames, advance)
        pictures = (np.concatenate([*columns, panel], axis=1) for columns in shown)
        write_video(path, pictures, fps=source.fps or DEFAULT_FPS)


def score_panel(name: str, prediction: Answer, full_px: float | None) -> Image:
    """Draw the scores: label, bars of the best classes and, with ``full_px``, the legend of the flow colours.

    Returns:
        RGB (384, 400, 3), uint8.
    """
    figure = Figure(figsize=(PANEL_WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PANEL_WIDTH_PX), ylim=(HEIGHT_PX, 0))
    axes.axis("off")

    def write(x: float, y: float, text: str, size_px: float, *, colour: str = INK, align: str = "left") -> None:
        options = {"parse_math": False, "ha": align, "va": "center"}
        axes.text(x, y, text, color=colour, fontsize=size_px * 72 / DPI, **options)  # type: ignore[arg-type]

    left, right = 18, PANEL_WIDTH_PX - 18
    write(left, 24, _shortened(name, 46), 13, colour=SOFT)
    write(left, 56, _shortened(prediction.label, 24), 25)
    write(left, 84, "probability by both streams" if _two_streams(prediction) else "probability", 13, colour=SOFT)
    for rank, (label, probability) in enumerate(prediction.top_k[:5]):
        top = 100 + 36 * rank
        axes.fill_between([left, right], top + 19, top + 27, color=WASH, linewidth=0)
        axes.fill_between([left, left + (right - left) * probability], top + 19, top + 27, color=BAR, linewidth=0)
        write(left, top + 8, _shortened(label, 34), 15)
        write(right, top + 8, f"{100 * probability:.1f} %", 15, align="right")
    if full_px is not None:
        axes.imshow(flow_wheel(240), extent=(left, left + 64, 372, 308), interpolation="bilinear")
        write(left + 80, 326, "flow: colour is direction,", 13, colour=SOFT)
        write(left + 80, 344, f"full colour from {full_px:.1f} px per frame", 13, colour=SOFT)
        axes.set(xlim=(0, PANEL_WIDTH_PX), ylim=(HEIGHT_PX, 0), aspect="auto")
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(canvas.buffer_rgba())[:, :, :3]  # type: ignore[no-untyped-call]


def _columns(
    frames: Iterator[Image], predictor: VideoPredictor, full_px: float, advance: Advance
) -> Iterator[list[Image]]:
    """Frame and flow of every time; the last frame, which has no successor, keeps the flow before it."""
    chunk = list(islice(frames, 1))
    colours: list[Image] = []
    while more := list(islice(frames, CHUNK_FRAMES)):
        chunk = [chunk[-1], *more]  # one frame of overlap: the flow from the last chunk into this one
        flow_px = estimate_flow(
            np.stack(chunk),
            backend=predictor.flow_backend,
            threads=predictor.threads,
            device=str(predictor.device),
        )
        colours = list(flow_colours(flow_px, full_px=full_px))
        for frame, colour in zip(chunk[:-1], colours, strict=True):
            yield [column(frame), column(colour)]
            advance(1)
    yield [column(chunk[-1]), column(colours[-1])]
    advance(1)


def _frames_only(frames: Iterator[Image], advance: Advance) -> Iterator[list[Image]]:
    for frame in frames:
        yield [column(frame)]
        advance(1)


def column(image: Image) -> Image:
    """Scale (H, W, 3) to the height of the overlay and add a white gap at the right."""
    width_px = max(1, round(image.shape[1] * HEIGHT_PX / image.shape[0]))
    shrinks = image.shape[0] > HEIGHT_PX
    scaled = cv2.resize(image, (width_px, HEIGHT_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(cv2.copyMakeBorder(scaled, 0, 0, 0, GAP_PX, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def _two_streams(prediction: Answer) -> bool:
    return prediction.appearance is not None and prediction.motion is not None


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
