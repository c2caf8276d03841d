"""A function over many jobs in processes or threads."""

import os
import threading
from collections.abc import Iterator

import pytest

from stmulnet.video.pool import WorkerDiedError, map_unordered


def square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise KeyError("three")
    return number


def die(number: int) -> None:
    os._exit(1)


def counted(total: int, asked: list[int]) -> Iterator[int]:
    for number in range(total):
        asked.append(number)
        yield number


@pytest.mark.parametrize(("workers", "threads"), [(1, False), (2, False), (3, True)])
def test_every_job_is_done_once_and_lazily(workers: int, threads: bool) -> None:
    asked: list[int] = []
    done = {}
    for job, (result, _) in map_unordered(square, counted(20, asked), workers=workers, threads=threads):
        done[job] = result
        assert len(asked) <= len(done) + workers + (workers > 1)
    assert done == {number: number**2 for number in range(20)}


def test_threads_stay_in_this_process() -> None:
    assert {pid for _, (_, pid) in map_unordered(square, range(9), workers=3, threads=True)} == {os.getpid()}
    assert os.getpid() not in {pid for _, (_, pid) in map_unordered(square, range(9), workers=2)}


@pytest.mark.parametrize("threads", [False, True])
def test_an_exception_of_a_job_arrives_here(threads: bool) -> None:
    before = threading.active_count()
    with pytest.raises(KeyError, match="three"):
        list(map_unordered(fail_at_three, iter(range(100)), workers=2, threads=threads))
    assert threading.active_count() == before


def test_a_dead_process_is_an_error_of_its_own() -> None:
    with pytest.raises(WorkerDiedError):
        list(map_unordered(die, [1, 2, 3], workers=2))


def test_no_jobs() -> None:
    assert list(map_unordered(square, [], workers=4)) == []
    assert list(map_unordered(square, iter(()), workers=2, threads=True)) == []
