"""The parts of the page that show something: player, answers, and what the network looks at."""

# T sampled frames, H x W pixels

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from stmulnet.evaluation.flow_colours import flow_colours, full_colour_speed
from stmulnet.evaluation.pictures import image_uri, thumbnails, wheel_uri
from stmulnet.flow.quantize import to_pixels
from stmulnet.predictor import Prediction, PreparedVideo

COLUMNS = 8
MIDDLE = 5  # of the 10 fields of a stack, t-5 .. t+4: the one that leads on from frame t

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


def player(clip: str | None, name: str = "", facts: str = "", problem: str | None = None) -> str:
    """The chosen video, or why it cannot be had.

    Args:
        clip: Address of a file that the browser can play, relative to the page.
        name: Its name.
        facts: What else is known about it.
        problem: Why there is none.
    """
    return _render("player.html", clip=clip, name=name, facts=facts, problem=problem)


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


def seen(video: PreparedVideo) -> str:
    """Some of the sampled frames, and the flow at them in colour."""
    chosen = np.unique(np.linspace(0, len(video.times) - 1, COLUMNS).round().astype(int))
    rows = []
    if video.rgb is not None:
        frames = video.rgb[chosen].numpy().transpose(0, 2, 3, 1)
        rows.append(Row("Appearance", "the frames that the network reads", _pictures(frames)))
    if video.flow is not None:
        flow_px = to_pixels(video.flow[chosen, 2 * MIDDLE : 2 * MIDDLE + 2].numpy())
        full_px = full_colour_speed(flow_px)
        note = f"optical flow: colour is direction, full colour from {full_px:.1f} px per frame"
        rows.append(Row("Motion", note, _pictures(flow_colours(flow_px, full_px=full_px))))
    times = [video.times[index] for index in chosen]
    return _render("seen.html", rows=rows, times=times, wheel=wheel_uri() if video.flow is not None else None)


def _pictures(images: NDArray[np.uint8]) -> list[str]:
    return [image_uri(image) for image in thumbnails(images)]


def _render(template: str, **values: object) -> str:
    return _ENVIRONMENT.get_template(template).render(**values)
