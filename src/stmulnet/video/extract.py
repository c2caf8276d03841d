"""Frames and flow of a folder of videos, resumable at any moment.

A video is worked on in ``<out>/.partial/<video>-<process>``; its finished folders are renamed into place, and only then
is it entered in the journal and in the manifest. Whatever a killed run leaves in between is done again.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg

from stmulnet.console import notice, progress
from stmulnet.constants import JPEG_QUALITY, MIN_FRAMES, STORED_SHORT_SIDE
from stmulnet.errors import ConfigError, DatasetError, StmulnetError, VideoTooShortError
from stmulnet.files import check_output, locked
from stmulnet.flow.estimate import estimate_flow, flow_record
from stmulnet.flow.quantize import to_uint8
from stmulnet.flow.tvl1_kernels import prepare_kernels
from stmulnet.video.io import VIDEO_SUFFIXES, Image, iter_frames
from stmulnet.video.manifest import (
    MANIFEST_NAME,
    Manifest,
    VideoEntry,
    append_journal,
    check_settings,
    read_journal,
)
from stmulnet.video.pool import WorkerDiedError, default_workers, map_unordered
from stmulnet.video.store import CHROMA_SUBSAMPLING, FLOW_FOLDER, FRAMES_FOLDER, write_flow, write_frames

PARTIAL_FOLDER = ".partial"
_JOURNAL_NAME = "finished.jsonl"
_PARTS = (FRAMES_FOLDER, f"{FLOW_FOLDER}/u", f"{FLOW_FOLDER}/v")
_CHUNK_PAIRS = 32  # pairs of frames in memory at a time: about 30 MB at 341x256, whatever the video's length
_MIN_SHORT_SIDE = 16  # pixels; the flow's pyramid needs them
_MAX_SHORT_SIDE = 4096
_MIN_PAIR = 2  # frames


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        done: Videos extracted by this run.
        skipped: Videos that were complete already.
        failures: (file relative to the folder of videos, reason) of those that could not be extracted.
        too_short: Extracted videos, of this run or before, with fewer than 11 frames: no network can use them.
        frames: Frames written by this run.
        pairs: Flow fields written by this run.
        seconds: Duration of this run.
    """

    done: int
    skipped: int
    failures: tuple[tuple[str, str], ...]
    too_short: tuple[str, ...]
    frames: int
    pairs: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0, or 1 where a video failed."""
        return 1 if self.failures else 0

    def __str__(self) -> str:
        rate = self.pairs / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.done} videos extracted, {self.skipped} were complete already, {len(self.failures)} failed",
            f"{self.frames} frames and {self.pairs} flow fields in {self.seconds:.1f} s ({rate:.1f} pairs/s)",
        ]
        if self.too_short:
            names = ", ".join(self.too_short)
            lines.append(f"{len(self.too_short)} have fewer than the {MIN_FRAMES} frames a network needs: {names}")
        lines += [f"failed: {source}: {reason}" for source, reason in self.failures]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Encoding:
    """What the user chose; the same for all videos."""

    short_side: int
    backend: str
    jpeg_quality: int

    def check(self) -> None:
        if not _MIN_SHORT_SIDE <= self.short_side <= _MAX_SHORT_SIDE:
            raise ConfigError(
                f"short_side must be {_MIN_SHORT_SIDE} to {_MAX_SHORT_SIDE} pixels, got {self.short_side}"
            )
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}")

    def settings(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "frames": {
                "short_side": self.short_side,
                "resize": "cv2.INTER_LINEAR",
                "jpeg_quality": self.jpeg_quality,
                "chroma_subsampling": CHROMA_SUBSAMPLING,
                "libraries": {
                    "av": av.__version__,
                    "ffmpeg": ".".join(str(part) for part in av.library_versions["libavcodec"]),
                    "opencv": cv2.__version__,
                    "simplejpeg": simplejpeg.__version__,
                },
            },
            "flow": {**flow_record(self.backend), "jpeg_quality": self.jpeg_quality},
        }


@dataclass(frozen=True)
class _Job:
    name: str
    path: Path
    source: str
    source_bytes: int
    out: Path
    encoding: _Encoding


@dataclass(frozen=True)
class _Failure:
    reason: str


def extract_videos(
    videos: Path,
    out: Path,
    *,
    short_side: int = STORED_SHORT_SIDE,
    backend: str = "tvl1",
    workers: int | None = None,
    jpeg_quality: int = JPEG_QUALITY,
) -> ExtractSummary:
    """Write frames, flow and manifest of all videos below a folder; go on where an earlier run stopped.

    Args:
        videos: Folder that is searched for videos, with class folders or flat.
        out: Folder of the data set: ``images/<video>/``, ``flows/{u,v}/<video>/``, ``manifest.json``.
        short_side: Shorter side of the stored frames, pixels.
        backend: Flow implementation, see `stmulnet.flow.estimate`.
        workers: Processes; None takes one per core, 1 works in this process.
        jpeg_quality: 1 to 100.

    Returns:
        The summary; videos that cannot be decoded are in its failures.

    Raises:
        DatasetError: No videos, two of one name, or writing fails.
        ConfigError: An argument is out of range, or the output is no writable folder or was made with other settings.
        StmulnetError: A worker process died.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be 1 or more, or None for one per core; got {workers}")
    encoding = _Encoding(short_side, backend, jpeg_quality)
    encoding.check()
    check_output(out)
    settings = encoding.settings()
    sources = find_sources(videos)
    out.mkdir(parents=True, exist_ok=True)
    busy = DatasetError(f"{out}: another extraction is writing to this folder; wait for its end")
    try:
        with locked(out, busy):
            manifest = _resumed(out, settings)
            jobs = [
                _Job(name, path, path.relative_to(videos).as_posix(), _size(path), out, encoding)
                for name, path in sources.items()
            ]
            return _run(jobs, manifest, out, workers or default_workers())
    except OSError as error:
        raise DatasetError(f"{out}: cannot write the data set: {error}") from error


