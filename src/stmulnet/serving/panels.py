"""The parts of the page that show something: player, answers, and what the network looks at."""

# T sampled frames, H x W pixels

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from stmulnet.evaluation.flow_colours import flow_colours, full_colour_speed
from stmulnet.evaluation.pictures import image_uri, thumbnails, wheel_uri
from stmulnet.explanation.pictures import flow_at_frames, frame_images, full_glow, glow_scale, overlay
from stmulnet.models.multiplier import Network
from stmulnet.predictor import Prediction, PreparedVideo
from stmulnet.serving.examples import Example
from stmulnet.serving.moments import Moment, in_order

COLUMNS = 8
LEADING = 4  # classes whose probabilities are shown over time
GATE_NOTES = {  # with the value that gets the full glow
    "multiply": "glowing where motion lets through what is there; full glow is a factor of {:.2g}",
    "add": "glowing where motion adds to what is there; full glow is {:.2g} of it",
}

_ENVIRONMENT = Environment(
    loader=PackageLoader("stmulnet.serving"),
    autoescape=True,  # names of classes and files are anybody's
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Row:
    """A row of pictures with its title and a line of explanation."""

    title: str
    note: str
    pictures: list[str]


def header(networks: Iterable[str]) -> str:
    """The top of the page."""
    return _render("header.html", networks=list(networks))


def gallery(examples: Iterable[Example]) -> str:
    """Buttons with the pictures of videos to try."""
    return _render("gallery.html", examples=[(example.label, image_uri(example.frame)) for example in examples])


def player(clip: str, name: str, facts: str, seconds: float) -> str:
    """The chosen video.

    Args:
        clip: Address of a file that the browser can play, relative to the page.
        name: What the visitor calls it.
        facts: What else is known about it.
        seconds: Its length.
    """
    return _render("player.html", clip=clip, name=name, facts=facts, seconds=seconds)


def no_video(problem: str | None = None) -> str:
    """The place for a video, or why there is none."""
    return _render("no_video.html", problem=problem)


def answer(prediction: Prediction, network: str) -> str:
    """Class, probabilities, and what each stream says alone."""
    groups = [("Together", "what decides", prediction.top_k)]
    if prediction.appearance and prediction.motion:
        groups += [
            ("Appearance alone", "what the frames look like", prediction.appearance),
            ("Motion alone", "how things move", prediction.motion),
        ]
    return _render("answer.html", prediction=prediction, groups=groups, network=network)


def problem(message: str) -> str:
    """An error in place of an answer."""
    return _render("problem.html", message=message)


def over_time(moments: list[Moment], class_names: list[str], num_frames: int) -> str:
    """The leading classes in each part of the video, below it; a line in it follows the video that plays.

    Args:
        moments: From `score_moments`, one at least.
        class_names: Names of the classes.
        num_frames: Frames of the video.
    """
    shares = np.stack([moment.probabilities for moment in moments])  # (parts, classes)
    leading = np.lexsort((-shares.mean(axis=0), -np.bincount(shares.argmax(axis=1), minlength=len(class_names))))
    # Parts overlap: the border between two lies in the middle of their centres.
    centres = [(moment.first + moment.last) / 2 for moment in moments]
    borders = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(centres)), float(num_frames)]
    widths = [right - left for left, right in itertools.pairwise(borders)]
    rows = [(class_names[index], shares[:, index].tolist()) for index in leading[:LEADING]]
    return _render("over_time.html", rows=rows, widths=widths)


def seen(video: PreparedVideo, network: Network, gates: Mapping[str, NDArray[np.float32]] | None = None) -> str:
    """Some of the sampled frames, the flow at them in colour, and what the gates let through of them.

    Args:
        video: What the network saw.
        network: The network.
        gates: From `gate_maps`; None shows none.
    """
    order = in_order(video.times)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, COLUMNS).round().astype(int))]
    rows = []
    frames = None if video.rgb is None else frame_images(video.rgb[chosen])
    if frames is not None:
        rows.append(Row("Appearance", "the frames that the network reads", _pictures(frames)))
    if video.flow is not None:
        flow_px = flow_at_frames(video.flow[chosen])
        full_px = full_colour_speed(flow_px)
        note = f"optical flow: colour is direction, full colour from {full_px:.1f} px per frame"
        rows.append(Row("Motion", note, _pictures(flow_colours(flow_px, full_px=full_px))))
    if gates is not None and frames is not None:
        rows += _gate_rows(gates, frames, chosen, network)
    times = [video.times[index] for index in chosen]
    legends = {"wheel": wheel_uri() if video.flow is not None else None}
    legends["glow"] = image_uri(glow_scale(160, 16), "png") if gates else None
    return _render("seen.html", rows=rows, times=times, **legends)


def _gate_rows(
    gates: Mapping[str, NDArray[np.float32]], frames: NDArray[np.uint8], chosen: NDArray[np.int64], network: Network
) -> Iterator[Row]:
    fusion = network.config.fusion
    assert fusion is not None
    for stage, maps in gates.items():
        full = full_glow(maps)
        pictures = [overlay(maps[t], frame, stage=stage, full=full) for t, frame in zip(chosen, frames, strict=True)]
        yield Row(f"Gate at {stage}", GATE_NOTES[fusion.operation].format(full), _pictures(np.stack(pictures)))


def _pictures(images: NDArray[np.uint8]) -> list[str]:
    return [image_uri(image) for image in thumbnails(images)]


def _render(template: str, **values: object) -> str:
    return _ENVIRONMENT.get_template(template).render(**values)
