"""Displacements in pixels to and from the 8-bit form that is stored and that the networks read."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.constants import FLOW_BOUND_PX
from stmulnet.errors import ConfigError

_LEVELS_PER_PX = 255.0 / (2.0 * FLOW_BOUND_PX)  # 6.375: exact in binary
_CHUNK = 1 << 18  # values at a time: the float64 copy stays in the processor's cache


def to_uint8(flow_px: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Clip displacements to +-20 px and map them linearly to 0..255, rounding halves up, so that zero is 128.

    The mapping is that of the official flow images (repository feichtenhofer/gpu_flow, compute_flow.cpp):
    ``round(255 * (v + 20) / 40)``.

    Args:
        flow_px: Displacements in px, floating point, any shape.

    Returns:
        Levels 0..255 in the same shape.

    Raises:
        ConfigError: If the input is not floating point, or holds NaN or infinity.
    """
    flow_px = np.asarray(flow_px)
    if not np.issubdtype(flow_px.dtype, np.floating):
        raise ConfigError(f"flow must be displacements in pixels, floating point; got dtype {flow_px.dtype}")
    values = flow_px.reshape(-1)
    levels = np.empty(values.shape, np.uint8)
    for start in range(0, values.size, _CHUNK):
        levels[start : start + _CHUNK] = _levels(values[start : start + _CHUNK])
    return levels.reshape(flow_px.shape)


def _levels(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    # float64: the product is exact for float32 input, so halves are really halves.
    pixels = values.astype(np.float64)
    if not np.isfinite(pixels).all():
        raise ConfigError("flow holds NaN or infinity; only finite displacements can be stored as 8 bit")
    np.clip(pixels, -FLOW_BOUND_PX, FLOW_BOUND_PX, out=pixels)
    pixels += FLOW_BOUND_PX
    pixels *= _LEVELS_PER_PX
    pixels += 0.5
    return np.floor(pixels, out=pixels)


def to_pixels(flow_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map levels 0..255 linearly back to -20..20 px.

    Each level becomes the middle of the displacements that are stored as it: the error of a round trip is at
    most half a level (0.0785 px). Zero displacement comes back as level 128, +0.0784 px.

    Args:
        flow_u8: Levels, uint8, any shape.

    Returns:
        Displacements in px in the same shape.

    Raises:
        ConfigError: If the input is not uint8.
    """
    flow_u8 = np.asarray(flow_u8)
    if flow_u8.dtype != np.uint8:
        raise ConfigError(f"8-bit flow must have dtype uint8, got {flow_u8.dtype}; displacements are in pixels already")
    return _PIXELS[flow_u8]


_PIXELS = (np.arange(256) / _LEVELS_PER_PX - FLOW_BOUND_PX).astype(np.float32)
