"""Videos to try the page with, made when it starts: moving shapes, as `stmulnet demo` trains on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmulnet.datasets.moving_shapes import CLASSES, draw_group, draw_tokens, render
from stmulnet.video.io import write_video

SIDE_PX = 128  # twice that of the demo, which scales videos to what its networks know
NUM_FRAMES, SECONDS = 48, 2.4
SEED = 2017  # not one of the demo's: backgrounds that its networks have not seen


@dataclass(frozen=True)
class Example:
    """One made video: its class, the file, and one of its frames (H, W, 3), uint8."""

    label: str
    video: Path
    frame: NDArray[np.uint8]


def make_examples(folder: Path) -> list[Example]:
    """Write one video (H.264) of each class of moving shapes to an existing folder."""
    examples = []
    for number, (label, actors) in enumerate(CLASSES.items()):
        rng = np.random.default_rng([SEED, number])
        group = draw_group(rng, SIDE_PX, NUM_FRAMES)
        frames = list(render(group, draw_tokens(actors, group, rng, SIDE_PX, NUM_FRAMES), rng, SIDE_PX))
        video = folder / f"{label}.mp4"
        write_video(video, frames, fps=NUM_FRAMES / SECONDS)
        examples.append(Example(label, video, frames[NUM_FRAMES // 2]))
    return examples
