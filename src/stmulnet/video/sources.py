"""Where videos come from: folders, single files, and tar and zip archives, which are read without unpacking them.

Nothing that an archive says is trusted: only regular members that are named like videos are looked at, their paths
decide about nothing on disk, and of each only one temporary copy exists while it is worked on.
"""

import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from stmulnet.errors import DatasetError
from stmulnet.video.io import VIDEO_SUFFIXES

Member = tuple[str, int, Callable[[], IO[bytes]]]  # path in the archive, size in bytes, what opens it

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_SUFFIXES = ZIP_SUFFIXES + TAR_SUFFIXES
_OTHER_ARCHIVES = (".rar", ".7z", ".001")
_COPY_BYTES = 2**20
_DAMAGE = (  # what reading a damaged or encrypted archive raises
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError),
    *(RuntimeError, ValueError),
)


@dataclass(frozen=True)
class VideoSource:
    """A video file, or a member of an archive.

    Attributes:
        name: File name without the suffix: the name of the video.
        source: Path below the folder or in the archive, of a single file its name; with forward slashes.
        size_bytes: Size of the file.
        path: The file, or the archive.
        in_archive: Whether ``path`` is an archive and ``source`` its member.
    """

    name: str
    source: str
    size_bytes: int
    path: Path
    in_archive: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.source}" if self.in_archive else str(self.path)


@dataclass(frozen=True)
class OpenedSource:
    """A video that can be decoded now.

    Attributes:
        source: Where it comes from.
        path: The file; of an archive's member a temporary copy, which the receiver removes.
        problem: Why there is no such file; None where there is.
    """

    source: VideoSource
    path: Path
    problem: str | None = None


def find_sources(places: Path | Sequence[Path]) -> dict[str, VideoSource]:
    """Videos of the places by name, sorted by name.

    Args:
        places: Folders, which are searched for files named like videos (links to folders are followed); tar and zip
            archives, likewise; or single video files of any name.

    Raises:
        DatasetError: A place is missing, unreadable or without videos, or two videos have one name.
    """
    sources: dict[str, VideoSource] = {}
    for place in [places] if isinstance(places, Path) else places:
        for source in _videos_of(place):
            _check_name(source)
            if source.name in sources:
                raise DatasetError(
                    f"two videos have the name {source.name!r}: {sources[source.name]} and {source}; names become "
                    "folders and must be unique: rename one"
                )
            sources[source.name] = source
    return dict(sorted(sources.items()))


def open_sources(sources: Iterable[VideoSource], folder: Path) -> Iterator[OpenedSource]:
    """Yield the videos, members of archives as temporary files in a folder.

    Archives are read once, from their beginning to their end, so their videos come in the order they lie there.

    Args:
        sources: The videos.
        folder: Where temporary files may be written; it exists.
    """
    archives: dict[Path, dict[str, VideoSource]] = {}
    for source in sources:
        if source.in_archive:
            archives.setdefault(source.path, {})[source.source] = source
        else:
            yield OpenedSource(source, source.path)
    for archive, wanted in archives.items():
        yield from _copied_members(archive, wanted, folder)


