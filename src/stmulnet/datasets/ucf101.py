"""UCF-101's split lists, a format that any videos may use.

``classInd.txt`` (``1 ApplyEyeMakeup``), ``trainlist01.txt`` (``ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1``) and
``testlist01.txt`` (the same without the number); 02 and 03 for further splits.
"""

import re
from pathlib import Path, PurePosixPath

from stmulnet.datasets.lists import SplitLists, check_split, numbered_lines
from stmulnet.errors import AnnotationError

CLASS_LIST = "classInd.txt"
_SPLIT_LIST = re.compile(r"(?:train|test)list(\d\d)\.txt")


def is_ucf101(names: set[str]) -> bool:
    """Whether a folder with these files holds lists of this format, complete or not."""
    return CLASS_LIST in names or any(_SPLIT_LIST.fullmatch(name) for name in names)


def find_splits(lists: Path) -> list[int]:
    """Numbers of the splits whose lists lie in a folder, ascending.

    Raises:
        AnnotationError: There are none.
    """
    matches = (_SPLIT_LIST.fullmatch(path.name) for path in lists.iterdir())
    splits = sorted({int(match[1]) for match in matches if match})
    if not splits:
        raise AnnotationError(f"{lists}: holds no trainlist01.txt, testlist01.txt, ... (02, 03)")
    return splits


def read_split(lists: Path, split: int) -> SplitLists:
    """Read and check ``classInd.txt`` and both lists of a split.

    Raises:
        AnnotationError: A list is missing or malformed, or the lists contradict themselves or each other.
    """
    class_names = read_class_names(lists / CLASS_LIST)
    training = _read_list(lists / f"trainlist{split:02d}.txt", class_names, labelled=True)
    validation = _read_list(lists / f"testlist{split:02d}.txt", class_names, labelled=False)
    return check_split(
        f"{lists}: split {split}", SplitLists(class_names, training, validation, source={"kind": "ucf101"})
    )


def read_class_names(path: Path) -> list[str]:
    """Class names from ``classInd.txt``, whose lines must be numbered 1, 2, 3, ... in order."""
    names: list[str] = []
    for number, line in numbered_lines(path):
        match = re.fullmatch(r"(\d{1,6})\s+(\S+)", line)
        if match is None:
            raise AnnotationError(f"{path}:{number}: {line!r} is not 'NUMBER CLASS'")
        if int(match[1]) != len(names) + 1:
            raise AnnotationError(f"{path}:{number}: class number {match[1]} where {len(names) + 1} should follow")
        if match[2] in names:
            raise AnnotationError(f"{path}:{number}: class {match[2]} is there already")
        names.append(match[2])
    return names


def _read_list(path: Path, class_names: list[str], *, labelled: bool) -> dict[str, int]:
    videos: dict[str, int] = {}
    label_of = {name: label for label, name in enumerate(class_names)}
    for number, line in numbered_lines(path):
        video, label = _parse_entry(f"{path}:{number}", line, label_of, labelled=labelled)
        if video in videos:
            raise AnnotationError(f"{path}:{number}: {video} is in the list already")
        videos[video] = label
    return videos


def _parse_entry(where: str, line: str, label_of: dict[str, int], *, labelled: bool) -> tuple[str, int]:
    """``Class/video.avi[ LABEL]`` -> name of the video, 0-based label."""
    match = re.fullmatch(r"([^/\s]+)/([^/]+?\.\w+)(?:\s+(\d{1,6}))?", line)
    if match is None or (labelled and match[3] is None):
        raise AnnotationError(f"{where}: {line!r} is not 'CLASS/VIDEO.avi{' LABEL' if labelled else ''}'")
    if match[1] not in label_of:
        raise AnnotationError(f"{where}: class {match[1]} is not in {CLASS_LIST}")
    label = label_of[match[1]]
    if match[3] is not None and int(match[3]) != label + 1:
        raise AnnotationError(f"{where}: label {match[3]}, but {CLASS_LIST} gives {match[1]} the number {label + 1}")
    return PurePosixPath(match[2]).stem, label
