"""What split lists say, whatever their format: classes and videos of a split, and the checks all formats share.

The formats: `ucf101` (classInd.txt, trainlist01.txt, ...), `hmdb51` (<class>_test_split1.txt, ...), `table` (CSV) and
`folder` (class folders, split at random). Each gives a `SplitLists` per split; `sources` tells them apart.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stmulnet.class_names import CLASS_NAMES
from stmulnet.console import counted, some
from stmulnet.errors import AnnotationError

SUBSETS = ("training", "validation")
_GROUP = re.compile(r"(.+_g\d+)_c\d+")  # UCF-101: clips of one group are cut from one video


@dataclass(frozen=True)
class SplitLists:
    """What the lists of one split say.

    Attributes:
        class_names: Names in the order of the labels.
        training: Video name -> 0-based label.
        validation: The same for the videos to test on.
        unused: Videos that the lists name for neither (flag 0 of HMDB-51).
        source: How the split came about; goes into the annotation file as it is.
    """

    class_names: list[str]
    training: dict[str, int]
    validation: dict[str, int]
    unused: frozenset[str] = frozenset()
    source: Mapping[str, Any] = field(default_factory=dict)

    def videos(self) -> dict[str, int]:
        """Training and validation videos."""
        return {**self.training, **self.validation}

    def without(self, videos: Iterable[str]) -> "SplitLists":
        """The same split, less some videos."""
        gone = set(videos)
        training, validation = (
            {video: label for video, label in subset.items() if video not in gone}
            for subset in (self.training, self.validation)
        )
        return replace(self, training=training, validation=validation)


def check_split(where: str, lists: SplitLists) -> SplitLists:
    """Refuse a split that names a video for both subsets or nothing at all; give it back otherwise.

    Args:
        where: The lists and the split, as the message shall name them.
        lists: The split.

    Raises:
        AnnotationError: The split contradicts itself.
    """
    both = lists.training.keys() & lists.validation.keys()
    if both:
        raise AnnotationError(f"{where} has {some_videos(both)} for training and for testing; a test needs others")
    if not lists.training and not lists.validation:
        raise AnnotationError(f"{where} has no videos, neither for training nor for testing")
    return lists


def check_agreement(splits: Mapping[int, SplitLists]) -> None:
    """Refuse splits that put a video into different classes.

    Raises:
        AnnotationError: Names the video, its classes and the splits.
    """
    seen: dict[str, tuple[str, int]] = {}
    for split, lists in splits.items():
        for video, label in lists.videos().items():
            name = lists.class_names[label]
            other, first = seen.setdefault(video, (name, split))
            if other != name:
                raise AnnotationError(
                    f"{video} is of class {other} in split {first}, of class {name} in split {split}; correct one"
                )


def shared_groups(lists: SplitLists) -> list[str]:
    """Groups (``v_Biking_g01`` of ``v_Biking_g01_c04``) with videos in both subsets, sorted.

    Clips of a group show the same scene: a network that has seen one has an easy time with the others.
    """
    training, validation = ({group_of(video) for video in subset} for subset in (lists.training, lists.validation))
    return sorted(group for group in training & validation if group is not None)


def group_of(video: str) -> str | None:
    """Group of a video with a name like ``v_Biking_g01_c04``; None for other names."""
    match = _GROUP.fullmatch(video)
    return match[1] if match else None


def group_or_self(video: str) -> str:
    """What a split keeps together: the group of a video, or where its name tells none the video itself."""
    return group_of(video) or video


def empty_classes(lists: SplitLists, subset: str) -> list[str]:
    """Classes without a video in ``"training"`` or ``"validation"``, in label order."""
    used = set((lists.training if subset == "training" else lists.validation).values())
    return [name for label, name in enumerate(lists.class_names) if label not in used]


def class_order(names: Iterable[str]) -> list[str]:
    """Classes in label order where the lists give none: a known data set's own, of others the alphabet's.

    The networks that the authors published count in the order of the data set, which for HMDB-51 is not quite the
    alphabet's. A part of its classes keeps its order.
    """
    wanted = set(names)
    for known in CLASS_NAMES.values():
        if wanted <= set(known):
            return [name for name in known if name in wanted]
    return sorted(wanted)


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, without blanks around them, with their numbers.

    Raises:
        AnnotationError: The file cannot be read, is not UTF-8 text, or has no such line.
    """
    numbered = ((i, line.strip()) for i, line in enumerate(read_text(path).splitlines(), start=1))
    lines = [(i, line) for i, line in numbered if line]
    if not lines:
        raise AnnotationError(f"{path}: the file is empty")
    return lines


def read_text(path: Path) -> str:
    """Content of a text file in UTF-8.

    Raises:
        AnnotationError: The file cannot be read or is no such text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # some published lists begin with a byte-order mark
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not a text file in UTF-8") from error


def some_videos(names: Iterable[str]) -> str:
    """``"7 videos (a, b, c, d, e, ...)"``."""
    listed = sorted(names)
    return f"{counted(len(listed), 'video')} ({some(listed)})"
