"""Several processes on one piece of work, as torchrun starts them: who they are, and what they tell each other.

A process on its own is number 0 of 1, and nothing is waited for. Waiting for other processes always has an end: one
that has died ends the others when they wait for it next, one that hangs does after the timeout.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from stmulnet.device import choose_device
from stmulnet.errors import ConfigError, StmulnetError

TIMEOUT = timedelta(hours=1)  # shares of work differ in length, so that waiting for the others is no sign of trouble
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # beside WORLD_SIZE, by torchrun

T = TypeVar("T")


def start(*, timeout: timedelta = TIMEOUT) -> tuple[int, int]:
    """Join the other processes, where torchrun has started several; nothing happens in a process that has joined.

    Args:
        timeout: How long to wait for others, here and later.

    Returns:
        Number of this process, from 0, and number of processes.

    Raises:
        ConfigError: The environment names several processes without saying how to find them.
        StmulnetError: The others have not come.
    """
    if not distributed.is_initialized() and expected() > 1:
        # Objects travel by gloo, between CPUs, in either case.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            distributed.init_process_group(backend, timeout=timeout)
        except (RuntimeError, ValueError) as error:
            raise StmulnetError(f"cannot join the other processes of this run ({_first_line(error)})") from error
    return place()


def stop() -> None:
    """Leave the other processes, if joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def processes(*, timeout: timedelta = TIMEOUT) -> Iterator[tuple[int, int]]:
    """`start` and `stop` around work; processes that had joined before remain so."""
    before = distributed.is_initialized()
    yielded = start(timeout=timeout)
    try:
        yield yielded
    finally:
        if not before:
            stop()


def place() -> tuple[int, int]:
    """Number of this process, from 0, and number of the processes that have joined."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def neighbours() -> int:
    """Number of the processes on this machine, this one included: they share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", place()[1])) if distributed.is_initialized() else 1


def share(count: int) -> range:
    """Which of ``count`` items are this process's: every item is one process's, none is twice."""
    rank, world = place()
    return range(rank, count, world)


def gather(value: T) -> list[T]:
    """The values of all processes, in order of their numbers; every process gets them, and must call this.

    Args:
        value: Anything that can be pickled; on the CPU.

    Raises:
        StmulnetError: Another process has ended, or has not answered in time.
    """
    _, world = place()
    if world == 1:
        return [value]
    values: list[T | None] = [None] * world
    try:
        distributed.all_gather_object(values, value)
    except RuntimeError as error:
        raise StmulnetError(
            f"another process of this run has ended, or does not answer; see what it said ({_first_line(error)})"
        ) from error
    return values  # type: ignore[return-value] # each place is filled now


def own_device(name: str) -> torch.device:
    """`choose_device` for this process: of several on a machine each has a GPU of its own, by LOCAL_RANK.

    Raises:
        ConfigError: No such device, or fewer GPUs than processes.
    """
    if place()[1] > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return choose_device(name)


def expected() -> int:
    """Number of processes that the environment names; those of torchrun say, too, how to find each other.

    Raises:
        ConfigError: It is no number, or several processes could not find each other.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"WORLD_SIZE is the number of processes, 1 or more, got {text!r}; unset it, or use torchrun")
    missing = [name for name in _NEEDED if name not in os.environ]
    if int(text) > 1 and missing:
        raise ConfigError(
            f"WORLD_SIZE is {text}, but {', '.join(missing)} is not set; start several processes with torchrun, or "
            "unset WORLD_SIZE"
        )
    return int(text)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
