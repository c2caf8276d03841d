"""How the package compiles loops with numba, keeps the result on disk, and tells the user when that takes time."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import numba
from numba.core import event

from stmulnet.console import notice

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"fastmath": True, "nogil": True, "error_model": "numpy"}

_lock = threading.Lock()
_can_be_kept = True


def compiled(function: Function) -> Function:
    """Compile without the GIL; keep the result beside the source, or in the user's cache where that is read-only.

    Fast maths and NumPy's rules for division let the loops vectorise. numba writes its files in one step, so that
    processes which start together may all compile, but none reads half a file.
    """
    global _can_be_kept
    try:
        return cast(Function, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # numba: "no locator available", not one folder is writable
        _can_be_kept = False
        return cast(Function, numba.njit(**_OPTIONS)(function))


def load_or_compile(functions: Iterable[tuple[Callable[..., Any], str]], what: str, *, seconds: int) -> None:
    """Make functions ready for their signatures, from disk or by compiling, which is said once on stderr.

    Args:
        functions: Functions made with `compiled`, each with a signature as numba writes it.
        what: What they are, for the notice.
        seconds: How long compiling takes about, on one slow core, for the notice.
    """
    with _lock, event.install_listener("numba:compile", _CompileNotice(f"{what}, about {seconds} s")):
        for function, signature in functions:
            cast(Any, function).compile(signature)


class _CompileNotice(event.Listener):
    """Hears of every real compilation; code read from disk causes no event."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.told = False

    def on_start(self, event: Any) -> None:
        if not self.told:
            every = "in every process: set NUMBA_CACHE_DIR to a writable folder"
            often = "once per installation" if _can_be_kept else every
            notice(f"compiling {self.what}, {often}")
        self.told = True

    def on_end(self, event: Any) -> None:
        pass
