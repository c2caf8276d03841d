"""Whether the frames and flow of a data set are complete and readable, video by video.

What would stop or mislead training or evaluation is a failure. What they cope with, such as flow of another size than
the frames (cut to the common size) or a stray file in the folder of a video, is a note.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stmulnet.constants import FLOW_ZERO_LEVEL, MIN_FRAMES
from stmulnet.errors import DatasetError
from stmulnet.video.manifest import VideoEntry
from stmulnet.video.store import FrameTree, U, V
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
class PlaneFiles:
    """The images of one plane of a video.

    Attributes:
        name: ``"frames"``, ``"flow u"`` or ``"flow v"``.
        folder: Where they are, or would be.
        files: Number, from 1, to name of the file; of all that are there, ascending.
        others: Names in the folder that are no images of the video.
    """

    name: str
    folder: Path
    files: Mapping[int, str]
    others: tuple[str, ...] = ()

    @property
    def last(self) -> int:
        """The highest number; 0 without images."""
        return max(self.files, default=0)


@dataclass(frozen=True)
class VideoFiles:
    """What there is of one video, and what should be.

    Attributes:
        video: Its name.
        planes: Those that the data set has, by name.
        entry: Of the manifest; None without.
        listed: Name of an annotation file to the number of frames it gives the video.
        fields: Number of frames to the flow fields that should be there; None for all.
        decode: Whether to decode the images; otherwise only their headers are read.
    """

    video: str
    planes: Mapping[str, PlaneFiles]
    entry: VideoEntry | None = None
    listed: Mapping[str, int] = field(default_factory=dict)
    fields: Callable[[int], Collection[int]] | None = None
    decode: bool = True

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


@dataclass(frozen=True)
class VideoResult:
    """Findings of one video, and the number of images that were read."""

    findings: tuple[Finding, ...]
    images: int


def list_files(tree: FrameTree, video: str) -> dict[str, PlaneFiles]:
    """Look up the images of a video in all planes of a tree; a plane without a folder has none."""
    roots: list[tuple[str, ImageRoot, int]] = [(FRAMES, tree.frames, 0)] if tree.frames else []
    if tree.flow:
        roots += [(FLOW_U, tree.flow, U), (FLOW_V, tree.flow, V)]
    planes = [_list_plane(name, root, plane, video) for name, root, plane in roots]
    known: dict[Path, set[str]] = {}
    for (_, root, index), plane in zip(roots, planes, strict=True):
        names = known.setdefault(plane.folder, set())  # several planes may share a folder
        names.update(plane.files.values())
        if plane.files:
            names.update(path.name for path in root.paths(index, video, range(1 - root.skipped, 1)))
        known.setdefault(plane.folder.parent, set()).add(plane.folder.name)  # or one lies in that of another
    return {
        plane.name: replace(plane, others=tuple(name for name in plane.others if name not in known[plane.folder]))
        for plane in planes
    }


def _list_plane(name: str, root: ImageRoot, plane: int, video: str) -> PlaneFiles:
    folder = root.root / video
    try:
        folder = root.folder(plane, video)
        numbers = root.numbers(plane, video)
    except DatasetError:  # no such folder
        return PlaneFiles(name, folder, {})
    files = {number: path.name for number, path in zip(numbers, root.paths(plane, video, numbers), strict=True)}
    return PlaneFiles(name, folder, files, tuple(sorted(set(os.listdir(folder)).difference(files.values()))))


def check_video(job: VideoFiles) -> VideoResult:
    """Check everything about one video; images are read."""
    images = {
        plane.name: read_plane(
            plane.folder, plane.files, colorspace="RGB" if plane.name == FRAMES else "GRAY", decode=job.decode
        )
        for plane in job.planes.values()
    }
    findings = [
        *_check_presence(job),
        *_check_numbers(job),
        *_check_records(job),
        *_check_readable(job, images),
        *_check_sizes(job, images),
        *_check_levels(job, images),
    ]
    return VideoResult(tuple(findings), sum(len(plane.files) for plane in job.planes.values()))


def _check_presence(job: VideoFiles) -> Iterator[Finding]:
    planes = job.planes
    if not any(plane.files for plane in planes.values()):
        reasons = [f"listed in {', '.join(job.listed)}"] if job.listed else []
        reasons += ["in the manifest"] if job.entry else []
        yield Finding(job.video, "missing", f"{' and '.join(reasons) or 'an empty folder'}, but no images are there")
        return
    if FRAMES in planes and not planes[FRAMES].files:
        yield Finding(job.video, "no-frames", f"no frames in {planes[FRAMES].folder}")
    if FLOW_U in planes:
        yield from _check_flow_count(job)
    strays = sorted({f"{plane.folder.name}/{name}" for plane in planes.values() for name in plane.others})
    if strays:
        yield Finding(job.video, "stray", f"no images of the video: {_some(strays)}", failure=False)


def _check_flow_count(job: VideoFiles) -> Iterator[Finding]:
    flow_u, flow_v = job.planes[FLOW_U], job.planes[FLOW_V]
    absent = [plane for plane in (flow_u, flow_v) if not plane.files]
    if absent:
        yield Finding(job.video, "no-flow", f"no flow in {' and '.join(str(plane.folder) for plane in absent)}")
    elif flow_u.last != flow_v.last:
        yield Finding(job.video, "uv-count", f"flow has {flow_u.last} images of u and {flow_v.last} of v")
    elif (
        FRAMES in job.planes
        and job.num_frames
        and job.fields is None
        # One field per pair of frames; the official archives and some tools have as many as frames for some clips.
        and job.num_fields not in (job.num_frames - 1, job.num_frames)
    ):
        usable = f"{job.usable} frames can be used"
        yield Finding(job.video, "flow-count", f"{job.num_frames} frames, {job.num_fields} flow fields: {usable}")


def _check_numbers(job: VideoFiles) -> Iterator[Finding]:
    for plane in job.planes.values():
        if plane.files and min(plane.files) < 1:
            yield Finding(
                job.video, "numbering", f"{plane.name}: {plane.files[min(plane.files)]}, but numbers start later here"
            )
        expected: Collection[int] = range(1, plane.last)
        if plane.name != FRAMES and job.fields is not None and job.num_frames >= MIN_FRAMES and plane.files:
            expected = job.fields(job.num_frames)
        missing = sorted(set(expected).difference(plane.files))
        if missing:
            many = "number is" if len(missing) == 1 else "numbers are"
            yield Finding(job.video, "gap", f"{plane.name}: {len(missing)} {many} missing: {_some(missing)}")


def _check_records(job: VideoFiles) -> Iterator[Finding]:
    frames, usable = job.num_frames, job.usable
    if not any(plane.files for plane in job.planes.values()):
        return
    if job.entry and FRAMES in job.planes and frames != job.entry.num_frames:
        yield Finding(job.video, "manifest", f"the manifest says {job.entry.num_frames} frames, there are {frames}")
    for name, count in sorted(job.listed.items()):
        if count != usable:
            message = f"{name} gives it {count} frames, {usable} can be used: run `stmulnet annotate` again"
            yield Finding(job.video, "annotation-count", message, failure=count > usable)
    if usable < MIN_FRAMES:
        message = f"{usable} usable frames; a network needs {MIN_FRAMES}"
        yield Finding(job.video, "too-short", message, failure=bool(job.listed))


def _check_readable(job: VideoFiles, images: Mapping[str, PlaneImages]) -> Iterator[Finding]:
    for name, plane in images.items():
        for kind, empty in (("empty-file", True), ("unreadable", False)):
            problems = [problem for problem in plane.problems if problem.empty == empty]
            if problems:
                first = problems[0]
                reason = "0 bytes" if empty else first.reason
                count = f"{len(problems)} of {len(job.planes[name].files)} images"
                yield Finding(job.video, kind, f"{name}: {count}, first {first.file}: {reason}")


def _check_sizes(job: VideoFiles, images: Mapping[str, PlaneImages]) -> Iterator[Finding]:
    frames = images[FRAMES].sizes if FRAMES in images else {}
    flow = {size: number for name in (FLOW_V, FLOW_U) if name in images for size, number in images[name].sizes.items()}
    for name, sizes in ((FRAMES, frames), ("flow", flow)):
        if len(sizes) > 1:
            described = _some(f"{width}x{height} from number {number}" for (width, height), number in sizes.items())
            yield Finding(job.video, "size-change", f"{name} of several sizes: {described}")
    if len(frames) == len(flow) == 1 and frames.keys() != flow.keys():
        (one,), (other,) = frames, flow
        common = "x".join(str(min(sides)) for sides in zip(one, other, strict=True))
        message = f"frames are {_times(one)}, flow is {_times(other)}: both are cut to {common} when they are read"
        yield Finding(job.video, "frames-flow-size", message, failure=False)
    if job.entry and len(frames) == 1 and (job.entry.width, job.entry.height) not in frames:
        (size,) = frames
        said = f"{job.entry.width}x{job.entry.height}"
        yield Finding(job.video, "manifest", f"the manifest says {said} pixels, the frames are {_times(size)}")


def _check_levels(job: VideoFiles, images: Mapping[str, PlaneImages]) -> Iterator[Finding]:
    """Images of one colour: ordinary where a film fades or frames repeat, but not throughout."""
    frames = images.get(FRAMES, PlaneImages())
    if frames.levels:
        count, all_of_them = len(frames.levels), len(frames.levels) == frames.read
        message = f"{count} of {frames.read} frames are of one colour, first number {min(frames.levels)}"
        yield Finding(job.video, "constant-frames", message, failure=all_of_them)
    flow = [images[name] for name in (FLOW_U, FLOW_V) if name in images and images[name].read]
    for name in (FLOW_U, FLOW_V):
        levels = images[name].levels if flow and name in images else {}
        odd = {number: level for number, level in levels.items() if level not in _STILL_LEVELS}
        if odd:
            number = min(odd)
            blank = any(level in _BLANK_LEVELS for level in odd.values())
            message = f"{name}: {len(odd)} images of one value, not standstill, first number {number}: {odd[number]}"
            yield Finding(job.video, "constant-flow" if blank else "uniform-flow", message, failure=blank)
    if flow and all(len(plane.levels) == plane.read for plane in flow):
        message = f"no motion in any of the {flow[0].read} flow fields, each of one value"
        yield Finding(job.video, "constant-flow", message)
    elif flow:
        still = set.intersection(*(set(plane.levels) for plane in flow))
        if len(still) > _STILL_SHARE * flow[0].read:
            message = f"no motion in {len(still)} of {flow[0].read} flow fields"
            yield Finding(job.video, "standstill", message, failure=False)


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _some(items: Iterable[object]) -> str:
    """``"1, 2, 3, 4, 5, ... (12)"``."""
    shown = [str(item) for item in items]
    return ", ".join(shown[:_SHOWN]) + (f", ... ({len(shown)})" if len(shown) > _SHOWN else "")
