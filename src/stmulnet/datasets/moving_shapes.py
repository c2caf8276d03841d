"""A small synthetic data set of encoded videos, in UCF-101's folders, names and lists.

Every object is a *token*: a textured disc, the same silhouette for all, with a shape painted on it. A token as a whole
makes quick small oscillations: it "swings" (left and right) or "bobs" (up and down). Two kinds of classes:

* one token, "which shape makes which motion" (``RingSwings``): the appearance tells the shape, the motion the rest;
* two tokens of two shapes and both motions in every video, and the class says which shape makes which motion
  (``RingSwingsCrossBobs`` against ``RingBobsCrossSwings``): the sum of two separate scores cannot tell them apart,
  because each stream alone sees the same things in both classes; what moves how must be joined place by place.

Flow does not show the shape: the silhouette and the statistics of the texture are the same for all. Frames do not show
the motion: on both axes a token's position is a slow wander plus a sinusoid of the same amplitude, and only the
period differs (6 to 8 frames on the axis of the motion, 24 to 32 on the other); frames are not blurred by motion.

A group (``g01``, ``g02``, ...) is a background with its drift and a set of colours, the same for every class, so that
neither tells the class. Groups of test and training videos are disjoint, test groups first, as in UCF-101's split 1.

Axes: T frames, H x W pixels (square), 3 = R G B. Positions are (x, y) in pixels, pixel centres at whole numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from stmulnet.console import progress
from stmulnet.errors import ConfigError, DatasetError
from stmulnet.files import write_text
from stmulnet.video.io import write_video

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.float64]

SIZE_PX = 128  # the lengths below belong to this frame size and scale with it
MIN_SIZE_PX = 64
RADIUS_PX = (16.0, 18.0)
SWING_PX = (2.4, 3.0)  # amplitude of the oscillation, the same on both axes
QUICK_FRAMES, SLOW_FRAMES = (6.0, 8.0), (24.0, 32.0)  # its period on the axis of the motion, and on the other one
WANDER_PX, WANDER_FRAMES = 5.0, (60.0, 120.0)  # amplitude and period of the wander that all tokens of a video share
APART_PX = (23.0, 25.0)  # of a token's home from the line between two tokens: they cannot touch
HOME_PX = 22.0  # homes lie this close to the middle of the frame, per axis
DRIFT_PX = 0.5  # background, per frame, at most

TURN_DEGREES = 20.0  # shapes are turned by up to this
SUPERSAMPLE = 4

MOTIONS = ("Swings", "Bobs")
SHAPES = ("Ring", "Cross")


@dataclass(frozen=True)
class Actor:
    """A shape and the motion it makes."""

    shape: str
    motion: str


def _classes() -> dict[str, tuple[Actor, ...]]:
    single = [(Actor(shape, motion),) for shape in SHAPES for motion in MOTIONS]
    bound = [tuple(map(Actor, SHAPES, motions)) for motions in (MOTIONS, MOTIONS[::-1])]
    return {"".join(actor.shape + actor.motion for actor in actors): actors for actors in (*single, *bound)}


CLASSES: Mapping[str, tuple[Actor, ...]] = _classes()  # 4 classes of one token, then 2 of two
PAIR_CLASSES = [name for name, actors in CLASSES.items() if len(actors) == 1]
BINDING_CLASSES = [name for name, actors in CLASSES.items() if len(actors) == 2]


@dataclass(frozen=True)
class MovingShapes:
    """Where the data set lies and how many videos it has."""

    videos: Path
    lists: Path
    num_train: int
    num_test: int


@dataclass(frozen=True)
class Group:
    """What the videos of a group share: background (H + margin, W + margin, 3), drift in px per frame, two colours."""

    background: Floats
    drift: Positions
    colours: Floats


@dataclass(frozen=True)
class Token:
    """One object of a video.

    Attributes:
        actor: Its shape and motion.
        patch: (n, n, 4) float32 at `SUPERSAMPLE` times the frame's resolution: RGB 0..255 times alpha, alpha 0..1.
        centres: (T, 2) position (x, y) in every frame, pixels; its difference is the true flow.
    """

    actor: Actor
    patch: Floats
    centres: Positions


def make_moving_shapes(
    out: Path,
    *,
    groups_train: int = 16,
    groups_test: int = 8,
    clips_per_group: int = 1,
    size: int = SIZE_PX,
    num_frames: int = 32,
    seed: int = 0,
) -> MovingShapes:
    """Write the data set: ``videos/<Class>/v_<Class>_gNN_cNN.avi`` and ``lists/`` as UCF-101 has them.

    Args:
        out: Folder to write to; must not hold ``videos`` or ``lists`` yet.
        groups_train: Groups of training videos.
        groups_test: Groups of test videos.
        clips_per_group: Videos per class and group.
        size: Height and width of the frames, pixels, even.
        num_frames: Frames per video.
        seed: The same seed and arguments give the same videos.

    Raises:
        ConfigError: A number is out of range.
        DatasetError: ``out`` holds a data set already.
    """
    _check_numbers(groups_train, groups_test, clips_per_group, size, num_frames)
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    videos, lists = out / "videos", out / "lists"
    for folder in (videos, lists):
        if folder.exists():
            raise DatasetError(f"{folder} exists already; remove it or give another folder")
    test: list[str] = []
    train: list[str] = []
    with progress((groups_test + groups_train) * clips_per_group * len(CLASSES), "moving shapes", "videos") as advance:
        for group_number in range(1, groups_test + groups_train + 1):
            group = draw_group(np.random.default_rng([seed, group_number]), size, num_frames)
            for class_index, (name, actors) in enumerate(CLASSES.items()):
                for clip in range(1, clips_per_group + 1):
                    rng = np.random.default_rng([seed, group_number, class_index, clip])
                    video = f"{name}/v_{name}_g{group_number:02d}_c{clip:02d}.avi"
                    tokens = draw_tokens(actors, group, rng, size, num_frames)
                    write_video(videos / video, render(group, tokens, rng, size), codec="mpeg4")
                    (test if group_number <= groups_test else train).append(video)
                    advance(1)
    _write_lists(lists, train, test)
    return MovingShapes(videos, lists, len(train), len(test))


def draw_group(rng: np.random.Generator, size: int, num_frames: int) -> Group:
    """Draw background, drift and colours of a group."""
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, DRIFT_PX)
    drift = speed * np.array([np.cos(angle), np.sin(angle)])
    side = size + 2 * _drift_margin(num_frames)
    texture = _texture(rng, side, finest_px=6) @ np.diag(rng.uniform(14, 26, 3)).astype(np.float32)
    background = np.clip(rng.uniform(100, 160, 3) + texture, 0, 255).astype(np.float32)
    return Group(background, drift, rng.uniform(50, 120, (2, 3)).astype(np.float32))


def draw_tokens(
    actors: tuple[Actor, ...], group: Group, rng: np.random.Generator, size: int, num_frames: int
) -> list[Token]:
    """Draw size, texture, colour and path of every object of a video."""
    scale = size / SIZE_PX
    homes = _draw_homes(len(actors), rng)
    wander = np.stack([_sinusoid(rng, num_frames, WANDER_PX, WANDER_FRAMES) for _ in range(2)], axis=1)
    colours = rng.permutation(group.colours)
    tokens = []
    for actor, home, colour in zip(actors, homes, colours, strict=False):
        periods = (QUICK_FRAMES, SLOW_FRAMES) if actor.motion == "Swings" else (SLOW_FRAMES, QUICK_FRAMES)
        path = np.stack([_sinusoid(rng, num_frames, rng.uniform(*SWING_PX), p) for p in periods], axis=1)
        centres = (size - 1) / 2 + scale * (home + wander + path)
        patch = draw_patch(actor.shape, scale * rng.uniform(*RADIUS_PX), colour, rng)
        tokens.append(Token(actor, patch, centres))
    return tokens


def draw_patch(shape: str, radius: float, colour: Floats, rng: np.random.Generator) -> Floats:
    """Draw a token: a textured disc of ``radius`` pixels with a bright shape on it; see `Token.patch`."""
    side = SUPERSAMPLE * (2 * ceil(radius) + 4)
    disc = np.zeros((side, side), np.uint8)
    _fill_circle(disc, np.zeros(2), radius * SUPERSAMPLE)
    glyph = _glyph(shape, side, radius * SUPERSAMPLE, np.radians(rng.uniform(-TURN_DEGREES, TURN_DEGREES)))
    image = colour + 22 * _texture(rng, side, finest_px=2 * SUPERSAMPLE)
    image += (glyph[..., None] / np.float32(255)) * rng.uniform(110, 135, 3).astype(np.float32)
    alpha = disc[..., None].astype(np.float32) / 255
    patch = np.concatenate([np.clip(image, 0, 255) * alpha, alpha], axis=2)
    # What one pixel of the frame sees: without this the reduction by SUPERSAMPLE would alias.
    return cast(Floats, cv2.GaussianBlur(patch, (0, 0), 0.4 * SUPERSAMPLE))


def render(group: Group, tokens: list[Token], rng: np.random.Generator, size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the frames of a video, (H, W, 3) uint8 RGB; the brightness of the whole video is drawn from ``rng``."""
    brightness = np.float32(rng.uniform(0.85, 1.1))
    margin = (group.background.shape[0] - size) // 2
    for t in range(len(tokens[0].centres)):
        shift = -margin + t * group.drift
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        frame = cast(Floats, cv2.warpAffine(group.background, matrix, (size, size), flags=cv2.INTER_LINEAR))
        for token in tokens:
            _paste(frame, token.patch, token.centres[t])
        yield np.clip(brightness * frame + np.float32(0.5), 0, 255).astype(np.uint8)


