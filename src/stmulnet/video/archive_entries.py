"""What an archive holds, before anything is written: names that are safe, units of work, and their files."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stmulnet.errors import DatasetError
from stmulnet.video.archive_parts import Source

WORK_FOLDER = ".importing"  # in the output folder: what is being unpacked, and what is finished
RECORD_NAME = "imports.json"
_OURS = (WORK_FOLDER, RECORD_NAME)
BLOCK_BYTES = 4096  # what file systems give a file at least
_MAX_NAME_BYTES = 255
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!()-]{0,199}(?<!\.)")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
There = Callable[[str, str, int], bool]  # whether a file is on disk: of a folder, a name, a size in bytes
_RESERVED = re.compile(r"(?i)(CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³]|CONIN\$|CONOUT\$)(\..*)?")


class Unit(NamedTuple):
    """The files of one folder (in a tar archive, one run of them): written and entered as finished together.

    Attributes:
        number: Counts the units of an archive from 0.
        folder: Path of the folder in the archive, without a slash at its end; empty for the top.
        first: Name of the first file.
        files: Number of files.
        there: Number of files that are on disk, with the size that they should have.
        size_bytes: Their sizes together, each rounded up to whole blocks of a disk.
        runs: Where they are listed in a zip archive: (position, number of entries).
    """

    number: int
    folder: str
    first: str
    files: int
    there: int
    size_bytes: int
    runs: tuple[tuple[int, int], ...]


class File(NamedTuple):
    """One file of a unit.

    Attributes:
        name: Name in its folder.
        chunks: Its content; reading it to the end checks it.
    """

    name: str
    chunks: Iterator[bytes]


class Index(NamedTuple):
    """All that is known of an archive before it is unpacked.

    Attributes:
        source: The archive.
        checksum: CRC-32 of its table of contents.
        units: Its units of work.
    """

    source: Source
    checksum: int
    units: list[Unit]


def files_in(out: Path) -> There:
    """Whether the files of an archive are below a folder: one question to the file system for each."""
    base = str(out)

    def there(folder: str, name: str, size_bytes: int) -> bool:
        try:
            return os.stat(f"{base}/{folder}/{name}").st_size == size_bytes
        except OSError:
            return False

    return there


def nothing_there(_folder: str, _name: str, _size_bytes: int) -> bool:
    """Where nothing was imported before."""
    return False


@dataclass
class UnitList:
    """Collects the units while the entries of an archive go by.

    Args:
        by_folder: Whether entries of one folder that do not follow each other are one unit.
        is_there: Whether a file is on disk already.
    """

    by_folder: bool
    is_there: There
    _runs: dict[tuple[str, int], list[list[int]]] = field(default_factory=dict)
    _totals: dict[tuple[str, int], tuple[str, int, int, int]] = field(default_factory=dict)
    _last: tuple[str, int] = ("", -1)

    def add(self, folder: str, name: str, size_bytes: int, position: int) -> None:
        """Add a file that is listed at a position."""
        key = self._last
        if folder != key[0] or key[1] < 0:
            key = (folder, 0 if self.by_folder else len(self._runs))
            self._runs.setdefault(key, []).append([position, 0])
            self._last = key
        self._runs[key][-1][1] += 1
        first, files, there, total = self._totals.get(key, (name, 0, 0, 0))
        there += self.is_there(folder, name, size_bytes)
        self._totals[key] = first, files + 1, there, total - (-size_bytes // BLOCK_BYTES) * BLOCK_BYTES

    def units(self) -> list[Unit]:
        """The units in the order of their first entries."""
        return [
            Unit(number, folder, *self._totals[folder, run], tuple((start, count) for start, count in found))
            for number, ((folder, run), found) in enumerate(self._runs.items())
        ]


class NameCheck:
    """Splits names of entries into folder and file, and refuses those that could be written anywhere else.

    Args:
        archive: The archive's name, for messages.
        windows: Whether names must be possible on Windows; on Windows they must.
    """

    def __init__(self, archive: str, *, windows: bool = os.name == "nt") -> None:
        self._archive = archive
        self._windows = windows
        self._folders: set[str] = {""}

    def split(self, name: str) -> tuple[str, str]:
        """(folder, file) of an entry; file is empty for an entry that is a folder.

        Raises:
            DatasetError: The name is absolute, leaves the folder, or cannot be a file's name.
        """
        folder, slash, file = name.removeprefix("./").rpartition("/")
        if slash and not folder and file:
            self._refuse(name, "it is absolute")
        if folder not in self._folders:
            for part in folder.split("/"):
                self._check_part(part, name)
            if folder.partition("/")[0] in _OURS:
                self._refuse(name, "a name of this program's own")
            self._folders.add(folder)
        if file and not _PLAIN_NAME.fullmatch(file):
            self._check_part(file, name)
        if self._windows and file and _RESERVED.fullmatch(file):
            self._refuse(name, "a name that Windows keeps for a device")
        if not folder and file in _OURS:
            self._refuse(name, "a name of this program's own")
        return folder, file

    def _check_part(self, part: str, name: str) -> None:
        if part in ("", ".", ".."):
            self._refuse(name, "it is absolute, or would leave the target folder")
        if "\\" in part or _DRIVE.match(part):
            self._refuse(name, "it has a backslash or a drive letter")
        if _NO_TEXT.search(part):
            self._refuse(name, "it has control characters, or bytes that are no UTF-8")
        if len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
            self._refuse(name, f"a part of it has more than {_MAX_NAME_BYTES} bytes")
        if self._windows and (_RESERVED.fullmatch(part) or re.search(r'[<>:"|?*]', part) or part[-1] in ". "):
            self._refuse(name, "Windows allows no such name")

    def _refuse(self, name: str, reason: str) -> None:
        raise DatasetError(
            f"{self._archive}: entry {name!r} is refused: {reason}; nothing was written. If you trust the archive, "
            "unpack it with another program into a folder of its own and look at it"
        )
