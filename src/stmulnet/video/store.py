"""Frames and flow on disk: one JPEG per frame and, per flow axis, one grey JPEG per pair of frames.

Read from every tree that `stmulnet.video.trees` knows, and from packed data sets (`stmulnet.video.packed`). Written
form: ``<dataset>/images/<video>/frame000001.jpg`` and ``<dataset>/flows/{u,v}/<video>/frame000001.jpg``.
Numbers count from 1; flow field t leads from frame t to frame t+1, so N frames have N-1 fields.
Axes: n images, H x W pixels, 3 = R G B; flow has 2 planes, u (to the right) and v (down), as 8-bit levels.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from stmulnet.console import counted
from stmulnet.constants import JPEG_QUALITY
from stmulnet.errors import DatasetError
from stmulnet.video.packed import PackedRoot, is_packed, packed_modalities
from stmulnet.video.trees import FLOW_FOLDER as FLOW_FOLDER
from stmulnet.video.trees import FLOW_FORMS, FRAME_FORMS, Buffer, ImageRoot, Roots, find_roots, read_file
from stmulnet.video.trees import FRAMES_FOLDER as FRAMES_FOLDER

Images = npt.NDArray[np.uint8]
Key = TypeVar("Key")

U, V = 0, 1  # planes of flow
FILE_NAME = "frame{number:06d}.jpg"
CHROMA_SUBSAMPLING = "420"  # as FFmpeg and OpenCV write JPEGs
_DENSE_FLOW_PREFIXES = ("flow_x_", "x_")
_COMPARED_VIDEOS = 5


class FrameTree:
    """Frames, flow or both of a data set, in whatever known tree (see `stmulnet.video.trees`).

    Args:
        frames_root: Folder of the frames; None where only flow is wanted.
        flow_root: Folder of the flow images; None where only frames are wanted.

    Attributes:
        frames: The frames, one plane; None without a folder of frames.
        flow: The flow, planes u and v; None without a folder of flow.

    Raises:
        DatasetError: A folder is missing or holds no known tree.
    """

    def __init__(self, frames_root: Path | None, flow_root: Path | None = None) -> None:
        self.frames = None if frames_root is None else _open_root(frames_root, "frames")
        self.flow = None if flow_root is None else _open_root(flow_root, "flow")
        if self.frames and self.flow and _is_of_dense_flow(self.frames, self.flow):
            self.flow.skip_first()

    @property
    def kind(self) -> str:
        """The tree in words, e.g. ``"frames: images/<video>/frame000001.jpg; flow: none"``."""
        parts = (("frames", self.frames), ("flow", self.flow))
        text = "; ".join(f"{name}: {f'{part.root.name}/{part.layout}' if part else 'none'}" for name, part in parts)
        packed = next((part for _, part in parts if isinstance(part, PackedRoot)), None)
        if packed:
            text += f" (packed, {counted(packed.num_shards, 'shard')})"
        if self.flow and self.flow.skipped:
            text += " (as many as frames, as dense_flow writes them: number 2 leads from frame 1 to frame 2)"
        return text

    def videos(self) -> list[str]:
        """Names of the videos, sorted: those with frames, or without a folder of frames those with flow."""
        return (self.frames or self._require_flow()).videos()

    def num_frames(self, video: str) -> int:
        """Number of frames of a video; from its flow (one field less) where there is no folder of frames.

        Raises:
            DatasetError: The video is missing, empty or has a gap in its numbers.
        """
        return self.frames.count(0, video) if self.frames else self.num_flows(video) + 1

    def num_flows(self, video: str) -> int:
        """Number of flow fields of a video; u and v must agree.

        Raises:
            DatasetError: The video is missing, empty, has a gap or different numbers of u and v.
        """
        flow = self._require_flow()
        u, v = flow.count(U, video), flow.count(V, video)
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
        if self.frames is None:
            raise DatasetError(f"no folder of frames was given, so frames of {video!r} cannot be read")
        wanted = [(0, number) for number in numbers]
        return _read_distinct(wanted, partial(self.frames.read, video), "RGB")

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
        wanted = [(plane, number) for number in numbers for plane in (U, V)]
        planes = _read_distinct(wanted, partial(flow.read, video), "GRAY")
        return planes.reshape(-1, 2, *planes.shape[1:3])

    def _require_flow(self) -> ImageRoot:
        if self.flow is None:
            raise DatasetError("no folder of flow was given")
        return self.flow


def _open_root(root: Path, modality: str) -> ImageRoot:
    """The frames or the flow in a folder of images or in a packed data set."""
    if is_packed(root):
        return PackedRoot(root, modality)
    return ImageRoot(root, FRAME_FORMS if modality == "frames" else FLOW_FORMS)


def _is_of_dense_flow(frames: ImageRoot, flow: ImageRoot) -> bool:
    """Whether field k leads from frame k-1 to frame k: the dense_flow of TSN stores the second frame of each pair.

    Such trees count from 1 and have as many fields as frames; one field fewer means that field 1 starts at frame 1.
    """
    if flow.layout.prefixes[U] not in _DENSE_FLOW_PREFIXES or (frames.layout.first, flow.layout.first) != (1, 1):
        return False
    videos = frames.videos()
    counts = []
    for video in videos[:: -(-len(videos) // _COMPARED_VIDEOS)]:
        with contextlib.suppress(DatasetError):  # without flow, say: reading it says so
            counts.append((len(frames.numbers(0, video)), len(flow.numbers(U, video))))
    return bool(counts) and all(fields == images for images, fields in counts)


def open_tree(dataset: Path) -> FrameTree:
    """Open the frames and flow of a data set, packed or wherever they are in its folder; see `find_images`.

    Raises:
        DatasetError: Neither is there, or one is in no known tree; says what was looked for.
    """
    return FrameTree(*find_images(dataset))


def find_images(dataset: Path) -> Roots:
    """Find the frames and the flow of a data set: as `find_roots` does, or both in a packed data set.

    Raises:
        DatasetError: Neither is there; says what was looked for.
    """
    if not is_packed(dataset):
        return find_roots(dataset)
    packed = packed_modalities(dataset)
    return Roots(*(dataset if modality in packed else None for modality in ("frames", "flow")))


def find_videos(frames_root: Path) -> list[str]:
    """Sorted names of the videos below a folder of frames.

    Raises:
        DatasetError: The folder is missing or holds no known tree.
    """
    return ImageRoot(frames_root, FRAME_FORMS).videos()


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
    return _read_distinct(paths, lambda paths: ((path, read_file(path)) for path in paths), colorspace)


def decode_image(path: Path, data: Buffer, *, colorspace: str) -> Images:
    """Decode the content of one file, as the tree's ``read`` gives it, to (H, W, C) uint8.

    Args:
        path: Where it comes from, for messages; its suffix tells JPEG from PNG.
        data: The content.
        colorspace: ``"RGB"`` (3 channels) or ``"GRAY"`` (1 channel).

    Raises:
        DatasetError: It is damaged.
    """
    return _decode(path, data, colorspace, None)


def _read_distinct(
    wanted: Sequence[Key], read: Callable[[list[Key]], Iterator[tuple[Path, Buffer]]], colorspace: str
) -> Images:
    """Images (n, H, W, C) of keys, of which those that are repeated are read and decoded once."""
    unique = list(dict.fromkeys(wanted))
    if not unique:
        raise DatasetError("no image numbers were asked for; give at least one")
    files = read(unique)
    first = _decode(*next(files), colorspace, None)
    images = np.empty((len(unique), *first.shape), dtype=np.uint8)
    images[0] = first
    for (path, data), image in zip(files, images[1:], strict=True):
        _decode(path, data, colorspace, image)
    if len(unique) == len(wanted):
        return images
    position = {key: index for index, key in enumerate(unique)}
    return images[[position[key] for key in wanted]]


def _decode(path: Path, data: Buffer, colorspace: str, out: Images | None) -> Images:
    """Decode the content of one file, straight into ``out`` where that is given."""
    if path.suffix.lower() == ".png":
        return _decode_png(path, data, colorspace, out)
    try:
        if out is not None:
            _check_size(path, simplejpeg.decode_jpeg_header(data)[:2], out)
        image: Images = simplejpeg.decode_jpeg(data, colorspace=colorspace, buffer=out)
    except ValueError as error:
        raise DatasetError(f"{path}: not a readable JPEG ({error}); extract the video again") from error
    return image


def _decode_png(path: Path, data: Buffer, colorspace: str, out: Images | None) -> Images:
    mode = cv2.IMREAD_COLOR_RGB if colorspace == "RGB" else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode) if data else None
    if image is None:
        raise DatasetError(f"{path}: not a readable PNG; extract the video again")
    pixels = image.astype(np.uint8, copy=False).reshape(*image.shape[:2], -1)
    if out is None:
        return pixels
    _check_size(path, pixels.shape[:2], out)
    out[:] = pixels
    return out


def _check_size(path: Path, size: tuple[int, ...], out: Images) -> None:
    if size != out.shape[:2]:
        raise DatasetError(f"{path}: {size[1]}x{size[0]}, but the images before it {out.shape[1]}x{out.shape[0]}")


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
