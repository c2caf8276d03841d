"""Score tables on disk: ``scores.npz`` of an evaluation, with all that is needed to measure them again.

================================== ========================================================================
array                              content
================================== ========================================================================
videos                             V names
labels                             (V,) true classes, 0-based
class_names                        K names in class order
appearance, motion                 (V, K) raw scores of a stream; missing where the network lacks it
fused                              (V, K) their mean, weighted where so wanted; missing with a single stream
appearance_views, motion_views     (V, P, K) raw scores of the single views, float32
external, combined                 (V, K) scores of another method, and both together
record                             JSON: where the scores come from, see `ScoresRecord`
================================== ========================================================================
"""

# V videos, K classes, P views

import dataclasses
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.evaluation.clip_views import ViewsName, in_words
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.files import atomic_path
from stmulnet.values import fits

FORMAT = 1
_NAMES, _LABELS, _RECORD = ("videos", "class_names"), "labels", "record"
_TABLES = ("appearance", "motion", "fused", "external", "combined")
_VIEWS = ("appearance_views", "motion_views")
_NEEDED = (*_NAMES, _LABELS)
_KNOWN = (*_NEEDED, *_TABLES, *_VIEWS, _RECORD)


@dataclass(frozen=True)
class ScoresRecord:
    """Where scores come from; the defaults stand for what a file does not say.

    Attributes:
        dataset: Name of the data set.
        split: Number of the split whose test list was scored.
        views: Views of a video, see `stmulnet.evaluation.clip_views`.
        frames: Frames sampled per video.
        left_out: Videos of the test list that were not on disk.
        weights: Per weight file ``file``, ``sha256`` and ``streams``.
        fusion_weights: Of appearance and motion; None where ``fused`` came about otherwise.
        external: ``file``, ``sha256`` and ``weight`` of another method's scores.
    """

    dataset: str | None = None
    split: int | None = None
    views: ViewsName | None = None
    frames: int | None = None
    left_out: int = 0
    weights: list[dict[str, Any]] = field(default_factory=list)
    fusion_weights: list[float] | None = None
    external: dict[str, Any] | None = None

    @property
    def protocol(self) -> str:
        """How the videos were scored, in words."""
        if self.views is None or self.frames is None:
            return "protocol not recorded"
        return in_words(self.views, self.frames)


@dataclass(frozen=True)
class SavedScores:
    """Scores with the names of the classes and their record."""

    table: ScoreTable
    class_names: list[str]
    record: ScoresRecord


def save_scores(path: Path, scores: SavedScores) -> None:
    """Write a file that `load_scores` reads, in one step."""
    table = scores.table
    views = {name: getattr(table, name) for name in _VIEWS}
    arrays: dict[str, Any] = {
        "videos": np.array(table.videos),
        _LABELS: table.labels,
        "class_names": np.array(scores.class_names),
        **table.streams(),
        **{name: values.astype(np.float32) for name, values in views.items() if values is not None},
        _RECORD: np.array(json.dumps({"format": FORMAT, **dataclasses.asdict(scores.record)})),
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_scores(path: str | Path) -> SavedScores:
    """Read and check saved scores; nothing in the file is executed.

    Files of earlier versions, which have no ``record``, are read as well.

    Raises:
        ConfigError: The file is missing or damaged, or its arrays are not those of a scores file; names the array.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    if missing := [name for name in _NEEDED if name not in arrays]:
        raise ConfigError(f"{path}: no array {missing[0]!r}; give the scores.npz of an evaluation")
    if unknown := sorted(arrays.keys() - set(_KNOWN)):
        raise ConfigError(f"{path}: unknown arrays {', '.join(unknown[:5])}; there are {', '.join(_KNOWN)}")
    videos, class_names = (_names(path, name, arrays[name]) for name in _NAMES)
    labels = _labels(path, arrays[_LABELS], len(videos), len(class_names))
    shape = len(videos), len(class_names)
    tables = {name: _table(path, name, arrays[name], shape) for name in (*_TABLES, *_VIEWS) if name in arrays}
    record = _record(path, arrays[_RECORD]) if _RECORD in arrays else ScoresRecord()
    streams = [tables[name] for name in ("appearance", "motion") if name in tables]
    if not streams or (len(streams) == 2 and "fused" not in tables):
        raise ConfigError(f"{path}: needs the scores of a stream, and 'fused' where there are two")
    table = ScoreTable(
        videos,
        labels,
        **{name: tables.get(name) for name in _TABLES + _VIEWS if name != "fused"},
        fused=tables.get("fused", streams[0]),
    )
    return SavedScores(table, class_names, record)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):  # NumPy would advise to unpickle it
                raise ConfigError(f"{path}: not a scores file, or damaged; give the scores.npz of an evaluation")
            stream.seek(0)
            file = np.load(stream, allow_pickle=False)
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        # Arrays of Python objects, which would be unpickled, are among the ValueErrors.
        reason = "it holds Python objects" if "pickle" in str(error) else str(error).partition("\n")[0]
        raise ConfigError(f"{path}: not a scores file, or damaged ({reason}); evaluate again") from error


def _names(path: Path, name: str, array: NDArray[Any]) -> list[str]:
    if array.ndim != 1 or array.dtype.kind != "U" or not array.size:
        raise ConfigError(f"{path}: {name} must be a list of texts, got {array.dtype} {array.shape}")
    names: list[str] = array.tolist()
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: {name} has {next(n for n in names if names.count(n) > 1)!r} more than once")
    return names


def _labels(path: Path, array: NDArray[Any], videos: int, classes: int) -> NDArray[np.int64]:
    if array.shape != (videos,) or array.dtype.kind not in "iu":
        raise ConfigError(f"{path}: labels must be {videos} whole numbers, got {array.dtype} {array.shape}")
    if array.min() < 0 or array.max() >= classes:
        raise ConfigError(f"{path}: labels must lie in 0..{classes - 1}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def _table(path: Path, name: str, array: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float64]:
    outer = (array.shape[0], array.shape[-1]) if array.ndim == (3 if name in _VIEWS else 2) else None
    if outer != shape or array.dtype.kind != "f":
        wanted = f"({shape[0]}, views, {shape[1]})" if name in _VIEWS else f"{shape}"
        raise ConfigError(f"{path}: {name} must be numbers of shape {wanted}, got {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{path}: {name} holds values that are not finite")
    return array.astype(np.float64)


def _record(path: Path, array: NDArray[Any]) -> ScoresRecord:
    try:
        values = json.loads(str(array))
    except ValueError as error:
        raise ConfigError(f"{path}: the record is no JSON; the file is damaged") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ConfigError(f"{path}: a record of format {FORMAT} is needed; the file is damaged, or of a newer stmulnet")
    if not _is_record(values):
        raise ConfigError(f"{path}: the record is not one of an evaluation; the file is damaged")
    return ScoresRecord(**values)


def _is_record(values: dict[str, Any]) -> bool:
    """Any JSON can stand there."""
    hints: dict[str, Any] = {"dataset": str | None, "split": int | None, "frames": int | None, "left_out": int}
    if values.keys() != {field.name for field in dataclasses.fields(ScoresRecord)}:
        return False
    weights, fusion, external = (values[name] for name in ("weights", "fusion_weights", "external"))
    return (
        all(fits(values[name], hint) for name, hint in hints.items())
        and values["views"] in (None, *get_args(ViewsName))
        and isinstance(weights, list)
        and all(isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in weights)
        and (fusion is None or (isinstance(fusion, list) and all(fits(weight, float) for weight in fusion)))
        and (external is None or (isinstance(external, dict) and fits(external.get("weight"), float)))
    )