def find_sources(videos: Path) -> dict[str, Path]:
    """Video files below a folder by name (file stem), sorted by name; links to folders are followed.

    Raises:
        DatasetError: No such folder, no video in it, or two videos of one name.
    """
    if not videos.is_dir():
        problem = "is not a folder" if videos.exists() else "no such folder"
        raise DatasetError(f"{videos}: {problem}; give the folder with the video files (class folders inside are fine)")
    sources: dict[str, Path] = {}
    others = 0
    for path in _files(videos):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            others += 1
        elif any("\ud800" <= letter <= "\udfff" for letter in path.name):  # bytes that Python could not decode
            raise DatasetError(f"{path.parent}: the file name {path.name!a} is not UTF-8; rename the file")
        elif path.stem in sources:
            raise DatasetError(
                f"two videos have the name {path.stem!r}: {sources[path.stem]} and {path}; names become folders and "
                "must be unique: rename one"
            )
        else:
            sources[path.stem] = path
    if not sources:
        raise DatasetError(
            f"{videos}: no videos among its {others} files; looked in all folders for {', '.join(VIDEO_SUFFIXES)}"
        )
    return dict(sorted(sources.items()))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0  # a link to nothing: decoding it will say so


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


def _resumed(out: Path, settings: dict[str, Any]) -> Manifest:
    """The manifest of the runs before, with what a killed one had finished."""
    path = out / MANIFEST_NAME
    if not path.exists():
        return Manifest(settings)
    manifest = Manifest.load(path)
    manifest.videos.update({entry.name: entry for entry in read_journal(out / PARTIAL_FOLDER / _JOURNAL_NAME)})
    if not manifest.videos:  # nothing was finished with the settings it names
        return Manifest(settings)
    for change in check_settings(manifest.settings, settings, path):
        notice(f"note: library version {change}; videos of both are in this folder")
    return manifest


def _run(jobs: Sequence[_Job], manifest: Manifest, out: Path, workers: int) -> ExtractSummary:
    start = time.monotonic()
    waiting = [job for job in jobs if not _is_complete(job, manifest)]
    for job in waiting:
        manifest.videos.pop(job.name, None)
    manifest.save(out / MANIFEST_NAME)  # before the journal and the leftovers of a killed run go
    shutil.rmtree(out / PARTIAL_FOLDER, ignore_errors=True)
    failures: dict[str, str] = {}
    try:
        _extract_all(waiting, manifest, failures, workers)
    except KeyboardInterrupt:
        notice("interrupted: finished videos are kept; the same command again goes on from here")
        raise
    finally:
        manifest.save(out / MANIFEST_NAME)
        shutil.rmtree(out / PARTIAL_FOLDER, ignore_errors=True)
    done = [manifest.videos[job.name] for job in waiting if job.name in manifest.videos]
    all_of_them = [manifest.videos[job.name] for job in jobs if job.name in manifest.videos]
    return ExtractSummary(
        done=len(done),
        skipped=len(jobs) - len(waiting),
        failures=tuple(sorted(failures.items())),
        too_short=tuple(entry.name for entry in all_of_them if entry.num_frames < MIN_FRAMES),
        frames=sum(entry.num_frames for entry in done),
        pairs=sum(entry.num_frames - 1 for entry in done),
        seconds=time.monotonic() - start,
    )


