"""Frames and flow of many videos, resumable at any moment and divisible among machines.

Unfinished parts of videos are in ``<out>/.partial`` (of a shard in a folder below it); a finished video is renamed into
place, and only then is it entered in the journal and in the manifest. Whatever a killed run leaves in between is done
again. The folder stays, empty, when a run is interrupted: the data set is not finished.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stmulnet.console import counted, notice, progress
from stmulnet.constants import JPEG_QUALITY, MIN_FRAMES, STORED_SHORT_SIDE
from stmulnet.errors import DatasetError, StmulnetError
from stmulnet.files import check_output, locked, write_text
from stmulnet.flow.estimate import takes_device
from stmulnet.flow.tvl1_kernels import prepare_kernels
from stmulnet.video.extract_job import PARTS, Encoding, Failure, Job, NeededFields, extract_one
from stmulnet.video.manifest import (
    MANIFEST_NAME,
    SHARD_MANIFESTS,
    Manifest,
    VideoEntry,
    append_journal,
    check_settings,
    load_manifests,
    manifest_paths,
    read_journal,
)
from stmulnet.video.packed import PARTIAL_FOLDER
from stmulnet.video.pool import WorkerDiedError, check_workers, default_workers, map_unordered
from stmulnet.video.shard import Shard, shards_in
from stmulnet.video.sources import VideoSource, find_sources, open_sources
from stmulnet.video.state import check_extract_output

FAILURES_NAME = "failures.txt"
_JOURNAL_NAME = "finished.jsonl"
_WORK_FOLDER = "work"
_SHARD_FAILURES = "failures-shard-*-of-*.txt"


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        done: Videos extracted by this run.
        skipped: Videos that were complete already.
        failures: (path of the source, reason) of those that could not be extracted.
        too_short: Extracted videos, of this run or before, with fewer than 11 frames: no network can use them.
        frames: Frames written by this run.
        pairs: Flow fields written by this run.
        seconds: Duration of this run.
        notes: What else there is to know about the data set.
    """

    done: int
    skipped: int
    failures: tuple[tuple[str, str], ...]
    too_short: tuple[str, ...]
    frames: int
    pairs: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 1 where a video failed."""
        return 1 if self.failures else 0

    def __str__(self) -> str:
        rate = self.pairs / self.seconds if self.seconds else 0.0
        videos = counted(self.done, "video")
        lines = [f"{videos} extracted, {self.skipped} complete already, {len(self.failures)} failed"]
        if self.done:
            made = f"{counted(self.frames, 'frame')} and {counted(self.pairs, 'flow field')}"
            lines.append(f"{made} in {self.seconds:.1f} s ({rate:.1f} pairs/s)")
        lines += self.notes
        if self.too_short:
            some = counted(len(self.too_short), "video has", "videos have")
            lines.append(f"{some} fewer than the {MIN_FRAMES} frames a network needs: {', '.join(self.too_short)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Place:
    """The files of one run in the folder of the data set."""

    out: Path
    shard: Shard | None

    @property
    def manifest(self) -> Path:
        return self.out / (f"manifest-{self.shard.label}.json" if self.shard else MANIFEST_NAME)

    @property
    def failures(self) -> Path:
        return self.out / (f"failures-{self.shard.label}.txt" if self.shard else FAILURES_NAME)

    @property
    def partial(self) -> Path:
        return self.out / PARTIAL_FOLDER / self.shard.label if self.shard else self.out / PARTIAL_FOLDER

    @property
    def work(self) -> Path:
        return self.partial / _WORK_FOLDER

    @property
    def journal(self) -> Path:
        return self.partial / _JOURNAL_NAME

    def journals(self) -> list[Path]:
        """Journals of all runs into this folder."""
        partial = self.out / PARTIAL_FOLDER
        return [partial / _JOURNAL_NAME, *sorted(partial.glob(f"shard-*/{_JOURNAL_NAME}"))]

    def begin(self) -> None:
        """Remove what killed runs have left unfinished; the folder itself says that a run has begun."""
        self.partial.mkdir(parents=True, exist_ok=True)
        self._empty()
        for path in (self.manifest, self.failures):  # of a run that was killed between writing and renaming
            for leftover in self.out.glob(f".{path.stem}.*.partial{path.suffix}"):
                leftover.unlink(missing_ok=True)

    def end(self, *, finished: bool) -> None:
        """Remove unfinished parts; where everything is finished, their folder as well."""
        self._empty()
        if finished:
            shutil.rmtree(self.partial, ignore_errors=True)
            with contextlib.suppress(OSError):  # other shards are at work
                (self.out / PARTIAL_FOLDER).rmdir()

    def _empty(self) -> None:
        if self.shard is None:  # takes over from all shards
            for path in self.partial.glob("shard-*"):
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)
        self.journal.unlink(missing_ok=True)


def extract_videos(
    videos: Path | Sequence[Path],
    out: Path,
    *,
    short_side: int = STORED_SHORT_SIDE,
    flow_backend: str = "tvl1",
    workers: int | None = None,
    jpeg_quality: int = JPEG_QUALITY,
    device: str = "auto",
    needed: NeededFields | None = None,
    shard: str | None = None,
    only: Collection[str] | None = None,
) -> ExtractSummary:
    """Write frames, flow and manifest of videos; go on where an earlier run stopped.

    Args:
        videos: Folders, with class folders or flat, archives and files; see `find_sources`.
        out: Folder of the data set: ``images/<video>/``, ``flows/{u,v}/<video>/``, ``manifest.json``, and
            ``failures.txt`` where there are any.
        short_side: Shorter side of the stored frames, pixels.
        flow_backend: Flow implementation, see `stmulnet.flow.estimate`.
        workers: Processes; None takes one per core, 1 works in this process. With tvl1-torch threads of this process,
            which share the device.
        jpeg_quality: 1 to 100.
        device: For tvl1-torch: auto, cpu, cuda or cuda:N.
        needed: Flow fields to compute; None for all.
        shard: ``"i/n"``: only the i-th of n parts of the videos, divided by name. The parts may be made at the same
            time, on different machines, in one folder or in several. Each has its own manifest; without a shard, all
            are joined into one.
        only: Names of the videos to do once more, also where they are complete: a repair, after which the data set is
            as finished as before. None for those that are not complete.

    Returns:
        The summary; videos that cannot be decoded are in its failures.

    Raises:
        DatasetError: No videos, two of one name, or writing fails.
        ConfigError: An argument is out of range, or the output is no writable folder, holds a data set that was not
            extracted, or was made with other settings.
        StmulnetError: A worker process died.
        KeyboardInterrupt: Interrupted; says how many videos are done.
    """
    check_workers(workers)
    encoding = Encoding(short_side, flow_backend, jpeg_quality, needed, device)
    encoding.check()
    place = _Place(out, None if shard is None else Shard.parse(shard))
    check_output(out)
    check_extract_output(out)
    settings = encoding.settings()
    sources = find_sources(videos)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            manifest = _resumed(place, settings)
            run = _Run(place, encoding, manifest, workers or default_workers())
            return run.extract(sources, only)
    except OSError as error:
        raise DatasetError(f"{out}: cannot write the data set: {error}") from error


@contextlib.contextmanager
def _alone(place: _Place) -> Iterator[None]:
    """Keep out other runs that write the same videos, and outlast the workers of a run that was killed."""
    busy = DatasetError(f"{place.out}: another extraction is writing to this folder; wait for its end")
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(place.out, busy, shared=place.shard is not None))
        if place.shard:
            place.partial.mkdir(parents=True, exist_ok=True)
            busy = DatasetError(f"{place.out}: shard {place.shard} is being extracted already; wait for its end")
            stack.enter_context(locked(place.partial, busy))
            _check_divisions(place, place.shard)
        for work in [place.work, *place.partial.glob(f"shard-*/{_WORK_FOLDER}")]:
            if work.is_dir():
                with locked(work, None):
                    pass
        yield


def _check_divisions(place: _Place, shard: Shard) -> None:
    """Keep out shards of another division while they are at work, which may own the same videos; say what is there."""
    partial = place.out / PARTIAL_FOLDER
    for other in shards_in(path.name for path in partial.glob("shard-*")):
        if other.count != shard.count:
            busy = f"shard {other} is being extracted there, of another division than {shard}; wait for its end"
            with locked(partial / other.label, DatasetError(f"{place.out}: {busy}")):
                pass
    others = [other for other in shards_in(p.name for p in manifest_paths(place.out)) if other.count != shard.count]
    if others:
        notice(
            f"note: {place.out} holds shard {', '.join(map(str, others))}, of another division than {shard}: videos "
            "done there are not done again, but only all shards of one division together are all videos"
        )


def _resumed(place: _Place, settings: dict[str, Any]) -> Manifest:
    """What the runs before have finished, killed ones and those of shards included."""
    manifest = load_manifests(place.out)
    if manifest is None:
        return Manifest(settings)
    manifest.videos.update({entry.name: entry for path in place.journals() for entry in read_journal(path)})
    if not manifest.videos:  # nothing was finished with the settings it names
        return Manifest(settings)
    for change in check_settings(manifest.settings, settings, place.out):
        notice(f"note: library version {change}; videos of both are in this folder")
    if place.shard:
        manifest.videos = {name: entry for name, entry in manifest.videos.items() if place.shard.owns(name)}
    return manifest


@dataclass(frozen=True)
class _Run:
    place: _Place
    encoding: Encoding
    manifest: Manifest  # of the finished videos
    workers: int

    def extract(self, sources: Mapping[str, VideoSource], only: Collection[str] | None) -> ExtractSummary:
        start = time.monotonic()
        shard = self.place.shard
        mine = [source for name, source in sources.items() if shard is None or shard.owns(name)]
        if only is not None:
            mine = [source for source in mine if source.name in only]
        waiting = []
        for source in mine:
            entry = self._finished(source) if only is None else None
            if entry is None:
                waiting.append(source)  # what the manifest says of it stays until it is replaced
            else:
                self.manifest.videos[source.name] = entry
        done, failures = self._extract_waiting(waiting, skipped=len(mine) - len(waiting), repair=only is not None)
        finished = self.manifest.videos
        short = [s.name for s in mine if s.name in finished and finished[s.name].num_frames < MIN_FRAMES]
        return ExtractSummary(
            done=len(done),
            skipped=len(mine) - len(waiting),
            failures=tuple(sorted(failures.items())),
            too_short=tuple(short),
            frames=sum(entry.num_frames for entry in done),
            pairs=sum(len(self.encoding.fields(entry.num_frames)) for entry in done),
            seconds=time.monotonic() - start,
            notes=self._notes(len(mine), len(sources), failed=bool(failures) and only is None),
        )

    def _extract_waiting(
        self, waiting: Sequence[VideoSource], *, skipped: int, repair: bool
    ) -> tuple[list[VideoEntry], dict[str, str]]:
        """Extract and record, whatever happens: the entries of what was done, and reasons by source."""
        done: list[VideoEntry] = []
        failures: dict[str, str] = {}
        finished = repair and not self.place.partial.exists()  # before; a repair does not change that
        self._save()  # before the journal and the leftovers of a killed run go
        self.place.begin()
        try:
            self._extract_all(waiting, done, failures, repair=repair)
            finished = finished or not repair
        except KeyboardInterrupt:
            kept = f"{skipped + len(done)} of {counted(skipped + len(waiting), 'video')} done, which are kept"
            raise KeyboardInterrupt(f"{kept}; the same command again goes on from there") from None
        finally:
            self._save()
            if not repair:
                self._write_failures(failures)
            self.place.end(finished=finished)
        return done, failures

    def _notes(self, mine: int, total: int, *, failed: bool) -> tuple[str, ...]:
        notes = [f"{self.place.failures}: what failed, and why"] if failed else []
        if self.encoding.needed:
            notes.append(
                f"only the flow that {self.encoding.needed.test_frames} test frames per video need: this data set is "
                "for evaluation only, training needs all of it"
            )
        if self.place.shard:
            notes.append(
                f"shard {self.place.shard}, {mine} of {total} videos; when all shards are done and lie in one folder, "
                "the same command without --shard checks them and joins their manifests"
            )
        return tuple(notes)

    def _finished(self, source: VideoSource) -> VideoEntry | None:
        """The entry of a video of this file name and size that was finished and has all of its images still."""
        entry = self.manifest.videos.get(source.name)
        if entry is None or entry.source_bytes != source.size_bytes:
            return None
        if PurePosixPath(entry.source).name != PurePosixPath(source.source).name:
            return None
        fields = len(self.encoding.fields(entry.num_frames))
        folders = [self.place.out / part / source.name for part in PARTS]
        wanted = (entry.num_frames, fields, fields)
        if not all(f.is_dir() and len(os.listdir(f)) == count for f, count in zip(folders, wanted, strict=True)):
            return None
        return replace(entry, source=source.source)  # it may lie in another folder or archive than it did

    def _save(self) -> None:
        self.manifest.save(self.place.manifest)
        if self.place.shard is None:  # which holds what they hold
            for path in [*self.place.out.glob(SHARD_MANIFESTS), *self.place.out.glob(_SHARD_FAILURES)]:
                path.unlink()

    def _write_failures(self, failures: Mapping[str, str]) -> None:
        if failures:
            lines = [f"{source}\t{' '.join(reason.split())}\n" for source, reason in sorted(failures.items())]
            write_text(self.place.failures, "".join(lines))
        else:
            self.place.failures.unlink(missing_ok=True)

    def _extract_all(
        self, waiting: Sequence[VideoSource], done: list[VideoEntry], failures: dict[str, str], *, repair: bool
    ) -> None:
        if not waiting:
            return
        if self.encoding.flow_backend == "tvl1":
            prepare_kernels()  # compiled here, once, if ever: the workers find them in numba's cache
        self.place.work.mkdir(parents=True, exist_ok=True)
        jobs = (
            Job(opened, self.place.out, self.place.work, self.encoding)
            for opened in open_sources(waiting, self.place.work)
        )
        workers, in_threads = min(self.workers, len(waiting)), takes_device(self.encoding.flow_backend)
        try:
            with progress(len(waiting), "extract", "videos") as advance:
                for job, result in map_unordered(extract_one, jobs, workers=workers, threads=in_threads):
                    if isinstance(result, Failure):
                        failures[job.opened.source.source] = result.reason
                        notice(f"failed: {job.opened.source.source}: {result.reason}")
                    else:
                        done.append(self._enter(result, repair=repair))
                    advance(1)
        except WorkerDiedError as error:
            names = sorted(path.name.rpartition("-")[0] for path in self.place.work.iterdir() if path.is_dir())
            raise StmulnetError(
                "a worker process died (killed, or out of memory) while it worked on one of: "
                f"{', '.join(names) or 'none yet'}; finished videos are kept: run the same command again, with fewer "
                "workers if memory is short (a script must call this below `if __name__ == '__main__':`)"
            ) from error

    def _enter(self, entry: VideoEntry, *, repair: bool) -> VideoEntry:
        before = self.manifest.videos.get(entry.name)
        if repair and before:  # the same file, wherever it lies today
            entry = replace(entry, source=before.source)
        self.manifest.videos[entry.name] = entry  # first: an interruption saves this, a kill leaves the journal
        append_journal(self.place.journal, entry)
        return entry
