"""Taking turns: so many predictions at a time, so many wait, the others are sent away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from stmulnet.errors import BusyError


class Turns:
    """A bounded queue for work that callers do in their own threads, first come, first served.

    Args:
        at_once: How many work at the same time.
        waiting: How many may wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most_waiting = at_once, waiting
        self._working = 0
        self._queue: list[object] = []
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn and hold it during the block.

        Raises:
            BusyError: Too many wait already, or the end has come.
        """
        ticket = object()
        with self._changed:
            self._refuse()
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._closed or (self._queue[0] is ticket and self._free()))
            self._queue.remove(ticket)
            if self._closed:
                raise BusyError("the server is stopping")
            self._working += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def check(self) -> None:
        """Raise BusyError where one more would be sent away."""
        with self._changed:
            self._refuse()

    def close(self) -> None:
        """Send away those who wait; whoever works goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_until_idle(self) -> None:
        """Wait for the end of whatever is in work."""
        with self._changed:
            self._changed.wait_for(lambda: not self._working)

    def _free(self) -> bool:
        return self._working < self._at_once

    def _refuse(self) -> None:
        if self._closed:
            raise BusyError("the server is stopping")
        if len(self._queue) >= self._most_waiting and not (self._free() and not self._queue):
            raise BusyError(f"{len(self._queue)} videos are waiting already; try again in a moment")
