"""The page of an explanation: what its template shows, and the pictures in it."""

# T frames, n distinct frames in order of time, H x W pixels

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from stmulnet.constants import FLOW_CHANNELS
from stmulnet.evaluation.flow_colours import flow_colours, full_colour_speed
from stmulnet.evaluation.metrics import top_classes
from stmulnet.evaluation.pictures import image_uri, thumbnails, wheel_uri
from stmulnet.explanation.bars import common_axis, importance_chart
from stmulnet.explanation.explain import GATE_PREFIX, Explanation
from stmulnet.explanation.maximisation import Maximised
from stmulnet.explanation.pictures import field_px, flow_at_frames, frame_images, full_glow, glow_scale, overlay

Image = NDArray[np.uint8]
View = dict[str, Any]

SHOWN_FRAMES = 7  # columns of the strip before the reader asks for all
TOP = 5
SCORE_WORDS = {"appearance": "appearance score", "motion": "motion score", "fused": "score of both streams"}


@dataclass(frozen=True)
class Row:
    """One row of the strip.

    Attributes:
        key: Name in files: rgb, flow, gate_res2, cam_appearance, ...
        images: RGB (n, H, W, 3), uint8.
        full: The value that glows fully; None for frames and flow.
        size: Positions of the map, (h, w); None for frames and flow.
    """

    key: str
    images: Image
    full: float | None = None
    size: tuple[int, int] | None = None


def distinct_places(times: list[int]) -> list[int]:
    """Where in the clip each frame comes for the first time, in order of time: short videos repeat frames."""
    return [times.index(time) for time in sorted(set(times))]


def strip_rows(explanation: Explanation) -> Iterator[Row]:
    """The rows of pictures of a video, one image per distinct frame."""
    prepared, places = explanation.prepared, distinct_places(explanation.prepared.times)
    ground = np.full((len(places), 1, 1, 3), 128, dtype=np.uint8)
    if prepared.flow is not None:
        flow_px = flow_at_frames(prepared.flow[places])
        colours = flow_colours(flow_px, full_px=full_colour_speed(flow_px))
        ground = np.broadcast_to(ground, colours.shape)  # maps of a network without RGB lie on grey
    if prepared.rgb is not None:
        ground = frame_images(prepared.rgb[places])
        yield Row("rgb", ground)
    if prepared.flow is not None:
        yield Row("flow", colours, full=full_colour_speed(flow_px))
    for into, maps in explanation.gates.items():
        for stage, values in maps.items():
            yield _glowing_row(f"{GATE_PREFIX[into]}_{stage}", values[places], ground, stage)
    for stream, values in explanation.cams.items():
        yield _glowing_row(f"cam_{stream}", values[places], ground, explanation.cam_stage)


def _glowing_row(key: str, values: NDArray[np.float32], ground: Image, stage: str) -> Row:
    full = full_glow(values)
    images = [overlay(of, frame, stage=stage, full=full) for of, frame in zip(values, ground, strict=True)]
    return Row(key, np.stack(images), full, values.shape[1:] if values.any() else None)


def field_images(made: Maximised) -> Image:
    """The pictures of a made input: the one image (1, S, S, 3), or the ten fields of the stack (10, S, S, 3)."""
    levels = np.rint(made.levels).astype(np.uint8)
    if len(levels) < FLOW_CHANNELS:
        return np.ascontiguousarray(levels.transpose(1, 2, 0))[None]
    flow_px = field_px(levels.reshape(-1, 2, *levels.shape[1:]))
    return flow_colours(flow_px, full_px=full_colour_speed(flow_px))


def render_page(
    explanation: Explanation | None, rows: list[Row], made: dict[str, tuple[str, Maximised]], *, gated: bool = False
) -> str:
    """The page as HTML: styles and charts inline, pictures as data URIs, no scripts, no addresses.

    Args:
        explanation: Of the video; None for a page of made inputs alone.
        rows: Its pictures, see `strip_rows`.
        made: By stream, the class and the input that was made for it.
        gated: Whether motion multiplies appearance in the network of ``made``.
    """
    templates = [PackageLoader("stmulnet.explanation", "templates"), PackageLoader("stmulnet.evaluation", "templates")]
    environment = Environment(
        loader=ChoiceLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("explanation.html").render(
        explanation=explanation,
        gated=gated,
        view=None if explanation is None else video_view(explanation, rows),
        made=[_made_view(stream, *item) for stream, item in made.items()],
        wheel=wheel_uri(),
        scale=image_uri(glow_scale(160, 12), "png"),
    )


def video_view(explanation: Explanation, rows: list[Row]) -> View:
    """What the template shows of a video."""
    times = sorted(set(explanation.prepared.times))
    count = min(SHOWN_FRAMES, len(times))
    shown = {round(place) for place in np.linspace(0, len(times) - 1, count)}
    return {
        "answers": _answers(explanation),
        "frames": [(time, place in shown) for place, time in enumerate(times)],
        "rows": {row.key: _row_view(row) for row in rows},
        "gates": list(explanation.gates.items()),
        "charts": _charts(explanation, times),
        "strongest": _strongest(explanation),
    }


def _row_view(row: Row) -> View:
    return {"images": [image_uri(image) for image in thumbnails(row.images)], "full": row.full, "size": row.size}


def _answers(explanation: Explanation) -> list[View]:
    scores = explanation.scores
    streams = {"both streams": scores.fused, "appearance stream": scores.appearance, "motion stream": scores.motion}
    if scores.appearance is None or scores.motion is None:
        del streams["both streams"]
    return [
        {"name": name, "top": top_classes(values, explanation.class_names, TOP)}
        for name, values in streams.items()
        if values is not None
    ]


def _charts(explanation: Explanation, times: list[int]) -> list[View]:
    """A chart per score, with the bars of what can change it."""
    places = distinct_places(explanation.prepared.times)
    low, high = common_axis([values for falls in explanation.drops.values() for values in falls.values()])
    charts = []
    for score in next(iter(explanation.drops.values())):
        falls = {hidden: explanation.drops[hidden][score][places] for hidden in _hidden(explanation, score)}
        name = SCORE_WORDS[score]
        charts.append(
            {"name": name, "svg": importance_chart(times, falls, low=low, high=high, name=name), "hidden": list(falls)}
        )
    return charts


def _hidden(explanation: Explanation, score: str) -> list[str]:
    """What is hidden in the bars of a score: nothing that cannot change it."""
    if len(explanation.drops) == 1:
        return list(explanation.drops)
    reached_by = {"appearance": ["rgb"], "motion": ["flow"], "fused": ["rgb", "flow", "both"]}[score]
    for into in explanation.gates:
        if into == score:
            return ["rgb", "flow"]
    return reached_by


def _strongest(explanation: Explanation) -> tuple[int, float] | None:
    """The frame without which the score falls most, and by how much; None where it falls without none."""
    falls = list(explanation.drops.values())[-1]
    values = list(falls.values())[-1]
    place = int(values.argmax())
    return (explanation.prepared.times[place], float(values[place])) if values[place] > 0 else None


def _made_view(stream: str, label: str, made: Maximised) -> View:
    return {
        "stream": stream,
        "label": label,
        "start": made.start,
        "score": made.score,
        "images": [image_uri(image, "png") for image in field_images(made)],
    }
