"""Clips from loader processes: one thread each, and bad input arrives as the error that it is."""

import atexit
import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from stmulnet.datasets.base import ClipSample, TwoStreamDataset
from stmulnet.errors import DatasetError, StmulnetError
from stmulnet.video.pool import stop_signals_held_back


class ClipLoader(DataLoader[ClipSample | StmulnetError]):
    """Loads clips, in this process or in others, and collates them to batches.

    Clips of different sizes, such as crops that are not resized yet, are a list in their batch.

    What an item holds does not depend on the number of processes: see `TwoStreamDataset`.

    Args:
        videos: The clips.
        batch_size: Clips per batch; None gives single clips.
        order: Indices of the clips in the order wanted; None takes that of the list.
        batches: The indices of every batch, in place of these two.
        workers: Loader processes; 0 loads in this one.
        ahead: Batches, or single clips, that each process keeps ready in shared memory.
        pin_memory: Put batches into page-locked memory, from which a GPU copies without waiting.

    Raises:
        StmulnetError: In the loop over the loader: what reading a clip raised, in this process and with its own
            message; torch by itself buries it in the traceback of the process.
    """

    def __init__(
        self,
        videos: TwoStreamDataset,
        *,
        batch_size: int | None = None,
        order: Sequence[int] | None = None,
        batches: Sequence[Sequence[int]] | None = None,
        workers: int = 0,
        ahead: int = 2,
        pin_memory: bool = False,
    ) -> None:
        single = batches is None and batch_size is None
        super().__init__(
            _ErrorsAsItems(videos),
            **({"batch_sampler": batches} if batches is not None else {"batch_size": batch_size, "sampler": order}),
            num_workers=workers,
            multiprocessing_context=_start_method() if workers else None,
            prefetch_factor=ahead if workers else None,
            pin_memory=pin_memory,
            collate_fn=_keep if single else _collate,
            worker_init_fn=_start_process,
            generator=torch.Generator(),  # its own: a loader must not advance the generator of the dropout
        )

    def __iter__(self) -> Iterator[ClipSample]:  # type: ignore[override]
        """Yield clips or batches."""
        with loader_errors():
            with stop_signals_held_back():  # processes inherit this; they could get one before `_start_process`
                items = super().__iter__()
            try:
                for item in items:
                    if isinstance(item, StmulnetError):
                        raise item
                    yield item
            finally:
                del items  # ends the processes; the error's traceback would keep it


@contextlib.contextmanager
def loader_errors() -> Iterator[None]:
    """Say what to do where a loader process died; torch tells the main process at any moment, even within its work."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DatasetError(
            f"a loader process died ({str(error).partition('.')[0]}): memory or /dev/shm may be short; use fewer "
            "workers, or 0, which loads in the main process"
        ) from error


class _ErrorsAsItems(Dataset[ClipSample | StmulnetError]):
    def __init__(self, videos: TwoStreamDataset) -> None:
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> ClipSample | StmulnetError:
        try:
            return self.videos[index]
        except StmulnetError as error:
            return error
        except OSError as error:  # of the system, such as too many open files
            video, reason = self.videos.records[index].video, error.strerror or error
            return DatasetError(f"{error.filename or video}: cannot be read ({reason})")


def _keep(item: Any) -> Any:
    """Single clips need no collating."""
    return item


def _collate(items: list[Any]) -> Any:
    """A batch, or the first error among its clips."""
    for item in items:
        if isinstance(item, StmulnetError):
            return item
    return ClipSample(*(_collate_field(values) for values in zip(*items, strict=True)))


def _collate_field(values: tuple[Any, ...]) -> Any:
    """What torch makes of it; clips of different sizes cannot be one tensor and stay as they are."""
    if len({value.shape for value in values if isinstance(value, Tensor)}) > 1:
        return list(values)
    return default_collate(list(values))


@atexit.register
def _end_processes() -> None:
    """End what an abandoned loop has left: the interpreter would wait for ever, its signal being ignored there."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _start_method() -> str:
    """Not fork: what locks the threads of torch, numba, OpenCV or TensorBoard hold at that moment stay locked for ever.

    A server without threads, which has imported what loading needs, is forked instead.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return "spawn"
    multiprocessing.set_forkserver_preload(["stmulnet.datasets.loading"])
    return "forkserver"


def _start_process(_worker: int) -> None:
    """Processes are the parallelism (torch limits itself), and end when the main one says so.

    Ctrl-C and a scheduler's signal go to all of them at once; the main one may still want to finish what it is at.
    """
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
