"""Archives as they are downloaded: one file, or one file cut in pieces (``x.zip.001``, ``x.zip.002``, ...)."""

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stmulnet.errors import DatasetError

_PART = re.compile(r"(?P<name>.+)\.(?P<number>[0-9]{3,})")
_BUFFER_BYTES = 1 << 20


class Source(NamedTuple):
    """One archive.

    Attributes:
        name: File name, without the number of a piece.
        parts: The file, or its pieces in order.
    """

    name: str
    parts: tuple[Path, ...]

    def open(self) -> io.BufferedReader:
        """Open for reading, whole, whatever it is cut into."""
        return io.BufferedReader(JoinedFile(self.parts), _BUFFER_BYTES)

    def part_at(self, offset: int) -> str:
        """Name of the piece that holds a byte."""
        for part in self.parts[:-1]:
            offset -= part.stat().st_size
            if offset < 0:
                return part.name
        return self.parts[-1].name

    def sizes(self) -> str:
        """Names and sizes of the pieces, for a message that something is wrong with one."""
        return ", ".join(f"{part.name} {part.stat().st_size} bytes" for part in self.parts)


class JoinedFile(io.RawIOBase):
    """Files one after the other, as one file that can be read from anywhere.

    Args:
        paths: The files, in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._files = [path.open("rb", buffering=0) for path in paths]
        self._ends: list[int] = []
        for file in self._files:
            self._ends.append(os.fstat(file.fileno()).st_size + (self._ends[-1] if self._ends else 0))
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte of the whole."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to the end of the piece that the position is in."""
        start = 0
        for file, end in zip(self._files, self._ends, strict=True):
            if self._position < end:
                file.seek(self._position - start)
                count: int = file.readinto(memoryview(buffer)[: end - self._position])
                self._position += count
                return count
            start = end
        return 0

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
        super().close()


def find_archives(paths: Sequence[Path]) -> list[Source]:
    """Put pieces together, whatever their order; those beside a named piece belong to it.

    Raises:
        DatasetError: A file is missing, a piece is missing or there twice.
    """
    whole: dict[Path, Source] = {}
    pieces: dict[str, dict[int, Path]] = {}
    for path in paths:
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "no such file"
            raise DatasetError(
                f"{path}: {problem}; name archives (.zip, .tar, .tar.gz) or their pieces (.zip.001, ...)"
            )
        match = _PART.fullmatch(path.name)
        if match:
            _add_piece(pieces.setdefault(match["name"], {}), match, path)
        else:
            whole[path.resolve()] = Source(path.name, (path,))
    for name, found in pieces.items():
        for folder in {path.parent for path in found.values()}:
            _add_neighbours(name, found, folder)
        _check_complete(name, found)
    joined = [Source(name, tuple(found[number] for number in sorted(found))) for name, found in pieces.items()]
    return [*whole.values(), *joined]


def _add_piece(found: dict[int, Path], match: re.Match[str], path: Path) -> None:
    number = int(match["number"])
    if number in found and found[number].resolve() != path.resolve():
        raise DatasetError(f"two files are piece {match['number']} of {match['name']}: {found[number]} and {path}")
    found.setdefault(number, path)


def _add_neighbours(name: str, found: dict[int, Path], folder: Path) -> None:
    for path in folder.iterdir():
        match = _PART.fullmatch(path.name)
        if match and match["name"] == name and int(match["number"]) not in found and path.is_file():
            found[int(match["number"])] = path


def _check_complete(name: str, found: dict[int, Path]) -> None:
    first = 0 if 0 in found else 1
    missing = sorted(set(range(first, max(found) + 1)) - set(found))
    if missing:
        names = ", ".join(f"{name}.{number:03d}" for number in missing)
        there = ", ".join(found[number].name for number in sorted(found))
        raise DatasetError(
            f"{names}: missing, while there are {there}; put all pieces into one folder, or name them all"
        )
