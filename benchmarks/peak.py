"""Peak memory of this process, and of a command with all processes that it starts, from /proc (Linux)."""

import contextlib
import ctypes
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

INTERVAL_SEC = 0.05
_M_MMAP_THRESHOLD = -3  # <malloc.h>


def own_peak() -> float:
    """Peak memory of this process, in GB; not of `getrusage`, which counts that of the process that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e9


def reset_own_peak() -> bool:
    """Let the peak of this process begin anew; whether the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    except OSError:
        return False
    return True


def count_every_block() -> None:
    """Have large blocks given back as soon as they are free, so that the peak is of those in use (GNU C library).

    Otherwise blocks of up to 32 MB come to be kept, and gaps between them count.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**17)
        ctypes.CDLL(None).malloc_trim(0)


def peak_of_command(command: Sequence[str]) -> float:
    """Run a command and return the largest sum over its processes, in GB; pages that they share count once."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_proportional_kb(pid) for pid in _tree(process.pid)))
        time.sleep(INTERVAL_SEC)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return peak * 1024 / 1e9


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:  # grows while it is read
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:  # the thread has ended
                continue
    return found


def _proportional_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # the process has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
