"""Crops, flips and resizing of a clip: one draw moves both modalities.

M images of a clip, C channels, H x W pixels, S pixels of the network's input side; everything is uint8, 0..255.
RGB is (M, 3, H, W). Flow is (M, 2k, H, W) with channels u v u v ...: single fields (k = 1) or stacks (k = 10).
The functions do not care which, so that overlapping stacks are resized field by field, each field once.
A modality that a network does not need is None throughout.

Source: cnn_get_im_flow_batch.m of the official code (augmentations 'f25noCtr' and 'none') and, for its base streams,
cnn_ucf101_get_frame_batch.m ('borders25') and cnn_ucf101_get_flow_batch.m ('multiScaleRegular') of repository
feichtenhofer/twostreamfusion.
"""

from dataclasses import dataclass
from math import floor
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from torch import Tensor

from stmulnet.constants import CROP_SIDES, INPUT_SIZE, MULTI_SCALE_SIDES
from stmulnet.datasets.calls import LoaderCall
from stmulnet.datasets.resize import resize as resize
from stmulnet.errors import ConfigError
from stmulnet.mirror import mirror_clip as mirror_clip

Augmentation = Literal["f25noCtr", "borders25", "multiScaleRegular"]

CORNER_REGION = 0.25  # corners of crops lie in the first or the last quarter of their range, never between
CORNER_STEPS = 20  # positions per axis and region
NUM_PLACEMENTS = CORNER_STEPS * CORNER_STEPS * 2 * 2  # positions in two regions, mirrored or not

Pair = tuple[Tensor | None, Tensor | None]


class Transform(Protocol):
    """What a data set applies to the RGB frames and flow fields of a clip."""

    def __call__(self, rgb: Tensor | None, flow: Tensor | None, rng: np.random.Generator) -> Pair:
        """Return the transformed pair; every random choice is drawn from ``rng``."""
        ...


