"""Frames and flow on disk: one JPEG per frame and, per flow axis, one grey JPEG per pair of frames.

Written form: ``<dataset>/images/<video>/frame000001.jpg`` and ``<dataset>/flows/{u,v}/<video>/frame000001.jpg``.
Numbers count from 1; flow field t leads from frame t to frame t+1, so N frames have N-1 fields.
Axes: n images, H x W pixels, 3 = R G B; flow has 2 planes, u (to the right) and v (down), as 8-bit levels.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np
import numpy.typing as npt
import simplejpeg

from stmulnet.constants import JPEG_QUALITY
from stmulnet.errors import DatasetError

Images = npt.NDArray[np.uint8]

FRAMES_FOLDER, FLOW_FOLDER = "images", "flows"
FILE_NAME = "frame{number:06d}.jpg"
CHROMA_SUBSAMPLING = "420"  # as FFmpeg and OpenCV write JPEGs


@dataclass(frozen=True)
class Layout:
    """One known arrangement of image files below a root.

    Attributes:
        kind: Its name in messages.
        templates: Per plane (``rgb``, or ``u`` and ``v``) the path of an image, with the fields ``{video}``,
            ``{number}`` and, where videos lie in class folders, ``{group}``.
    """

    kind: str
    templates: Mapping[str, str]


FRAME_LAYOUTS = (
    Layout("flat", {"rgb": f"{{video}}/{FILE_NAME}"}),
    Layout("class folders", {"rgb": f"{{group}}/{{video}}/{FILE_NAME}"}),
)
FLOW_LAYOUTS = (
    Layout("flat", {axis: f"{axis}/{{video}}/{FILE_NAME}" for axis in "uv"}),
    Layout("class folders", {axis: f"{axis}/{{group}}/{{video}}/{FILE_NAME}" for axis in "uv"}),
)


class ImageRoot:
    """The images of one modality below one folder, in one of the known layouts.

    Args:
        root: The folder.
        layouts: The layouts to try, in this order.

    Raises:
        DatasetError: The folder is missing or fits none of the layouts; lists what was looked for.
    """

    def __init__(self, root: Path, layouts: Sequence[Layout]) -> None:
        self.root = root
        self.layout = _recognise(root, layouts)

    def videos(self) -> list[str]:
        """Names of the videos, sorted."""
        return sorted(self._groups)

    def folder(self, plane: str, video: str) -> Path:
        """Folder of the images of one plane of one video; it may not exist."""
        return self._file(plane, video, 1).parent

    def count(self, plane: str, video: str) -> int:
        """Number of images of one plane of one video; they are numbered 1, 2, 3 ... without a gap."""
        folder = self.folder(plane, video)
        pattern = re.compile(_number_pattern(PurePosixPath(self.layout.templates[plane]).name))
        try:
            found = [int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
        except OSError as error:
            raise DatasetError(f"{folder}: cannot list the images of video {video!r}: {error.strerror}") from error
        if not found:
            raise DatasetError(f"{folder}: no images of video {video!r}; extract it again")
        if 0 in found:
            raise DatasetError(f"{self._file(plane, video, 0)}: images count from 1; extract the video again")
        if len(found) != max(found):
            missing = min(set(range(1, max(found) + 1)) - set(found))
            path = self._file(plane, video, missing)
            raise DatasetError(f"{path}: missing, while number {max(found)} is there; extract the video again")
        return len(found)

    def paths(self, plane: str, video: str, numbers: Iterable[int]) -> list[Path]:
        """Files of the given 1-based numbers."""
        return [self._file(plane, video, number) for number in numbers]

    def _file(self, plane: str, video: str, number: int) -> Path:
        # Names come from lists made elsewhere: stay below the root. pathlib knows the drives of Windows as well.
        if video in ("", ".", "..") or "\\" in video or "\0" in video or Path(video).name != video:
            raise DatasetError(f"{video!r} is no name of a video; it must be the name of a folder, without a path")
        template = self.layout.templates[plane]
        group = self._group(video) if "{group}" in template else ""
        return self.root / template.format(video=video, group=group, number=number)

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
        for group, video in _videos(self.root, next(iter(self.layout.templates.values()))):
            if video in groups:
                raise DatasetError(
                    f"{self.root}: video {video!r} is in two class folders, {groups[video]!r} and {group!r}; "
                    "names must be unique: rename one"
                )
            groups[video] = group
        return groups


class FrameTree:
    """Frames, flow or both of a data set, whatever known layout they have.

    Args:
        frames_root: Folder of the frames; None where only flow is wanted.
        flow_root: Folder of the flow images; None where only frames are wanted.

    Raises:
        DatasetError: A folder is missing or in no known layout.
    """

    def __init__(self, frames_root: Path | None, flow_root: Path | None = None) -> None:
        self._frames = None if frames_root is None else ImageRoot(frames_root, FRAME_LAYOUTS)
        self._flow = None if flow_root is None else ImageRoot(flow_root, FLOW_LAYOUTS)

    @property
    def kind(self) -> str:
        """Which layouts were found, e.g. ``"frames: flat ({video}/frame{number:06d}.jpg), flow: none"``."""
        parts = (("frames", self._frames), ("flow", self._flow))
        return ", ".join(f"{name}: {_described(images.layout) if images else 'none'}" for name, images in parts)

    def videos(self) -> list[str]:
        """Names of the videos, sorted: those with frames, or without a folder of frames those with flow."""
        return (self._frames or self._require_flow()).videos()

    def num_frames(self, video: str) -> int:
        """Number of frames of a video; from its flow (one field less) where there is no folder of frames.

        Raises:
            DatasetError: The video is missing, empty or has a gap in its numbers.
        """
        return self._frames.count("rgb", video) if self._frames else self.num_flows(video) + 1

    def num_flows(self, video: str) -> int:
        """Number of flow fields of a video; u and v must agree.

        Raises:
            DatasetError: The video is missing, empty, has a gap or different numbers of u and v.
        """
        flow = self._require_flow()
        u, v = flow.count("u", video), flow.count("v", video)
        if u != v:
            raise DatasetError(f"{flow.root}: video {video!r} has {u} images of u and {v} of v; extract it again")
        return u

    def read_rgb(self, video: str, numbers: Sequence[int]) -> Images:
        """Read frames.

        Args:
            video: Name of the video.
            numbers: 1-based, in any order, repeats allowed.

        Returns:
            (n, H, W, 3) uint8, RGB, 0..255.

        Raises:
            DatasetError: A file is missing, damaged or of another size; names it.
        """
        if self._frames is None:
            raise DatasetError(f"no folder of frames was given, so frames of {video!r} cannot be read")
        return read_images(self._frames.paths("rgb", video, numbers), colorspace="RGB")

    def read_flow(self, video: str, numbers: Sequence[int]) -> Images:
        """Read flow fields as 8-bit levels (128 is zero; see `stmulnet.flow.quantize`).

        Args:
            video: Name of the video.
            numbers: 1-based, in any order, repeats allowed.

        Returns:
            (n, 2, H, W) uint8; [:, 0] is u, [:, 1] is v.

        Raises:
            DatasetError: A file is missing, damaged or of another size; names it.
        """
        flow = self._require_flow()
        both = zip(flow.paths("u", video, numbers), flow.paths("v", video, numbers), strict=True)
        planes = read_images([path for pair in both for path in pair], colorspace="GRAY")
        return planes.reshape(-1, 2, *planes.shape[1:3])

    def _require_flow(self) -> ImageRoot:
        if self._flow is None:
            raise DatasetError("no folder of flow was given")
        return self._flow


def open_tree(root: Path) -> FrameTree:
    """Open the frames and flow that `stmulnet extract` wrote: ``root/images`` and ``root/flows``.

    Raises:
        DatasetError: Neither folder is there, or one is in no known layout.
    """
    frames_root, flow_root = root / FRAMES_FOLDER, root / FLOW_FOLDER
    if not frames_root.is_dir() and not flow_root.is_dir():
        raise DatasetError(
            f"{root}: neither {FRAMES_FOLDER}/ nor {FLOW_FOLDER}/ is in this folder; "
            "give the folder that `stmulnet extract VIDEOS OUT` wrote (OUT)"
        )
    return FrameTree(frames_root if frames_root.is_dir() else None, flow_root if flow_root.is_dir() else None)


def find_videos(frames_root: Path) -> list[str]:
    """Sorted names of the videos below a folder of frames.

    Raises:
        DatasetError: The folder is missing or in no known layout.
    """
    return ImageRoot(frames_root, FRAME_LAYOUTS).videos()


def write_frames(folder: Path, frames: Iterable[Images], *, first: int = 1, quality: int = JPEG_QUALITY) -> int:
    """Write (H, W, 3) uint8 RGB frames as ``frame000001.jpg`` ... and return their number.

    Args:
        folder: Made where it is missing.
        frames: The frames in order.
        first: Number of the first one.
        quality: JPEG quality, 1 to 100.
    """
    return _write_images(folder, frames, first, lambda image: _encode_rgb(image, quality))


def write_flow(folders: tuple[Path, Path], flow: Images, *, first: int = 1, quality: int = JPEG_QUALITY) -> int:
    """Write flow (n, 2, H, W) uint8 as grey images into the folders of u and v and return n.

    Args:
        folders: The folders of u and of v; made where they are missing.
        flow: 8-bit levels; [:, 0] is u, [:, 1] is v.
        first: Number of the first field.
        quality: JPEG quality, 1 to 100.
    """
    for axis, folder in enumerate(folders):
        _write_images(folder, flow[:, axis], first, lambda image: _encode_grey(image, quality))
    return len(flow)


def through_jpeg(image: Images, *, quality: int = JPEG_QUALITY) -> Images:
    """An RGB frame (H, W, 3) or a flow plane (H, W), uint8, as it would come back from disk."""
    grey = image.ndim == 2
    data = _encode_grey(image, quality) if grey else _encode_rgb(image, quality)
    decoded: Images = simplejpeg.decode_jpeg(data, colorspace="GRAY" if grey else "RGB")
    return decoded.reshape(image.shape)


def read_images(paths: Sequence[Path], *, colorspace: str) -> Images:
    """Decode JPEG files of one size into one array; a file named twice is decoded once.

    Args:
        paths: The files; at least one.
        colorspace: ``"RGB"`` (3 channels) or ``"GRAY"`` (1 channel).

    Returns:
        (n, H, W, C) uint8.

    Raises:
        DatasetError: A file is missing, damaged or of another size than the first.
    """
    unique = list(dict.fromkeys(paths))
    if not unique:
        raise DatasetError("no image numbers were asked for; give at least one")
    first = _decode(unique[0], colorspace, None)
    images = np.empty((len(unique), *first.shape), dtype=np.uint8)
    images[0] = first
    for path, image in zip(unique[1:], images[1:], strict=True):
        _decode(path, colorspace, image)
    if len(unique) == len(paths):
        return images
    position = {path: index for index, path in enumerate(unique)}
    return images[[position[path] for path in paths]]


def _decode(path: Path, colorspace: str, out: Images | None) -> Images:
    """Decode one file, straight into ``out`` where that is given."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        if out is not None and (size := simplejpeg.decode_jpeg_header(data)[:2]) != out.shape[:2]:
            raise DatasetError(f"{path}: {size[1]}x{size[0]}, but the images before it {out.shape[1]}x{out.shape[0]}")
        image: Images = simplejpeg.decode_jpeg(data, colorspace=colorspace, buffer=out)
    except ValueError as error:
        raise DatasetError(f"{path}: not a readable JPEG ({error}); extract the video again") from error
    return image


