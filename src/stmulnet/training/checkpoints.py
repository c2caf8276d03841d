"""What a run needs to go on after it was stopped, in files that are whole or not there."""

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmulnet.console import notice
from stmulnet.errors import CheckpointError, StmulnetError
from stmulnet.files import atomic_path

VERSION = 3  # 3: how many epochs have ended
_NAMES = "update-*.ckpt"
_CUT_OFF = ".update-*.partial.ckpt"  # what a run that was killed while it wrote has left

State = dict[str, Any]  # of tensors, numbers, text, lists and dicts of these: read with torch's weights_only


class Checkpoints:
    """The last checkpoints of a run, ``update-0000120.ckpt`` after 120 updates.

    Args:
        folder: Where they are.
        keep: How many; older ones are deleted.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """Those that are there, oldest first."""
        return sorted(self.folder.glob(_NAMES))

    def save(self, updates: int, state: State) -> Path:
        """Write a checkpoint, then delete those that are no longer kept.

        Raises:
            StmulnetError: It cannot be written; those before are as they were.
        """
        path = self._path(updates)
        content = {"version": VERSION, "checksum": checksum(state), "state": state}
        with saving(path, self.latest_path), atomic_path(path) as temporary:
            buffer = io.BytesIO()  # torch hides the reason when it writes to a full disk
            torch.save(content, buffer)
            temporary.write_bytes(buffer.getbuffer())
        # Later ones are damaged, or the run would have gone on from them.
        older = [kept for kept in self.paths() if kept < path]
        later = [kept for kept in self.paths() if kept > path]
        too_old = older[: max(len(older) - self.keep + 1, 0)]
        for unwanted in (*too_old, *later, *self.folder.glob(_CUT_OFF)):
            unwanted.unlink()
        return path

    def latest_path(self, *, before: int | None = None) -> Path | None:
        """The newest one, or the newest of fewer updates than ``before``; None without any."""
        return max((path for path in self.paths() if before is None or path < self._path(before)), default=None)

    def _path(self, updates: int) -> Path:
        return self.folder / f"update-{updates:07d}.ckpt"

    def load(self) -> State:
        """The newest one that is whole.

        Raises:
            CheckpointError: There is none.
        """
        paths = self.paths()
        while paths:
            path = paths.pop()
            try:
                return load_checkpoint(path)
            except CheckpointError as error:
                notice(f"{error}; going back to {paths[-1].name}" if paths else str(error))
        raise CheckpointError(f"{self.folder}: holds no checkpoint that can be used; start again in another folder")


def load_checkpoint(path: Path) -> State:
    """Read and check one checkpoint.

    Raises:
        CheckpointError: It is damaged, or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, expected, state = content["version"], content["checksum"], content["state"]
    except Exception as error:  # anything can be in a damaged file; torch's advice would be to unpickle it
        raise CheckpointError(f"{path}: damaged, or not a checkpoint") from error
    if version != VERSION:
        raise CheckpointError(f"{path}: a checkpoint of version {version}, this is version {VERSION}")
    if checksum(state) != expected:
        raise CheckpointError(f"{path}: damaged, its check sum is wrong")
    return dict(state)


def checksum(value: Any) -> int:
    """CRC-32 of everything in nested dicts and lists, with its keys."""
    crc = 0
    for key, leaf in _leaves(value, ""):
        crc = zlib.crc32(key.encode(), crc)
        if isinstance(leaf, Tensor):
            # Bytes as they lie in memory would depend on strides.
            crc = zlib.crc32(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, crc)
        else:
            crc = zlib.crc32(repr(leaf).encode(), crc)
    return crc


@contextlib.contextmanager
def saving(path: Path, last_good: Callable[[], Path | None]) -> Iterator[None]:
    """Say what could not be written, and what is left.

    Args:
        path: The file, or the folder of several.
        last_good: Gives the newest checkpoint.

    Raises:
        StmulnetError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        kept = last_good()
        left = f"the last good checkpoint is {kept}; make room, then go on with --resume" if kept else "make room"
        raise StmulnetError(
            f"{error.filename or path}: cannot be written ({error.strerror or error}); {left}"
        ) from error


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}/{name}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{key}/{index}")
    else:
        yield key, value
