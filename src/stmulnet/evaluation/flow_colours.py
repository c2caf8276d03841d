"""Optical flow as colour: hue is the direction, saturation the speed, white is standstill."""

# H x W pixels; flow channel 0 is u (to the right), channel 1 is v (downwards)

import numpy as np
from numpy.typing import NDArray


def flow_colours(flow_px: NDArray[np.floating], *, full_px: float) -> NDArray[np.uint8]:
    """Colour-code flow fields.

    Args:
        flow_px: Fields (..., 2, H, W), displacement in pixels per frame.
        full_px: Speed that gets the full colour; faster motion looks the same.

    Returns:
        RGB images (..., H, W, 3), uint8.
    """
    u, v = np.moveaxis(np.asarray(flow_px, dtype=np.float32), -3, 0)
    sextant = np.arctan2(v, u) * np.float32(3 / np.pi)  # the hue in steps of 60 degrees
    saturation = np.clip(np.hypot(u, v) / np.float32(full_px), 0, 1)
    images = np.empty((*u.shape, 3), dtype=np.uint8)
    for channel, offset in enumerate((5, 3, 1)):  # HSV to RGB of full value, one channel at a time
        place = (sextant + offset) % 6
        lack = np.clip(np.minimum(place, 4 - place), 0, 1)
        images[..., channel] = np.rint(255 - 255 * saturation * lack)
    return images


def full_colour_speed(flow_px: NDArray[np.floating]) -> float:
    """A ``full_px`` for fields (..., 2, H, W): the speed 99 % of the pixels stay below, at least 1 px per frame."""
    speed = np.hypot(*np.moveaxis(np.asarray(flow_px, dtype=np.float32), -3, 0))
    return max(1.0, float(np.percentile(speed, 99)))


def flow_wheel(size: int, *, background: int = 255) -> NDArray[np.uint8]:
    """The legend: a disc (size, size, 3) that shows for each direction and speed its colour."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    u, v = np.meshgrid(axis, axis)
    wheel = flow_colours(np.stack([u, v]), full_px=1.0)
    wheel[np.hypot(u, v) > 1] = background
    return wheel