def _encode_rgb(image: Images, quality: int) -> bytes:
    return _encode(image, quality, "RGB", CHROMA_SUBSAMPLING)


def _encode_grey(image: Images, quality: int) -> bytes:
    return _encode(image[..., np.newaxis], quality, "GRAY", "Gray")


def _encode(image: Images, quality: int, colorspace: str, subsampling: str) -> bytes:
    image = np.ascontiguousarray(image)
    return cast(bytes, simplejpeg.encode_jpeg(image, quality, colorspace, subsampling, fastdct=False))


def _write_images(folder: Path, images: Iterable[Images], first: int, encode: Callable[[Images], bytes]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    number = first - 1
    for number, image in enumerate(images, start=first):
        (folder / FILE_NAME.format(number=number)).write_bytes(encode(image))
    return number - first + 1


def _recognise(root: Path, layouts: Sequence[Layout]) -> Layout:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder of the extracted images, or extract them first")
    for layout in layouts:
        template = next(iter(layout.templates.values()))
        if any((root / template.format(group=g, video=v, number=1)).is_file() for g, v in _videos(root, template)):
            return layout
    looked_for = "; ".join(_described(layout) for layout in layouts)
    raise DatasetError(f"{root}: no images in a known layout; looked for: {looked_for}")


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
    """Sorted names of the folders in a folder; none where it is missing. Hidden ones are not data."""
    if not parent.is_dir():
        return []
    return sorted(path.name for path in parent.iterdir() if not path.name.startswith(".") and path.is_dir())


def _number_pattern(name_template: str) -> str:
    before, after = name_template.split("{number:06d}")
    return f"{re.escape(before)}([0-9]{{6}}){re.escape(after)}"


def _described(layout: Layout) -> str:
    return f"{layout.kind} ({', '.join(layout.templates.values())})"
