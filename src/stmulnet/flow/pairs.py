"""Running a two-frame algorithm over a clip: checks, grayscale, one task per pair of frames.

Axes: T frames, H x W pixels.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.flow.frames import check_frames

Frames = NDArray[np.uint8]
Gray = NDArray[np.uint8]
Flow = NDArray[np.float32]
Prepared = TypeVar("Prepared")
Solver = Callable[[Prepared, Prepared, Flow], None]  # writes the flow (2, H, W) from its first to its second frame


def map_pairs(
    frames: Frames,
    prepare_gray: Callable[[Gray], Prepared],
    make_solver: Callable[[], Solver[Prepared]],
    *,
    threads: int,
) -> Flow:
    """Compute the flow of every pair of neighbouring frames, pairs in parallel.

    Args:
        frames: (T, H, W) gray or (T, H, W, 3) RGB, uint8, T >= 2, sides of at least 16 px.
        prepare_gray: Work on one gray frame (H, W); called once per frame.
        make_solver: Gives a solver with its own buffers; called once per thread.
        threads: Number of pairs in work at the same time.

    Returns:
        (T-1, 2, H, W) float32, px: displacement in x, then in y, from frame t to frame t + 1.

    Raises:
        ConfigError: If frames or threads are not as above.
    """
    check_frames(frames)
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")

    def prepare(frame: Frames) -> Prepared:
        return prepare_gray(_gray(frame))

    flow = np.empty((len(frames) - 1, 2, *frames.shape[1:3]), np.float32)
    with _one_opencv_thread():
        if threads == 1:
            _in_this_thread(frames, flow, prepare, make_solver())
        else:
            _in_threads(frames, flow, prepare, make_solver, threads)
    return flow


def _gray(frame: Frames) -> Gray:
    if frame.ndim == 2:
        return np.ascontiguousarray(frame)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY), np.uint8)


def _in_this_thread(frames: Frames, flow: Flow, prepare: Callable[[Frames], Prepared], solve: Solver[Prepared]) -> None:
    following = prepare(frames[0])
    for frame, field in zip(frames[1:], flow, strict=True):
        previous, following = following, prepare(frame)
        solve(previous, following, field)


def _in_threads(
    frames: Frames,
    flow: Flow,
    prepare: Callable[[Frames], Prepared],
    make_solver: Callable[[], Solver[Prepared]],
    threads: int,
) -> None:
    local = threading.local()

    def give_solver() -> None:
        local.solve = make_solver()

    def solve_pair(previous: Future[Prepared], following: Future[Prepared], field: Flow) -> None:
        local.solve(previous.result(), following.result(), field)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="flow", initializer=give_solver)
    try:
        # First in, first out: both frames of a pair are taken up before the pair, so no pair waits for ever,
        # and a prepared frame is freed as soon as its second pair is done.
        pairs = []
        previous = pool.submit(prepare, frames[0])
        for frame, field in zip(frames[1:], flow, strict=True):
            following = pool.submit(prepare, frame)
            pairs.append(pool.submit(solve_pair, previous, following, field))
            previous = following
        del previous, following
        for pair in pairs:
            pair.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C or an error: finish the pairs in work only


_opencv_lock = threading.Lock()
_opencv_users = 0
_opencv_threads_before = 1


@contextlib.contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV, whose setting is global, to one thread while any clip is in work; then restore it.

    Parallelism is over pairs; OpenCV's own threads inside each would only compete with it.
    """
    global _opencv_users, _opencv_threads_before
    with _opencv_lock:
        if _opencv_users == 0:
            _opencv_threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _opencv_users += 1
    try:
        yield
    finally:
        with _opencv_lock:
            _opencv_users -= 1
            if _opencv_users == 0:
                cv2.setNumThreads(_opencv_threads_before)
