"""Split lists in UCF-101's format, and the annotation files made from them.

Lists: ``classInd.txt`` (``1 ApplyEyeMakeup``), ``trainlist01.txt`` (``ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1``)
and ``testlist01.txt`` (the same without the number). Annotation files keep the schema of the earlier PyTorch port::

    {"labels": {"1": "ApplyEyeMakeup", ...},
     "training":   {"v_ApplyEyeMakeup_g08_c01": {"set": "training", "label": 1, "nframes": 120}, ...},
     "validation": {...}}

Class numbers on disk start at 1; in memory labels start at 0.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from stmulnet.constants import MIN_FRAMES
from stmulnet.errors import AnnotationError

SUBSETS = ("training", "validation")
_LIST_PREFIX = {"training": "trainlist", "validation": "testlist"}
_SHOWN = 5  # names in an error message


@dataclass(frozen=True)
class VideoRecord:
    """One video of a subset.

    Attributes:
        video: Name of the video: its file name without the suffix.
        label: Class, 0-based.
        num_frames: Usable RGB frames: flow fields 1 ... num_frames - 1 exist.
    """

    video: str
    label: int
    num_frames: int


@dataclass(frozen=True)
class Annotation:
    """Classes and videos of one split."""

    class_names: list[str]
    training: list[VideoRecord]
    validation: list[VideoRecord]

    def records(self, subset: str) -> list[VideoRecord]:
        """The videos of ``"training"`` or ``"validation"``."""
        if subset not in SUBSETS:
            raise AnnotationError(f"there is no subset {subset!r}; one of: {', '.join(SUBSETS)}")
        return self.training if subset == "training" else self.validation


@dataclass(frozen=True)
class SplitLists:
    """What the lists of one split say: video name -> 0-based label, per subset."""

    class_names: list[str]
    training: dict[str, int]
    validation: dict[str, int]


def find_splits(lists: Path) -> list[int]:
    """Numbers of the splits whose lists lie in a folder, ascending."""
    if not lists.is_dir():
        problem = "is not a folder" if lists.exists() else "no such folder"
        raise AnnotationError(
            f"{lists}: {problem}; give the folder with classInd.txt, trainlist01.txt and testlist01.txt"
        )
    names = (re.fullmatch(r"(?:train|test)list(\d\d)\.txt", path.name) for path in lists.iterdir())
    splits = sorted({int(match[1]) for match in names if match})
    if not splits:
        raise AnnotationError(f"{lists}: holds no trainlist01.txt, testlist01.txt, ... (02, 03)")
    return splits


def read_split(lists: Path, split: int) -> SplitLists:
    """Read and check ``classInd.txt`` and both lists of a split.

    Raises:
        AnnotationError: A list is missing or malformed, or the lists contradict themselves or each other.
    """
    class_names = read_class_names(lists / "classInd.txt")
    subsets = {
        subset: _read_list(lists / f"{prefix}{split:02d}.txt", class_names, labelled=subset == "training")
        for subset, prefix in _LIST_PREFIX.items()
    }
    both = subsets["training"].keys() & subsets["validation"].keys()
    if both:
        raise AnnotationError(f"{lists}: split {split} has {some_videos(both)} in the training and the test list")
    return SplitLists(class_names, **subsets)


def read_class_names(path: Path) -> list[str]:
    """Class names from ``classInd.txt``, whose lines must be numbered 1, 2, 3, ... in order."""
    names: list[str] = []
    for number, line in _lines(path):
        match = re.fullmatch(r"(\d+)\s+(\S+)", line)
        if match is None:
            raise AnnotationError(f"{path}:{number}: {line!r} is not 'NUMBER CLASS'")
        if int(match[1]) != len(names) + 1:
            raise AnnotationError(f"{path}:{number}: class number {match[1]} where {len(names) + 1} should follow")
        if match[2] in names:
            raise AnnotationError(f"{path}:{number}: class {match[2]} is there already")
        names.append(match[2])
    return names


def to_json(lists: SplitLists, num_frames: Mapping[str, int]) -> dict[str, Any]:
    """The content of an annotation file.

    Args:
        lists: The lists of the split.
        num_frames: Usable RGB frames of every video on disk.

    Raises:
        AnnotationError: A listed video is not on disk or shorter than one flow stack.
    """
    listed = [*lists.training, *lists.validation]
    missing = [video for video in listed if video not in num_frames]
    if missing:
        raise AnnotationError(f"the lists name {some_videos(missing)} with no frames on disk; extract them first")
    short = [video for video in listed if num_frames[video] < MIN_FRAMES]
    if short:
        raise AnnotationError(
            f"{some_videos(short)} of the lists have fewer than {MIN_FRAMES} usable frames (RGB frames with flow); "
            "extract them again or take them off the lists"
        )
    entries = {
        subset: {v: {"set": subset, "label": label + 1, "nframes": num_frames[v]} for v, label in videos.items()}
        for subset, videos in (("training", lists.training), ("validation", lists.validation))
    }
    return {"labels": {str(i): name for i, name in enumerate(lists.class_names, start=1)}, **entries}


def load_annotation(path: Path) -> Annotation:
    """Read and check an annotation file.

    Raises:
        AnnotationError: The file is missing, is not JSON, or does not have the schema of this module.
    """
    if not path.is_file():
        present = ", ".join(sorted(file.name for file in path.parent.glob("annot*.json"))) or "none"
        raise AnnotationError(
            f"{path}: no such annotation file (there: {present}); make it with `stmulnet annotate`, or choose another "
            "data set or split"
        )
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict) or any(not isinstance(content.get(k), dict) for k in ("labels", *SUBSETS)):
        raise AnnotationError(f"{path}: an annotation file needs the objects 'labels', 'training' and 'validation'")
    class_names = _class_names_of(path, content["labels"])
    training, validation = (
        [_record_of(path, video, entry, len(class_names)) for video, entry in content[subset].items()]
        for subset in SUBSETS
    )
    both = content["training"].keys() & content["validation"].keys()
    if both:
        raise AnnotationError(f"{path}: {some_videos(both)} in training and in validation")
    return Annotation(class_names, training, validation)


def _class_names_of(path: Path, labels: dict[str, Any]) -> list[str]:
    names = [labels.get(str(i)) for i in range(1, len(labels) + 1)]
    if not names or any(not isinstance(name, str) for name in names):
        raise AnnotationError(f"{path}: 'labels' must map 1, 2, 3, ... without a gap to class names")
    return [str(name) for name in names]


def _record_of(path: Path, video: str, entry: Any, num_classes: int) -> VideoRecord:
    label, num_frames = (entry.get(k) if isinstance(entry, dict) else None for k in ("label", "nframes"))
    if not _is_int(label) or not 1 <= label <= num_classes:
        raise AnnotationError(f"{path}: {video}: 'label' must be a class number 1 ... {num_classes}, got {label!r}")
    if not _is_int(num_frames) or num_frames < 1:
        raise AnnotationError(f"{path}: {video}: 'nframes' must be a number of frames, got {num_frames!r}")
    return VideoRecord(video, label - 1, num_frames)


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_list(path: Path, class_names: list[str], *, labelled: bool) -> dict[str, int]:
    videos: dict[str, int] = {}
    for number, line in _lines(path):
        video, label = _parse_entry(f"{path}:{number}", line, class_names, labelled=labelled)
        if video in videos:
            raise AnnotationError(f"{path}:{number}: {video} is in the list already")
        videos[video] = label
    return videos


def _parse_entry(where: str, line: str, class_names: list[str], *, labelled: bool) -> tuple[str, int]:
    """``Class/video.avi[ LABEL]`` -> name of the video, 0-based label."""
    match = re.fullmatch(r"([^/\s]+)/([^/]+?\.\w+)(?:\s+(\d+))?", line)
    if match is None or (labelled and match[3] is None):
        raise AnnotationError(f"{where}: {line!r} is not 'CLASS/VIDEO.avi{' LABEL' if labelled else ''}'")
    if match[1] not in class_names:
        raise AnnotationError(f"{where}: class {match[1]} is not in classInd.txt")
    label = class_names.index(match[1])
    if match[3] is not None and int(match[3]) != label + 1:
        raise AnnotationError(f"{where}: label {match[3]}, but classInd.txt gives {match[1]} the number {label + 1}")
    return PurePosixPath(match[2]).stem, label


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, with their numbers."""
    numbered = ((i, line.strip()) for i, line in enumerate(_read_text(path).splitlines(), start=1))
    lines = [(i, line) for i, line in numbered if line]
    if not lines:
        raise AnnotationError(f"{path}: the file is empty")
    return lines


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some published lists begin with a byte-order mark
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not a text file in UTF-8") from error


def some_videos(names: Iterable[str]) -> str:
    """``"7 videos (a, b, c, d, e, ...)"``."""
    listed = sorted(names)
    plural = "" if len(listed) == 1 else "s"
    return f"{len(listed)} video{plural} ({', '.join(listed[:_SHOWN])}{', ...' if len(listed) > _SHOWN else ''})"
