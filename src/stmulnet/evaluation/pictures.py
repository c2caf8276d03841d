"""Frames and flow as small pictures inside a page (data URIs)."""

# n frames of H x W pixels

import base64
import io
from typing import Any

import numpy as np
from matplotlib import image as matplotlib_image
from numpy.typing import NDArray
from torch import from_numpy
from torch.nn.functional import interpolate

from stmulnet.evaluation.flow_colours import flow_wheel

THUMBNAIL_HEIGHT_PX = 144
JPEG_QUALITY = 80  # ten pictures per video: some 60 kB


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, H, W, 3), uint8, scaled to the height of a thumbnail."""
    scale = THUMBNAIL_HEIGHT_PX / images.shape[1]
    width_px = max(1, round(images.shape[2] * scale))
    tensor = from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    mode: dict[str, Any] = {"mode": "area"} if scale < 1 else {"mode": "nearest-exact"}
    scaled = interpolate(tensor, size=(THUMBNAIL_HEIGHT_PX, width_px), **mode)
    return np.asarray(scaled.round().byte().permute(0, 2, 3, 1).numpy())


def wheel_uri(size: int = 96) -> str:
    """The legend of the flow colours as a PNG data URI."""
    return image_uri(flow_wheel(size), "png")


def image_uri(image: NDArray[np.uint8], kind: str = "jpeg") -> str:
    """An RGB image (H, W, 3), uint8, as a data URI; ``kind`` is ``"jpeg"`` or ``"png"``."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": JPEG_QUALITY, "optimize": True} if kind == "jpeg" else {}
    matplotlib_image.imsave(buffer, np.ascontiguousarray(image), format=kind, pil_kwargs=options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
