"""Small moving pictures and encoded files for the tests of stmulnet.video."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stmulnet.video.io import write_video

Frames = npt.NDArray[np.uint8]


@pytest.fixture
def moving(rng: np.random.Generator) -> Callable[..., Frames]:
    """Make (T, H, W, 3) frames of a smooth random texture that moves 1 px right and 2 px down per frame."""

    def make(count: int = 12, *, height: int = 40, width: int = 56) -> Frames:
        size = (height + 2 * count) // 6 + 2, (width + count) // 6 + 2
        # Mostly grey: what 4:2:0 does to strong colours would drown every comparison.
        coarse = (0.8 * rng.uniform(0, 255, (*size, 1)) + 0.2 * rng.uniform(0, 255, (*size, 3))).astype(np.uint8)
        texture = cv2.resize(coarse, (width + count, height + 2 * count), interpolation=cv2.INTER_CUBIC)
        views = [
            texture[2 * (count - t) : 2 * (count - t) + height, count - t : count - t + width] for t in range(count)
        ]
        return np.stack(views)

    return make


@pytest.fixture
def encode(tmp_path: Path, moving: Callable[..., Frames]) -> Callable[..., Path]:
    """Encode a moving texture to a file below tmp_path and return its path."""

    def make(name: str, count: int = 12, *, codec: str = "libx264", **size: Any) -> Path:
        path = tmp_path / name
        write_video(path, moving(count, **size), codec=codec)
        return path

    return make
