"""So many at a time, so many wait, the others are sent away."""

import threading
import time

import pytest

from stmulnet.errors import BusyError
from stmulnet.serving.turns import Turns


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Worker(threading.Thread):
    """Takes a turn, notes its number, and holds the turn until told."""

    def __init__(self, turns: Turns, number: int, order: list[int]) -> None:
        super().__init__()
        self.turns, self.number, self.order = turns, number, order
        self.done = threading.Event()
        self.error: BusyError | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.turns.turn():
                self.order.append(self.number)
                assert self.done.wait(10)
        except BusyError as error:
            self.error = error


def test_first_come_first_served_and_no_more_at_once_than_allowed() -> None:
    turns, order = Turns(2, waiting=3), list[int]()
    workers = []
    for number in range(5):
        workers.append(Worker(turns, number, order))
        wait_for(lambda number=number: len(order) + len(turns._queue) == number + 1)
    assert order == [0, 1]
    with pytest.raises(BusyError, match="3 videos are waiting already"):
        turns.check()
    for number, worker in enumerate(workers):
        worker.done.set()
        wait_for(lambda number=number: len(order) == min(5, number + 3))
        worker.join()
    assert order == [0, 1, 2, 3, 4]
    turns.check()


def test_nobody_may_wait() -> None:
    turns, order = Turns(1, waiting=0), list[int]()
    worker = Worker(turns, 0, order)
    wait_for(lambda: order)
    with pytest.raises(BusyError), turns.turn():
        pass
    worker.done.set()
    worker.join()
    with turns.turn():
        pass


def test_an_error_frees_the_turn() -> None:
    turns = Turns(1, waiting=1)
    with pytest.raises(ZeroDivisionError), turns.turn():
        _ = 1 / 0
    with turns.turn():
        pass


def test_the_end_sends_away_who_waits_and_waits_for_who_works() -> None:
    turns, order = Turns(1, waiting=2), list[int]()
    working = Worker(turns, 0, order)
    wait_for(lambda: order)
    waiting = Worker(turns, 1, order)
    wait_for(lambda: turns._queue)
    turns.close()
    waiting.join(10)
    assert waiting.error is not None
    idle = threading.Thread(target=turns.wait_until_idle)
    idle.start()
    idle.join(0.05)
    assert idle.is_alive()
    working.done.set()
    idle.join(10)
    assert not idle.is_alive()
    working.join()
    with pytest.raises(BusyError, match="stopping"):
        turns.check()
