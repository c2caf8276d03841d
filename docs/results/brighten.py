"""Brightens videos by a gamma curve, the same for all: python brighten.py VIDEOS BRIGHTENED (see arid6.md)."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from stmulnet.console import progress
from stmulnet.video.io import iter_frames, probe, write_video

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("videos", type=Path, help="folder with .mp4 files, in any folders")
parser.add_argument("brightened", type=Path, help="folder for the same files, brightened")
parser.add_argument("--exponent", type=float, default=0.4, help="of grey levels, as shares of 255; 1 changes nothing")
given = parser.parse_args()

curve = np.round(255 * (np.arange(256) / 255) ** given.exponent).astype(np.uint8)
paths = sorted(given.videos.rglob("*.mp4"))
with progress(len(paths), "brighten", "videos") as advance:
    for path in paths:
        copy = given.brightened / path.relative_to(given.videos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_video(copy, (cv2.LUT(frame, curve) for frame in iter_frames(path)), fps=probe(path).fps or 25.0)
        advance(1)
