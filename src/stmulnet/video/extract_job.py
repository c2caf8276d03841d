"""One video to frames and flow on disk: the part of an extraction that runs in worker processes.

A video is worked on in a folder of its own; its finished parts are then renamed into place.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg

from stmulnet.constants import MIN_FRAMES
from stmulnet.errors import ConfigError, StmulnetError, VideoTooShortError
from stmulnet.files import locked
from stmulnet.flow.estimate import estimate_flow, flow_record, pairs_per_call, takes_device
from stmulnet.flow.quantize import to_uint8
from stmulnet.video.io import Image, iter_frames
from stmulnet.video.manifest import ONLY_FOR_TEST_FRAMES, VideoEntry
from stmulnet.video.sources import OpenedSource
from stmulnet.video.store import CHROMA_SUBSAMPLING, FLOW_FOLDER, FRAMES_FOLDER, write_flow, write_frames

PARTS = (FRAMES_FOLDER, f"{FLOW_FOLDER}/u", f"{FLOW_FOLDER}/v")
_MIN_SHORT_SIDE = 16  # pixels; the flow's pyramid needs them
_MAX_SHORT_SIDE = 4096
_MIN_PAIR = 2  # frames
_device_in_use = threading.Lock()  # one batch at a time fills a GPU; meanwhile other threads decode and encode


@dataclass(frozen=True)
class NeededFields:
    """A part of the flow, enough for the test protocol.

    Attributes:
        test_frames: Number of frames per video that the protocol looks at.
        numbers: Number of frames of a video -> 1-based numbers of the flow fields needed; a function of a module, since
            worker processes import it.
    """

    test_frames: int
    numbers: Callable[[int], Collection[int]]


@dataclass(frozen=True)
class Encoding:
    """What the user chose; the same for all videos.

    Attributes:
        short_side: Shorter side of the stored frames, pixels.
        flow_backend: Flow implementation, see `stmulnet.flow.estimate`.
        jpeg_quality: 1 to 100.
        needed: Flow fields to compute; None for all.
        device: For flow that torch computes, see `estimate_flow`; else ``"auto"``.
    """

    short_side: int
    flow_backend: str
    jpeg_quality: int
    needed: NeededFields | None = None
    device: str = "auto"

    def check(self) -> None:
        """Raise ConfigError where a value is out of range, or the device is not there."""
        if not _MIN_SHORT_SIDE <= self.short_side <= _MAX_SHORT_SIDE:
            raise ConfigError(
                f"short_side must be {_MIN_SHORT_SIDE} to {_MAX_SHORT_SIDE} pixels, got {self.short_side}"
            )
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}")
        if takes_device(self.flow_backend):
            from stmulnet.device import choose_device  # here, since torch takes seconds to import

            choose_device(self.device)
        elif self.device != "auto":
            raise ConfigError(f"a device can be chosen for flow backend tvl1-torch alone, not for {self.flow_backend}")

    def settings(self) -> dict[str, Any]:
        """For the manifest."""
        part = {} if self.needed is None else {ONLY_FOR_TEST_FRAMES: self.needed.test_frames}
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
            "flow": {**flow_record(self.flow_backend), "jpeg_quality": self.jpeg_quality, **part},
        }

    def fields(self, num_frames: int) -> Collection[int]:
        """Numbers of the flow fields of a video with that many frames."""
        if self.needed is None or num_frames < MIN_FRAMES:  # shorter ones are no use to the protocol
            return range(1, num_frames)
        return self.needed.numbers(num_frames)


@dataclass(frozen=True)
class Job:
    """One video to extract.

    Attributes:
        opened: The video.
        out: Folder of the data set.
        work: Folder for unfinished parts; while a video is worked on, a shared lock is on it.
        encoding: How.
    """

    opened: OpenedSource
    out: Path
    work: Path
    encoding: Encoding

    @property
    def name(self) -> str:
        """Name of the video."""
        return self.opened.source.name


@dataclass(frozen=True)
class Failure:
    """Why a video could not be extracted."""

    reason: str


def extract_one(job: Job) -> VideoEntry | Failure:
    """Write frames and flow of one video and put them into place."""
    opened = job.opened
    work = job.work / f"{job.name}-{os.getpid()}"
    try:
        if opened.problem:
            return Failure(opened.problem)
        with locked(job.work, None, shared=True):  # whoever takes over from a killed run waits for its workers
            num_frames, height, width = _write_parts(job, work)
            _put_into_place(job, work)
    except StmulnetError as error:  # whatever is wrong with one video, the others are done
        return Failure(str(error).removeprefix(f"{opened.path}: "))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if opened.source.in_archive:
            opened.path.unlink(missing_ok=True)
    return VideoEntry(job.name, opened.source.source, opened.source.size_bytes, num_frames, width, height)


def _put_into_place(job: Job, work: Path) -> None:
    for part in PARTS:
        target = job.out / part / job.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)  # of a run that was killed, or of an earlier file
        os.replace(work / part, target)


def _write_parts(job: Job, work: Path) -> tuple[int, int, int]:
    """Write frames and flow into the work folder; return number of frames, height and width."""
    encoding, path = job.encoding, job.opened.path
    flow = _FlowWriter(encoding, (work / FLOW_FOLDER / "u", work / FLOW_FOLDER / "v"))
    count, shape = 0, (0, 0)
    for count, frame in enumerate(iter_frames(path, short_side=encoding.short_side), start=1):
        write_frames(work / FRAMES_FOLDER, [frame], first=count, quality=encoding.jpeg_quality)
        shape = frame.shape[:2]
        if encoding.needed is None:
            flow.add(frame)
    if count < _MIN_PAIR:
        raise VideoTooShortError(f"{path}: {count} frame; flow needs two, and a network {MIN_FRAMES}")
    if encoding.needed is not None:  # which fields those are depends on the number of frames: decode once more
        wanted = encoding.fields(count)
        for number, frame in enumerate(iter_frames(path, short_side=encoding.short_side), start=1):
            flow.add(frame, pair_wanted=number - 1 in wanted)
    flow.finish()
    return count, *shape


class _FlowWriter:
    """Computes and writes the flow of frames that come one by one, a chunk of pairs at a time."""

    def __init__(self, encoding: Encoding, folders: tuple[Path, Path]) -> None:
        self._encoding, self._folders = encoding, folders
        # Frames in memory at a time, whatever the video's length: 32 pairs are about 30 MB at 341x256.
        self._pairs = pairs_per_call(encoding.flow_backend)
        self._chunk: list[Image] = []
        self._added = 0

    def add(self, frame: Image, *, pair_wanted: bool = True) -> None:
        """Take the next frame, and whether the flow that leads to it is wanted."""
        if not pair_wanted:
            self.finish()
            self._chunk.clear()
        self._chunk.append(frame)
        self._added += 1
        if len(self._chunk) > self._pairs:
            self.finish()

    def finish(self) -> None:
        """Write what is still to be written."""
        if len(self._chunk) >= _MIN_PAIR:
            backend, device = self._encoding.flow_backend, self._encoding.device
            with _device_in_use if takes_device(backend) else contextlib.nullcontext():
                flow = estimate_flow(np.stack(self._chunk), backend=backend, device=device)
            first = self._added - len(self._chunk) + 1
            write_flow(self._folders, to_uint8(flow), first=first, quality=self._encoding.jpeg_quality)
        del self._chunk[:-1]
