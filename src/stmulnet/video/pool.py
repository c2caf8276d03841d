"""A function over many jobs, one process per core; the processes never outlive their parent or an interruption."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDiedError(Exception):
    """A worker process ended without a result: killed from outside, out of memory, or never started."""


def default_workers() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


def map_unordered(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int
) -> Iterator[tuple[Job, Result]]:
    """Yield (job, result) as they finish. With one worker the jobs run in this process.

    An exception of a job, an interruption, or the caller's leaving the loop stops all workers at once.

    Args:
        function: A function of a module (workers are spawned and import it).
        jobs: Values that can be pickled.
        workers: Number of processes, at most one per job.

    Raises:
        WorkerDiedError: A worker process died.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from ((job, function(job)) for job in jobs)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # fork is unsafe beside the threads of OpenCV, numba and torch
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        with _interrupts_held_back():
            job_of = {executor.submit(function, job): job for job in jobs}
        for future in as_completed(job_of):
            yield job_of[future], future.result()
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        if isinstance(error, BrokenProcessPool):
            raise WorkerDiedError(str(error)) from error
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that never see Ctrl-C: they inherit the mask, so none prints a traceback; we stop them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # Before the libraries are imported: one core per process.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    import cv2

    cv2.setNumThreads(1)


def _exit_with_parent() -> None:
    """A worker waiting for its next job would not notice that its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
