"""Crops, flips and resizing of a clip: one draw moves both modalities.

M images of a clip, C channels, H x W pixels, S pixels of the network's input side; everything is uint8, 0..255.
RGB is (M, 3, H, W). Flow is (M, 2k, H, W) with channels u v u v ...: single fields (k = 1) or stacks (k = 10).
The functions do not care which, so that overlapping stacks are resized field by field, each field once.
A modality that a network does not need is None throughout.

Source: cnn_get_im_flow_batch.m (augmentations 'f25noCtr' and 'none') of the official code.
"""

from dataclasses import dataclass
from math import floor
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stmulnet.constants import CROP_SIDES
from stmulnet.errors import ConfigError
from stmulnet.mirror import mirror_clip as mirror_clip

CORNER_REGION = 0.25  # corners of crops lie in the first or the last quarter of their range, never between
CORNER_STEPS = 20  # positions per axis and region
PLANES_PER_CALL = 4  # torch resizes uint8 images of four interleaved channels with vector code

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


def draw_crop(height: int, width: int, size: int, rng: np.random.Generator) -> Crop:
    """Draw the official training crop ('f25noCtr') of an image.

    Each side is, independently, 0.75 to 1.25 times the input side, limited by the image; the position lies in the
    top-left or in the bottom-right region of the positions possible; half of the crops are mirrored.

    Deviation D5: the official loader permutes its 1600 position-and-flip entries, so that the videos of one call never
    share an entry, and it ignores the position of a crop that comes out at exactly the input size (1 in 10 000).

    Args:
        height: Image height, pixels.
        width: Image width, pixels.
        size: Side of the network's input, pixels (official: 224).
        rng: Generator of the draws.
    """
    low, high = CROP_SIDES
    scales = low + (high - low) * rng.random(2)
    crop_height, crop_width = (
        floor(min(size * scale, side) + 0.5) for scale, side in zip(scales, (height, width), strict=True)
    )
    steps = rng.integers(CORNER_STEPS, size=2) / (CORNER_STEPS - 1)
    bottom_right = 1 - CORNER_REGION if rng.integers(2) else 0.0
    down, right = bottom_right + CORNER_REGION * steps
    top, left = floor((height - crop_height) * down), floor((width - crop_width) * right)
    return Crop(top, left, crop_height, crop_width, bool(rng.integers(2)))


def apply_crop(rgb: Tensor | None, flow: Tensor | None, crop: Crop, size: int) -> Pair:
    """Cut one rectangle out of both modalities, resize it to ``size`` x ``size``, mirror it if the crop says so."""
    rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
    rgb, flow = (None if clip is None else resize(clip[..., rows, columns], (size, size)) for clip in (rgb, flow))
    return mirror_clip(rgb, flow) if crop.flip else (rgb, flow)


def clamp_sides(size: tuple[int, int], input_size: int) -> tuple[int, int]:
    """Height and width of a test image: each limited, by itself, to ``input_size`` ... twice ``input_size``."""
    height, width = (min(max(side, input_size), 2 * input_size) for side in size)
    return height, width


def cut_to_common_size(rgb: Tensor | None, flow: Tensor | None) -> Pair:
    """Cut both modalities, at the top left, to the smaller height and the smaller width of the two.

    Deviation D7: the official loader cuts a whole sub-batch to its smallest images; here clips do not depend on others.
    """
    if rgb is None or flow is None or rgb.shape[-2:] == flow.shape[-2:]:
        return rgb, flow
    height, width = (min(sides) for sides in zip(rgb.shape[-2:], flow.shape[-2:], strict=True))
    return rgb[..., :height, :width], flow[..., :height, :width]


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize by bicubic interpolation, antialiased where it shrinks (kernel with a = -0.5, as MATLAB's imresize).

    Deviation D6: imresize of floats neither rounds nor limits its result and mirrors the image at its border; here
    the result is uint8 again, rounded and limited to 0..255 after each of the two passes (along rows, then along
    columns), and the kernel is cut at the border.

    Args:
        images: (M, C, H, W) uint8, any memory layout.
        size: Height and width wanted, pixels.

    Returns:
        (M, C, *size) uint8, contiguous.
    """
    count, channels, height, width = images.shape
    if (height, width) == size:
        return images.contiguous()
    if channels == 3:
        interleaved = images.contiguous(memory_format=torch.channels_last)
        return F.interpolate(interleaved, size, mode="bicubic", antialias=True).contiguous()
    groups = _interleave(images.reshape(count * channels, height, width))
    planes = F.interpolate(groups, size, mode="bicubic", antialias=True).reshape(-1, *size)
    return planes[: count * channels].reshape(count, channels, *size).contiguous()


def _interleave(planes: Tensor) -> Tensor:
    """(P, H, W) planes as (ceil(P / 4), 4, H, W) in channels_last memory, zeros after the last plane.

    Ten times as fast to resize as planes of their own; copying plane by plane is the quick way to get there.
    """
    num_planes, height, width = planes.shape
    groups = torch.zeros(-(-num_planes // PLANES_PER_CALL), height, width, PLANES_PER_CALL, dtype=planes.dtype)
    for i in range(PLANES_PER_CALL):
        part = planes[i::PLANES_PER_CALL]
        groups[: len(part), :, :, i] = part
    return groups.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class TrainTransform:
    """The training augmentation: one random crop and flip per clip, resized to ``size`` x ``size``.

    Attributes:
        size: Side of the network's input, pixels.
    """

    size: int

    def __post_init__(self) -> None:
        _check_size(self.size)

    def __call__(self, rgb: Tensor | None, flow: Tensor | None, rng: np.random.Generator) -> Pair:
        """Return the clip as (M, C, size, size) uint8; the crop is drawn from ``rng``."""
        rgb, flow = cut_to_common_size(rgb, flow)
        crop = draw_crop(*_image_size(rgb, flow), self.size, rng)
        return apply_crop(rgb, flow, crop, self.size)


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