def _is_complete(job: _Job, manifest: Manifest) -> bool:
    entry = manifest.videos.get(job.name)
    if entry is None or (entry.source, entry.source_bytes) != (job.source, job.source_bytes):
        return False
    folders = [job.out / part / job.name for part in _PARTS]
    wanted = (entry.num_frames, entry.num_frames - 1, entry.num_frames - 1)
    return all(f.is_dir() and len(os.listdir(f)) == count for f, count in zip(folders, wanted, strict=True))


def _extract_all(waiting: Sequence[_Job], manifest: Manifest, failures: dict[str, str], workers: int) -> None:
    if not waiting:
        return
    if waiting[0].encoding.backend == "tvl1":
        prepare_kernels()  # compiled here, once, if ever: the workers find them in numba's cache
    partial = waiting[0].out / PARTIAL_FOLDER
    partial.mkdir(exist_ok=True)
    try:
        with progress(len(waiting), "extract", "videos") as advance:
            for job, result in map_unordered(_extract_one, waiting, workers=workers):
                if isinstance(result, _Failure):
                    failures[job.source] = result.reason
                    notice(f"failed: {job.source}: {result.reason}")
                else:
                    manifest.videos[job.name] = result  # first: an interruption saves this, a kill leaves the journal
                    append_journal(partial / _JOURNAL_NAME, result)
                advance(1)
    except WorkerDiedError as error:
        names = sorted(path.name.rpartition("-")[0] for path in partial.iterdir() if path.is_dir())
        raise StmulnetError(
            "a worker process died (killed, or out of memory) while it worked on one of: "
            f"{', '.join(names) or 'none yet'}; finished videos are kept: run the same command again, with fewer "
            "workers if memory is short (a script must call this below `if __name__ == '__main__':`)"
        ) from error


def _extract_one(job: _Job) -> VideoEntry | _Failure:
    """One video, in a worker process."""
    work = job.out / PARTIAL_FOLDER / f"{job.name}-{os.getpid()}"
    try:
        num_frames, height, width = _write_parts(job, work)
        for part in _PARTS:
            target = job.out / part / job.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)  # of a run that was killed, or of an earlier file
            os.replace(work / part, target)
    except StmulnetError as error:  # whatever is wrong with one video, the others are done
        return _Failure(str(error).removeprefix(f"{job.path}: "))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return VideoEntry(job.name, job.source, job.source_bytes, num_frames, width, height)


def _write_parts(job: _Job, work: Path) -> tuple[int, int, int]:
    """Write frames and flow into the work folder; return number of frames, height and width."""
    count = 0
    chunk: list[Image] = []
    for count, frame in enumerate(iter_frames(job.path, short_side=job.encoding.short_side), start=1):
        write_frames(work / FRAMES_FOLDER, [frame], first=count, quality=job.encoding.jpeg_quality)
        chunk.append(frame)
        if len(chunk) > _CHUNK_PAIRS:
            _write_pairs(job, work, chunk, first=count - _CHUNK_PAIRS)
            chunk = chunk[-1:]
    if count < _MIN_PAIR:
        raise VideoTooShortError(f"{job.path}: {count} frame; flow needs two, and a network {MIN_FRAMES}")
    if len(chunk) >= _MIN_PAIR:
        _write_pairs(job, work, chunk, first=count - len(chunk) + 1)
    return count, chunk[-1].shape[0], chunk[-1].shape[1]


def _write_pairs(job: _Job, work: Path, chunk: Sequence[Image], *, first: int) -> None:
    flow = to_uint8(estimate_flow(np.stack(chunk), backend=job.encoding.backend))
    folders = work / FLOW_FOLDER / "u", work / FLOW_FOLDER / "v"
    write_flow(folders, flow, first=first, quality=job.encoding.jpeg_quality)
