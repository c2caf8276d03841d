"""Frames from whatever holds a video, behind one interface: `open_source` gives a `FrameSource`.

A video file, a folder of images, an array, and, where the caller allows it, an address that the user typed (http and
https: fetched into a temporary file; rtsp: read as it comes) or a camera. Whatever the kind, frames are resized by the
same function, so that the same pixels give the same result.

Axes: T frames, H x W pixels, 3 = R G B.
"""

import contextlib
import re
import tempfile
import urllib.parse
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import simplejpeg

from stmulnet.download import download
from stmulnet.errors import ConfigError, DownloadError, VideoDecodeError
from stmulnet.video.io import MAX_FRAME_PIXELS, VIDEO_SUFFIXES, iter_frames, probe, resize_short_side
from stmulnet.video.live import camera_frames, find_camera, rtsp_frames
from stmulnet.video.store import decode_image
from stmulnet.video.trees import read_file

Image = npt.NDArray[np.uint8]
Given = str | Path | int | npt.NDArray[np.uint8]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_FETCHED_BYTES = 4 * 10**9  # of a video behind an address
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_FETCHED, _STREAMED = ("http", "https"), ("rtsp",)


class FrameSource:
    """Something that has frames; a context manager, closed when no longer needed.

    Attributes:
        name: What the user called it; without the password of an address.
        is_live: Whether frames come in real time, once, and perhaps without end (camera, rtsp).
    """

    name: str
    is_live = False

    @property
    def fps(self) -> float | None:
        """Frames per second; None where nothing says so."""
        return None

    @property
    def num_frames_hint(self) -> int | None:
        """Number of frames that is announced; there may be another one. None where nothing says so."""
        return None

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
        """Give the frames in order; can be called again unless the source is live.

        Args:
            short_side: Resize so that the shorter side has this many pixels; None keeps the size.
            threads: Threads of the decoder, where there is one.

        Yields:
            (H, W, 3) uint8, RGB, 0..255; all of one size.

        Raises:
            VideoDecodeError: Something cannot be decoded; the frames before it have been given.
            DatasetError: An image of a folder is damaged.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Remove what was made for reading."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_source(given: Given | FrameSource, *, allow_addresses: bool = False) -> FrameSource:
    """Find out what holds a video and make it readable.

    Args:
        given: Path of a video file or of a folder of images (.jpg or .png of one size, in natural order: 2 before 10);
            array (T, H, W, 3), uint8, RGB; number of a camera; an address; or a source, which is returned.
        allow_addresses: Whether addresses and cameras are opened. Only for what the user of this machine typed: never
            for what came from elsewhere, such as a web page.

    Raises:
        ConfigError: Nothing of these, or not allowed.
        VideoDecodeError: There is no such file or camera, or no images in the folder.
        DownloadError: The address cannot be fetched.
    """
    if isinstance(given, FrameSource):
        return given
    if isinstance(given, np.ndarray):
        return _Array(given)
    if isinstance(given, str) and (scheme := address_scheme(given)):
        return _open_address(given, scheme, allow_addresses)
    if isinstance(given, int) and not isinstance(given, bool):
        if not allow_addresses:
            raise ConfigError(f"camera {given}: cameras are not opened here; give a video file")
        return _Camera(given)
    if not isinstance(given, str | Path):
        raise ConfigError(
            f"a video must be a path, an array (T, H, W, 3), the number of a camera or an address, "
            f"got {type(given).__name__}"
        )
    path = Path(given)
    return _Folder(path) if path.is_dir() else _File(path)


def address_scheme(text: str) -> str | None:
    """``"http"`` of ``"http://..."``, in lower case; None of what is no address."""
    match = _SCHEME.match(text)
    return match[1].lower() if match else None


def is_live(given: str | Path | int) -> bool:
    """Whether `open_source` gives a live source for it."""
    return isinstance(given, int) or (isinstance(given, str) and address_scheme(given) in _STREAMED)


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Sort key by which frame2 comes before frame10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, in natural order; hidden files are none."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    return sorted(found, key=lambda path: natural_key(path.name))


class _File(FrameSource):
    """A video file."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or str(path)
        if not path.exists():
            raise VideoDecodeError(f"{path}: no such file")

    @cached_property
    def _info(self) -> tuple[float | None, int | None]:
        info = probe(self.path)
        return info.fps, info.num_frames_hint

    @property
    def fps(self) -> float | None:
        return self._info[0]

    @property
    def num_frames_hint(self) -> int | None:
        return self._info[1]

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
        return iter_frames(self.path, short_side=short_side, threads=threads)


