"""Maps laid over frames, and the frames and flow of a prepared video as pictures."""

# T frames, H x W pixels, h x w positions of a map

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.constants import FLOW_STACK_BEFORE, FLOW_ZERO_LEVEL
from stmulnet.flow.quantize import to_pixels

Image = NDArray[np.uint8]
Map = NDArray[np.floating]

DIMMED = 0.55  # brightness of the frame under a map, so that the map's colours stand out
GLOW_FROM = 0.25  # where in the colour map a map's smallest values start; before it is nearly black
FULL_PERCENTILE = 99.0
# Pixel that the first position of every stage looks at: conv1 is centred on pixels 0, 2, ..., pool1 on every second of
# those, beginning with the second; all strided convolutions behind it keep the first position. (With the geometry
# "torch" it is pixel 0.)
FIRST_CENTRE_PX = 2
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_GLOW = colormaps["inferno"]


def overlay(values: Map, frame: Image, *, stage: str, full: float) -> Image:
    """Lay a map over its frame: the frame dimmed and grey where the map is 0, glowing where it is high.

    Args:
        values: Map (h, w) of a stage, 0 or more.
        frame: RGB (H, W, 3), uint8, in the size in which the network saw it.
        stage: ``"res2"`` ... ``"res5"``: says where the map's positions lie.
        full: The value that gets the full glow, more than 0; larger ones look the same.

    Returns:
        RGB (H, W, 3), uint8.
    """
    height, width, _ = frame.shape
    return _glowing(enlarged(values, height, width, stage=stage) / full, frame)


def glow_scale(width: int, height: int) -> Image:
    """The legend of `overlay`: from 0 at the left to the full glow at the right, over a frame of medium grey."""
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    return _glowing(ramp, np.full((height, width, 3), 128, dtype=np.uint8))


def full_glow(maps: Map) -> float:
    """A ``full`` for maps (..., h, w): the value 99 % of the places stay below; 1 where all are 0."""
    return float(np.percentile(maps, FULL_PERCENTILE)) or float(maps.max()) or 1.0


def enlarged(values: Map, height: int, width: int, *, stage: str) -> NDArray[np.float32]:
    """A map (h, w) of a stage at every pixel of the frame, linearly between its positions.

    Each position is put at the middle of what it sees. That is not the middle of its cell: strided convolutions keep
    the upper left of the positions they read, and on res5's map the difference is 13 pixels.
    """
    down, right = (
        _weights(pixels, positions, stage) for pixels, positions in zip((height, width), values.shape, strict=True)
    )
    return np.asarray(down @ values.astype(np.float32) @ right.T)


def _weights(pixels: int, positions: int, stage: str) -> NDArray[np.float32]:
    """Share of each position in each pixel (pixels, positions); rows sum to 1."""
    pitch_px = 2 ** int(stage.removeprefix("res"))  # 4 at res2 ... 32 at res5
    place = np.clip((np.arange(pixels) - FIRST_CENTRE_PX) / pitch_px, 0, positions - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(positions))), dtype=np.float32)


def _glowing(share: NDArray[np.floating], frame: Image) -> Image:
    share = np.clip(share, 0, 1)[..., None]
    grey = np.broadcast_to((frame @ _GREY)[..., None], frame.shape)
    mixed = (1 - share) * DIMMED * grey + share * _glow(share[..., 0])
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def frame_images(rgb: Tensor) -> Image:
    """Frames (T, 3, H, W), uint8, as images (T, H, W, 3)."""
    return np.ascontiguousarray(rgb.cpu().numpy().transpose(0, 2, 3, 1))


def flow_at_frames(flow: Tensor) -> NDArray[np.float32]:
    """Of stacks (T, 20, H, W), uint8, the field from each frame to the next: (T, 2, H, W) in pixels per frame."""
    u = 2 * FLOW_STACK_BEFORE  # field t of the stack t-5 ... t+4
    return field_px(flow.cpu().numpy()[:, u : u + 2])


def field_px(levels: Image) -> NDArray[np.float32]:
    """Flow levels, uint8, in pixels per frame, shifted by half a level so that standstill is exactly 0 (white)."""
    return to_pixels(levels) - to_pixels(np.array(FLOW_ZERO_LEVEL, dtype=np.uint8))


def _glow(share: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colours (..., 3), 0..255, of shares 0..1."""
    colours = _GLOW(GLOW_FROM + (1 - GLOW_FROM) * share)[..., :3]
    return np.asarray(255 * colours, dtype=np.float32)
