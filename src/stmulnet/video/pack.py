"""Packing a data set: millions of small files to tens of tar shards, resumable at any moment.

Videos are packed in the order of their names, whole and one after the other; a shard that has reached its size is
finished and renamed into place. What is in it is noted in ``<out>/.partial``, from where the next run goes on if this
one is killed. Nothing in the result tells times, machines or how often it was killed.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stmulnet.console import counted, notice, progress, some
from stmulnet.constants import MIN_FRAMES
from stmulnet.errors import ConfigError, DatasetError
from stmulnet.files import check_output, locked, sha256_of, write_json, write_text
from stmulnet.video.extract_job import NeededFields
from stmulnet.video.manifest import load_manifests
from stmulnet.video.packed import (
    FORMAT,
    INDEX_NAME,
    PACK_NAME,
    PARTIAL_FOLDER,
    PLANES,
    ROW,
    SOURCE_NAME,
    VERSION,
    PackedRoot,
    is_packed,
    member_header,
    member_name,
    packed_modalities,
    shard_name,
)
from stmulnet.video.state import dataset_state
from stmulnet.video.store import FrameTree, open_tree
from stmulnet.video.trees import ImageRoot, Wanted

SHARD_BYTES = 2**30
COPIED = ("annotations/*.json", "manifest*.json", "imports.json", "failures*.txt")
_MIN_SHARD_BYTES = 2**16

Entry = list[int]  # as in pack.json: shard, first row, numbers of rows of frames, u, v


@dataclass(frozen=True)
class PackSummary:
    """What a packed data set holds.

    Attributes:
        videos: Number of videos.
        frames: Number of frames.
        fields: Number of flow fields: pairs of u and v.
        shards: Number of shards.
        size_bytes: Bytes of all shards.
        incomplete: Videos with gaps, or with another number of u than of v; they are packed as they are.
        unfinished: What of the data set had not come to its end, in words.
        test_frames: Test frames per video whose flow alone there is, in a data set for evaluation only; else None.
        packed_before: Whether it was complete already.
    """

    videos: int
    frames: int
    fields: int
    shards: int
    size_bytes: int
    incomplete: list[str]
    unfinished: tuple[str, ...] = ()
    test_frames: int | None = None
    packed_before: bool = False

    def __str__(self) -> str:
        lines = [
            f"{counted(self.videos, 'video')}, {counted(self.frames, 'frame')} and "
            f"{counted(self.fields, 'flow field')} in {counted(self.shards, 'shard')}, {_in_units(self.size_bytes)}"
            f"{'; packed before' if self.packed_before else ''}"
        ]
        lines += [f"packed without what was not finished: {text}" for text in self.unfinished]
        if self.test_frames:
            lines.append(f"only the flow that {self.test_frames} test frames per video need: for evaluation only")
        if self.incomplete:
            videos = counted(len(self.incomplete), "video")
            lines.append(f"gaps or flow of one axis only in {videos}, packed as they are: {some(self.incomplete)}")
        return "\n".join(lines)


@dataclass
class _Shard:
    """What a finished shard holds: entries of its videos with rows counted from 0, offset and size of every image."""

    videos: dict[str, Entry] = field(default_factory=dict)
    rows: list[NDArray[np.void]] = field(default_factory=list)
    size_bytes: int = 0


def pack_dataset(
    dataset: Path, out: Path, *, shard_bytes: int = SHARD_BYTES, needed: NeededFields | None = None
) -> PackSummary:
    """Pack the frames, flow, annotations and manifest of a data set; where its pack is damaged, once more.

    Args:
        dataset: Folder of the data set, in any known tree.
        out: Folder for the shards: a new or an empty one, or that of an earlier run.
        shard_bytes: A shard is finished when it has reached this size: it is larger by up to one video.
        needed: The flow fields that are no gap when they alone are there, in a data set extracted with them.

    Raises:
        ConfigError: The size is too small, or the output cannot be written, lies in the data set or holds something
            else.
        DatasetError: The data set is in no known tree, is packed already, or an image or the manifest cannot be read.
        KeyboardInterrupt: Interrupted; says how many videos are packed.
    """
    if shard_bytes < _MIN_SHARD_BYTES:
        raise ConfigError(f"shard_bytes must be at least {_MIN_SHARD_BYTES}, got {shard_bytes}")
    _check_place(dataset, out)
    if is_packed(dataset):
        raise DatasetError(f"{dataset}: is packed already; give the folder of its images")
    tree, manifest = open_tree(dataset), load_manifests(dataset)
    videos = sorted({video for _, root, _ in _planes(tree) for video in root.videos()})
    unfinished = dataset_state(dataset).unfinished
    for text in unfinished:
        notice(f"note: {dataset}: {text}; only what is there now is packed")
    source = _describe(dataset, tree, videos, shard_bytes)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, ConfigError(f"{out}: another `stmulnet pack` is writing there; wait for it")):
        finished = _finished(out, source)
        if not finished:
            notice(f"{dataset}: {tree.kind}")
            try:
                _write_shards(tree, videos, out, source)
                _write_index(tree, out, source)
            except KeyboardInterrupt:
                packed = f"{_finished_videos(out)} of {counted(len(videos), 'video')} packed"
                raise KeyboardInterrupt(f"{packed}; the same command again goes on from there") from None
        _copy_records(dataset, out)
    test_frames = manifest.only_for_test_frames if manifest else None
    fitting = needed if needed and needed.test_frames == test_frames else None
    summary = _summary(out, fitting)
    return replace(summary, unfinished=unfinished, test_frames=test_frames, packed_before=finished)


def _check_place(dataset: Path, out: Path) -> None:
    check_output(out)
    if out.resolve() == dataset.resolve():
        raise ConfigError(f"{out}: is the data set itself; give another folder for the shards")
    if dataset.resolve() in out.resolve().parents:
        raise ConfigError(f"{out}: lies in the data set; give a folder outside it for the shards")


def _planes(tree: FrameTree) -> Iterator[tuple[int, ImageRoot, int]]:
    """Yield plane in the pack (0 RGB, 1 u, 2 v), images, and plane there."""
    for root, planes in ((tree.frames, PLANES["frames"]), (tree.flow, PLANES["flow"])):
        if root is not None:
            yield from ((plane, root, plane - planes[0]) for plane in planes)


def _describe(dataset: Path, tree: FrameTree, videos: list[str], shard_bytes: int) -> dict[str, Any]:
    """What is packed and how: of a data set that has changed, no packing is taken up."""
    names = hashlib.sha256("\0".join(videos).encode("utf-8", "surrogateescape")).hexdigest()
    manifests = {path.name: sha256_of(path) for path in dataset.glob("manifest*.json")}
    return {"tree": tree.kind, "videos": names, "manifests": manifests, "shard_bytes": shard_bytes}


def _finished(out: Path, source: dict[str, Any]) -> bool:
    """Whether the data set is packed there, whole; refuses a folder with anything else in it."""
    for path in (out / PACK_NAME, out / PARTIAL_FOLDER / SOURCE_NAME):
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            found = found["source"] if path.name == PACK_NAME else found
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: damaged; give another folder, or delete this one") from error
        if found != source:
            raise ConfigError(
                f"{out}: packed of another data set, of another state of it or with another shard size; give another "
                "folder, or delete this one"
            )
        return path.name == PACK_NAME and _is_whole(out)
    # What lies there may be a data set, whose manifest and annotations would be replaced.
    if others := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
        held = dataset_state(out).kind or some(others)
        raise ConfigError(f"{out}: holds {held}; give a new or an empty folder for the shards")
    return False


def _is_whole(out: Path) -> bool:
    """Whether index and shards are there as pack.json says."""
    try:
        for modality in packed_modalities(out):
            PackedRoot(out, modality)
    except DatasetError as error:
        notice(f"{error}. It is packed again now")
        return False
    return True


def _write_shards(tree: FrameTree, videos: list[str], out: Path, source: dict[str, Any]) -> None:
    partial = out / PARTIAL_FOLDER
    write_json(partial / SOURCE_NAME, source)
    (out / PACK_NAME).unlink(missing_ok=True)  # of a damaged pack
    done = _finished_videos(out)
    with progress(len(videos), "pack", "videos") as advance:
        advance(done)
        number = sum(1 for _ in _finished_shards(out))
        while done < len(videos):
            with _placed(out, shard_name(number)) as temporary, temporary.open("wb") as file:
                shard = _Shard()
                while done < len(videos) and file.tell() < source["shard_bytes"]:
                    _add_video(tree, videos[done], file, shard)
                    done += 1
                    advance(1)
                shard.size_bytes = _end_shard(file)
            _note_finished(partial, number, shard)
            number += 1


def _add_video(tree: FrameTree, video: str, file: BinaryIO, shard: _Shard) -> None:
    """Append the images of a video: its frames, then u and v of each field."""
    numbers = {plane: _numbers(root, part, video) for plane, root, part in _planes(tree)}
    counts = [max(numbers.get(plane, ()), default=0) for plane in range(3)]
    shard.videos[video] = [sum(map(len, shard.rows)), *counts]
    rows = np.zeros(sum(counts), ROW)
    for root, planes in ((tree.frames, PLANES["frames"]), (tree.flow, PLANES["flow"])):
        if root is None:
            continue
        order = sorted((number, plane) for plane in planes for number in numbers[plane])
        wanted: list[Wanted] = [(plane - planes[0], number) for number, plane in order]
        for (number, plane), (_, content) in zip(order, root.read(video, wanted), strict=True):
            file.write(member_header(member_name(plane, video, number, root.layout.suffix), len(content)))
            rows[sum(counts[:plane]) + number - 1] = (file.tell(), len(content))
            file.write(content)
            file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    shard.rows.append(rows)


def _numbers(root: ImageRoot, plane: int, video: str) -> list[int]:
    """Numbers of the images that are there; none where a video lacks this plane."""
    if not root.has_folder(plane, video):
        return []
    numbers = root.numbers(plane, video)
    if numbers and numbers[0] < 1:
        root.count(plane, video)  # says what is wrong
    return numbers


def _end_shard(file: BinaryIO) -> int:
    """End the archive as tar does, and see that it is on the disk before its name is."""
    file.write(bytes(2 * tarfile.BLOCKSIZE))
    file.write(bytes(-file.tell() % tarfile.RECORDSIZE))
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


@contextlib.contextmanager
def _placed(out: Path, name: str) -> Iterator[Path]:
    """Yield a temporary path below the folder that is removed in the end, even after a kill; then put it in place."""
    temporary, target = out / PARTIAL_FOLDER / ("new." + Path(name).name), out / name
    for path in (temporary, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    yield temporary
    os.replace(temporary, target)


def _note_finished(partial: Path, number: int, shard: _Shard) -> None:
    np.save(partial / f"{number:05d}.npy", np.concatenate(shard.rows), allow_pickle=False)
    write_text(partial / f"{number:05d}.json", json.dumps({"videos": shard.videos, "size_bytes": shard.size_bytes}))


def _finished_shards(out: Path) -> Iterator[_Shard]:
    """The shards that are in place and noted, up to the first that is not; without their rows."""
    for number, path in enumerate(sorted((out / PARTIAL_FOLDER).glob("[0-9]*.json"))):
        noted = json.loads(path.read_text(encoding="utf-8"))
        shard = out / shard_name(number)
        if path.stem != f"{number:05d}" or not shard.is_file() or shard.stat().st_size != noted["size_bytes"]:
            return
        yield _Shard(noted["videos"], size_bytes=noted["size_bytes"])


def _finished_videos(out: Path) -> int:
    return sum(len(shard.videos) for shard in _finished_shards(out))


def _write_index(tree: FrameTree, out: Path, source: dict[str, Any]) -> None:
    """Join the notes of the shards; pack.json comes last."""
    videos: dict[str, Entry] = {}
    parts, sizes, first = [np.zeros(0, ROW)], [], 0
    for number, shard in enumerate(_finished_shards(out)):
        videos |= {name: [number, first + row, *counts] for name, (row, *counts) in shard.videos.items()}
        parts.append(np.load(out / PARTIAL_FOLDER / f"{number:05d}.npy", allow_pickle=False))
        first += len(parts[-1])
        sizes.append(shard.size_bytes)
    with _placed(out, INDEX_NAME) as temporary:
        np.save(temporary, np.concatenate(parts), allow_pickle=False)
    roots = {"frames": tree.frames, "flow": tree.flow}
    suffixes = {modality: root.layout.suffix if root else None for modality, root in roots.items()}
    content = {"format": FORMAT, "version": VERSION, "source": source, "suffixes": suffixes}
    content |= {"rows": first, "shards": sizes, "videos": videos}
    with _placed(out, PACK_NAME) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _copy_records(dataset: Path, out: Path) -> None:
    """Annotations may have been made, or made anew, after the packing."""
    for path in sorted(path for pattern in COPIED for path in dataset.glob(pattern)):
        with _placed(out, str(path.relative_to(dataset))) as temporary:
            shutil.copyfile(path, temporary)
    shutil.rmtree(out / PARTIAL_FOLDER, ignore_errors=True)


def _summary(out: Path, needed: NeededFields | None) -> PackSummary:
    content = json.loads((out / PACK_NAME).read_text(encoding="utf-8"))
    present = np.load(out / INDEX_NAME, mmap_mode="r", allow_pickle=False)["offset"] > 0
    totals, incomplete = np.zeros(3, np.int64), []
    for name, (_, row, *counts) in content["videos"].items():
        planes = [present[start:end] for start, end in pairwise(np.cumsum([row, *counts]))]
        totals += [plane.sum() for plane in planes]
        if not _is_complete(planes, needed):
            incomplete.append(name)
    frames, fields = int(totals[0]), int(totals[1:].min())
    shards = content["shards"]
    return PackSummary(len(content["videos"]), frames, fields, len(shards), sum(shards), incomplete)


def _is_complete(planes: Sequence[NDArray[np.bool_]], needed: NeededFields | None) -> bool:
    """Whether a video has the images it should have; of each plane (frames, u, v): which numbers from 1 are there."""
    frames, *flow = planes
    if needed is None or len(frames) < MIN_FRAMES:
        return all(plane.all() for plane in planes) and len(flow[0]) == len(flow[1])
    wanted = np.array(sorted(needed.numbers(len(frames))))
    return bool(frames.all()) and all(len(plane) >= wanted[-1] and plane[wanted - 1].all() for plane in flow)


def _in_units(size_bytes: int) -> str:
    scale, unit = next((one for one in ((1e9, "GB"), (1e6, "MB")) if size_bytes >= one[0]), (1e3, "kB"))
    return f"{size_bytes / scale:.1f} {unit}"
