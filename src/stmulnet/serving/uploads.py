"""The temporary files of a service: one private folder that goes with it."""

import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stmulnet.serving.limits import MEGABYTE, Limits
from stmulnet.video.io import VIDEO_SUFFIXES

SWEEP_SEC = 30.0
BROKEN_UPLOAD_SEC = 120.0  # without another byte, an upload has been given up
NAME_LENGTH = 80


class Uploads:
    """A private folder with a random name; it and all it holds is removed at the end.

    Attributes:
        folder: The folder.
        web: Part of it that Gradio keeps its files in.
        own: Part of it for uploads to the HTTP interface, and what browsers play.
        examples: Part of it for videos that stay to the end.
    """

    def __init__(self, limits: Limits) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stmulnet-serve-")).resolve()
        self.web = self.folder / "web"
        self.own = self.folder / "own"
        self.examples = self.folder / "examples"
        for part in (self.web, self.own, self.examples):
            part.mkdir()
        self._limits = limits
        self._held: dict[str, set[Path]] = defaultdict(set)  # by session of the page
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_regularly, name="sweep uploads", daemon=True)
        self._sweeper.start()

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A path for an upload of that name; what is there is removed at the end of the block."""
        path = self.new_path(suffix_of(name))
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def new_path(self, suffix: str) -> Path:
        """A path that nobody can guess."""
        return self.own / f"{secrets.token_urlsafe(16)}{suffix}"

    def adopt(self, path: Path) -> Path:
        """A second name, in ``own``, of a file in ``web``."""
        own = self.new_path(suffix_of(path.name))
        own.hardlink_to(path)
        return own

    def clip(self, name: str) -> Path | None:
        """The file that a browser may play by this name."""
        for part in (self.own, self.examples):
            if (path := part / name).parent == part and self.holds(path):
                return path
        return None

    def holds(self, path: str | Path) -> bool:
        """Whether a path, as somebody gave it, is that of a file in the folder."""
        try:
            resolved = Path(path).resolve()
            return resolved.is_relative_to(self.folder) and resolved.is_file()
        except (OSError, ValueError):  # too long a name, a zero byte
            return False

    def hold(self, session: str, *paths: Path) -> None:
        """Keep these files for a session of the page, and remove those it had before."""
        with self._lock:
            before, self._held[session] = self._held[session], set(paths)
            self._remove_unless_held(before)

    def release(self, session: str) -> None:
        """Remove the files of a session."""
        with self._lock:
            self._remove_unless_held(self._held.pop(session, set()))

    def discard(self, path: Path) -> None:
        """Remove an upload that is of no use."""
        with self._lock:
            self._remove_unless_held({path})

    def full(self, more_bytes: int) -> bool:
        """Whether so many more bytes are too many."""
        return sum(size for _, size, _ in self._files()) + more_bytes > self._limits.disk_mb * MEGABYTE

    def close(self) -> None:
        """Remove everything."""
        self._closing.set()
        self._sweeper.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self, now: float) -> None:
        """Remove what has become old: forgotten files, and uploads that broke off."""
        for path, _, changed in self._files():
            broken_off = path.parent == self.web  # complete uploads lie in folders of their own
            if now - changed > (BROKEN_UPLOAD_SEC if broken_off else self._limits.keep_minutes * 60):
                path.unlink(missing_ok=True)
        for folder in self.web.iterdir():
            with suppress(OSError):  # not empty
                if folder.is_dir() and now - folder.stat().st_mtime > BROKEN_UPLOAD_SEC:
                    folder.rmdir()

    def _sweep_regularly(self) -> None:
        while not self._closing.wait(SWEEP_SEC):
            self.sweep(time.time())

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Path, bytes and time of the last change of every file but the examples, which stay."""
        for part in (self.web, self.own):
            for path in part.rglob("*"):
                with suppress(OSError):  # removed meanwhile
                    if path.is_file():
                        yield path, path.stat().st_size, path.stat().st_mtime

    def _remove_unless_held(self, paths: set[Path]) -> None:
        """Two visitors may have sent the same file, which Gradio then stores once."""
        for path in paths.difference(*self._held.values()):
            if self.holds(path):
                path.unlink(missing_ok=True)


def shown_name(name: str | None) -> str:
    """The name of an upload as messages may repeat it: no folders, no control characters, not long."""
    last = re.split(r"[/\\]", name or "")[-1]
    printable = "".join(character for character in last if character.isprintable()).strip()
    if len(printable) > NAME_LENGTH:
        printable = f"…{printable[1 - NAME_LENGTH :]}"
    return printable or "video"


def suffix_of(name: str) -> str:
    """The suffix of an upload, if it is one of a video."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in VIDEO_SUFFIXES else ""
