"""An iterator that works ahead in a thread of its own."""

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_WAIT_SEC = 0.05


@dataclass(frozen=True)
class _End(Generic[Item]):
    """The last that the thread says: nothing more, or what went wrong."""

    error: BaseException | None


def in_thread(items: Iterable[Item], *, ahead: int, name: str, leave_sec: float) -> Generator[Item, None, None]:
    """Give the items of an iterable that is iterated in a thread; its errors come through.

    Args:
        items: Whatever takes time to iterate.
        ahead: Items that may wait to be taken.
        name: Of the thread.
        leave_sec: How long to wait, when the loop is left early, until the thread notices, which it does between two
            items. One that waits for a network is left to its time-out; it keeps no process from ending.
    """
    waiting: queue.Queue[Item | _End[Item]] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(item: Item | _End[Item]) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=_WAIT_SEC)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            if all(put(item) for item in items):
                put(_End(None))
        except BaseException as error:
            put(_End(error))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join(leave_sec)
