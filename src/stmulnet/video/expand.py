"""What a user names on the command line as videos: patterns and folders become the videos they stand for."""

import glob
from collections.abc import Sequence
from pathlib import Path

from stmulnet.errors import ConfigError
from stmulnet.video.inputs import IMAGE_SUFFIXES, address_scheme, image_files, natural_key
from stmulnet.video.io import VIDEO_SUFFIXES

Named = str | Path | int


def expand_videos(given: Sequence[Named] | Sequence[str] | Sequence[Path]) -> list[Named]:
    """The videos that texts stand for, each to be opened by `stmulnet.video.inputs.open_source`.

    Args:
        given: Addresses; numbers of cameras; paths of files and of folders of images; folders, which stand for the
            video files in them and below; and patterns (``*``, ``?``, ``[...]``; ``**`` for any folders), which stand
            for what they match. Of a name that exists, the file is meant.

    Returns:
        Addresses as text, cameras as numbers, everything else as paths; what a folder or pattern stands for in natural
        order (2 before 10).

    Raises:
        ConfigError: A pattern that matches nothing, a folder without videos and images, or with both.
    """
    return [video for item in given for video in _expand(item)]


def _expand(item: Named) -> list[Named]:
    if isinstance(item, int) or (isinstance(item, str) and address_scheme(item)):
        return [item]
    path = Path(item)
    if any("\ud800" <= letter <= "\udfff" for letter in str(item)):
        raise ConfigError(f"{str(item)!r}: the name of the file is not UTF-8; rename it")
    if path.is_dir():
        return list(_videos_of(path))
    if not path.exists() and str(item).isdecimal():
        return [int(str(item))]
    if not path.exists() and glob.has_magic(str(item)):
        matches = sorted(glob.glob(str(item), recursive=True), key=natural_key)
        if not matches:
            raise ConfigError(f"{item}: no file matches this pattern")
        return [video for match in matches for video in _expand(Path(match))]
    return [path]


def _videos_of(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.name[0] != "."]
    has_images = bool(image_files(folder))
    if files and has_images:
        raise ConfigError(f"{folder}: holds images and video files, so it is unclear what is meant; name the files")
    if has_images:
        return [folder]  # the frames of one video
    if not files:
        raise ConfigError(
            f"{folder}: a folder without video files ({', '.join(VIDEO_SUFFIXES)}) and without images "
            f"({', '.join(IMAGE_SUFFIXES)})"
        )
    return sorted(files, key=lambda path: natural_key(str(path)))
