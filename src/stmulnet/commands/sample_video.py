"""A video for measurements: the moving shapes, larger and longer."""

from pathlib import Path

import numpy as np

from stmulnet.datasets.moving_shapes import CLASSES, draw_group, draw_tokens, render
from stmulnet.video.io import write_video

SIDE_PX, WIDTH_PX, SECONDS, FRAMES_PER_SECOND = 256, 340, 7, 30


def write_sample(path: Path, *, seconds: int = SECONDS) -> Path:
    """Write 7 s, or ``seconds``, of 340x256 pixels, H.264; always the same."""
    rng, frames = np.random.default_rng(0), seconds * FRAMES_PER_SECOND
    group = draw_group(rng, WIDTH_PX, frames)
    tokens = draw_tokens(next(iter(CLASSES.values())), group, rng, WIDTH_PX, frames)
    top = (WIDTH_PX - SIDE_PX) // 2
    shown = (np.ascontiguousarray(frame[top : top + SIDE_PX]) for frame in render(group, tokens, rng, WIDTH_PX))
    write_video(path, shown, fps=FRAMES_PER_SECOND)
    return path
