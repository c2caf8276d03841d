"""Videos to try the page with, made when it starts: moving shapes, as `stmulnet demo` trains on."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stmulnet.datasets.moving_shapes import CLASSES, draw_group, draw_tokens, render
from stmulnet.video.io import write_video

SIDE_PX = 128  # twice that of the demo, which scales videos to what its networks know
NUM_FRAMES = 48
SEED = 2017  # not one of the demo's: backgrounds that its networks have not seen
PICTURE_PX = 192


@dataclass(frozen=True)
class Example:
    """One made video: its class, the file, and a picture of it."""

    label: str
    video: Path
    picture: Path


def make_examples(folder: Path) -> list[Example]:
    """Write one video (H.264) and one picture of each class of moving shapes to an existing folder."""
    examples = []
    for number, (label, actors) in enumerate(CLASSES.items()):
        rng = np.random.default_rng([SEED, number])
        group = draw_group(rng, SIDE_PX, NUM_FRAMES)
        frames = list(render(group, draw_tokens(actors, group, rng, SIDE_PX, NUM_FRAMES), rng, SIDE_PX))
        video, picture = folder / f"{label}.mp4", folder / f"{label}.png"
        write_video(video, frames)
        large = cv2.resize(frames[NUM_FRAMES // 2], (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(picture), cv2.cvtColor(large, cv2.COLOR_RGB2BGR))
        examples.append(Example(label, video, picture))
    return examples