def is_archive(path: Path) -> bool:
    """Whether a file is named like an archive that can be read here."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def _videos_of(place: Path) -> Iterator[VideoSource]:
    if place.is_dir():
        return _videos_of_folder(place)
    if not place.exists():
        raise DatasetError(f"{place}: no such folder or file; give folders with videos, video files, or archives")
    if is_archive(place):
        return _videos_of_archive(place)
    if place.name.lower().endswith(_OTHER_ARCHIVES):
        raise DatasetError(
            f"{place}: archives of this kind cannot be read, only {', '.join(ARCHIVE_SUFFIXES)}; unpack it (join parts "
            ".001, .002 first) and give the folder"
        )
    return iter([VideoSource(place.stem, place.name, place.stat().st_size, place)])


def _videos_of_folder(folder: Path) -> Iterator[VideoSource]:
    others = archives = count = 0
    for path in _files(folder):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            count += 1
            yield VideoSource(path.stem, path.relative_to(folder).as_posix(), _size(path), path)
        else:
            others += 1
            archives += is_archive(path)
    if not count:
        hint = f"; to read the {archives} archives there, name them instead of the folder" if archives else ""
        raise DatasetError(
            f"{folder}: no videos among its {others} files; looked in all folders for {', '.join(VIDEO_SUFFIXES)}{hint}"
        )


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, sorted, without hidden ones; links are followed, but into no folder twice."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        seen.add(real)


def _refuse_folder(error: OSError) -> None:
    raise DatasetError(f"{error.filename}: cannot be searched for videos: {error.strerror}") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0  # a link to nothing: decoding it will say so


def _check_name(source: VideoSource) -> None:
    """Names become folders, on any system."""
    if any("\ud800" <= letter <= "\udfff" for letter in source.source):  # bytes that Python could not decode
        raise DatasetError(f"{source.path}: the file name {source.source!a} is not UTF-8; rename the file")
    if source.name in ("", ".", "..") or "\\" in source.name or "\0" in source.name:
        raise DatasetError(f"{source}: {source.name!r} cannot be the name of a folder; rename the video")


def _videos_of_archive(archive: Path) -> Iterator[VideoSource]:
    count = 0
    for name, size_bytes, _ in _members(archive):
        count += 1
        yield VideoSource(PurePosixPath(name).stem, name, size_bytes, archive, in_archive=True)
    if not count:
        raise DatasetError(f"{archive}: no videos in this archive; looked for {', '.join(VIDEO_SUFFIXES)}")


def _members(archive: Path) -> Iterator[Member]:
    """The members that are named like videos, in the order they lie in the archive."""
    members = _zip_members if archive.name.lower().endswith(ZIP_SUFFIXES) else _tar_members
    try:
        for name, size_bytes, open_member in members(archive):
            if _is_video(name):
                yield str(PurePosixPath(name)), size_bytes, open_member  # "./a.avi" is "a.avi"
    except _DAMAGE as error:
        raise DatasetError(
            f"{archive}: not an archive that can be read to its end ({_reason(error)}); get it again"
        ) from error


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir():
                yield info.filename, info.file_size, partial(file.open, info)


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as file:  # compressed or not: both are read forwards only
        for info in file:
            if not info.isdir():
                yield info.name, info.size, partial(_open_tar_member, file, info)
        # Damage between two members looks like the end to tarfile; the true one is a block of zeros.
        file.fileobj.seek(file.offset)
        if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"cut off or damaged after {len(file.getmembers())} members")
        while file.fileobj.read(_COPY_BYTES):  # a compressed file has its check sum at its end
            pass


def _open_tar_member(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = file.extractfile(info) if info.isreg() and info.sparse is None else None
    if content is None:
        raise ValueError("a link, a device or a sparse file")
    return content


def _is_video(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts) or "__MACOSX" in path.parts
    return path.suffix.lower() in VIDEO_SUFFIXES and not hidden


def _copied_members(archive: Path, wanted: dict[str, VideoSource], folder: Path) -> Iterator[OpenedSource]:
    for name, _, open_member in _members(archive):
        if name in wanted:
            yield _copied(wanted[name], open_member, folder)


def _copied(source: VideoSource, open_member: Callable[[], IO[bytes]], folder: Path) -> OpenedSource:
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="copy-", suffix=PurePosixPath(source.source).suffix)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if source.size_bytes > shutil.disk_usage(folder).free:
                raise DatasetError(f"there is no room for a temporary copy of its {source.size_bytes} bytes")
            for chunk in _chunks(open_member):
                file.write(chunk)
    except DatasetError as error:
        return OpenedSource(source, path, str(error))
    return OpenedSource(source, path)


def _chunks(open_member: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    try:
        with open_member() as content:
            while chunk := content.read(_COPY_BYTES):
                yield chunk
    except _DAMAGE as error:
        raise DatasetError(f"cannot be read from the archive: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(":") or type(error).__name__
