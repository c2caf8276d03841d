"""Zip archives of millions of files: the table of contents goes by and is never in memory.

`zipfile` of the standard library keeps an object per entry, 3 GB for the 5 million images of the flow of UCF-101.
Source of the format: PKWARE's APPNOTE.TXT 6.3.
"""

import io
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from stmulnet.console import progress
from stmulnet.errors import DatasetError
from stmulnet.video.archive_entries import File, Index, NameCheck, There, Unit, UnitList, nothing_there
from stmulnet.video.archive_parts import Source

STORED, DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_ENCRYPTED, _STRONGLY_ENCRYPTED, _UTF8 = 1 << 0, 1 << 6, 1 << 11

_END = struct.Struct("<4s4H2IH")  # signature, disks, entries, size and offset of the directory, comment's length
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT = 0xFFFF
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # the value is in the zip64 record
_ZIP64_FIELD = 0x0001
_CHUNK_BYTES = 1 << 22
_ENTRIES_SHOWN = 1000


class _Directory(NamedTuple):
    """Where the table of contents lies."""

    offset: int
    entries: int


class _Entry(NamedTuple):
    """One entry of the directory: sizes in bytes, offset of its local header."""

    raw_name: bytes
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    offset: int
    mode: int

    @property
    def name(self) -> str:
        if self.raw_name.isascii():  # not only because cp437 is slow
            return self.raw_name.decode("ascii")
        return self.raw_name.decode("utf-8" if self.flags & _UTF8 else "cp437", "surrogateescape")


_Listed = tuple[int, _Entry, bytes]  # position in the archive, entry, its raw record


def index_zip(source: Source, is_there: There = nothing_there) -> Index:
    """Read and check the table of contents.

    Args:
        source: The archive.
        is_there: Whether a file is on disk already.

    Raises:
        DatasetError: No complete zip archive; or an entry is encrypted, a link, packed by an unknown method, has a
            name that is not safe, or claims data that other entries claim.
    """
    units, names = UnitList(by_folder=True, is_there=is_there), NameCheck(source.name)
    checksum = packed = 0
    with source.open() as file:
        directory = _find_directory(file, source)
        entries = _entries(file, source, directory.offset, directory.entries)
        for position, entry, raw in _counted(entries, directory.entries, source):
            checksum = zlib.crc32(raw, checksum)
            packed += entry.packed
            folder, name = names.split(entry.name)
            _check(entry, source)
            if name:
                units.add(folder, name, entry.size, position)
    if packed > directory.offset:
        raise DatasetError(
            f"{source.name}: its entries claim {packed} packed bytes, but it has {directory.offset}: several share "
            "their data, as in archives made to fill disks; nothing was written"
        )
    return Index(source, checksum, units.units())


def zip_files(source: Source, unit: Unit) -> Iterator[File]:
    """The files of a unit; reading one to its end checks its size and CRC.

    Raises:
        DatasetError: While a file is read: its data are damaged.
    """
    with source.open() as file:
        for run in unit.runs:
            for entry in [entry for _, entry, _ in _entries(file, source, *run)]:
                name = entry.name.rpartition("/")[2]
                if name:
                    yield File(name, _content(file, source, entry))


def _counted(entries: Iterator[_Listed], total: int, source: Source) -> Iterator[_Listed]:
    """Show progress: millions of entries take a while."""
    with progress(total if total >= _ENTRIES_SHOWN else 0, f"check {source.name}", "entries") as advance:
        for count, entry in enumerate(entries, start=1):
            yield entry
            if count % _ENTRIES_SHOWN == 0:
                advance(_ENTRIES_SHOWN)
        if rest := total % _ENTRIES_SHOWN:
            advance(rest)


def _find_directory(file: io.BufferedReader, source: Source) -> _Directory:
    total = file.seek(0, io.SEEK_END)
    start = max(0, total - _END.size - _MAX_COMMENT)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0 or at + _END.size > len(tail):
        raise DatasetError(_no_end(file, source))
    _, disk, first_disk, _, entries, size, offset, _ = _END.unpack_from(tail, at)
    position = start + at
    if tail[max(0, at - _LOCATOR64.size) :].startswith(b"PK\6\7"):
        _, _, offset64, disks = _LOCATOR64.unpack_from(tail, at - _LOCATOR64.size)
        position -= _LOCATOR64.size + _END64.size
        record = _read_at(file, position, _END64.size)
        if not record.startswith(b"PK\6\6"):  # it has a part of its own kind behind it
            position, record = offset64, _read_at(file, offset64, _END64.size)
        if not record.startswith(b"PK\6\6") or len(record) < _END64.size:
            raise DatasetError(_damaged(source, "its zip64 record is not where it should be"))
        _, _, _, _, disk, first_disk, _, entries, size, offset = _END64.unpack(record)
        disk = max(disk, disks - 1)
    if disk or first_disk:
        raise DatasetError(
            f"{source.name}: an archive in volumes (.z01, .z02, ... .zip), which are not plain pieces of one file; "
            f"make one file of them first: zip -s 0 {source.name} --out whole.zip"
        )
    if offset + size != position:
        change = "are missing" if offset + size > position else "are too many"
        raise DatasetError(_damaged(source, f"{abs(offset + size - position)} bytes {change}"))
    return _Directory(offset, entries)


def _read_at(file: io.BufferedReader, position: int, count: int) -> bytes:
    file.seek(max(0, position))
    return file.read(count)


