"""A function over many jobs, one process per core; the processes never outlive their parent or an interruption."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import resource_tracker
from typing import TypeVar

from stmulnet.errors import ConfigError

Job = TypeVar("Job")
Result = TypeVar("Result")

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WorkerDiedError(Exception):
    """A worker process ended without a result: killed from outside, out of memory, or never started."""


def default_workers() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


def check_workers(workers: int | None) -> None:
    """Raise ConfigError where a number of workers is none; None stands for one per core."""
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be 1 or more, got {workers}; one per core if not given")


def map_unordered(
    function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, threads: bool = False
) -> Iterator[tuple[Job, Result]]:
    """Yield (job, result) as they finish. With one worker the jobs run in this process.

    An exception of a job, an interruption, or the caller's leaving the loop stops all workers at once; threads finish
    the job that they are at.

    Args:
        function: A function of a module (processes are spawned and import it).
        jobs: Values that can be pickled. At most one more than there are workers is asked for before it is needed.
        workers: Number of processes, at most one per job.
        threads: Whether the workers are threads of this process instead.

    Raises:
        WorkerDiedError: A worker process died.
    """
    if isinstance(jobs, Sized):
        workers = min(workers, len(jobs))
    if workers <= 1:
        yield from ((job, function(job)) for job in jobs)
        return
    others = set(multiprocessing.active_children())
    executor = ThreadPoolExecutor(workers) if threads else _processes(workers)
    try:
        yield from _in_executor(executor, function, iter(jobs), ahead=workers + 1)
    except BaseException as error:
        if not threads:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
        if isinstance(error, BrokenProcessPool):
            raise WorkerDiedError(str(error)) from error
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _processes(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # fork is unsafe beside the threads of OpenCV, numba and torch
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _in_executor(
    executor: Executor, function: Callable[[Job], Result], jobs: Iterator[Job], *, ahead: int
) -> Iterator[tuple[Job, Result]]:
    """Yield (job, result); ``ahead`` jobs at most are with the executor."""
    job_of: dict[Future[Result], Job] = {}

    def submit(count: int) -> None:
        for job in islice(jobs, count):
            with stop_signals_held_back():
                job_of[executor.submit(function, job)] = job

    submit(ahead)
    while job_of:
        for future in wait(job_of, return_when=FIRST_COMPLETED).done:
            job, result = job_of.pop(future), future.result()
            submit(1)
            yield job, result


@contextlib.contextmanager
def stop_signals_held_back() -> Iterator[None]:
    """Start processes that never see Ctrl-C, nor the end signal that a job scheduler sends to all processes of a job.

    They inherit the mask, so none prints a traceback; we stop them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # the first process would start it, and that lets signals through again
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _start_worker() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
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
