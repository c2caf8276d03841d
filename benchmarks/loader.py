"""Training samples per second and core: the loader of the package, from a folder and packed, against Pillow's.

``python -m benchmarks loader`` measures it: real clips are extracted, with flow, and all loaders give training
batches of the same frames in turn, in one process on one core. Time is the processor's.

``python -m benchmarks.loader [--clips DIR]`` shows which part of a sample costs what.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from benchmarks.baselines.pil_loader import PilClips
from torch.utils.data import DataLoader, default_collate

from stmulnet.commands.contests import Contest, Row
from stmulnet.commands.sample_video import write_sample
from stmulnet.constants import INPUT_SIZE, TRAIN_FRAMES, TRAIN_STRIDES
from stmulnet.datasets.annotations import Annotation, VideoRecord
from stmulnet.datasets.base import ClipSample, TwoStreamDataset, _gather
from stmulnet.datasets.loading import ClipLoader
from stmulnet.datasets.sampling import FIRST_TIME, RandomStrideFrames, flow_numbers
from stmulnet.datasets.transforms import TrainTransform, apply_crop
from stmulnet.timing import timed
from stmulnet.video.extract import extract_videos
from stmulnet.video.pack import pack_dataset
from stmulnet.video.store import open_tree, read_images

SHARED_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
BATCH = 4  # the official sub-batch
LONG_ENOUGH = FIRST_TIME + (TRAIN_FRAMES - 1) * TRAIN_STRIDES[1] + 5  # frames: room for the largest stride
VIDEOS = 4
STRIDES = {  # what is measured: the more frames lie between, the fewer images are in two stacks
    "stride 5": (5,),
    "stride 10": (10,),
    "stride 35": (35,),
    "strides 5 to 35": (5, 10, 15, 20, 25, 30, 35),
}


class OneStride:
    """Sampling with a stride that the benchmark sets."""

    stride = TRAIN_STRIDES[0]

    def __call__(self, num_frames: int, rng: np.random.Generator) -> list[int]:
        """As for every sampling."""
        rule = RandomStrideFrames(strides=(self.stride, self.stride), shared=False, first_run=True)
        return rule(num_frames, rng)


@dataclass(frozen=True)
class Loader:
    """A loader of one batch, and the sampling whose stride is to be set."""

    rule: OneStride
    batches: Iterable[Any]

    def load(self, strides: Sequence[int]) -> None:
        """A batch for every stride."""
        for stride in strides:
            self.rule.stride = stride
            list(self.batches)


def loader_rows(videos: Sequence[Path], folder: Path, rounds: int) -> list[Row]:
    """All contests, in a process of its own: one that loads does not keep the memory that it frees."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_rows, videos, folder, rounds).result()


def _rows(videos: Sequence[Path], folder: Path, rounds: int) -> list[Row]:
    torch.set_num_threads(1)
    return [row for contest in loader_contests(videos, folder) for row in contest.run(rounds)]


def loader_contests(videos: Sequence[Path], folder: Path) -> Iterator[Contest]:
    """Batches of several strides.

    Args:
        videos: Clips, of which some long ones are extracted; where there are none a synthetic one.
        folder: For what is extracted and packed.
    """
    extracted, packed = _prepare(videos, folder)
    loaders = make_loaders(extracted, packed)
    check_same(extracted, packed)
    for words, strides in STRIDES.items():
        yield Contest(
            f"training samples on one core, {words}",
            {name: partial(loader.load, strides) for name, loader in loaders.items()},
            amount=BATCH * len(strides),
            unit="samples",
            clock=time.process_time,
        )


def _prepare(videos: Sequence[Path], folder: Path) -> tuple[Path, Path]:
    """Extracted and packed clips."""
    extracted, packed = folder / "loader-folder", folder / "loader-packed"
    extract_videos(long_clips(videos) or [write_sample(folder / "loader-sample.mp4")], extracted)
    pack_dataset(extracted, packed)
    return extracted, packed


def long_clips(videos: Sequence[Path]) -> list[Path]:
    """A few clips with room for five frames at the largest stride."""
    found: list[Path] = []
    for path in videos:
        if len(found) < VIDEOS:
            with av.open(str(path)) as container:
                if sum(packet.size > 0 for packet in container.demux(video=0)) >= LONG_ENOUGH:
                    found.append(path)
    return found


def _records(dataset: Path) -> list[VideoRecord]:
    """Those of a batch."""
    tree = open_tree(dataset)
    videos = tree.videos()
    chosen = [videos[index % len(videos)] for index in range(BATCH)]
    return [VideoRecord(video, 0, tree.num_frames(video)) for video in chosen]


def _clips(dataset: Path, sampling: OneStride, *, resized: bool = True) -> TwoStreamDataset:
    return TwoStreamDataset.in_folder(
        Annotation(["class"], _records(dataset), []),
        dataset,
        subset="training",
        sampling=sampling,
        transform=TrainTransform(INPUT_SIZE, repaired=True, resized=resized),
    )


def make_loaders(folder: Path, packed: Path) -> dict[str, Loader]:
    """The loaders by name."""
    rules = [OneStride() for _ in range(4)]
    plain = PilClips(folder, _records(folder), rules[0], INPUT_SIZE)
    return {
        "Pillow": Loader(rules[0], DataLoader(plain, batch_size=BATCH)),
        "folder": Loader(rules[1], ClipLoader(_clips(folder, rules[1]), batch_size=BATCH)),
        "packed": Loader(rules[2], ClipLoader(_clips(packed, rules[2]), batch_size=BATCH)),
        "packed, resized on the device": Loader(
            rules[3], ClipLoader(_clips(packed, rules[3], resized=False), batch_size=BATCH)
        ),
    }


def check_same(folder: Path, packed: Path) -> None:
    """The same samples from both, and such as the plain loader has but for rounding."""
    a, b = (_clips(dataset, OneStride())[0] for dataset in (folder, packed))
    assert torch.equal(a.rgb, b.rgb)
    assert torch.equal(a.flow, b.flow)
    plain = PilClips(folder, _records(folder), OneStride(), INPUT_SIZE)[0][1]
    levels = (plain * 0.226 + 0.5) * 255
    assert (levels - a.flow).abs().mean() < 1, "the plain loader shows other images"


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
        measure = timed(function, time.process_time)
        taken = float(np.median([measure() for _ in range(repeats)]))
        print(f"  {name:<28}{1e3 * taken / (BATCH if name.startswith('collate') else 1):8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=SHARED_CLIPS, help="folder searched for .avi and .mp4 files")
    clips = sorted(path for path in parser.parse_args().clips.rglob("*") if path.suffix in (".avi", ".mp4"))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        extracted, packed = _prepare(clips, Path(temporary))
        parts(extracted, packed, _records(extracted)[0])


if __name__ == "__main__":
    main()
