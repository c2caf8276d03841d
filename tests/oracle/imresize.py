"""MATLAB's imresize, method "bicubic", from its definition, in float64 and MATLAB's 1-based coordinates."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

Float = npt.NDArray[np.float64]


def cubic(x: Float) -> Float:
    """The cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x**3 - 2.5 * x**2 + 1) * (x <= 1)
    outer = (-0.5 * x**3 + 2.5 * x**2 - 4 * x + 2) * ((x > 1) & (x <= 2))
    return np.asarray(inner + outer, np.float64)


def contributions(in_length: int, out_length: int, antialias: bool) -> tuple[npt.NDArray[np.int64], Float]:
    """Indices (from 0) and weights, step by step in the 1-based coordinates of the definition."""
    scale = out_length / in_length
    kernel_width, squeeze = (4.0 / scale, scale) if antialias and scale < 1 else (4.0, 1.0)
    x = np.arange(1, out_length + 1, dtype=np.float64)
    u = x / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(u - kernel_width / 2)
    indices = left[:, None] + np.arange(int(np.ceil(kernel_width)) + 2)
    weights = squeeze * cubic(squeeze * (u[:, None] - indices))
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.concatenate([np.arange(1, in_length + 1), np.arange(in_length, 0, -1)])
    indices = mirrored[np.mod(indices.astype(np.int64) - 1, 2 * in_length)]
    return indices - 1, weights


def imresize(images: Tensor, size: tuple[int, int], antialias: bool = True) -> Float:
    """Rows or columns first, whichever shrink more; a float64 result, neither rounded nor limited."""
    pixels = images.numpy().astype(np.float64)
    for axis in sorted((-2, -1), key=lambda axis: size[axis] / images.shape[axis]):
        indices, weights = contributions(images.shape[axis], size[axis], antialias)
        pixels = np.moveaxis(
            np.einsum("...yk,yk->...y", np.moveaxis(pixels, axis, -1)[..., indices], weights), -1, axis
        )
    return pixels


def limited(pixels: Float) -> Float:
    """What of a result fits into 8 bits, before it is rounded."""
    return np.clip(pixels, 0, 255)
