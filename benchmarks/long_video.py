"""Memory and speed of `stmulnet timeline` on a long video: a drifting texture of 160x120 at 10 frames/s.

    python benchmarks/long_video.py [--minutes N] [--preset NAME] [--keep VIDEO]

Encodes the video from a generator, in a process of its own, then runs the timeline over it with a small network, and
prints resident and peak memory of its process at 5 minutes of video and every 10, and the speed. Wall time says what
this machine does now, with whatever else runs on it; the time of the cores says what the work takes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stmulnet.models.zoo import create_model
from stmulnet.predictor import VideoPredictor
from stmulnet.predictor.presets import Preset
from stmulnet.streaming.recorder import TimelineRecorder
from stmulnet.streaming.scorer import WindowScorer
from stmulnet.streaming.windows import Windowing
from stmulnet.video.inputs import open_source
from stmulnet.video.io import write_video

WIDTH, HEIGHT, FPS = 160, 120, 10
WINDOW_SEC, STRIDE_SEC = 4.0, 2.0
CLASSES = 101
FIRST_MINUTE, EVERY_MINUTES = 5, 10
SMALL: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}


def main() -> int:
    options = _options()
    if options.encode:
        write_video(options.encode, drifting(round(60 * FPS * options.minutes)), fps=FPS)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        video = options.keep or Path(folder) / "long.mp4"
        if not video.exists():
            start = time.perf_counter()
            command = [sys.executable, __file__, "--encode", str(video), "--minutes", str(options.minutes)]
            subprocess.run(command, check=True)
            print(f"encoded in {time.perf_counter() - start:.0f} s: {video.stat().st_size / 1e6:.0f} MB")
        measure(video, Path(folder) / "out", options.preset)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the video")
    parser.add_argument("--preset", choices=("paper", "fast"), default="paper", help="settings of the predictor")
    parser.add_argument("--keep", type=Path, help="where the video is kept, and taken from if it is there already")
    parser.add_argument("--encode", type=Path, help="make the video only")
    return parser.parse_args()


def drifting(num_frames: int) -> Iterator[NDArray[np.uint8]]:
    """Frames of a blurred texture that drifts, in another direction every ten seconds."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (4 * HEIGHT, 4 * WIDTH, 3), dtype=np.uint8), (0, 0), 3.0)
    texture = np.asarray(cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX), np.uint8)  # type: ignore[call-overload]
    place, step = np.array([HEIGHT, WIDTH]), np.zeros(2, np.int64)
    for number in range(num_frames):
        if number % (10 * FPS) == 0:
            step = rng.integers(-3, 4, 2)
        place = (place + step) % (3 * HEIGHT, 3 * WIDTH)
        yield np.ascontiguousarray(texture[place[0] : place[0] + HEIGHT, place[1] : place[1] + WIDTH])


def measure(video: Path, out: Path, preset: Preset) -> None:
    """Run the timeline and print memory and speed on the way."""
    torch.manual_seed(0)
    model = create_model("st_mulnet_resnet50", CLASSES, class_names=[f"class{n}" for n in range(CLASSES)], **SMALL)
    model.metadata = {"preprocessing": {"frames": {"short_side": 64}}}
    predictor = VideoPredictor(model, device="cpu", preset=preset)
    windowing = Windowing.in_seconds(WINDOW_SEC, STRIDE_SEC, FPS, predictor.num_frames)
    start, cores = time.perf_counter(), time.process_time()
    done = 0
    print(f"{predictor.preset}; windows of {WINDOW_SEC:g} s every {STRIDE_SEC:g} s; {predictor.threads} threads")
    print("| minutes of video | resident, MB | peak, MB | frames/s |\n|---|---|---|---|", flush=True)

    def row() -> None:
        resident, peak = memory_mb()
        speed = done / (time.perf_counter() - start)
        print(f"| {done / FPS / 60:.0f} | {resident:.0f} | {peak:.0f} | {speed:.0f} |", flush=True)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        minutes, rest = divmod(done, 60 * FPS)
        if rest == 0 and (minutes == FIRST_MINUTE or minutes % EVERY_MINUTES == 0):
            row()

    with open_source(video) as source:
        recorder = TimelineRecorder(predictor, windowing, source=source.name, fps=FPS, out=out)
        frames = source.frames(predictor.short_side, predictor.threads)
        with closing(recorder.follow(WindowScorer(predictor, windowing).steps(frames), advance)) as steps:
            for _ in steps:
                pass
    wall, cores = time.perf_counter() - start, time.process_time() - cores
    windows = len(recorder.finish(complete=True).windows)
    print(
        f"{done} frames, {windows} windows: {wall:.0f} s, {done / wall:.0f} frames/s, {1000 * cores / done:.1f}", end=""
    )
    print(f" core ms/frame; {memory_mb()[1]:.0f} MB at most, JSON file and picture included")


def memory_mb() -> tuple[float, float]:
    """Resident and peak memory of this process, MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, peak = (int(lines[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM"))
    return resident, peak


if __name__ == "__main__":
    sys.exit(main())
