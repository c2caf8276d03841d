"""Tar archives, plain or compressed: read from the beginning to the end, once to check and once to unpack.

A tar archive has no checksums of its files; gzip and xz have one of the whole, bzip2 of every block.
"""

import io
import itertools
import tarfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from lzma import LZMAError

from stmulnet.console import progress
from stmulnet.errors import DatasetError
from stmulnet.video.archive_entries import File, Index, NameCheck, There, Unit, UnitList, nothing_there
from stmulnet.video.archive_parts import Source

_CHUNK_BYTES = 1 << 22
_SHOWN_BYTES = 10**6
_DAMAGE = (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, ValueError)


def index_tar(source: Source, is_there: There = nothing_there) -> Index:
    """Check the archive and list its units, runs of files of one folder; compressed, it is read whole.

    Args:
        source: The archive.
        is_there: Whether a file is on disk already.

    Raises:
        DatasetError: No tar archive, or damaged; or an entry is a link or a device or has a name that is not safe.
    """
    units, names, checksum = UnitList(by_folder=False, is_there=is_there), NameCheck(source.name), 0
    with _opened(source) as (file, archive), _shown(source, file) as show:
        for number, member in enumerate(_members(archive)):
            show()
            folder, name = names.split(f"{member.name}/" if member.isdir() else member.name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise DatasetError(
                    f"{source.name}: {member.name!r} is a link, a device or sparse; a link could lead out of the "
                    "target folder: nothing was written"
                )
            units.add(folder, name, member.size, number)
            checksum = zlib.crc32(f"{folder}/{name} {member.size}\n".encode(), checksum)
        assert archive.fileobj is not None
        while archive.fileobj.read(_CHUNK_BYTES):
            show()  # to the end of the compressed data, where its checksum is
        show()
    return Index(source, checksum, units.units())


def tar_units(source: Source, units: list[Unit], wanted: Container[int]) -> Iterator[tuple[Unit, Iterator[File]]]:
    """Go through the archive and yield the units whose numbers are wanted, with their files.

    Raises:
        DatasetError: The archive has become unreadable since it was checked.
    """
    with _opened(source) as (_, archive):
        members = (member for member in _members(archive) if not member.isdir())
        for unit in units:
            files = _files(source, archive, itertools.islice(members, unit.files))
            if unit.number in wanted:
                yield unit, files
            for _ in files:
                pass  # what was not wanted, or not read because of a failure


def _files(source: Source, archive: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> Iterator[File]:
    names = NameCheck(source.name)
    with _damage_named(source):
        for member in members:
            yield File(names.split(member.name)[1], _content(source, archive, member))


def _content(source: Source, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    with _damage_named(source):
        data = archive.extractfile(member)
        assert data is not None
        while chunk := data.read(_CHUNK_BYTES):
            yield chunk


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined] # not in its stubs; millions would stay in memory
        yield member
    # tarfile takes a damaged header for the end; the end proper is a block of zeros.
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no header, and no end, at byte {archive.offset}")


@contextmanager
def _opened(source: Source) -> Iterator[tuple[io.BufferedReader, tarfile.TarFile]]:
    """The bytes of an archive, packed as they are, and the archive."""
    with _damage_named(source), source.open() as file, tarfile.open(fileobj=file, mode="r:*") as archive:
        yield file, archive


@contextmanager
def _shown(source: Source, file: io.BufferedReader) -> Iterator[Callable[[], None]]:
    """Show how far a file has been read."""
    shown, total = 0, sum(part.stat().st_size for part in source.parts) // _SHOWN_BYTES
    with progress(total, f"check {source.name}", "MB") as advance:

        def show() -> None:
            nonlocal shown
            read = file.tell() // _SHOWN_BYTES
            if read > shown:
                advance(read - shown)
                shown = read

        yield show


@contextmanager
def _damage_named(source: Source) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        problem = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise DatasetError(
            f"{source.name}: damaged, or no tar archive ({problem}); download it again ({source.sizes()})"
        ) from error
