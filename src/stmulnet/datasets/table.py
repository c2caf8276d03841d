"""Splits from a CSV file with the columns ``video``, ``class``, ``subset`` and, for several splits, ``split``.

::

    video,class,subset,split
    Wave/v_Wave_g02_c01.avi,Wave,train,1
    Wave/v_Wave_g01_c01.avi,Wave,test,1

``video`` may have folders before the name and a video's suffix after it, both without effect; ``subset`` is train or
test (or training, testing, validation, val, unused); ``split`` is a number and 1 where there is no such column. A file
without ``subset`` may have its words in ``split``. The order of columns and the case of their names do not matter,
further columns are for the reader's own use.
"""

import csv
import io
import re
from pathlib import Path, PurePosixPath

from stmulnet.datasets.lists import SplitLists, check_split, class_order, read_text
from stmulnet.errors import AnnotationError
from stmulnet.video.io import VIDEO_SUFFIXES

_SUBSETS = {
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("test", "testing", "validation", "val"), "validation"),
    "unused": "unused",
}

Row = tuple[int, str, str, str]  # split, subset, class, video


def read_table(path: Path) -> dict[int, SplitLists]:
    """All splits of a CSV file. Labels follow `class_order`, of all classes of the file.

    Raises:
        AnnotationError: The file is no such table, or names a video twice in a split.
    """
    rows = _rows(path)
    class_names = class_order({row[2] for row in rows})
    label_of = {name: label for label, name in enumerate(class_names)}
    splits: dict[int, dict[str, dict[str, int]]] = {}
    for split, subset, name, video in rows:
        subsets = splits.setdefault(split, {word: {} for word in ("training", "validation", "unused")})
        if video in subsets[subset]:
            classes = sorted({class_names[subsets[subset][video]], name})
            of_two = f", of class {classes[0]} and of class {classes[1]}" if len(classes) == 2 else ""
            raise AnnotationError(f"{path}: {video} is there twice in split {split}, for {subset}{of_two}; leave one")
        subsets[subset][video] = label_of[name]
    return {split: _lists(f"{path}: split {split}", class_names, splits[split]) for split in sorted(splits)}


def _lists(where: str, class_names: list[str], subsets: dict[str, dict[str, int]]) -> SplitLists:
    unused = subsets["unused"].keys()
    used = unused & (subsets["training"].keys() | subsets["validation"].keys())
    if used:
        raise AnnotationError(f"{where}: {min(used)} is unused and used")
    content = SplitLists(
        class_names, subsets["training"], subsets["validation"], frozenset(unused), source={"kind": "csv"}
    )
    return check_split(where, content)


def _rows(path: Path) -> list[Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))]
    except csv.Error as error:
        raise AnnotationError(f"{path}:{reader.line_num}: not CSV ({error})") from error
    if len(lines) < 2:
        raise AnnotationError(f"{path}: the file is empty; it needs a header and a line per video")
    (_, header), *body = lines
    columns = _columns(path, header)
    return [_row(f"{path}:{number}", line, len(header), columns) for number, line in body]


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    names = [name.lower() for name in header]
    known = ("video", "class", "subset", "split")
    wanted: dict[str, int] = {name: names.index(name) for name in known if name in names}
    if "subset" not in wanted and "split" in wanted:
        wanted["subset"] = wanted.pop("split")
    if len(wanted) < 3 or "subset" not in wanted or any(names.count(name) > 1 for name in wanted):
        raise AnnotationError(
            f"{path}: the first line must name the columns video, class and subset (and split, for several splits), "
            f"each once, with commas between; got {', '.join(header)}"
        )
    return wanted


def _row(where: str, line: list[str], width: int, columns: dict[str, int]) -> Row:
    if len(line) != width:
        raise AnnotationError(f"{where}: {len(line)} cells, but the header has {width}; quote cells that hold commas")
    cells = {name: line[column] for name, column in columns.items()}
    subset = _SUBSETS.get(cells["subset"].lower())
    if subset is None:
        raise AnnotationError(f"{where}: {cells['subset']!r} is no subset; one of: {', '.join(_SUBSETS)}")
    split = cells.get("split", "1")
    if not re.fullmatch("[1-9][0-9]?", split):
        raise AnnotationError(f"{where}: {split!r} is no number of a split, 1 ... 99")
    video = _video_name(cells["video"])
    if not video or not cells["class"]:
        raise AnnotationError(f"{where}: the {'class' if video else 'video'} is empty")
    return int(split), subset, cells["class"], video


def _video_name(cell: str) -> str:
    path = PurePosixPath(cell)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
