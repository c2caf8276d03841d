"""Videos, and networks of one stream, for tests of several modules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stmulnet.models.multiplier import Network
from stmulnet.models.zoo import create_model
from stmulnet.video.io import iter_frames, write_video


def write_drifting(path: Path, num_frames: int, *, height: int, width: int) -> Path:
    """A drifting texture of coarse random colours, 1 px per frame."""
    rng = np.random.default_rng(8)
    texture = np.kron(rng.integers(0, 256, size=(20, 40, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
    write_video(path, (texture[40 : 40 + height, t : t + width] for t in range(num_frames)), codec="mpeg4")
    return path


def write_film(path: Path, videos: Path, *, fps: float) -> Path:
    """The first five videos of a folder of moving shapes one after the other: 80 frames."""
    clips = sorted(videos.rglob("*.avi"))[:5]
    write_video(path, (frame for clip in clips for frame in iter_frames(clip)), fps=fps)
    return path


def single_stream(stream: str, class_names: Sequence[str]) -> Network:
    """A small network of one stream for frames of 64 pixels, untrained."""
    options: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}
    model = create_model(f"{stream}_resnet50", len(class_names), class_names=list(class_names), **options)
    model.metadata = {"preprocessing": {"frames": {"short_side": 64}}}
    return model
