"""The frames of a video that the protocol needs, and the flow between them, computed while decoding goes on.

Numbers of frames and fields are 1-based; flow field i leads from frame i to frame i + 1.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stmulnet.constants import MIN_FRAMES
from stmulnet.datasets.sampling import flow_numbers, test_frames
from stmulnet.errors import VideoDecodeError, VideoTooShortError
from stmulnet.flow.estimate import estimate_flow, pairs_per_call, takes_device
from stmulnet.flow.quantize import to_uint8
from stmulnet.predictor.clips import consecutive_runs
from stmulnet.video.inputs import FrameSource

Image = NDArray[np.uint8]

MAX_KEPT_BYTES = 2**30  # of the frames of one video; one that needs more is decoded twice
PAIRS_PER_TASK = 4  # of flow on the CPU: what Ctrl-C waits for


@dataclass(frozen=True)
class Needs:
    """What the protocol looks at in a video of a certain length.

    Attributes:
        times: Numbers of the sampled frames; they may repeat.
        fields: Numbers of the flow fields in their stacks, ascending; none without motion stream.
    """

    times: list[int]
    fields: list[int]

    @property
    def frames(self) -> set[int]:
        """Numbers of the frames that are looked at, or flow is computed from."""
        return {*self.times, *self.fields, *(number + 1 for number in self.fields)}

    @classmethod
    def of(cls, num_frames: int, count: int, *, flow: bool) -> "Needs":
        """The needs of ``num_frames`` frames, 11 at least, of which ``count`` are sampled."""
        times = test_frames(num_frames, count)
        return cls(times, sorted({number for t in times for number in flow_numbers(t)}) if flow else [])


@dataclass(frozen=True)
class ReadVideo:
    """What was read of a video.

    Attributes:
        num_frames: Frames of the video.
        times: Numbers of the sampled frames.
        frames: The sampled frames by number, (H, W, 3), uint8; perhaps others.
        fields: The flow fields of the stacks by number, (2, H, W), 8-bit levels.
    """

    num_frames: int
    times: list[int]
    frames: dict[int, Image]
    fields: dict[int, Image]


class FlowWorkers:
    """Threads that compute flow fields; leaving the context ends them, at the latest after the fields in work.

    Args:
        backend: See `estimate_flow`.
        threads: Number of threads; a backend that computes with torch has one.
        device: For such a backend.
        stored: What happens to each plane (H, W) of 8-bit levels.
    """

    def __init__(self, backend: str, *, threads: int, device: str, stored: Callable[[Image], Image]) -> None:
        by_torch = takes_device(backend)
        self.pairs_per_task = pairs_per_call(backend) if by_torch else PAIRS_PER_TASK
        self._pool = ThreadPoolExecutor(1 if by_torch else threads, thread_name_prefix="flow")
        self._backend, self._device, self._stored = backend, device, stored

    def submit(self, frames: list[Image]) -> Future[list[Image]]:
        """Have the fields between neighbours of two or more frames computed."""
        return self._pool.submit(self._compute, frames)

    def _compute(self, frames: list[Image]) -> list[Image]:
        flow_px = estimate_flow(np.stack(frames), backend=self._backend, threads=1, device=self._device)
        return [np.stack([self._stored(plane) for plane in field]) for field in to_uint8(flow_px)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Drop what is not begun, wait for the rest, end the threads."""
        self._pool.shutdown(cancel_futures=True)