def _paste(frame: Floats, patch: Floats, centre: Positions) -> None:
    side = patch.shape[0] // SUPERSAMPLE + 1
    left, top = (round(c - (side - 1) / 2) for c in centre)
    # Pixel p of the patch lies (p + 0.5) / SUPERSAMPLE from its edge, half its side left of the centre.
    offset = centre - (left, top) + 0.5 / SUPERSAMPLE - patch.shape[0] / SUPERSAMPLE / 2
    matrix = np.array([[1 / SUPERSAMPLE, 0, offset[0]], [0, 1 / SUPERSAMPLE, offset[1]]])
    small = cv2.warpAffine(patch, matrix, (side, side), flags=cv2.INTER_LINEAR)
    region = frame[top : top + side, left : left + side]
    region *= 1 - small[..., 3:]
    region += small[..., :3]


def _draw_homes(count: int, rng: np.random.Generator) -> Positions:
    """(count, 2) homes relative to the middle of the frame: one anywhere near it, two on both sides of a line."""
    homes = rng.uniform(-HOME_PX, HOME_PX, (count, 2))
    if count == 2:
        axis = rng.integers(2)
        sides = rng.permutation([-1.0, 1.0])
        homes[:, axis] = rng.uniform(-4, 4) + sides * rng.uniform(*APART_PX, 2)
    return homes


