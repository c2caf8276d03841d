"""Where images lie on disk: the trees of this package, of the official archives and of other tools, told apart.

A tree is recognised from the names in a few folders; no image is opened, and nothing is asked of single images.
Numbers count from 1 here, whatever the files say: image 1 is the file with number 0 or 1. Flow field t leads from
frame t to frame t+1.
"""

import functools
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from stmulnet.errors import DatasetError

FRAMES_FOLDER, FLOW_FOLDER = "images", "flows"
FRAMES_FOLDERS = (FRAMES_FOLDER, "jpegs_256", "img", "frames", "rawframes")
FLOW_FOLDERS = (FLOW_FOLDER, "tvl1_flow", "flow")
FLOW_AXES = (("u", "v"), ("flow_x", "flow_y"), ("x", "y"))  # folders, and with an underscore names, of the two axes
FRAME_PREFIXES = ("frame", "img_", "image_", "frame_", "")
Wanted = tuple[int, int]  # plane and number of an image
Buffer = bytes | memoryview
NO_VIDEOS = {"annotations"}  # a folder of ours that stands beside videos in trees without a folder of frames
_SHOWN = 3  # folders in a message
_PROBED_VIDEOS = 50  # looked into before a form is given up: the first ones may be empty
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_SUFFIX = r"(\.(?i:jpg|jpeg|png))"


class Form(NamedTuple):
    """An arrangement of folders and the names that images in it may have.

    Attributes:
        folders: Per plane (RGB; or u and v) the folder of a video's images, with the fields ``{video}`` and perhaps
            ``{group}``, a class folder.
        prefixes: What names begin with before the number: alternatives, each per plane.
    """

    folders: tuple[str, ...]
    prefixes: tuple[tuple[str, ...], ...]


def _frame_forms() -> Iterator[Form]:
    for folder in ("{video}", "{video}/img", "{group}/{video}", "{group}/{video}/img"):
        yield Form((folder,), tuple((prefix,) for prefix in FRAME_PREFIXES))


def _flow_forms() -> Iterator[Form]:
    named = tuple((f"{u}_", f"{v}_") for u, v in (*FLOW_AXES[1:], FLOW_AXES[0]))
    alike = tuple((prefix, prefix) for prefix in FRAME_PREFIXES)
    for u, v in FLOW_AXES:
        for video in ("{video}", "{group}/{video}"):
            yield Form((f"{u}/{video}", f"{v}/{video}"), alike + named)
            yield Form((f"{video}/{u}", f"{video}/{v}"), alike + named)
    for video in ("{video}", "{group}/{video}"):
        yield Form((video, video), named)


FRAME_FORMS = tuple(_frame_forms())
FLOW_FORMS = tuple(_flow_forms())


@dataclass(frozen=True)
class Layout:
    """How the images of one root are named.

    Attributes:
        folders: As in `Form`.
        prefixes: As in `Form`, the one that was found.
        digits: Number of digits, with leading zeros; 1 where there are none.
        suffix: ``.jpg`` or another one, as it is written.
        first: The lowest number, 0 or 1.
    """

    folders: tuple[str, ...]
    prefixes: tuple[str, ...]
    digits: int
    suffix: str
    first: int

    def file_name(self, plane: int, number: int) -> str:
        """Name of the file with a number as the files count."""
        return f"{self.prefixes[plane]}{number:0{self.digits}d}{self.suffix}"

    def __str__(self) -> str:
        return _shown(self.folders[0], self.file_name(0, self.first))