class _Fetched(_File):
    """A video behind an http or https address: a temporary file, so that FFmpeg needs no access to the network."""

    def __init__(self, address: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="stmulnet-")
        suffix = Path(urllib.parse.urlsplit(address).path).suffix.lower()
        path = Path(self._folder.name) / f"video{suffix if suffix in VIDEO_SUFFIXES else ''}"
        try:
            download(address, path, check_head=_refuse_page, check=lambda _: None, max_bytes=MAX_FETCHED_BYTES)
        except BaseException:
            self._folder.cleanup()
            raise
        super().__init__(path, address)

    @cached_property
    def _info(self) -> tuple[float | None, int | None]:
        with self._named():
            return super()._info

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
        with self._named():
            yield from super().frames(short_side, threads)

    def close(self) -> None:
        self._folder.cleanup()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Let messages name the address, not the temporary file."""
        try:
            yield
        except VideoDecodeError as error:
            raise VideoDecodeError(str(error).replace(str(self.path), self.name)) from error


def _refuse_page(head: bytes) -> None:
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise DownloadError("the address is that of a web page; give the address of the video file itself")


class _Folder(FrameSource):
    """A folder of images."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.path = folder
        self._paths = image_files(folder)
        if not self._paths:
            raise VideoDecodeError(f"{folder}: a folder without images ({', '.join(IMAGE_SUFFIXES)})")

    @property
    def num_frames_hint(self) -> int | None:
        return len(self._paths)

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
        shape: tuple[int, ...] | None = None
        for path in self._paths:
            data = read_file(path)
            _check_header(path, data)
            image = decode_image(path, data, colorspace="RGB")
            if image.shape != (shape := shape or image.shape):
                raise VideoDecodeError(
                    f"{path}: {image.shape[1]}x{image.shape[0]}, but the images before it {shape[1]}x{shape[0]}; the "
                    "frames of a video have one size"
                )
            yield _resized(image, short_side)


def _check_header(path: Path, data: bytes) -> None:
    """Refuse by its header an image that would not fit into memory, or whose levels the decoder would change."""
    width = height = depth = 0  # of what is no image: the decoder says so
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 24:
        width, height, depth = int.from_bytes(data[16:20]), int.from_bytes(data[20:24]), data[24]
    elif data.startswith(b"\xff\xd8"):
        with contextlib.suppress(ValueError):
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
    if width * height > MAX_FRAME_PIXELS:
        raise VideoDecodeError(f"{path}: {width}x{height} are more than the {MAX_FRAME_PIXELS} pixels allowed")
    if depth == 16:
        raise VideoDecodeError(f"{path}: a PNG of 16 bit per channel; convert the frames to 8 bit")


class _Array(FrameSource):
    """An array in memory; it is not copied."""

    name = "array"

    def __init__(self, frames: npt.NDArray[np.uint8]) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ConfigError(
                f"an array of frames must be uint8 (T, H, W, 3), RGB, not empty; got {frames.dtype} {frames.shape}"
            )
        self._frames = frames

    @property
    def num_frames_hint(self) -> int | None:
        return len(self._frames)

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
        for frame in self._frames:
            yield _resized(np.ascontiguousarray(frame), short_side)


class _Camera(FrameSource):
    """A camera of this machine."""

    is_live = True

    def __init__(self, number: int) -> None:
        if number < 0:
            raise ConfigError(f"cameras are numbered from 0, got {number}")
        self.name = f"camera {number}"
        self._device = find_camera(number, self.name)

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
        for image in camera_frames(self._device, self.name):
            yield _resized(image, short_side)


class _Rtsp(FrameSource):
    """What a server sends in real time."""

    is_live = True

    def __init__(self, address: str) -> None:
        self.name = shown_address(address)
        self._address = address

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
        for image in rtsp_frames(self._address, self.name):
            yield _resized(image, short_side)


def _open_address(address: str, scheme: str, allowed: bool) -> FrameSource:
    name = shown_address(address)
    if scheme not in _FETCHED + _STREAMED:
        raise ConfigError(f"{name}: {scheme} addresses are not opened; http, https and rtsp are")
    if not allowed:
        raise ConfigError(f"{name}: addresses are not opened here; give a video file")
    if not urllib.parse.urlsplit(address).hostname:
        raise ConfigError(f"{name}: the address names no host; give {scheme}://HOST/PATH")
    if scheme in _STREAMED:
        return _Rtsp(address)
    if name != address:
        raise ConfigError(f"{name}: http addresses with a user and a password are not opened; fetch the file yourself")
    return _Fetched(address)


def shown_name(given: str | Path | int) -> str:
    """What a video is called: its path, its address without a password, or the number of the camera."""
    if isinstance(given, int):
        return f"camera {given}"
    return shown_address(given) if isinstance(given, str) and address_scheme(given) else str(given)


def shown_address(address: str) -> str:
    """The address without user and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", address)


def _resized(image: Image, short_side: int | None) -> Image:
    if short_side is None:
        return image
    if short_side < 1:
        raise ConfigError(f"short_side must be a number of pixels, 1 or more, or None; got {short_side}")
    return resize_short_side(image, short_side)