def _no_end(file: io.BufferedReader, source: Source) -> str:
    if _read_at(file, 0, 4)[:2] != b"PK":
        return f"{source.name}: not a zip archive (it starts otherwise); download it again"
    hint = ""
    if len(source.parts) > 1 or source.parts[0].name != source.name:
        stem, _, number = source.parts[-1].name.rpartition(".")
        hint = f", or it has more pieces: {stem}.{int(number) + 1:0{len(number)}d}"
    return f"{source.name}: its end is missing; {source.parts[-1].name} is incomplete{hint}; download it again"


def _damaged(source: Source, problem: str) -> str:
    sizes = f"a piece is incomplete or of another archive, all but the last should have one size: {source.sizes()}"
    return f"{source.name}: {problem}: {sizes if len(source.parts) > 1 else 'download it again'}"


def _entries(file: io.BufferedReader, source: Source, position: int, count: int) -> Iterator[tuple[int, _Entry, bytes]]:
    """Yield position, entry and raw record of ``count`` entries of the directory."""
    file.seek(position)
    for _ in range(count):
        head = file.read(_ENTRY.size)
        if len(head) < _ENTRY.size or not head.startswith(b"PK\1\2"):
            raise DatasetError(f"{source.name}: damaged: no entry at byte {position}; download it again")
        fields = _ENTRY.unpack(head)
        _, _, _, flags, method, _, _, crc32, packed, size, n_name, n_extra, n_comment, _, _, mode, offset = fields
        rest = file.read(n_name + n_extra + n_comment)
        if _FULL32 in (packed, size, offset):
            extra = rest[n_name : n_name + n_extra]
            packed, size, offset = _large(extra, (size, packed, offset), source)
        yield position, _Entry(rest[:n_name], flags, method, crc32, packed, size, offset, mode >> 16), head + rest
        position += len(head) + len(rest)


def _large(extra: bytes, values: tuple[int, int, int], source: Source) -> tuple[int, int, int]:
    """(packed, size, offset) with those that do not fit into 32 bits from the zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64_FIELD:
            wide = extra[at + 4 : at + 4 + length]
            found = iter(struct.unpack_from(f"<{len(wide) // 8}Q", wide))
            try:
                size, packed, offset = (next(found) if value == _FULL32 else value for value in values)
            except (StopIteration, RuntimeError):
                break
            return packed, size, offset
        at += 4 + length
    raise DatasetError(f"{source.name}: damaged: an entry lacks its zip64 field; download it again")


def _check(entry: _Entry, source: Source) -> None:
    if entry.flags & (_ENCRYPTED | _STRONGLY_ENCRYPTED):
        raise DatasetError(f"{source.name}: {entry.name!r} is encrypted; unpack it with its password yourself")
    if entry.method not in (STORED, DEFLATED):
        method = _METHODS.get(entry.method, f"method {entry.method}")
        raise DatasetError(
            f"{source.name}: {entry.name!r} is packed by {method}; only stored and deflated entries are read: "
            "unpack it with another program"
        )
    kind = stat.S_IFMT(entry.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetError(
            f"{source.name}: {entry.name!r} is a link or a device, which could lead out of the target folder; "
            "nothing was written"
        )


def _content(file: io.BufferedReader, source: Source, entry: _Entry) -> Iterator[bytes]:
    """The unpacked data, never more than the entry declares."""
    _find_data(file, source, entry)
    size = checksum = 0
    for chunk in _unpacked(file, source, entry):
        size += len(chunk)
        if size > entry.size:
            raise DatasetError(_broken(source, entry, f"more than the {entry.size} bytes it should have"))
        checksum = zlib.crc32(chunk, checksum)
        yield chunk
    if (size, checksum) != (entry.size, entry.crc32):
        found = f"{size} bytes with CRC {checksum:08x} instead of {entry.size} with {entry.crc32:08x}"
        raise DatasetError(_broken(source, entry, found))


def _unpacked(file: io.BufferedReader, source: Source, entry: _Entry) -> Iterator[bytes]:
    """The data in pieces of limited size, unchecked."""
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    for start in range(0, entry.packed, _CHUNK_BYTES):
        data = file.read(min(entry.packed - start, _CHUNK_BYTES))
        if entry.method == STORED:
            yield data
            continue
        chunk = data
        while data or len(chunk) == _CHUNK_BYTES:  # a full piece may have more behind it
            try:
                chunk = unpack.decompress(data, _CHUNK_BYTES)
            except zlib.error as error:
                raise DatasetError(_broken(source, entry, str(error))) from error
            data = unpack.unconsumed_tail
            yield chunk


def _find_data(file: io.BufferedReader, source: Source, entry: _Entry) -> None:
    """Go to the first byte of an entry's data."""
    head = _read_at(file, entry.offset, _LOCAL.size)
    if len(head) == _LOCAL.size:
        signature, _, _, method, _, _, _, _, _, n_name, n_extra = _LOCAL.unpack(head)
        if (signature, method) == (b"PK\3\4", entry.method) and file.read(n_name) == entry.raw_name:
            file.seek(n_extra, io.SEEK_CUR)
            return
    raise DatasetError(_broken(source, entry, "its header is not where the table of contents says"))


def _broken(source: Source, entry: _Entry, problem: str) -> str:
    name = entry.name.rpartition("/")[2]
    return f"{name}: {problem}; {source.part_at(entry.offset)} is damaged near byte {entry.offset} of the whole archive"