class ImageRoot:
    """The images of one modality below one folder, in whatever known form.

    Args:
        root: The folder.
        forms: The forms to try, in this order: `FRAME_FORMS` or `FLOW_FORMS`. Frames have plane 0, flow 0 (u), 1 (v).

    Raises:
        DatasetError: The folder is missing or fits none of the forms; says what was looked for.
    """

    def __init__(self, root: Path, forms: Sequence[Form]) -> None:
        self.root = root
        self.layout = _recognise(root, forms)
        self.skipped = 0
        self._known_names: tuple[list[str], ...] = tuple([] for _ in self.layout.folders)

    def skip_first(self) -> None:
        """Leave the first image of every video out: the second one is number 1 from now on."""
        self.skipped = 1

    def videos(self) -> list[str]:
        """Names of the videos, sorted."""
        return sorted(self._groups)

    def folder(self, plane: int, video: str) -> Path:
        """Folder of the images of one plane of one video; it may not exist."""
        # Names come from lists made elsewhere: stay below the root. pathlib knows the drives of Windows as well.
        if video in ("", ".", "..") or "\\" in video or "\0" in video or Path(video).name != video:
            raise DatasetError(f"{video!r} is no name of a video; it must be the name of a folder, without a path")
        template = self.layout.folders[plane]
        return self.root / template.format(video=video, group=self._group(video) if "{group}" in template else "")

    def has_folder(self, plane: int, video: str) -> bool:
        """Whether there is a folder for the images of one plane of one video."""
        return video in self._groups and self.folder(plane, video).is_dir()

    def paths(self, plane: int, video: str, numbers: Iterable[int]) -> list[Path]:
        """Files of the given numbers, which count from 1."""
        folder, offset = self.folder(plane, video), self.layout.first + self.skipped - 1
        return [folder / self.layout.file_name(plane, number + offset) for number in numbers]

    def read(self, video: str, wanted: Sequence[Wanted]) -> Iterator[tuple[Path, Buffer]]:
        """Yield place and content of images, in the order in which they are wanted.

        Raises:
            DatasetError: A file cannot be read.
        """
        folders = {plane: self.folder(plane, video) for plane in {plane for plane, _ in wanted}}
        offset = self.layout.first + self.skipped - 1
        for plane, number in wanted:
            path = folders[plane] / self.layout.file_name(plane, number + offset)
            yield path, read_file(path)

    def numbers(self, plane: int, video: str) -> list[int]:
        """Sorted numbers of the images that are there, 1, 2, 3 ... where nothing is wrong; other files do not count.

        Raises:
            DatasetError: There is no such folder.
        """
        return [number for number in self._numbers(plane, self._names(plane, video)) if number > 0 or not self.skipped]

    def count(self, plane: int, video: str) -> int:
        """Number of images of one plane of one video.

        Raises:
            DatasetError: There are none, or their numbers have a gap.
        """
        names = set(self._names(plane, video))
        if len(names) > self.skipped and names.issuperset(self._first_names(plane, len(names))):
            return len(names) - self.skipped  # nothing else in the folder: quick, for data sets of millions of images
        first, prefix = self.layout.first, self.layout.prefixes[plane]
        following = (self.layout.file_name(plane, number) for number in itertools.count(first))
        found = sum(1 for _ in itertools.takewhile(names.__contains__, following))
        if found <= self.skipped or found != sum(name.startswith(prefix) for name in names):
            self._check_numbers(plane, video, self._numbers(plane, names))
        return found - self.skipped

    def _check_numbers(self, plane: int, video: str, numbers: list[int]) -> None:
        """Names that begin like images, but are none, do no harm; a gap does."""
        lowest = 1 - self.skipped
        if not numbers or numbers[-1] < 1:
            folder = self.folder(plane, video)
            raise DatasetError(f"{folder}: no images of video {video!r} ({self.layout}); extract or import it again")
        if numbers[0] < lowest:
            (path,) = self.paths(plane, video, [numbers[0]])
            counted = f"images count from {self.layout.first} in this tree"
            raise DatasetError(f"{path}: {counted}; extract or import the video again")
        if len(numbers) != numbers[-1] - lowest + 1:
            missing = min(set(range(lowest, numbers[-1])) - set(numbers))
            path, last = self.paths(plane, video, [missing, numbers[-1]])
            raise DatasetError(f"{path}: missing, while {last.name} is there; extract or import the video again")

    def _names(self, plane: int, video: str) -> list[str]:
        folder = self.folder(plane, video)
        try:
            return os.listdir(folder)
        except OSError as error:
            raise DatasetError(f"{folder}: cannot list the images of video {video!r}: {error.strerror}") from error

    def _first_names(self, plane: int, count: int) -> list[str]:
        """Names of the first images of a video, as the files count."""
        known = self._known_names[plane]
        start = self.layout.first
        known += [self.layout.file_name(plane, number) for number in range(start + len(known), start + count)]
        return known[:count]

    def _numbers(self, plane: int, names: Iterable[str]) -> list[int]:
        layout = self.layout
        pattern = re.compile(re.escape(layout.prefixes[plane]) + r"([0-9]+)" + re.escape(layout.suffix))
        offset = layout.first + self.skipped - 1
        matches = (match for name in names if (match := pattern.fullmatch(name)))
        return sorted(int(match[1]) - offset for match in matches if layout.file_name(plane, int(match[1])) == match[0])

    def _group(self, video: str) -> str:
        if video not in self._groups:
            raise DatasetError(
                f"{self.root}: no video {video!r} in any of its class folders ({len(self._groups)} videos)"
            )
        return self._groups[video]

    @cached_property
    def _groups(self) -> dict[str, str]:
        """Class folder of every video; an empty name in a flat tree."""
        groups: dict[str, str] = {}
        for group, video in _videos(self.root, self.layout.folders[0]):
            if video in groups:
                raise DatasetError(
                    f"{self.root}: video {video!r} is in two class folders, {groups[video]!r} and {group!r}; "
                    "names must be unique: rename one"
                )
            groups[video] = group
        return groups


