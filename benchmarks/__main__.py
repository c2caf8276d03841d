"""The package against the alternatives, side by side in one run: ``python -m benchmarks [PART ...] [--rounds N]``.

Parts: network (5 frames), frames (25 whole ones), training, flow, predict, memory; all by default. For flow and predict
real clips are used where there are any (``--clips``, or ../shared/data/clips beside the project), else a synthetic one.
`make bench` runs it, and the benchmarks of the loader and of other parts behind it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.alternatives import conv3d_forward, conv3d_step, usual
from benchmarks.apart import Apart, Make, Run
from benchmarks.baselines.onnx_network import onnx_network
from benchmarks.peak import peak_of_command

from stmulnet.commands.bench import (
    SHORT_CLIP,
    WHOLE_FRAMES,
    flow_contest,
    forward_contest,
    full_network,
    predict_contest,
    training_contest,
)
from stmulnet.commands.contests import Contest, Row, as_json, clips, markdown
from stmulnet.commands.sample_video import write_sample
from stmulnet.memory import keep_freed_memory
from stmulnet.models.checkpoint import save_model
from stmulnet.video.io import probe

PARTS = ("network", "frames", "training", "flow", "predict", "memory")
SHARED_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
SHORT_WORK, WHOLE_WORK = "5 frames of 224x224", "25 whole frames of 341x256"
SUFFIXES = (".avi", ".mp4")
SECONDS = 7.0  # length of the clip to predict; the one that comes closest


def main() -> None:
    """Print a table after every part, and all of them at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=Path, default=SHARED_CLIPS, help="folder searched for .avi and .mp4 files")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile on 5 frames; minutes more")
    parser.add_argument("--processor-time", action="store_true", help="one thread, time of the processor")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    options = parser.parse_args()
    parts = options.parts or PARTS
    if options.processor_time:
        torch.set_num_threads(1)
    clock = time.process_time if options.processor_time else time.perf_counter
    processes: list[Apart] = []

    def apart(make: Make) -> Run:
        if options.processor_time:  # which is that of this process
            return make()
        processes.append(Apart(make))
        return processes[-1]

    keep_freed_memory()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        videos = sorted(path for path in options.clips.rglob("*") if path.suffix in SUFFIXES)
        videos = videos or [write_sample(folder / "sample.mp4")]
        for contest in contests(parts, folder, videos, apart, compiled=options.compile):
            rows += contest.run(options.rounds, clock)
            print(markdown(rows[-len(contest.contenders) :]), file=sys.stderr, flush=True)
            while processes:
                processes.pop().close()
        print(f"{torch.get_num_threads()} threads, {options.rounds} rounds, torch {torch.__version__}")
        print(markdown(rows))
        if "memory" in parts:
            print_memory(nearest(videos), folder)
    if options.json:
        options.json.write_text(json.dumps(as_json(rows), indent=2) + "\n", encoding="utf-8")


def contests(
    parts: Any, folder: Path, videos: list[Path], apart: Callable[[Make], Run], *, compiled: bool
) -> Iterator[Contest]:
    """What is measured, one after the other, so that only one contest's networks are in memory."""
    for part, work, size in (("network", SHORT_WORK, SHORT_CLIP), ("frames", WHOLE_WORK, WHOLE_FRAMES)):
        if part in parts:
            others = {
                "Conv3d float32": apart(partial(conv3d_forward, size)),
                "ONNX Runtime float32": onnx_network(full_network(), clips(full_network().config, 1, *size), folder),
            }
            yield forward_contest(work, size, others=others, compiled=compiled and part == "network")
    if "training" in parts:
        yield training_contest({"Conv3d float32": apart(conv3d_step)})
    if "flow" in parts:
        for video in videos[:: max(len(videos) // 5, 1)]:
            yield flow_contest(video)
    if "predict" in parts:
        video = nearest(videos)
        yield predict_contest(video, {"OpenCV's TV-L1, all threads, and Conv3d float32": apart(partial(usual, video))})


def nearest(videos: list[Path]) -> Path:
    """The video whose length is closest to 7 seconds."""
    return min(videos, key=lambda path: abs((probe(path).duration_s or 0.0) - SECONDS))


def print_memory(video: Path, folder: Path) -> None:
    """Peak memory of `stmulnet predict`, summed over its processes."""
    weights = folder / "network.safetensors"
    save_model(full_network(), weights)
    for preset in ("paper", "fast"):
        command = [sys.executable, "-m", "stmulnet", "predict", str(video)]
        peak = peak_of_command([*command, "--weights", str(weights), "--preset", preset])
        print(f"memory of predict, {preset} preset, all processes: {peak:.2f} GB at its peak")


if __name__ == "__main__":
    main()
