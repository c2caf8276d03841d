"""Archives of frames and flow, unpacked into a data set: checked, resumable at any moment, never half a folder.

The files of a folder are written to ``<out>/.importing/<number>``, which is renamed into place when all of them
are right; only then is the folder entered in the journal. Whatever a killed run leaves in between is done again.
"""

import contextlib
import filecmp
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stmulnet.console import counted, notice, progress
from stmulnet.errors import DatasetError, StmulnetError
from stmulnet.files import check_output, locked, write_json
from stmulnet.video.archive_entries import RECORD_NAME, WORK_FOLDER, File, Index, There, Unit, files_in, nothing_there
from stmulnet.video.archive_parts import Source, find_archives
from stmulnet.video.archive_tar import index_tar, tar_units
from stmulnet.video.archive_zip import index_zip, zip_files
from stmulnet.video.io import VIDEO_SUFFIXES
from stmulnet.video.pool import WorkerDiedError, check_workers, default_workers, map_unordered
from stmulnet.video.state import check_import_output
from stmulnet.video.trees import IMAGE_SUFFIXES

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_RESERVE = 1.02  # of the space that files need: their folders need some, too


@dataclass
class ImportSummary:
    """What an import did.

    Attributes:
        files: Files written by this run.
        folders: Folders that they are in.
        skipped: Files that were there already: of finished folders with their names and sizes, else with their content.
        failures: (archive and folder, reason) of the folders that could not be unpacked.
        seconds: Duration of this run.
    """

    files: int = 0
    folders: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, or 1 where a folder failed."""
        return 1 if self.failures else 0

    def __str__(self) -> str:
        rate = self.files / self.seconds if self.seconds else 0.0
        failed = f"{counted(len(self.failures), 'folder')} failed{', named above' if self.failures else ''}"
        return (
            f"{counted(self.files, 'file')} in {counted(self.folders, 'folder')} written, {self.skipped} there "
            f"already, {failed}; {self.seconds:.1f} s{f' ({rate:.0f} files/s)' if self.files else ''}"
        )


def import_archives(archives: Sequence[Path], out: Path, *, workers: int | None = None) -> ImportSummary:
    """Unpack archives into a folder; go on where an earlier run stopped.

    All archives are checked before the first file is written. A folder appears complete or not at all; files that are
    there already are kept if they are the same, and never replaced. Folders that earlier runs finished are not
    unpacked again if all of their files are there still, with their sizes.

    Args:
        archives: Files .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz, or pieces of them (.zip.001, .zip.002, ...).
        out: The folder; made where it is missing.
        workers: Processes; None takes one per core, 1 works in this process. Tar archives are read by this process.

    Returns:
        The summary; damaged folders are in its failures.

    Raises:
        DatasetError: An archive is missing, empty, incomplete, unsafe, of videos, or needs more room than there is.
        ConfigError: An argument is out of range, or the output is no writable folder or holds a data set that was not
            imported.
        KeyboardInterrupt: Interrupted; says how many folders are done.
    """
    check_workers(workers)
    start = time.monotonic()
    check_output(out)
    check_import_output(out)
    imported = (out / RECORD_NAME).exists() or (out / WORK_FOLDER).exists()
    is_there = files_in(out) if imported else nothing_there
    indexes = [_index(source, is_there) for source in find_archives(archives)]
    out.mkdir(parents=True, exist_ok=True)
    summary = ImportSummary()
    with locked(out, DatasetError(f"{out}: another command is writing to this folder; wait for its end")):
        imports = [_Import(index, out) for index in indexes]
        _check_room([unit for one in imports for unit in one.waiting], out)
        for one in imports:
            one.run(summary, workers or default_workers())
    summary.seconds = time.monotonic() - start
    return summary


def _index(source: Source, is_there: There) -> Index:
    index = _read_index(source, is_there)
    if not index.units:
        raise DatasetError(f"{source.name}: holds no files; nothing was written")
    videos = [unit for unit in index.units if unit.first.lower().endswith(VIDEO_SUFFIXES)]
    if videos and not any(unit.first.lower().endswith(IMAGE_SUFFIXES) for unit in index.units):
        raise DatasetError(
            f"{source.name}: holds videos ({videos[0].folder}/{videos[0].first}), neither frames nor flow; nothing was "
            "written: give the archive to `stmulnet extract`, which reads it as it is"
        )
    return index


def _read_index(source: Source, is_there: There) -> Index:
    name = source.name.lower()
    if name.endswith(_TAR_SUFFIXES):
        return index_tar(source, is_there)
    if name.endswith(".zip"):
        return index_zip(source, is_there)
    if name.endswith((".z01", ".rar", ".7z")):
        raise DatasetError(f"{source.name}: archives of this kind are not read; unpack it with another program")
    raise DatasetError(
        f"{source.name}: no archive by its name; known are .zip, {', '.join(_TAR_SUFFIXES)} and pieces such as .zip.001"
    )


def _check_room(units: Sequence[Unit], out: Path) -> None:
    """Refuse, before anything is written, what would not fit."""
    needed, free = int(_RESERVE * sum(unit.size_bytes for unit in units)), shutil.disk_usage(out).free
    if needed > free:
        raise DatasetError(
            f"{out}: the archives unpack to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free there; "
            "make room, or give another folder"
        )
    files = sum(unit.files + 1 for unit in units)
    room = os.statvfs(out) if hasattr(os, "statvfs") else None
    if room and room.f_files and files > room.f_favail:
        raise DatasetError(
            f"{out}: the archives hold {files} files and folders, but its file system has room for {room.f_favail} "
            "more (inodes); give a folder of another one"
        )


class _Import:
    """One archive on its way into a folder.

    Args:
        index: What it holds.
        out: The folder; it exists.
    """

    def __init__(self, index: Index, out: Path) -> None:
        self.index = index
        self.out = out
        self._work = out / WORK_FOLDER
        self._journal_path = self._work / f"{index.source.name}.{index.checksum:08x}.jsonl"
        finished = self._finished()
        self.waiting = [unit for unit in index.units if unit.number not in finished or unit.there < unit.files]
        self.done = len(index.units) - len(self.waiting)

    def run(self, summary: ImportSummary, workers: int) -> None:
        """Unpack what is waiting."""
        name = self.index.source.name
        summary.skipped += sum(unit.files for unit in self.index.units) - sum(unit.files for unit in self.waiting)
        failures: list[tuple[str, str]] = []
        if self.waiting:
            self._clear()
            self._work.mkdir(exist_ok=True)
            try:
                self._unpack_all(summary, failures, workers)
            except KeyboardInterrupt:
                units = counted(len(self.index.units), "folder")
                kept = f"{name}: {self.done} of {units} done, which are kept"
                raise KeyboardInterrupt(f"{kept}; the same command again goes on from there") from None
            except WorkerDiedError as error:
                raise StmulnetError(
                    f"{name}: a worker process died (killed, or out of memory); finished folders are kept: run the "
                    "same command again (a script must call this below `if __name__ == '__main__':`)"
                ) from error
        summary.failures += failures
        if not failures:
            self._record()
            self._clear_journals()
        self._clear()

    def _unpack_all(self, summary: ImportSummary, failures: list[tuple[str, str]], workers: int) -> None:
        source = self.index.source
        total = sum(unit.files for unit in self.waiting)
        with progress(total, f"import {source.name}", "files") as advance, self._journal_path.open("a") as journal:
            for unit, result in self._results(workers):
                if isinstance(result, str):
                    place = f"{source.name}: {unit.folder or 'top folder'}"
                    failures.append((place, result))
                    notice(f"failed: {place}: {result}")
                else:
                    journal.write(json.dumps({"unit": unit.number, "folder": unit.folder}) + "\n")
                    journal.flush()
                    self.done += 1
                    summary.files += unit.files - result
                    summary.skipped += result
                    summary.folders += unit.files > result
                advance(unit.files)

    def _results(self, workers: int) -> Iterator[tuple[Unit, int | str]]:
        source = self.index.source
        if source.name.lower().endswith(_TAR_SUFFIXES):
            wanted = {unit.number for unit in self.waiting}
            for unit, files in tar_units(source, self.index.units, wanted):
                yield unit, _unpack(files, self._work / str(unit.number), self.out / unit.folder)
            return
        jobs = [_Job(source, unit, self._work / str(unit.number), self.out / unit.folder) for unit in self.waiting]
        for job, result in map_unordered(_unpack_zip, jobs, workers=workers):
            yield job.unit, result

    def _finished(self) -> set[int]:
        """Numbers of the units that earlier runs finished."""
        if self._identity() in _recorded(self.out):
            return {unit.number for unit in self.index.units}
        return set(_journalled(self._journal_path))

    def _identity(self) -> dict[str, Any]:
        size = sum(part.stat().st_size for part in self.index.source.parts)
        files = sum(unit.files for unit in self.index.units)
        checksum = f"{self.index.checksum:08x}"
        return {"archive": self.index.source.name, "bytes": size, "files": files, "contents_crc32": checksum}

    def _record(self) -> None:
        others = [entry for entry in _recorded(self.out) if entry != self._identity()]
        entries = sorted([*others, self._identity()], key=lambda entry: json.dumps(entry, sort_keys=True))
        write_json(self.out / RECORD_NAME, {"archives": entries})

    def _clear_journals(self) -> None:
        """Those of damaged copies of this archive as well."""
        for path in self._work.glob("*.jsonl"):
            if path.name.rsplit(".", 2)[0] == self.index.source.name:
                path.unlink()

    def _clear(self) -> None:
        """Remove what a killed run was working on, and the folder itself when it holds nothing else."""
        if self._work.is_dir():
            for path in self._work.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
            with contextlib.suppress(OSError):  # journals of archives that are not finished
                self._work.rmdir()


class _Job(NamedTuple):
    """A unit of a zip archive for a worker process."""

    source: Source
    unit: Unit
    work: Path
    target: Path


def _unpack_zip(job: _Job) -> int | str:
    return _unpack(zip_files(job.source, job.unit), job.work, job.target)


def _unpack(files: Iterable[File], work: Path, target: Path) -> int | str:
    """Write the files of a folder, all or none: how many of them were there already, or what is wrong."""
    try:
        work.mkdir()
        for file in files:
            _write(work / file.name, file.chunks)
        return _place(work, target)
    except DatasetError as error:
        return str(error)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    try:
        with path.open("xb") as file:
            file.writelines(chunks)
    except FileExistsError as error:
        raise DatasetError(
            f"{path.name}: is there twice (or again in other letters, which are the same here)"
        ) from error


def _place(work: Path, target: Path) -> int:
    """Move a finished folder to its place; into a folder that is there already, file by file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(work, target)  # onto nothing, or an empty folder
    except OSError as error:
        if not target.is_dir():
            raise DatasetError(f"{target}: the folder cannot be put there: {error.strerror}; move what is") from error
        return _merge(work, target)
    return 0


def _merge(work: Path, target: Path) -> int:
    names = sorted(os.listdir(work))
    there = [name for name in names if os.path.lexists(target / name)]
    others = [name for name in there if not _same(work / name, target / name)]
    if others:
        some = counted(len(others), "file is", "files are")
        raise DatasetError(
            f"{some} in {target} with other content, the first is {others[0]}; nothing is replaced: move what is there "
            "away, and run the same command again"
        )
    for name in set(names).difference(there):
        os.rename(work / name, target / name)
    return len(there)


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _recorded(out: Path) -> list[dict[str, Any]]:
    """Archives that were imported completely."""
    path = out / RECORD_NAME
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["archives"]
        return [dict(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not a record of `stmulnet import-archive` ({error!r}); move it away") from error


def _journalled(path: Path) -> Iterator[int]:
    """Units that a killed run finished."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            yield int(json.loads(line)["unit"])
        except (ValueError, KeyError, TypeError):
            return  # cut off by the kill; what was finished after a damaged line is done again