class Roots(NamedTuple):
    """The folders that hold the frames and the flow of a data set; None where it has none of a kind."""

    frames: Path | None
    flow: Path | None


def find_roots(dataset: Path) -> Roots:
    """Find the frames and the flow of a data set: below folders with known names, or in the folder itself.

    Args:
        dataset: Folder with ``images`` and ``flows``, ``jpegs_256`` and ``tvl1_flow``, ``img``, ``flow_x`` and
            ``flow_y`` and the like, or one with a folder per video that holds frames and flow.

    Raises:
        DatasetError: Neither frames nor flow are there, or there are two folders of either; says what was looked for.
    """
    if not dataset.is_dir():
        raise DatasetError(f"{dataset}: no such folder; give the folder of a data set")
    frames, flow = _only_folder(dataset, FRAMES_FOLDERS), _only_folder(dataset, FLOW_FOLDERS)
    if flow is None and (_has_axes(dataset) or not frames) and _fits(dataset, FLOW_FORMS):
        flow = dataset
    if frames is None and flow in (None, dataset) and _fits(dataset, FRAME_FORMS):
        frames = dataset
    if frames is not None and flow is None and _fits(frames, FLOW_FORMS):
        flow = frames  # both in the folders of the videos
    if frames is None and flow is None:
        inner = [dataset / name for name in _folders(dataset)[:_PROBED_VIDEOS] if has_images(dataset / name)]
        if inner:
            places = " and ".join(map(str, inner[:_SHOWN])) + (" and others" if len(inner) > _SHOWN else "")
            raise DatasetError(f"{dataset}: frames and flow are not in this folder, but in {places}: give that")
        raise DatasetError(
            f"{dataset}: neither frames nor flow are in this folder; looked for folders {', '.join(FRAMES_FOLDERS)} "
            f"(frames), {', '.join(FLOW_FOLDERS)} (flow), for pairs {_pairs()} (flow), and for a folder per video with "
            "files such as img_00001.jpg, flow_x_00001.jpg and flow_y_00001.jpg; give the folder that `stmulnet "
            "extract VIDEOS OUT` or `stmulnet import-archive` wrote, or one of these trees"
        )
    return Roots(frames, flow)