class Crop(NamedTuple):
    """A rectangle in pixels (row ``top``, column ``left``, 0-based) and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


class Placement(NamedTuple):
    """Where a crop lies, as shares 0..1 of the ways it can be moved down and right, and whether it is mirrored."""

    down: float
    right: float
    flip: bool


def placement(entry: int) -> Placement:
    """One of the 1600 placements of 'f25noCtr' and 'borders25'.

    20 x 20 positions in the top-left region, where both shares are at most 0.25, as many in the bottom-right one,
    where both are 0.75 or more, and each of them as it is and mirrored.

    Args:
        entry: Its number, 0 ... 1599. The order is our own: the official code permutes the table.
    """
    rest, column = divmod(entry, CORNER_STEPS)
    rest, row = divmod(rest, CORNER_STEPS)
    flip, bottom_right = divmod(rest, 2)
    first = (1 - CORNER_REGION) * bottom_right
    down, right = (first + step * CORNER_REGION / (CORNER_STEPS - 1) for step in (row, column))
    return Placement(down, right, bool(flip))


def draw_crop(
    height: int,
    width: int,
    size: int,
    rng: np.random.Generator,
    *,
    entry: int | None = None,
    repaired: bool = False,
) -> Crop:
    """Draw the official training crop ('f25noCtr', 'borders25') of an image.

    Each side is, independently, 0.75 to 1.25 times the input side, limited by the image.

    Args:
        height: Image height, pixels.
        width: Image width, pixels.
        size: Side of the network's input, pixels (official: 224).
        rng: Generator of the draws.
        entry: Number of the `placement`; None draws one.
        repaired: Officially a crop of exactly the input size lies at the top left, wherever it was to be
            (cnn_get_im_flow_batch.m:335-339; 1 in 10 000 crops). True: its placement counts like any other's.
    """
    low, high = CROP_SIDES
    scales = low + (high - low) * rng.random(2)
    crop_height, crop_width = (
        floor(min(size * scale, side) + 0.5) for scale, side in zip(scales, (height, width), strict=True)
    )
    down, right, flip = placement(int(rng.integers(NUM_PLACEMENTS)) if entry is None else entry)
    top, left = floor((height - crop_height) * down), floor((width - crop_width) * right)
    return _at_origin(Crop(top, left, crop_height, crop_width, flip), size, repaired)


def draw_multi_scale_crop(
    height: int, width: int, size: int, rng: np.random.Generator, *, repaired: bool = False
) -> Crop:
    """Draw the training crop of the official flow base stream ('multiScaleRegular') of an image.

    Each side is, independently, one of 256, 224, 192 and 168 pixels for an input of 224; the crop lies in a corner or
    in the centre; half of the crops are mirrored. Arguments are those of `draw_crop`, and a crop of exactly the input
    size (here 1 in 16) is treated as there. Sides are limited by the image: the official code fails on images of less
    than 256 pixels.
    """
    sides = rng.choice(MULTI_SCALE_SIDES, 2) * size / INPUT_SIZE
    crop_height, crop_width = (
        min(floor(wanted + 0.5), side) for wanted, side in zip(sides, (height, width), strict=True)
    )
    down, right = height - crop_height, width - crop_width
    corners = [(0, 0), (down, right), (0, right), (down, 0), ((down + 1) // 2, (right + 1) // 2)]
    top, left = corners[rng.integers(len(corners))]
    return _at_origin(Crop(top, left, crop_height, crop_width, bool(rng.integers(2))), size, repaired)


def _at_origin(crop: Crop, size: int, repaired: bool) -> Crop:
    if (crop.height, crop.width) == (size, size) and not repaired:
        return crop._replace(top=0, left=0)
    return crop


def apply_crop(
    rgb: Tensor | None, flow: Tensor | None, crop: Crop, size: int | None, *, antialias: bool = True
) -> Pair:
    """Cut one rectangle out of both modalities, resize it to ``size`` x ``size``, mirror it if the crop says so.

    Without ``size`` the rectangle stays as large as it is.
    """
    rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
    rgb, flow = (None if clip is None else clip[..., rows, columns] for clip in (rgb, flow))
    if size is not None:
        rgb, flow = (None if clip is None else resize(clip, (size, size), antialias=antialias) for clip in (rgb, flow))
    return mirror_clip(rgb, flow) if crop.flip else (rgb, flow)


def antialiases(augmentation: Augmentation) -> bool:
    """Whether an augmentation resizes its crops with antialiasing."""
    return augmentation != "multiScaleRegular"


def clamp_sides(size: tuple[int, int], input_size: int) -> tuple[int, int]:
    """Height and width of a test image: each limited, by itself, to ``input_size`` ... twice ``input_size``."""
    height, width = (min(max(side, input_size), 2 * input_size) for side in size)
    return height, width


def cut_to_common_size(rgb: Tensor | None, flow: Tensor | None) -> Pair:
    """Cut both modalities, at the top left, to the smaller height and the smaller width of the two.

    Deviation D7: the official loader cuts all videos of a call to the smallest images among them; here the size of a
    clip does not depend on others, whose images need not be read for it.
    """
    if rgb is None or flow is None or rgb.shape[-2:] == flow.shape[-2:]:
        return rgb, flow
    height, width = (min(sides) for sides in zip(rgb.shape[-2:], flow.shape[-2:], strict=True))
    return rgb[..., :height, :width], flow[..., :height, :width]


@dataclass(frozen=True)
class TrainTransform:
    """The training augmentation: one random crop and flip per clip, resized to ``size`` x ``size``.

    Attributes:
        size: Side of the network's input, pixels.
        augmentation: By its official name. ``"f25noCtr"``, of the two-stream network, and ``"borders25"``, of the
            appearance base stream: see `draw_crop`. ``"multiScaleRegular"``, of the motion base stream: see
            `draw_multi_scale_crop`; resized without antialiasing.
        repaired: Officially no two videos of a loader call have the same `placement` with 'f25noCtr', all of them have
            the same with 'borders25', and crops of exactly the input size lie at the top left. True: every video
            draws its own placement, which always counts.
        resized: False leaves the crops as large as they are drawn, for `stmulnet.datasets.resize.resize_crops` to
            resize them elsewhere.
    """

    size: int
    augmentation: Augmentation = "f25noCtr"
    repaired: bool = False
    resized: bool = True

    def __post_init__(self) -> None:
        _check_size(self.size)
        if self.augmentation not in get_args(Augmentation):
            names = ", ".join(get_args(Augmentation))
            raise ConfigError(f"the augmentation must be one of {names}, got {self.augmentation!r}")

    def __call__(self, rgb: Tensor | None, flow: Tensor | None, rng: np.random.Generator) -> Pair:
        """Return the clip, alone in its loader call, as (M, C, size, size) uint8; the crop is drawn from ``rng``."""
        return self._transform(rgb, flow, rng, None)

    def in_call(self, call: LoaderCall) -> Transform:
        """The transform of a video that has others before it in its loader call."""
        return lambda rgb, flow, rng: self._transform(rgb, flow, rng, call)

    def draw(self, height: int, width: int, rng: np.random.Generator, call: LoaderCall | None = None) -> Crop:
        """Draw the crop of a clip whose images have this size.

        Args:
            height: Image height, pixels.
            width: Image width, pixels.
            rng: Generator of what the clip does not share with others.
            call: The loader call that the clip belongs to; None if it is alone.
        """
        if self.augmentation == "multiScaleRegular":
            return draw_multi_scale_crop(height, width, self.size, rng, repaired=self.repaired)
        entry = None
        if call is not None and not self.repaired:
            place = len(call.earlier) if self.augmentation == "f25noCtr" else 0
            entry = int(call.rng.permutation(NUM_PLACEMENTS)[place % NUM_PLACEMENTS])
        return draw_crop(height, width, self.size, rng, entry=entry, repaired=self.repaired)

    def _transform(
        self, rgb: Tensor | None, flow: Tensor | None, rng: np.random.Generator, call: LoaderCall | None
    ) -> Pair:
        rgb, flow = cut_to_common_size(rgb, flow)
        crop = self.draw(*_image_size(rgb, flow), rng, call)
        size = self.size if self.resized else None
        return apply_crop(rgb, flow, crop, size, antialias=antialiases(self.augmentation))


@dataclass(frozen=True)
class TestTransform:
    """The test protocol's images: the whole frame, each side limited to ``size`` ... 2 ``size``; no crop, no draw.

    Attributes:
        size: Side of the network's input, pixels.
    """

    size: int

    def __post_init__(self) -> None:
        _check_size(self.size)

    def __call__(self, rgb: Tensor | None, flow: Tensor | None, rng: np.random.Generator | None = None) -> Pair:
        """Return the clip as (M, C, H, W) uint8 with H and W in size ... 2 size."""
        rgb, flow = cut_to_common_size(rgb, flow)
        size = clamp_sides(_image_size(rgb, flow), self.size)
        return None if rgb is None else resize(rgb, size), None if flow is None else resize(flow, size)


def _image_size(rgb: Tensor | None, flow: Tensor | None) -> tuple[int, int]:
    clip = rgb if rgb is not None else flow
    assert clip is not None, "a clip needs one modality at least"
    return clip.shape[-2], clip.shape[-1]


def _check_size(size: int) -> None:
    if size < 1:
        raise ConfigError(f"the input size must be 1 pixel or more, got {size}")
