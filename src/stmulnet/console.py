"""What long work shows: a progress bar on a terminal, a line now and then in a log file."""

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence

LOG_INTERVAL_SEC = 10.0

Advance = Callable[[int], None]


def notice(text: str) -> None:
    """Print one line for the user on stderr."""
    print(text, file=sys.stderr, flush=True)


def counted(number: int, one: str, several: str | None = None) -> str:
    """``"1 video"``, ``"12 videos"``; the plural, where it has more than an s at its end, is the third argument."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def some(names: Sequence[str], shown: int = 5) -> str:
    """``"a, b, c, d, e, ..."``: the first of them, for a message."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


@contextlib.contextmanager
def progress(total: int, description: str, unit: str) -> Iterator[Advance]:
    """Show progress with rate and remaining time; yield a function that takes the number of finished items.

    Args:
        total: Number of items; 0 shows nothing.
        description: What is being done, e.g. ``"extract"``.
        unit: Name of the items in the plural, e.g. ``"videos"``.
    """
    if total == 0:
        yield lambda count: None
    elif sys.stderr.isatty() and multiprocessing.parent_process() is None:  # workers would draw over each other
        with _bar(total, description, unit) as advance:
            yield advance
    else:
        with _log_lines(total, description, unit) as advance:
            yield advance


@contextlib.contextmanager
def _bar(total: int, description: str, unit: str) -> Iterator[Advance]:
    # Here, not above: the command line answers bad input, and Ctrl-C, before this would be imported.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, rate="")
        start, done = time.monotonic(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(task, advance=count, rate=_rate(done, time.monotonic() - start, unit))

        yield advance


@contextlib.contextmanager
def _log_lines(total: int, description: str, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if done and (now - last >= LOG_INTERVAL_SEC or done >= total):
            last = now
            remaining_sec = (now - start) * (total - done) / done
            rate = _rate(done, now - start, unit)
            notice(f"{description}: {done}/{total} {unit}, {rate}, ETA {remaining_sec:.0f} s")

    yield advance


def _rate(done: int, seconds: float, unit: str) -> str:
    """Items per second, or per minute where that reads better."""
    per_sec = done / max(seconds, 1e-9)
    return f"{per_sec:.1f} {unit}/s" if per_sec >= 1 else f"{60 * per_sec:.1f} {unit}/min"