def has_images(folder: Path) -> bool:
    """Whether frames or flow are in a folder, in any known tree or in several."""
    known = any(_has_folders(folder / name) for name in (*FRAMES_FOLDERS, *FLOW_FOLDERS))
    return known or _has_axes(folder) or _fits(folder, FRAME_FORMS) or _fits(folder, FLOW_FORMS)


def read_file(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error


def _only_folder(dataset: Path, names: Sequence[str]) -> Path | None:
    """The one folder of these names that has folders in it."""
    found = {
        os.path.realpath(dataset / name): dataset / name for name in reversed(names) if _has_folders(dataset / name)
    }
    if len(found) > 1:
        both = " and ".join(sorted(path.name for path in found.values()))
        raise DatasetError(f"{dataset}: {both} may both be meant; leave one here, or give another folder")
    return next(iter(found.values()), None)


def _has_axes(folder: Path) -> bool:
    return any((folder / u).is_dir() and (folder / v).is_dir() for u, v in FLOW_AXES)


def _has_folders(folder: Path) -> bool:
    return _has_axes(folder) or bool(_folders(folder))


def _pairs() -> str:
    return ", ".join(f"{u} + {v}" for u, v in FLOW_AXES)


def _fits(root: Path, forms: Sequence[Form]) -> bool:
    return _search(root, forms) is not None


def _recognise(root: Path, forms: Sequence[Form]) -> Layout:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder of the extracted images, or extract them first")
    layout = _search(root, forms)
    if layout is None:
        looked_for = (_shown(form.folders[0], f"{form.prefixes[0][0]}000001.jpg") for form in forms)
        names = " ".join(dict.fromkeys(prefixes[0] or "(none)" for form in forms for prefixes in form.prefixes))
        raise DatasetError(
            f"{root}: no images in a known tree; looked for: {', '.join(dict.fromkeys(looked_for))}; names before the "
            f"number: {names}; any number of digits, from 0 or 1; jpg, jpeg or png"
        )
    return layout


def _search(root: Path, forms: Sequence[Form]) -> Layout | None:
    """The layout of the first images found."""

    @functools.cache
    def names(folder: Path) -> list[str]:
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    for form in forms:
        for group, video in itertools.islice(_videos(root, form.folders[0]), _PROBED_VIDEOS):
            folder = root / form.folders[0].format(group=group, video=video)
            if layout := _layout(form, names(folder)):
                return layout
    return None


def _layout(form: Form, names: list[str]) -> Layout | None:
    for prefixes in form.prefixes:
        pattern = re.compile(re.escape(prefixes[0]) + "([0-9]+)" + _SUFFIX)
        matches = [match for name in names if (match := pattern.fullmatch(name))]
        if matches:
            first = 0 if any(int(match[1]) == 0 for match in matches) else 1
            return Layout(form.folders, prefixes, min(len(match[1]) for match in matches), matches[0][2], first)
    return None


def _videos(root: Path, template: str) -> Iterator[tuple[str, str]]:
    """Yield (class folder or "", video) for every folder that stands where the template has ``{video}``."""
    before, _, _ = template.partition("{video}")
    before, has_group, _ = before.partition("{group}")
    if not has_group:
        yield from (("", video) for video in _folders(root / before))
        return
    for group in _folders(root / before):
        yield from ((group, video) for video in _folders(root / before / group))


def _folders(parent: Path) -> list[str]:
    """Sorted names of the folders in a folder that may be videos or classes; none where it is missing."""
    try:
        with os.scandir(parent) as entries:
            names = {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}
    except (FileNotFoundError, NotADirectoryError):
        return []
    for pair in FLOW_AXES:
        if names.issuperset(pair):
            names.difference_update(pair)  # a root of flow, or the flow of one video
    return sorted(names - NO_VIDEOS)


def _shown(folder: str, name: str) -> str:
    return f"{folder}/{name}".format(group="<class>", video="<video>")
