"""Draws timeline.png and overlay.jpg: python docs/images/make_timeline.py [RUN], after `make demo`.

RUN is the folder of the demo (runs/demo). Its network sees one long video of moving shapes: every class in turn, five
seconds each, with objects and backgrounds that are in no video of the demo.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stmulnet.commands.timeline import timeline
from stmulnet.datasets.moving_shapes import CLASSES, SIZE_PX, draw_group, draw_tokens, render
from stmulnet.video.io import iter_frames, write_video

FOLDER = Path(__file__).parent
FRAMES_PER_CLASS, FPS = 128, 25.0
SHOWN_FRAME = 300  # of the overlay
SEED = 20260000  # far from those of the demo


def long_video() -> Iterator[NDArray[np.uint8]]:
    """Frames of all classes, one after the other."""
    for number, actors in enumerate(CLASSES.values()):
        rng = np.random.default_rng([SEED, number])
        group = draw_group(rng, SIZE_PX, FRAMES_PER_CLASS)
        yield from render(group, draw_tokens(actors, group, rng, SIZE_PX, FRAMES_PER_CLASS), rng, SIZE_PX)


def main() -> None:
    """Write the pictures beside this file."""
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    weights = run / "networks" / "st_mulnet" / "model.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        video, out, overlay = (Path(folder) / name for name in ("moving_shapes.mp4", "out", "overlay.mp4"))
        write_video(video, long_video(), fps=FPS)
        found = timeline(str(video), weights=weights, out=out, window=1.28, stride=0.64, overlay=overlay).timeline
        print(f"{len(found.windows)} windows, classes in turn: {', '.join(CLASSES)}")
        (FOLDER / "timeline.png").write_bytes((out / "timeline.png").read_bytes())
        picture = next(frame for number, frame in enumerate(iter_frames(overlay), start=1) if number == SHOWN_FRAME)
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(FOLDER / "overlay.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
