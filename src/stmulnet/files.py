"""Writing files so that a reader never sees half of one."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stmulnet.console import notice
from stmulnet.errors import ConfigError, StmulnetError

_NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # network file systems


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` on success, remove it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: encoders and image writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step (temporary file, then rename)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in one step; non-finite numbers are an error."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(place: Path, busy: StmulnetError | None, *, shared: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder or file that exists; the lock goes with the process, however that ends.

    Where the file system knows no locks, which is said, nobody is kept out.

    Args:
        place: What to lock.
        busy: What to raise where another process has the lock; None waits until it is free.
        shared: Keep out only those who want it for themselves.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            assert busy is not None
            raise busy from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            notice(f"note: {place}: this file system knows no locks; see that nothing else writes there")
        yield
    finally:
        os.close(descriptor)


def check_output(path: Path, *, folder: bool = True) -> None:
    """Say before the work, not after it, where an output folder or file cannot be written; makes nothing.

    Raises:
        ConfigError: Something else has its place, or the folder that exists already is not writable.
    """
    if folder != path.is_dir() and path.exists():
        raise ConfigError(f"{path}: is a {'file' if folder else 'folder'}; give another name for the output")
    place = path.absolute() if folder else path.absolute().parent
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    if not existing.is_dir():
        raise ConfigError(f"{path}: cannot be written, {existing} is no folder; give another place for the output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: no permission to write to {existing}; give another place for the output")