class VideoReader:
    """Reads one video after the other; see the module.

    Args:
        count: Frames sampled per video.
        short_side: Size of the frames, pixels.
        threads: Threads of the decoder.
        workers: Compute the flow; None where none is needed.
        live_seconds: How long a live source is read.
    """

    def __init__(
        self, count: int, *, short_side: int, threads: int, workers: FlowWorkers | None, live_seconds: float
    ) -> None:
        self._count = count
        self._short_side = short_side
        self._threads = threads
        self._workers = workers
        self._live_seconds = live_seconds
        self._stopped = threading.Event()

    def read(self, source: FrameSource, seconds: dict[str, float]) -> ReadVideo:
        """Read the sampled frames and the fields around them.

        Decoding starts on the assumption that the announced number of frames is right. Where it is not, only time is
        lost: what is then missing is taken from the frames kept so far, or from a second pass.

        Args:
            source: The video.
            seconds: Gets the time until the last frame as ``decode``, and from then to the last field as ``flow``.

        Raises:
            VideoTooShortError: It has fewer than 11 frames.
            VideoDecodeError: It cannot be decoded, or is live and too large to be kept.
        """
        hint = source.num_frames_hint
        expected = self._needs(hint) if hint is not None and hint >= MIN_FRAMES else None
        fields = _Fields(self._workers, expected.fields if expected else [])
        try:
            return self._read(source, expected, fields, seconds)
        except BaseException:
            fields.cancel()
            raise

    def stop(self) -> None:
        """Make a reading in another thread end soon, with an error that nobody will see."""
        self._stopped.set()
        if self._workers:
            self._workers.stop()

    def _read(
        self, source: FrameSource, expected: Needs | None, fields: "_Fields", seconds: dict[str, float]
    ) -> ReadVideo:
        start = time.perf_counter()
        num_frames, frames = self._decode(source, expected, fields)
        if num_frames < MIN_FRAMES:
            raise VideoTooShortError(
                f"{source.name}: the video has {num_frames} frames, at least {MIN_FRAMES} are needed"
            )
        needs = self._needs(num_frames)
        if not needs.frames <= frames.keys():
            frames = self._decode_again(source, needs.frames)
        decoded = time.perf_counter()
        flow = fields.complete(frames, needs.fields)
        seconds["decode"], seconds["flow"] = decoded - start, time.perf_counter() - decoded
        return ReadVideo(num_frames, needs.times, frames, flow)

    def _needs(self, num_frames: int) -> Needs:
        return Needs.of(num_frames, self._count, flow=self._workers is not None)

    def _decode(self, source: FrameSource, expected: Needs | None, fields: "_Fields") -> tuple[int, dict[int, Image]]:
        """Number of frames, and as many of them as may be kept: all, or those that are expected to be needed."""
        frames: dict[int, Image] = {}
        needed = expected.frames if expected else set()
        number = kept_bytes = 0
        for number, frame in enumerate(self._frames(source), start=1):
            frames[number] = frame
            kept_bytes += frame.nbytes
            fields.add(number, frame)
            if kept_bytes > MAX_KEPT_BYTES:
                if source.is_live:
                    raise VideoDecodeError(f"{source.name}: its frames need more than {MAX_KEPT_BYTES >> 20} MiB")
                frames = {kept: frames[kept] for kept in frames if kept in needed}
        return number, frames

    def _decode_again(self, source: FrameSource, numbers: set[int]) -> dict[int, Image]:
        return {number: frame for number, frame in enumerate(self._frames(source), start=1) if number in numbers}

    def _frames(self, source: FrameSource) -> Iterator[Image]:
        end = None
        for frame in source.frames(short_side=self._short_side, threads=self._threads):
            if self._stopped.is_set():
                raise InterruptedError("reading was stopped")
            yield frame
            end = end or time.monotonic() + self._live_seconds
            if source.is_live and time.monotonic() >= end:
                return


class _Fields:
    """The flow fields of one video: those expected are begun as soon as their frames are there.

    Args:
        workers: Compute them; None where none is needed.
        expected: Their numbers.
    """

    def __init__(self, workers: FlowWorkers | None, expected: list[int]) -> None:
        self._workers = workers
        self._expected = set(expected)
        self._run: list[Image] = []  # the latest frames: the fields between them are to be begun
        self._begun: dict[int, tuple[Future[list[Image]], int]] = {}  # number -> task, and which of its fields it is

    def add(self, number: int, frame: Image) -> None:
        """Take the next frame."""
        if self._workers is None:
            return
        follows = number - 1 in self._expected
        self._run = [*self._run, frame] if follows else [frame]
        goes_on = number in self._expected
        if follows and (not goes_on or len(self._run) > self._workers.pairs_per_task):
            self._begin(number + 1 - len(self._run), self._run)
            self._run = [frame]

    def complete(self, frames: dict[int, Image], numbers: list[int]) -> dict[int, Image]:
        """The fields of these numbers; those that nobody expected are computed now, from ``frames``."""
        if self._workers is None:
            return {}
        for task in {task for number, (task, _) in self._begun.items() if number not in set(numbers)}:
            task.cancel()  # in vain where it has begun; then it may hold fields that are needed
        self._begun = {number: entry for number, entry in self._begun.items() if not entry[0].cancelled()}
        size = self._workers.pairs_per_task
        for first, last in consecutive_runs([number for number in numbers if number not in self._begun]):
            for start in range(first, last + 1, size):
                self._begin(start, [frames[number] for number in range(start, min(start + size, last + 1) + 1)])
        return {number: self._begun[number][0].result()[self._begun[number][1]] for number in numbers}

    def cancel(self) -> None:
        """Leave undone what nobody has begun with."""
        for task, _ in self._begun.values():
            task.cancel()

    def _begin(self, first: int, frames: list[Image]) -> None:
        assert self._workers is not None
        task = self._workers.submit(frames)
        self._begun |= {first + index: (task, index) for index in range(len(frames) - 1)}
