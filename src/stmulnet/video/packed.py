"""Packed data sets, read: tar shards of images with an index for random access.

::

    pack.json          what is packed, of what; the last file to be written
    index.npy          (rows,) of offset and size in bytes: where in its shard the content of each image lies
    shard-00000.tar    whole videos, images under the names of our tree: unpacked, the shards are a data set again
    annotations/, manifest.json ...   copies

A video lies in one shard: its frames in order, then its flow, u and v of each field side by side. Its rows in the index
are those of frames 1, 2, 3 ..., then of u, then of v; a row with offset 0 stands for an image that is not there.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import DatasetError
from stmulnet.video.trees import FLOW_FOLDER, FRAME_PREFIXES, FRAMES_FOLDER, ImageRoot, Layout, Wanted

PACK_NAME, INDEX_NAME, SHARD_NAMES = "pack.json", "index.npy", "shard-*.tar"
PARTIAL_FOLDER = ".partial"  # while a data set is packed, or extracted: what is not finished
SOURCE_NAME = "source.json"  # in there, while it is packed
FORMAT, VERSION = "stmulnet pack", 1
ROW = np.dtype([("offset", "<i8"), ("size", "<i4")])
FOLDERS = (f"{FRAMES_FOLDER}/{{video}}", f"{FLOW_FOLDER}/u/{{video}}", f"{FLOW_FOLDER}/v/{{video}}")  # of the planes
PLANES = {"frames": range(1), "flow": range(1, 3)}
_MAX_GAP = 4096  # bytes between two images that are rather read than skipped: headers and padding


class PackedVideo(NamedTuple):
    """Where a video lies.

    Attributes:
        shard: Number of its shard.
        first_row: Of its rows in the index.
        counts: Rows of frames, u and v: the highest number of each.
    """

    shard: int
    first_row: int
    counts: Sequence[int]


def is_packed(dataset: Path) -> bool:
    """Whether a folder holds a packed data set.

    Raises:
        DatasetError: It is not finished.
    """
    if (dataset / PACK_NAME).is_file():
        return True
    if dataset.is_dir() and any(dataset.glob(SHARD_NAMES)):
        if (dataset / PARTIAL_FOLDER).is_dir():
            raise DatasetError(f"{dataset}: the packing is not finished; run the same `stmulnet pack` again")
        raise DatasetError(f"{dataset}: shards, but no {PACK_NAME}; copy it as well, or pack into an empty folder")
    return False


def packed_modalities(dataset: Path) -> set[str]:
    """What a packed data set holds: ``"frames"``, ``"flow"`` or both."""
    return {modality for modality in PLANES if _read_pack(dataset)["suffixes"].get(modality)}


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.tar"


def member_name(plane: int, video: str, number: int, suffix: str) -> str:
    """Name in a shard of an image of plane 0 (RGB), 1 (u) or 2 (v)."""
    return f"{FOLDERS[plane].format(video=video)}/frame{number:06d}{suffix}"


def member_header(name: str, size: int) -> bytes:
    """The blocks before the content of an image: the same for the same name and size, without times or owners."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class PackedRoot(ImageRoot):
    """The images of one modality in a packed data set.

    Files are opened for each reading and closed again, so that processes share nothing; the index is mapped into
    memory when it is first needed.

    Args:
        dataset: Folder of the packed data set.
        modality: ``"frames"`` or ``"flow"``.

    Raises:
        DatasetError: It is damaged, the index or a shard is missing or has another size, or it lacks the modality.
    """

    def __init__(self, dataset: Path, modality: str) -> None:
        content = _read_pack(dataset)
        suffix = content["suffixes"].get(modality)
        if not suffix:
            raise DatasetError(f"{dataset}: no {modality} in this packed data set; pack one that has them")
        self.root, self.skipped = dataset, 0
        self._planes = PLANES[modality]
        folders = tuple(FOLDERS[plane] for plane in self._planes)
        self.layout = Layout(folders, FRAME_PREFIXES[:1] * len(folders), 6, suffix, 1)
        self._known_names = tuple([] for _ in folders)
        self._rows = content["rows"]
        self._shard_sizes: list[int] = content["shards"]
        entries = content["videos"].items()
        self._videos = {name: PackedVideo(shard, row, counts) for name, (shard, row, *counts) in entries}
        self._check_shards()
        _open_index(dataset, self._rows)

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self._shard_sizes)

    def count(self, plane: int, video: str) -> int:
        """As for other trees; quick where nothing is missing."""
        offsets = self._video_rows(plane, video)["offset"]
        return len(offsets) if len(offsets) and offsets.all() else super().count(plane, video)

    def read(self, video: str, wanted: Sequence[Wanted]) -> Iterator[tuple[Path, memoryview]]:
        """As for other trees; neighbours in the shard are read at once.

        Raises:
            DatasetError: An image is not in the index, or not in the shard where the index says.
        """
        number_of_shard = self._video(video).shard
        shard = self.root / shard_name(number_of_shard)
        members = [self._member(shard, video, plane, number) for plane, number in wanted]
        contents: dict[int, memoryview] = {}
        try:
            with shard.open("rb", buffering=0) as file:
                for run in _runs(members):
                    contents |= _read_run(file, shard, run)
        except OSError as error:
            raise DatasetError(f"{shard}: cannot be read: {error.strerror}") from error
        for member in members:
            yield shard / member.name, contents[member.offset]

    def _member(self, shard: Path, video: str, plane: int, number: int) -> "_Member":
        rows = self._video_rows(plane, video)
        name = member_name(self._planes[plane], video, number, self.layout.suffix)
        offset, size = rows[number - 1].item() if 1 <= number <= len(rows) else (0, 0)
        if not offset:
            raise DatasetError(f"{shard}: holds no {name}: it was not there when the data set was packed")
        return _Member(name, offset, size)

    def _video(self, video: str) -> PackedVideo:
        if video not in self._videos:
            raise DatasetError(f"{self.root}: no video {video!r} in this packed data set ({len(self._videos)} videos)")
        return self._videos[video]

    def _video_rows(self, plane: int, video: str) -> NDArray[np.void]:
        packed = self._video(video)
        first = packed.first_row + sum(packed.counts[: self._planes[plane]])
        return self._index[first : first + packed.counts[self._planes[plane]]]

    def _names(self, plane: int, video: str) -> list[str]:
        present = np.flatnonzero(self._video_rows(plane, video)["offset"])
        return [self.layout.file_name(plane, number) for number in (present + 1).tolist()]

    @cached_property
    def _groups(self) -> dict[str, str]:
        return {name: "" for name, video in self._videos.items() if any(video.counts[p] for p in self._planes)}

    @cached_property
    def _index(self) -> NDArray[np.void]:
        return _open_index(self.root, self._rows)

    def _check_shards(self) -> None:
        for number, size in enumerate(self._shard_sizes):
            path = self.root / shard_name(number)
            if not path.is_file():
                raise DatasetError(f"{path}: missing, one of {self.num_shards} shards; copy or pack it again")
            if (found := path.stat().st_size) != size:
                raise DatasetError(f"{path}: {found} bytes instead of {size}; copy or pack it again")

    def __getstate__(self) -> dict[str, Any]:
        """Without the index, which would be copied: every process maps it itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_index"}


class _Member(NamedTuple):
    """Name, and place of the content in the shard, of an image."""

    name: str
    offset: int
    size: int


def _runs(members: Sequence[_Member]) -> Iterator[list[_Member]]:
    """The distinct images in the order of the shard, in groups that lie next to each other."""
    run: list[_Member] = []
    for member in sorted(set(members), key=lambda member: member.offset):
        if run and member.offset - (run[-1].offset + run[-1].size) > _MAX_GAP:
            yield run
            run = []
        run.append(member)
    if run:
        yield run


def _read_run(file: io.FileIO, shard: Path, run: Sequence[_Member]) -> dict[int, memoryview]:
    """Offset -> content. The header of the first image tells whether this is the shard that the index is about."""
    start, end = run[0].offset - tarfile.BLOCKSIZE, run[-1].offset + run[-1].size
    file.seek(max(start, 0))
    data = memoryview(file.read(end - start))
    header = member_header(run[0].name, run[0].size)[-tarfile.BLOCKSIZE :]
    if len(data) < end - start or data[: tarfile.BLOCKSIZE] != header:
        raise DatasetError(f"{shard}: {run[0].name} is not where the index says; copy or pack the shard again")
    places = ((member.offset, member.offset - start, member.size) for member in run)
    return {offset: data[place : place + size] for offset, place, size in places}


def _open_index(dataset: Path, rows: int) -> NDArray[np.void]:
    path = dataset / INDEX_NAME
    try:
        index = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: missing, the index of the packed data set; copy or pack it again") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, EOFError) as error:  # what NumPy says of it is advice for others
        raise DatasetError(f"{path}: damaged; copy or pack it again") from error
    if not isinstance(index, np.ndarray) or index.dtype != ROW or index.shape != (rows,):
        raise DatasetError(f"{path}: not the index of this packed data set; copy or pack it again")
    return index


def _read_pack(dataset: Path) -> dict[str, Any]:
    path = dataset / PACK_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        version = content["version"]
        if version == VERSION:
            _check_content(content)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: damaged, or not made by `stmulnet pack` ({error!r}); pack again") from error
    if version != VERSION:
        raise DatasetError(f"{path}: version {version!r} of the format, known is {VERSION}; pack again")
    return content


def _check_content(content: dict[str, Any]) -> None:
    rows, shards, suffixes = content["rows"], content["shards"], content["suffixes"]
    if not all(isinstance(value, int) and value >= 0 for value in (rows, *shards)):
        raise ValueError("rows and shards must be numbers")
    if not all(suffix is None or isinstance(suffix, str) for suffix in suffixes.values()):
        raise ValueError("suffixes must be texts")
    for name, entry in content["videos"].items():
        shard, first, *counts = entry
        if len(counts) != 3 or not all(isinstance(value, int) and value >= 0 for value in entry):
            raise ValueError(f"video {name!r}: {entry!r}")
        if shard >= len(shards) or first + sum(counts) > rows:
            raise ValueError(f"video {name!r}: {entry!r} is out of range")
