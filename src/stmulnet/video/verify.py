"""Whether the frames and flow of a data set are complete and readable, video by video.

What would stop or mislead training or evaluation is a failure. What they cope with, such as flow of another size than
the frames (cut to the common size) or a stray file in the folder of a video, is a note.
"""

import functools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stmulnet.console import counted
from stmulnet.constants import FLOW_ZERO_LEVEL, MIN_FRAMES
from stmulnet.errors import DatasetError
from stmulnet.video.manifest import VideoEntry
from stmulnet.video.store import FrameTree, U, V, open_tree
from stmulnet.video.trees import ImageRoot
from stmulnet.video.verify_images import PlaneImages, read_plane

FRAMES, FLOW_U, FLOW_V = "frames", "flow u", "flow v"
_SHOWN = 5  # names or numbers in a message
_STILL_LEVELS = {FLOW_ZERO_LEVEL - 1, FLOW_ZERO_LEVEL}  # other tools round zero down
_BLANK_LEVELS = {0, 255}  # no camera moves all of a picture by the bound exactly
_STILL_SHARE = 0.5  # of the fields of a clip; fewer are ordinary: many clips repeat frames


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        video: Name of the video; empty where it concerns the data set.
        kind: Short name of what it is, e.g. ``"gap"``.
        message: What was found.
        failure: Whether training or evaluation would stop or be misled; otherwise a note.
    """

    video: str
    kind: str
    message: str
    failure: bool = True


@dataclass(frozen=True)
class VideoJob:
    """One video to check.

    Attributes:
        dataset: Folder of the data set.
        video: Name of the video.
        entry: Of the manifest; None without.
        listed: Name of an annotation file to the number of frames it gives the video.
        fields: Number of frames to the flow fields that should be there; None for all. A function of a module.
        decode: Whether to decode the images; otherwise only their headers are read.
    """

    dataset: Path
    video: str
    entry: VideoEntry | None = None
    listed: Mapping[str, int] = field(default_factory=dict)
    fields: Callable[[int], Collection[int]] | None = None
    decode: bool = True


@dataclass(frozen=True)
class VideoResult:
    """Findings of one video, and the number of images that were read."""

    findings: tuple[Finding, ...]
    images: int


@dataclass(frozen=True)
class _Plane:
    """The images of one plane of a video.

    Attributes:
        root: The frames or the flow of the data set.
        index: Of the plane in ``root``.
        folder: Where the images are, or would be.
        files: Number, from 1, to name of the file; of all that are there, ascending.
        others: Names in the folder that are no images of this plane.
    """

    root: ImageRoot
    index: int
    folder: Path
    files: Mapping[int, str] = field(default_factory=dict)
    others: frozenset[str] = frozenset()

    @property
    def last(self) -> int:
        """The highest number; 0 without images."""
        return max(self.files, default=0)


@dataclass(frozen=True)
class _Video:
    """What was asked, what there is of the video by plane, and what of it is no image."""

    job: VideoJob
    planes: Mapping[str, _Plane]
    strays: tuple[str, ...]

    @property
    def has_images(self) -> bool:
        return any(plane.files for plane in self.planes.values())

    @property
    def num_frames(self) -> int:
        """Frames by the highest number; of a data set without frames one more than flow fields."""
        return self.planes[FRAMES].last if FRAMES in self.planes else self.num_fields + 1

    @property
    def num_fields(self) -> int:
        """Flow fields by the highest number that u and v have."""
        return min(self.planes[FLOW_U].last, self.planes[FLOW_V].last)

    @property
    def usable(self) -> int:
        """Frames that can be used: those after the last flow field cannot."""
        return min(self.num_frames, self.num_fields + 1) if FLOW_U in self.planes else self.num_frames

    def finding(self, kind: str, message: str, *, failure: bool = True) -> Finding:
        return Finding(self.job.video, kind, message, failure)


def check_video(job: VideoJob) -> VideoResult:
    """Check everything about one video; its images are read."""
    video = _look_up(job)
    images = {
        name: read_plane(
            plane.root,
            plane.index,
            job.video,
            plane.files,
            colorspace="RGB" if name == FRAMES else "GRAY",
            decode=job.decode,
        )
        for name, plane in video.planes.items()
    }
    findings = [
        *_check_presence(video),
        *_check_numbers(video),
        *_check_records(video),
        *_check_readable(video, images),
        *_check_sizes(video, images),
        *_check_colours(video, images),
        *_check_levels(video, images),
    ]
    return VideoResult(tuple(findings), sum(len(plane.files) for plane in video.planes.values()))


@functools.lru_cache(maxsize=1)
def opened_tree(dataset: Path) -> FrameTree:
    """The tree of a data set, opened once per process; forget it where the data set changes."""
    return open_tree(dataset)


def _look_up(job: VideoJob) -> _Video:
    """The images of a video in all planes of its tree; a plane without a folder has none."""
    tree = opened_tree(job.dataset)
    planes = {FRAMES: _look_up_plane(tree.frames, 0, job.video)} if tree.frames else {}
    if tree.flow:
        planes |= {name: _look_up_plane(tree.flow, plane, job.video) for name, plane in ((FLOW_U, U), (FLOW_V, V))}
    known: dict[Path, set[str]] = {}
    for plane in planes.values():
        names = known.setdefault(plane.folder, set())  # several planes may share a folder
        names.update(plane.files.values())
        if plane.files:
            skipped = plane.root.paths(plane.index, job.video, range(1 - plane.root.skipped, 1))
            names.update(path.name for path in skipped)
        known.setdefault(plane.folder.parent, set()).add(plane.folder.name)  # or one lies in that of another
    strays = {f"{p.folder.name}/{name}" for p in planes.values() for name in p.others.difference(known[p.folder])}
    return _Video(job, planes, tuple(sorted(strays)))


def _look_up_plane(root: ImageRoot, plane: int, video: str) -> _Plane:
    folder = root.root / video
    try:
        folder = root.folder(plane, video)
        numbers = root.numbers(plane, video)
    except DatasetError:  # no such folder
        return _Plane(root, plane, folder)
    files = {number: path.name for number, path in zip(numbers, root.paths(plane, video, numbers), strict=True)}
    names = set(os.listdir(folder)) if folder.is_dir() else set()  # packed, it is no folder
    return _Plane(root, plane, folder, files, frozenset(names.difference(files.values())))


def _check_presence(video: _Video) -> Iterator[Finding]:
    planes = video.planes
    if not video.has_images:
        reasons = [f"listed in {', '.join(video.job.listed)}"] if video.job.listed else []
        reasons += ["in the manifest"] if video.job.entry else []
        yield video.finding("missing", f"{' and '.join(reasons) or 'an empty folder'}, but no images are there")
        return
    if FRAMES in planes and not planes[FRAMES].files:
        yield video.finding("no-frames", f"no frames in {planes[FRAMES].folder}")
    if FLOW_U in planes:
        yield from _check_flow_count(video)
    if video.strays:
        yield video.finding("stray", f"no images of the video: {_some(video.strays)}", failure=False)


def _check_flow_count(video: _Video) -> Iterator[Finding]:
    flow_u, flow_v = video.planes[FLOW_U], video.planes[FLOW_V]
    absent = [plane for plane in (flow_u, flow_v) if not plane.files]
    if absent:
        yield video.finding("no-flow", f"no flow in {' and '.join(str(plane.folder) for plane in absent)}")
    elif flow_u.last != flow_v.last:
        yield video.finding("uv-count", f"flow has {flow_u.last} images of u and {flow_v.last} of v")
    elif (
        FRAMES in video.planes
        and video.num_frames
        and video.job.fields is None
        # One field per pair of frames; the official archives and some tools have as many as frames for some clips.
        and video.num_fields not in (video.num_frames - 1, video.num_frames)
    ):
        usable = f"{video.usable} frames can be used"
        yield video.finding("flow-count", f"{video.num_frames} frames, {video.num_fields} flow fields: {usable}")


def _check_numbers(video: _Video) -> Iterator[Finding]:
    for name, plane in video.planes.items():
        if plane.files and min(plane.files) < 1:
            message = f"{name}: {plane.files[min(plane.files)]}, but numbers start later in this data set"
            yield video.finding("numbering", message)
        expected: Collection[int] = range(1, plane.last)
        if name != FRAMES and video.job.fields is not None and video.num_frames >= MIN_FRAMES and plane.files:
            expected = video.job.fields(video.num_frames)
        missing = sorted(set(expected).difference(plane.files))
        if missing:
            many = "number is" if len(missing) == 1 else "numbers are"
            yield video.finding("gap", f"{name}: {len(missing)} {many} missing: {_some(missing)}")


def _check_records(video: _Video) -> Iterator[Finding]:
    frames, usable = video.num_frames, video.usable
    if not video.has_images:
        return
    if video.job.entry and FRAMES in video.planes and frames != video.job.entry.num_frames:
        yield video.finding("manifest", f"the manifest says {video.job.entry.num_frames} frames, there are {frames}")
    for name, count in sorted(video.job.listed.items()):
        if count != usable:
            message = f"{name} gives it {count} frames, {usable} can be used: run `stmulnet annotate` again"
            yield video.finding("annotation-count", message, failure=count > usable)
    if usable < MIN_FRAMES:
        message = f"{counted(usable, 'usable frame')}; a network needs {MIN_FRAMES}"
        yield video.finding("too-short", message, failure=bool(video.job.listed))


def _check_readable(video: _Video, images: Mapping[str, PlaneImages]) -> Iterator[Finding]:
    for name, plane in images.items():
        for kind, empty in (("empty-file", True), ("unreadable", False)):
            problems = [problem for problem in plane.problems if problem.empty == empty]
            if problems:
                first = problems[0]
                reason = "0 bytes" if empty else first.reason
                count = f"{len(problems)} of {len(video.planes[name].files)} images"
                yield video.finding(kind, f"{name}: {count}, first {first.file}: {reason}")


def _check_sizes(video: _Video, images: Mapping[str, PlaneImages]) -> Iterator[Finding]:
    frames = images[FRAMES].sizes if FRAMES in images else {}
    flow = {size: number for name in (FLOW_V, FLOW_U) if name in images for size, number in images[name].sizes.items()}
    for name, sizes in ((FRAMES, frames), ("flow", flow)):
        if len(sizes) > 1:
            described = _some(f"{width}x{height} from number {number}" for (width, height), number in sizes.items())
            yield video.finding("size-change", f"{name} of several sizes: {described}")
    if len(frames) == len(flow) == 1 and frames.keys() != flow.keys():
        (one,), (other,) = frames, flow
        common = "x".join(str(min(sides)) for sides in zip(one, other, strict=True))
        message = f"frames are {_times(one)}, flow is {_times(other)}: both are cut to {common} when they are read"
        yield video.finding("frames-flow-size", message, failure=False)
    if video.job.entry and len(frames) == 1 and (video.job.entry.width, video.job.entry.height) not in frames:
        (size,) = frames
        said = f"{video.job.entry.width}x{video.job.entry.height}"
        yield video.finding("manifest", f"the manifest says {said} pixels, the frames are {_times(size)}")


def _check_colours(video: _Video, images: Mapping[str, PlaneImages]) -> Iterator[Finding]:
    """A grey image among frames may be flow, one in colour among flow a frame."""
    for name, plane in images.items():
        if plane.grey and plane.coloured:
            odd = min(plane.grey if name == FRAMES else plane.coloured)
            message = f"{name}: {len(plane.grey)} of {plane.read} images are grey, the others in colour"
            yield video.finding("colour-change", f"{message}; first number {odd}")


def _check_levels(video: _Video, images: Mapping[str, PlaneImages]) -> Iterator[Finding]:
    """Images of one colour: ordinary where a film fades or frames repeat, but not throughout."""
    frames = images.get(FRAMES, PlaneImages())
    if frames.levels:
        count, all_of_them = len(frames.levels), len(frames.levels) == frames.read
        message = f"{count} of {frames.read} frames are of one colour, first number {min(frames.levels)}"
        yield video.finding("constant-frames", message, failure=all_of_them)
    flow = [images[name] for name in (FLOW_U, FLOW_V) if name in images and images[name].read]
    for name in (FLOW_U, FLOW_V):
        levels = images[name].levels if flow and name in images else {}
        odd = {number: level for number, level in levels.items() if level not in _STILL_LEVELS}
        if odd:
            number = min(odd)
            blank = any(level in _BLANK_LEVELS for level in odd.values())
            some = counted(len(odd), "image")
            message = f"{name}: {some} of one value, not standstill, first number {number}: {odd[number]}"
            yield video.finding("constant-flow" if blank else "uniform-flow", message, failure=blank)
    if flow and all(len(plane.levels) == plane.read for plane in flow):
        message = f"no motion in any of the {flow[0].read} flow fields, each of one value"
        yield video.finding("constant-flow", message)
    elif flow:
        still = set.intersection(*(set(plane.levels) for plane in flow))
        if len(still) > _STILL_SHARE * flow[0].read:
            message = f"no motion in {len(still)} of {flow[0].read} flow fields"
            yield video.finding("standstill", message, failure=False)


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _some(items: Iterable[object]) -> str:
    """``"1, 2, 3, 4, 5, ... (12)"``."""
    shown = [str(item) for item in items]
    return ", ".join(shown[:_SHOWN]) + (f", ... ({len(shown)})" if len(shown) > _SHOWN else "")
