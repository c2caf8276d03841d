"""Scores of a running evaluation on disk, so that one that was stopped goes on where it was.

One file per process: a first line that says what is being scored, then one line per video with its scores and their
checksum. Lines are only ever added. A file of another evaluation is not read; one whose last line was cut off is read
up to there.
"""

# K classes, P views

import base64
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stmulnet.constants import STREAMS
from stmulnet.evaluation.protocol import ScoredVideo, VideoScores

FORMAT = 1


class Journal:
    """The scores that one process appends to; made with its folder when the first ones come.

    Args:
        path: The file; None keeps nothing.
        key: What decides the scores, JSON-able: weights, list of videos, protocol.
    """

    def __init__(self, path: Path | None, key: Mapping[str, Any]) -> None:
        self._path = path
        self._key = key
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, scored: ScoredVideo) -> None:
        """Keep the scores of a video."""
        if self._path is None:
            return
        if self._file is None:
            self._file = self._open(self._path)
        self._file.write(_to_line(scored))
        self._file.flush()

    def _open(self, path: Path) -> BinaryIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        _, size = _read(path, self._key)
        if not size:
            path.write_bytes(_header(self._key))
        else:
            os.truncate(path, size)  # what a kill has cut off must not run into the next line
        return path.open("ab")


def read_journals(paths: list[Path], key: Mapping[str, Any]) -> dict[str, ScoredVideo]:
    """Videos by name that earlier runs of the same evaluation have scored; none from files of another one."""
    return {scored.video: scored for path in paths for scored in _read(path, key)[0]}


def _read(path: Path, key: Mapping[str, Any]) -> tuple[list[ScoredVideo], int]:
    """The videos of a file, and the size of its good part in bytes; 0 if it is not of this evaluation."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return [], 0
    if not lines or lines[0] != _header(key):
        return [], 0
    videos, size = [], len(lines[0])
    for line in lines[1:]:
        scored = _from_line(line)
        if scored is None:
            break
        videos.append(scored)
        size += len(line)
    return videos, size


def _header(key: Mapping[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, **key}, sort_keys=True).encode() + b"\n"


def _to_line(scored: ScoredVideo) -> bytes:
    content: dict[str, Any] = {"video": scored.video, "label": scored.label}
    for stream in STREAMS:
        views: NDArray[np.float64] | None = getattr(scored.scores, f"{stream}_views")
        if views is not None:
            content[stream] = [len(views), base64.b64encode(views.astype("<f8").tobytes()).decode()]
    text = json.dumps(content).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _from_line(line: bytes) -> ScoredVideo | None:
    """None for a line that is not as it was written."""
    checksum, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
        return None
    content = json.loads(text)
    views = []
    for stream in STREAMS:
        count, numbers = content.get(stream, (0, ""))
        array = np.frombuffer(base64.b64decode(numbers), dtype="<f8").astype(np.float64)
        views.append(array.reshape(count, -1) if count else None)
    return ScoredVideo(content["video"], content["label"], VideoScores.of_views(*views))
