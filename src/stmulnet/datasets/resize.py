"""Bicubic resizing by the definition of MATLAB's imresize, for 8-bit images.

The kernel is the cubic convolution with a = -0.5, stretched where the image shrinks (antialiasing); the image is
mirrored at its border, edge pixels included; weights are normalised. Rows and columns are independent of each other:
a pass down the columns, then one along the rows, both in float32 and rounded only at the end.

M images, C channels, H x W pixels. An output pixel is a sum over K taps: positions and weights (output side, K).
"""

from collections.abc import Iterable
from functools import lru_cache
from math import ceil

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.flow.compiled import compiled, load_or_compile

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Weights = NDArray[np.float64]
Taps = tuple[Positions, Floats]

KERNEL_RADIUS = 2  # pixels of the smaller image
COMPILE_SEC = 5  # about, on one slow core; for the notice only


def resize(images: Tensor, size: tuple[int, int], *, antialias: bool = True) -> Tensor:
    """Resize by bicubic interpolation as MATLAB's imresize does.

    Deviation D6: the official code resizes floats, and what overshoots 0 or 255 stays; here the result is uint8 like
    the stored images, rounded and limited to 0..255 once, at the end.

    Args:
        images: (M, C, H, W) uint8 on the CPU, any memory layout.
        size: Height and width wanted, pixels.
        antialias: Whether the kernel is stretched where the image shrinks.

    Returns:
        (M, C, *size) uint8, contiguous. An image that has the size already is not touched.
    """
    height, width = images.shape[-2:]
    if (height, width) == size:
        return images.contiguous()
    prepare_resize()
    resized = np.empty((*images.shape[:2], *size), np.uint8)
    down, along = _taps(height, size[0], antialias), _taps(width, size[1], antialias)
    for image, planes in zip(images.numpy(), resized, strict=True):
        if len(planes) == 3:  # RGB is interleaved, as decoded; the pass down the columns does not mind
            _resize_rows(image.transpose(1, 2, 0).reshape(height, -1), down, along, planes)
        else:
            for plane, new_plane in zip(image, planes, strict=True):
                _resize_rows(plane, down, along, new_plane[None])
    return torch.from_numpy(resized)


def resize_crops(clips: Iterable[Tensor], size: int, *, antialias: bool = True) -> Tensor:
    """Resize clips on the device where they lie, as `resize` does on the CPU: two matrix products per clip.

    Pixels differ from those of `resize` by one level at most, where the two round a sum that ends in a half.

    Args:
        clips: (T, C, H, W) uint8, each of its own H and W, at least one; all on one device.
        size: Height and width wanted, pixels.
        antialias: Whether the kernel is stretched where the image shrinks.

    Returns:
        (N, T, C, size, size) uint8 on that device.
    """
    return torch.stack([_resize_by_products(clip, size, antialias) for clip in clips])


def _resize_by_products(clip: Tensor, size: int, antialias: bool) -> Tensor:
    down, along = (_matrix(side, size, antialias, clip.device) for side in clip.shape[-2:])
    resized = down @ clip.float() @ along.T
    return resized.clamp_(0, 255).add_(0.5).to(torch.uint8)


@lru_cache(maxsize=512)  # both sides of every official crop; 30 MB
def _matrix(size: int, new_size: int, antialias: bool, device: torch.device) -> Tensor:
    """The weights of `_taps` as a matrix (new_size, size); those of a pixel that the border mirrors add up."""
    positions, weights = _taps(size, new_size, antialias)
    matrix = np.zeros((new_size, size), np.float32)
    np.add.at(matrix, (np.arange(new_size)[:, None], positions), weights)
    return torch.from_numpy(matrix).to(device)


