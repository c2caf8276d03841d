"""Scores of another method from a CSV file: a column ``video``, then one per class, in any order."""

# V videos, K classes

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmulnet.console import some
from stmulnet.errors import ConfigError

VIDEO_COLUMN = "video"


def read_external_scores(path: Path, class_names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read the scores of another method.

    Args:
        path: The CSV file.
        class_names: K names in class order; the file must have a column for each and no others.

    Returns:
        Video -> (K,) scores in class order.

    Raises:
        ConfigError: The file cannot be read, has other columns, names a video twice, or a cell is no finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            places = _class_columns(path, header, class_names)
            scores: dict[str, NDArray[np.float64]] = {}
            for row in (row for row in rows if row):
                where = f"{path}:{rows.line_num}"
                video, values = _parse(where, row, header)
                if video in scores:
                    raise ConfigError(f"{where}: {video} is there already; keep one row per video")
                scores[video] = values[places]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a CSV file of scores") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    return scores


def scores_of(path: Path, scores: dict[str, NDArray[np.float64]], videos: Sequence[str]) -> NDArray[np.float64]:
    """The rows (V, K) of some videos.

    Raises:
        ConfigError: Videos are missing; names some.
    """
    if missing := [video for video in videos if video not in scores]:
        raise ConfigError(
            f"{path}: has no scores of {len(missing)} of the {len(videos)} test videos ({some(missing)}); names are "
            "those of the annotation, without suffix"
        )
    return np.stack([scores[video] for video in videos])


def _class_columns(path: Path, header: list[str], class_names: Sequence[str]) -> list[int]:
    """Position of every class among the columns after the first."""
    if not header or header[0] != VIDEO_COLUMN:
        raise ConfigError(f"{path}: the first line must be 'video' and the names of the classes, got {header[:3]}")
    columns = header[1:]
    unknown = [name for name in columns if name not in class_names]
    missing = [name for name in class_names if name not in columns]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    for names, problem in ((unknown, "unknown classes"), (missing, "no column for classes"), (twice, "classes twice")):
        if names:
            raise ConfigError(f"{path}: {problem}: {some(names)}; there must be one column per class of the data set")
    return [columns.index(name) for name in class_names]


def _parse(where: str, row: list[str], header: list[str]) -> tuple[str, NDArray[np.float64]]:
    if len(row) != len(header):
        raise ConfigError(f"{where}: {len(row)} cells where the first line has {len(header)}")
    values = []
    for name, cell in zip(header[1:], row[1:], strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(f"{where}: the score of class {name} must be a finite number, got {cell!r}")
        values.append(value)
    return row[0].strip(), np.array(values)
