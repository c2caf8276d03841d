"""Data sets of full size in name only: every video of the official lists, every image a link to one tiny JPEG.

    python benchmarks/names.py LISTS DATASET [--frames N] [--keep]

Makes DATASET (7.5 million links for UCF-101; --frames N gives every video N frames instead of lengths like the real
ones), then measures `stmulnet annotate` for all splits, and in fresh processes the construction of the data set of the
first training list: seconds and growth of the resident memory; of the folder, and of a packed data set of the same size
(index in full, shards empty). --keep measures on a DATASET made before.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import simplejpeg

from stmulnet.commands.annotate import annotate
from stmulnet.datasets.sources import read_splits
from stmulnet.video.pack import SHARD_BYTES
from stmulnet.video.packed import FORMAT, INDEX_NAME, PACK_NAME, ROW, VERSION, shard_name
from stmulnet.video.store import FILE_NAME, FLOW_FOLDER, FRAMES_FOLDER, open_tree

TARGET_SEC, TARGET_MB = 2.0, 300.0
MEAN_LENGTH = {"ucf101": 186.5, "hmdb51": 93.5}  # frames
SHORTEST, LONGEST = 18, 1776  # frames
SPREAD = 0.5  # standard deviation of the logarithm of the length
LINKS_PER_FILE = 60_000  # ext4 allows 65,000
IMAGES_FOLDER, SHARED_FOLDER, PACKED_FOLDER = ".images", ".shared", ".packed"  # hidden, so no videos
PACKED_SHARDS = 60  # as many as UCF-101 has

CONSTRUCT = """
import json, sys, time, resource
from pathlib import Path
from stmulnet.datasets.base import TwoStreamDataset

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

root = Path(sys.argv[1])
before, start = resident_mb(), time.perf_counter()
clips = TwoStreamDataset.in_folder(root / "annotations" / "annot01.json", root, subset="training")
seconds = time.perf_counter() - start
print(json.dumps({"clips": len(clips), "seconds": seconds, "megabytes": resident_mb() - before, "all": resident_mb()}))
"""


def main() -> int:
    options = _options()
    splits = read_splits(options.lists)
    kind = splits[1].source["kind"]
    videos = sorted({video for lists in splits.values() for video in (*lists.videos(), *lists.unused)})
    if not options.keep:
        start = time.perf_counter()
        lengths = dict.fromkeys(videos, options.frames) if options.frames else random_lengths(videos, MEAN_LENGTH[kind])
        make_tree(options.dataset, lengths)
        print(f"{len(videos)} videos, {sum(lengths.values())} frames made in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    annotate(options.lists, options.dataset)
    print(f"annotate, {len(splits)} splits: {time.perf_counter() - start:.1f} s")
    packed = options.dataset / PACKED_FOLDER
    if not packed.exists():
        tree = open_tree(options.dataset)
        make_pack(packed, {video: tree.num_frames(video) for video in tree.videos()})
        shutil.copytree(options.dataset / "annotations", packed / "annotations")
    return max(measure("folder", options.dataset), measure("packed", packed))


def measure(words: str, dataset: Path) -> int:
    """Print the slowest and largest of three constructions; return 1 where a target is missed."""
    runs = [construct(dataset) for _ in range(3)]
    print(f"{words}: ", end="")
    seconds, megabytes = (max(run[key] for run in runs) for key in ("seconds", "megabytes"))
    print(
        f"construction of {runs[0]['clips']:.0f} clips, slowest of three: {seconds:.2f} s (target < {TARGET_SEC:g} s)"
    )
    print(f"resident memory of it, largest of three: {megabytes:.0f} MB (target < {TARGET_MB:g} MB), ", end="")
    print(f"of the whole process with torch {max(run['all'] for run in runs):.0f} MB")
    return 0 if seconds < TARGET_SEC and megabytes < TARGET_MB else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", type=Path, help="folder of the official lists of UCF-101 or HMDB-51")
    parser.add_argument("dataset", type=Path, help="folder to make; must not exist without --keep")
    parser.add_argument("--frames", type=int, help="frames of every video; lengths like the real ones when not given")
    parser.add_argument("--keep", action="store_true", help="the data set is there already")
    return parser.parse_args()


def construct(dataset: Path) -> dict[str, float]:
    """Construct the data set in a fresh process: number of clips, seconds, growth of the memory in MB."""
    command = [sys.executable, "-c", CONSTRUCT, str(dataset)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def random_lengths(videos: list[str], mean: float) -> dict[str, int]:
    """Numbers of frames, log-normal, as different as those of the real videos."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(mean) - SPREAD**2 / 2, SPREAD, len(videos)).round().clip(SHORTEST, LONGEST)
    return dict(zip(videos, lengths.astype(int).tolist(), strict=True))


def make_tree(dataset: Path, lengths: Mapping[str, int], *, share: bool = False) -> None:
    """Make the frames and flow of videos; the images are links to one tiny JPEG.

    Args:
        dataset: Folder to make.
        lengths: Name of each video -> its number of frames.
        share: Folders of one length are links to one folder: far quicker to make, and good for reading only.
    """
    (dataset / IMAGES_FOLDER).mkdir(parents=True)
    images = _tiny_images(dataset / IMAGES_FOLDER)
    roots = {dataset / FRAMES_FOLDER: 0, dataset / FLOW_FOLDER / "u": 1, dataset / FLOW_FOLDER / "v": 1}
    shared: dict[int, Path] = {}
    for root, fewer in roots.items():
        root.mkdir(parents=True)
        for video, length in lengths.items():
            if not share:
                _link_images(root / video, length - fewer, images)
                continue
            if length - fewer not in shared:
                shared[length - fewer] = dataset / SHARED_FOLDER / str(length - fewer)
                _link_images(shared[length - fewer], length - fewer, images)
            (root / video).symlink_to(shared[length - fewer].absolute())


def make_pack(dataset: Path, lengths: Mapping[str, int]) -> None:
    """Make a packed data set in name: index and pack.json are complete, the shards have their size but no content."""
    dataset.mkdir(parents=True)
    entries, first = {}, 0
    for number, (video, length) in enumerate(sorted(lengths.items())):
        entries[video] = [number * PACKED_SHARDS // len(lengths), first, length, length - 1, length - 1]
        first += 3 * length - 2
    index = np.zeros(first, ROW)
    index["offset"] = tarfile.BLOCKSIZE + np.arange(first) * 1000
    index["size"] = 1000
    np.save(dataset / INDEX_NAME, index)
    for number in range(PACKED_SHARDS):
        with (dataset / shard_name(number)).open("wb") as file:
            file.truncate(SHARD_BYTES)
    content = {"format": FORMAT, "version": VERSION, "suffixes": {"frames": ".jpg", "flow": ".jpg"}, "rows": first}
    content |= {"shards": [SHARD_BYTES] * PACKED_SHARDS, "videos": entries, "source": {}}
    (dataset / PACK_NAME).write_text(json.dumps(content))


def _link_images(folder: Path, count: int, images: Iterator[str]) -> None:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        os.link(next(images), f"{folder}/{FILE_NAME.format(number=number)}")


def _tiny_images(folder: Path) -> Iterator[str]:
    """Paths of the same tiny image, each as often as it may have links."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 1), dtype=np.uint8)
    data = simplejpeg.encode_jpeg(noise, 95, "GRAY", "Gray")
    for number in itertools.count():
        path = folder / f"{number}.jpg"
        path.write_bytes(data)
        yield from itertools.repeat(str(path), LINKS_PER_FILE)


if __name__ == "__main__":
    sys.exit(main())
