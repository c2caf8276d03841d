"""Memory that networks free and ask for again at once."""

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # <malloc.h>
_NEVER = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for its next allocations.

    The GNU C library gives large blocks back to the kernel as soon as they are freed. A network frees and asks for the
    same gigabytes at every clip, and the kernel clears every page of them again: up to a third of a training step. The
    price is that the process stays as large as it once was.

    Returns:
        Whether it is so from now on; elsewhere than on Linux with the GNU C library nothing is changed.
    """
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallopt"):
        return False
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, _NEVER))


def return_freed_memory() -> None:
    """Give the kernel the memory that is free but lies between blocks in use, where the GNU C library keeps it.

    After many blocks of weights have been replaced by others, these are some hundred megabytes.
    """
    libc = _glibc()
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None
