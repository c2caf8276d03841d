"""HMDB-51's split lists: ``golf_test_split1.txt`` and so on, one file per class and split.

A line is ``Adam_Scott_golf_f_cm_np1_le_goo_0.avi 1``: the name of a video file, which may hold blanks, brackets and the
like, and a flag: 1 for training, 2 for testing, 0 for neither.
"""

import re
from pathlib import Path, PurePosixPath

from stmulnet.datasets.lists import SplitLists, check_split, class_order, numbered_lines
from stmulnet.errors import AnnotationError

_CLASS_LIST = re.compile(r"(.+)_test_split(\d\d?)\.txt")
_UNUSED, _TRAINING, _TESTING = "012"


def is_hmdb51(names: set[str]) -> bool:
    """Whether a folder with these files holds lists of this format."""
    return any(_CLASS_LIST.fullmatch(name) for name in names)


def find_splits(lists: Path) -> list[int]:
    """Numbers of the splits whose lists lie in a folder, ascending."""
    return sorted({split for _, split in _class_lists(lists)})


def read_split(lists: Path, split: int) -> SplitLists:
    """Read and check the lists of all classes of a split.

    Labels follow `class_order`, videos the classes and within a class its list (as cnn_setup_data.m has them).

    Raises:
        AnnotationError: The list of a class is missing or malformed, or names a video twice.
    """
    paths = _class_lists(lists)
    class_names = class_order(name for name, _ in paths)
    subsets: dict[str, dict[str, int]] = {flag: {} for flag in (_UNUSED, _TRAINING, _TESTING)}
    seen: dict[str, Path] = {}
    for label, name in enumerate(class_names):
        if (name, split) not in paths:
            raise AnnotationError(f"{lists}: {name}_test_split{split}.txt is missing; other splits have that class")
        for video, flag in _read_list(paths[name, split], seen):
            subsets[flag][video] = label
    content = SplitLists(
        class_names, subsets[_TRAINING], subsets[_TESTING], frozenset(subsets[_UNUSED]), {"kind": "hmdb51"}
    )
    return check_split(f"{lists}: split {split}", content)


def _class_lists(lists: Path) -> dict[tuple[str, int], Path]:
    """(class, split) -> its list."""
    matches = ((path, _CLASS_LIST.fullmatch(path.name)) for path in lists.iterdir())
    return {(match[1], int(match[2])): path for path, match in matches if match}


def _read_list(path: Path, seen: dict[str, Path]) -> list[tuple[str, str]]:
    """(Name of the video, flag) of every line; adds the names to ``seen``, the list where each was found."""
    entries = []
    for number, line in numbered_lines(path):
        match = re.fullmatch(r"([^/]+\.\w+)\s+([012])", line)
        if match is None:
            raise AnnotationError(f"{path}:{number}: {line!r} is not 'VIDEO.avi FLAG' with the flag 0, 1 or 2")
        video = PurePosixPath(match[1]).stem
        if video in seen:
            raise AnnotationError(f"{path}:{number}: {video} is in {seen[video].name} already")
        seen[video] = path
        entries.append((video, match[2]))
    return entries
