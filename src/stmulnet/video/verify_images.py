"""Reading the images of one plane of a video to find those that cannot be read, or hold nothing.

Axes: H x W pixels, C channels.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import simplejpeg

from stmulnet.errors import DatasetError
from stmulnet.video.store import Images, decode_image
from stmulnet.video.trees import Buffer, ImageRoot

_JPEG_END = b"\xff\xd9"
_TAIL_BYTES = 64  # some writers fill up after the end
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"
_PNG_COLOUR_TYPE, _PNG_GREY = 25, (0, 4)  # position, and the types without and with transparency
_COARSE = 16  # pixels between those compared first

Size = tuple[int, int]  # width, height


class Problem(NamedTuple):
    """An image that cannot be read."""

    number: int
    file: str
    reason: str
    empty: bool  # whether the file has no bytes at all


@dataclass
class PlaneImages:
    """What the images of a plane are.

    Attributes:
        problems: Those that cannot be read.
        sizes: Width and height to the number of the first image that has them.
        levels: Numbers of the images of one colour, to its first channel; only of decoded ones.
        grey: Numbers of those that are stored without colour.
        coloured: Numbers of the others.
        read: Number of images that could be read.
    """

    problems: list[Problem] = field(default_factory=list)
    sizes: dict[Size, int] = field(default_factory=dict)
    levels: dict[int, int] = field(default_factory=dict)
    grey: list[int] = field(default_factory=list)
    coloured: list[int] = field(default_factory=list)
    read: int = 0


def read_plane(
    root: ImageRoot, plane: int, video: str, numbers: Iterable[int], *, colorspace: str, decode: bool
) -> PlaneImages:
    """Read images of one plane of a video.

    Args:
        root: The frames or the flow of a data set.
        plane: Plane in ``root``.
        video: Name of the video.
        numbers: Numbers of the images.
        colorspace: ``"RGB"`` or ``"GRAY"``, as the loader will decode them.
        decode: Whether to decode them completely, as the loader does; otherwise only headers and ends of the files are
            looked at.
    """
    found = PlaneImages()
    for number in numbers:
        path = Path()
        data: Buffer = b""
        try:
            ((path, data),) = root.read(video, [(plane, number)])
            if decode:
                image = decode_image(path, data, colorspace=colorspace)
                height, width = image.shape[:2]
                if _is_of_one_colour(image):
                    found.levels[number] = int(image[0, 0, 0])
            else:
                height, width = _size_by_header(path, bytes(data))
        except (DatasetError, ValueError) as error:
            reason = str(error).removeprefix(f"{path}: ").partition(";")[0]
            found.problems.append(Problem(number, path.name, reason, empty=bool(path.name) and not data))
            continue
        found.sizes.setdefault((width, height), number)
        (found.grey if _is_grey(path, bytes(data)) else found.coloured).append(number)
        found.read += 1
    return found


def _is_of_one_colour(image: Images) -> bool:
    first = image[0, 0]
    return bool((image[::_COARSE, ::_COARSE] == first).all() and (image == first).all())


def _is_grey(path: Path, data: bytes) -> bool:
    if path.suffix.lower() == ".png":
        return data[_PNG_COLOUR_TYPE] in _PNG_GREY
    return str(simplejpeg.decode_jpeg_header(data)[2]) == "Gray"


def _size_by_header(path: Path, data: bytes) -> tuple[int, int]:
    """Height and width; raises ValueError where the beginning or the end is not that of an image."""
    if path.suffix.lower() == ".png":
        if not data.startswith(_PNG_START) or not data.endswith(_PNG_END):
            raise ValueError("not a readable PNG")
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    try:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
    except ValueError as error:
        raise ValueError(f"not a readable JPEG ({error})") from error
    if _JPEG_END not in data[-_TAIL_BYTES:]:
        raise ValueError("not a readable JPEG (cut off)")
    return height, width