def _resize_rows(rows: Pixels, down: Taps, along: Taps, planes: Pixels) -> None:
    """Resize one image (H, W C'), C' channels interleaved, into planes (C', H', W')."""
    channels, new_height, new_width = planes.shape
    shrunk = np.empty((new_height, rows.shape[1]), np.float32)
    _sum_rows(rows, *down, shrunk)
    # Sums of rows vectorise, sums within a row do not: so the second pass works on columns as rows.
    columns = np.empty(shrunk.shape[::-1], np.float32)
    cv2.transpose(shrunk, columns)
    line, result = np.empty(new_height, np.float32), np.empty((new_width, new_height), np.uint8)
    positions, weights = along
    for channel, plane in enumerate(planes):
        _sum_rows_to_pixels(columns, positions * channels + channel, weights, line, result)
        cv2.transpose(result, plane)


@lru_cache(maxsize=2048)
def _taps(size: int, new_size: int, antialias: bool) -> Taps:
    """Input positions (new_size, K), K even and at least 4, and weights of the pixels along one side."""
    scale = new_size / size
    stretch = max(1 / scale, 1.0) if antialias else 1.0
    centres = (np.arange(new_size) + 0.5) / scale - 0.5
    first = np.ceil(centres - KERNEL_RADIUS * stretch).astype(np.int64)
    num_taps = ceil(2 * KERNEL_RADIUS * stretch)
    num_taps += num_taps % 2  # the loops below take two at a time; those outside the kernel weigh nothing
    positions = first[:, None] + np.arange(num_taps)
    weights = _cubic((positions - centres[:, None]) / stretch)
    positions %= 2 * size
    mirrored = np.minimum(positions, 2 * size - 1 - positions)
    return mirrored, np.ascontiguousarray(weights / weights.sum(1, keepdims=True), np.float32)


def _cubic(x: Weights) -> Weights:
    """The cubic convolution kernel with a = -0.5 (Keys, 1981)."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= KERNEL_RADIUS, far, 0.0))


@compiled
def _sum_rows(rows: Pixels, positions: Positions, weights: Floats, out: Floats) -> None:
    for y in range(out.shape[0]):
        line = out[y]
        a, b, c, d = (rows[positions[y, 0]], rows[positions[y, 1]], rows[positions[y, 2]], rows[positions[y, 3]])
        for x in range(out.shape[1]):
            line[x] = (weights[y, 0] * a[x] + weights[y, 1] * b[x]) + (weights[y, 2] * c[x] + weights[y, 3] * d[x])
        for k in range(4, weights.shape[1], 2):
            a, b = rows[positions[y, k]], rows[positions[y, k + 1]]
            for x in range(out.shape[1]):
                line[x] += weights[y, k] * a[x] + weights[y, k + 1] * b[x]


@compiled
def _sum_rows_to_pixels(rows: Floats, positions: Positions, weights: Floats, line: Floats, out: Pixels) -> None:
    zero, half, top = np.float32(0), np.float32(0.5), np.float32(255)
    for y in range(out.shape[0]):
        a, b, c, d = (rows[positions[y, 0]], rows[positions[y, 1]], rows[positions[y, 2]], rows[positions[y, 3]])
        for x in range(out.shape[1]):
            line[x] = (weights[y, 0] * a[x] + weights[y, 1] * b[x]) + (weights[y, 2] * c[x] + weights[y, 3] * d[x])
        for k in range(4, weights.shape[1], 2):
            a, b = rows[positions[y, k]], rows[positions[y, k + 1]]
            for x in range(out.shape[1]):
                line[x] += weights[y, k] * a[x] + weights[y, k + 1] * b[x]
        for x in range(out.shape[1]):
            out[y, x] = np.uint8(min(max(line[x], zero), top) + half)


_SIGNATURES = (
    (_sum_rows, "void(u1[:,:], i8[:,::1], f4[:,::1], f4[:,::1])"),
    (_sum_rows, "void(u1[:,::1], i8[:,::1], f4[:,::1], f4[:,::1])"),
    (_sum_rows_to_pixels, "void(f4[:,::1], i8[:,::1], f4[:,::1], f4[::1], u1[:,::1])"),
)


@lru_cache(maxsize=1)
def prepare_resize() -> None:
    """Load the compiled loops, or compile them, which takes seconds and is said on stderr.

    `resize` does it by itself. Call it before starting loader workers: those that are forked need not do it again.
    """
    load_or_compile(_SIGNATURES, "the resizing of images", seconds=COMPILE_SEC)