def _sinusoid(
    rng: np.random.Generator, num_frames: int, amplitude_px: float, period_frames: tuple[float, float]
) -> Positions:
    phase, period = rng.uniform(0, 2 * np.pi), rng.uniform(*period_frames)
    return np.asarray(amplitude_px * np.sin(phase + 2 * np.pi * np.arange(num_frames) / period))


def _glyph(shape: str, side: int, radius: float, angle: float) -> npt.NDArray[np.uint8]:
    """The painted shape as a mask, 0 or 255; both shapes cover about 0.28 of the disc."""
    mask = np.zeros((side, side), np.uint8)
    if shape == "Ring":
        _fill_circle(mask, np.zeros(2), 0.68 * radius)
        _fill_circle(mask, np.zeros(2), 0.42 * radius, value=0)
    else:
        assert shape == "Cross", shape
        turns = angle + np.pi / 2 * np.arange(4)
        arms = radius * np.stack([np.sin(turns), -np.cos(turns)], axis=1)
        for tip, beside in zip(0.7 * arms, 0.18 * np.roll(arms, 1, axis=0), strict=True):
            _fill_polygon(mask, np.stack([tip + beside, tip - beside, -beside, beside]))
    return mask


def _fill_circle(mask: npt.NDArray[np.uint8], centre: Positions, radius: float, value: int = 255) -> None:
    """Fill a circle; ``centre`` is relative to the middle of the mask, in pixels."""
    x, y = np.rint(16 * (centre + (mask.shape[0] - 1) / 2)).astype(int).tolist()
    cv2.circle(mask, (x, y), round(16 * radius), value, cv2.FILLED, cv2.LINE_AA, shift=4)


def _fill_polygon(mask: npt.NDArray[np.uint8], corners: Positions) -> None:
    """Fill a convex polygon; ``corners`` (n, 2) are relative to the middle of the mask, in pixels."""
    fixed = np.rint(16 * (corners + (mask.shape[0] - 1) / 2)).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_AA, shift=4)


def _texture(rng: np.random.Generator, side: int, *, finest_px: int) -> Floats:
    """(side, side, 3) smooth noise of three scales, the finest of ``finest_px`` pixels; mean 0, deviation 1."""
    total = np.zeros((side, side, 3), np.float32)
    for octave in range(3):
        cells = max(2, side // (finest_px * 2**octave))
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        total += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return cast(Floats, (total - total.mean()) / total.std())


def _drift_margin(num_frames: int) -> int:
    return ceil(DRIFT_PX * num_frames) + 2


def _write_lists(lists: Path, train: list[str], test: list[str]) -> None:
    numbers = {name: i for i, name in enumerate(CLASSES, start=1)}
    write_text(lists / "classInd.txt", "".join(f"{i} {name}\n" for name, i in numbers.items()))
    train_lines = [f"{video} {numbers[video.split('/')[0]]}\n" for video in sorted(train)]
    write_text(lists / "trainlist01.txt", "".join(train_lines))
    write_text(lists / "testlist01.txt", "".join(f"{video}\n" for video in sorted(test)))


def _check_numbers(groups_train: int, groups_test: int, clips_per_group: int, size: int, num_frames: int) -> None:
    if min(groups_train, groups_test, clips_per_group, num_frames) < 1:
        raise ConfigError(
            "groups_train, groups_test, clips_per_group and num_frames must be 1 or more, got "
            f"{groups_train}, {groups_test}, {clips_per_group} and {num_frames}"
        )
    if groups_train + groups_test > 99 or clips_per_group > 99:
        raise ConfigError("names have two digits for groups and clips: at most 99 groups and 99 clips per group")
    if size < MIN_SIZE_PX or size % 2:
        raise ConfigError(f"size must be even and {MIN_SIZE_PX} pixels or more, got {size}")
