"""Samples per second and core: the loader of the package, from a folder and packed, against a plain one with Pillow.

    python -m benchmarks.loader [--clips DIR] [--videos N] [--dataset DIR] [--rounds N]

Real clips (of ../shared/data/clips beside the project) are extracted, with flow, to a temporary folder. All three
loaders then give training batches of the same frames in turn, for every stride from 5 to 35, in one process on one
core. Time is the processor's, which other work on the machine disturbs less; wall time is printed too. At the end it
is shown which part of a sample costs what.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from benchmarks.baselines.pil_loader import PilClips
from torch.utils.data import DataLoader, default_collate

from stmulnet.constants import INPUT_SIZE, TRAIN_FRAMES, TRAIN_STRIDES
from stmulnet.datasets.annotations import Annotation, VideoRecord
from stmulnet.datasets.base import ClipSample, TwoStreamDataset, _gather
from stmulnet.datasets.loading import ClipLoader
from stmulnet.datasets.sampling import FIRST_TIME, RandomStrideFrames, flow_numbers
from stmulnet.datasets.transforms import TrainTransform, apply_crop
from stmulnet.video.extract import extract_videos
from stmulnet.video.pack import pack_dataset
from stmulnet.video.store import open_tree, read_images

SHARED_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
BATCH = 4  # the official sub-batch
LONG_ENOUGH = FIRST_TIME + (TRAIN_FRAMES - 1) * TRAIN_STRIDES[1] + 5  # frames: room for the largest stride
TARGET_RATIO = 3.0

Seconds = tuple[float, float]  # of the processor, on the wall


class OneStride:
    """Sampling with a stride that the benchmark sets."""

    stride = TRAIN_STRIDES[0]

    def __call__(self, num_frames: int, rng: np.random.Generator) -> list[int]:
        """As for every sampling."""
        rule = RandomStrideFrames(strides=(self.stride, self.stride), shared=False, first_run=True)
        return rule(num_frames, rng)


def main() -> int:
    options = _options()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder, packed = options.dataset or Path(temporary) / "folder", Path(temporary) / "packed"
        if not options.dataset:
            extract_videos(long_clips(options.clips, options.videos), folder)
        pack_dataset(folder, packed)
        tree = open_tree(folder)
        records = [VideoRecord(video, 0, tree.num_frames(video)) for video in tree.videos()]
        loaders = make_loaders(folder, packed, records)
        check_same(folder, packed, records)
        seconds = measure(loaders, options.rounds)
        ratio = report(loaders, seconds, options.rounds * BATCH)
        parts(folder, packed, records[0])
    return 0 if ratio >= TARGET_RATIO else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=SHARED_CLIPS, help="folder searched for .avi and .mp4 files")
    parser.add_argument("--dataset", type=Path, help="folder with the images of such clips, extracted before")
    parser.add_argument("--rounds", type=int, default=3, help="batches per stride and loader")
    parser.add_argument("--videos", type=int, default=4, help="clips to extract")
    return parser.parse_args()


def long_clips(folder: Path, count: int) -> list[Path]:
    """Clips with room for five frames at the largest stride."""
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".avi", ".mp4") and len(found) < count:
            with av.open(str(path)) as container:
                if sum(packet.size > 0 for packet in container.demux(video=0)) >= LONG_ENOUGH:
                    found.append(path)
    if not found:
        sys.exit(f"no .avi or .mp4 file of {LONG_ENOUGH} frames under {folder}; give another folder")
    return found


def _clips(dataset: Path, records: list[VideoRecord], sampling: OneStride) -> TwoStreamDataset:
    videos = [records[index % len(records)] for index in range(BATCH)]
    return TwoStreamDataset.in_folder(
        Annotation(["class"], videos, []),
        dataset,
        subset="training",
        sampling=sampling,
        transform=TrainTransform(INPUT_SIZE, repaired=True),
    )


def make_loaders(folder: Path, packed: Path, records: list[VideoRecord]) -> dict[str, tuple[OneStride, Iterable[Any]]]:
    """Name -> the sampling whose stride is to be set, and the loader."""
    rules = {name: OneStride() for name in ("Pillow", "folder", "packed")}
    videos = [records[index % len(records)] for index in range(BATCH)]
    plain = PilClips(folder, videos, rules["Pillow"], INPUT_SIZE)
    return {
        "Pillow": (rules["Pillow"], DataLoader(plain, batch_size=BATCH)),
        "folder": (rules["folder"], ClipLoader(_clips(folder, records, rules["folder"]), batch_size=BATCH)),
        "packed": (rules["packed"], ClipLoader(_clips(packed, records, rules["packed"]), batch_size=BATCH)),
    }


def check_same(folder: Path, packed: Path, records: list[VideoRecord]) -> None:
    """The same samples from both, and such as the plain loader has but for rounding."""
    a, b = (_clips(dataset, records, OneStride())[0] for dataset in (folder, packed))
    assert torch.equal(a.rgb, b.rgb)
    assert torch.equal(a.flow, b.flow)
    plain = PilClips(folder, records, OneStride(), INPUT_SIZE)[0][1]
    levels = (plain * 0.226 + 0.5) * 255
    assert (levels - a.flow).abs().mean() < 1, "the plain loader shows other images"


def measure(loaders: dict[str, tuple[OneStride, Iterable[Any]]], rounds: int) -> dict[str, dict[int, Seconds]]:
    """Seconds per loader and stride, of all rounds; the loaders take turns."""
    strides = range(TRAIN_STRIDES[0], TRAIN_STRIDES[1] + 1)
    seconds = {name: dict.fromkeys(strides, (0.0, 0.0)) for name in loaders}
    for _, loader in loaders.values():
        list(loader)  # warm: files in memory, loops compiled
    for _ in range(rounds):
        for stride in strides:
            for name, (rule, loader) in loaders.items():
                rule.stride = stride
                processor, wall = timed(partial(list, loader))
                before = seconds[name][stride]
                seconds[name][stride] = (before[0] + processor, before[1] + wall)
    return seconds


def timed(function: Callable[[], Any]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.process_time() - processor, time.perf_counter() - wall


def report(loaders: Iterable[str], seconds: dict[str, dict[int, Seconds]], samples: int) -> float:
    """Print the rates; return the smaller of our two ratios to the plain loader."""
    print(f"{'samples/s and core':<20}" + "".join(f"{name:>10}" for name in loaders) + f"{'ratio':>8}{'packed':>8}")
    for stride in (5, 8, 10, 20, 35):
        rates = [samples / seconds[name][stride][0] for name in loaders]
        print(f"{f'stride {stride}':<20}" + "".join(f"{rate:10.1f}" for rate in rates), end="")
        print("".join(f"{rate / rates[0]:8.2f}" for rate in rates[1:]))
    ratios = []
    for clock, words in enumerate(("mean of 5 to 35", "the same, wall time")):
        rates = [
            float(np.mean([samples / taken[clock] for taken in of_stride.values()])) for of_stride in seconds.values()
        ]
        print(f"{words:<20}" + "".join(f"{rate:10.1f}" for rate in rates), end="")
        print("".join(f"{rate / rates[0]:8.2f}" for rate in rates[1:]))
        ratios.append(min(rates[1:]) / rates[0])
    print(f"target: ratio >= {TARGET_RATIO:g} of processor time\n")
    return ratios[0]


def parts(folder: Path, packed: Path, record: VideoRecord, *, repeats: int = 15) -> None:
    """Print what the parts of one sample cost, at a stride without overlap: medians of processor time."""
    tree, packed_tree = open_tree(folder), open_tree(packed)
    times = [FIRST_TIME + 20 * i for i in range(TRAIN_FRAMES)]
    fields = sorted({field for t in times for field in flow_numbers(t)})
    assert tree.frames
    assert tree.flow
    assert packed_tree.frames
    assert packed_tree.flow
    rgb_wanted, flow_wanted = [(0, t) for t in times], [(plane, n) for n in fields for plane in (0, 1)]
    rgb_paths = tree.frames.paths(0, record.video, times)
    flow_paths = [path for n in fields for plane in (0, 1) for path in tree.flow.paths(plane, record.video, [n])]
    rgb = torch.from_numpy(tree.read_rgb(record.video, times)).permute(0, 3, 1, 2)
    flow = torch.from_numpy(tree.read_flow(record.video, fields))
    transform = TrainTransform(INPUT_SIZE, repaired=True)
    crop = transform.draw(rgb.shape[-2], rgb.shape[-1], np.random.default_rng(0))
    small_rgb, small_flow = apply_crop(rgb, flow, crop._replace(flip=False), INPUT_SIZE)
    assert small_rgb is not None
    assert small_flow is not None
    stacks = torch.tensor([[fields.index(n) for n in flow_numbers(t)] for t in times])
    sample = ClipSample(small_rgb, small_flow[stacks].flatten(1, 2), 0, record.video)
    video, frames_root, flow_root = record.video, tree.frames, tree.flow
    packed_frames, packed_flow = packed_tree.frames, packed_tree.flow
    rows: dict[str, Callable[[], Any]] = {
        "read files, folder": lambda: [*frames_root.read(video, rgb_wanted), *flow_root.read(video, flow_wanted)],
        "read files, packed": lambda: [*packed_frames.read(video, rgb_wanted), *packed_flow.read(video, flow_wanted)],
        "read and decode 5 RGB": lambda: read_images(rgb_paths, colorspace="RGB"),
        f"read and decode {len(flow_paths)} flow": lambda: read_images(flow_paths, colorspace="GRAY"),
        "crop and resize RGB": lambda: apply_crop(rgb, None, crop._replace(flip=False), INPUT_SIZE),
        "crop and resize flow": lambda: apply_crop(None, flow, crop._replace(flip=False), INPUT_SIZE),
        "put stacks together": lambda: _gather(small_flow, stacks),
        "collate (per sample)": lambda: [default_collate([sample] * BATCH) for _ in range(1)],
        "to float32, not part of it": lambda: ((sample.rgb.float() - 118) / 58, (sample.flow.float() - 128) / 58),
    }
    print(f"one sample of {record.video}, stride 20, crop {crop.width}x{crop.height}: ms of processor time")
    for name, function in rows.items():
        taken = float(np.median([timed(function)[0] for _ in range(repeats)]))
        print(f"  {name:<28}{1e3 * taken / (BATCH if name.startswith('collate') else 1):8.2f}")


if __name__ == "__main__":
    sys.exit(main())
