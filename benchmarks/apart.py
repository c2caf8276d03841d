"""A contender in a process of its own, with the C library's defaults.

The package has its process keep the memory that it frees, which would speed up what it is compared with, too.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

Run = Callable[..., object]
Make = Callable[[], Run]


class Apart:
    """Runs something in another process, once per call.

    Args:
        make: Makes what is run, in the other process; can be pickled.

    Raises:
        RuntimeError: It cannot be made; says why.
    """

    def __init__(self, make: Make) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, other_end))  # no daemon: it may start processes
        self._process.start()
        other_end.close()
        if failed := self._started():
            self.close()
            raise RuntimeError(failed)

    def _started(self) -> str:
        """Why it has not; empty where it has."""
        try:
            return str(self._connection.recv())
        except EOFError:
            return "the process ended before it was ready"

    def __call__(self, *_: object) -> None:
        """Run it and wait for its end; arguments are for contenders of this process."""
        self._connection.send("run")
        self._connection.recv()  # EOFError if it failed; the reason is on stderr

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


def _serve(make: Make, connection: Connection) -> None:
    try:
        run = make()
    except Exception as error:  # said in the process that asked
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("")
    try:
        while connection.recv() == "run":
            run()
            connection.send("done")
    except EOFError:
        return
