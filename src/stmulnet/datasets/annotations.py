"""Annotation files: classes, videos and their lengths of one split, in the schema of the earlier PyTorch port.

::

    {"labels": {"1": "ApplyEyeMakeup", ...},
     "training":   {"v_ApplyEyeMakeup_g08_c01": {"set": "training", "label": 1, "nframes": 120}, ...},
     "validation": {...},
     "source": {"kind": "ucf101"}}

Class numbers on disk start at 1; in memory labels start at 0. Names are those on disk. ``source`` says where the split
comes from, ``left_out`` (subset -> names in the lists) what it lacks of it; both may be missing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from stmulnet.datasets.lists import SUBSETS, SplitLists, read_text, some_videos
from stmulnet.errors import AnnotationError

ANNOTATIONS_FOLDER = "annotations"  # in that of the data set


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
    """Classes and videos of one split.

    Attributes:
        class_names: Names in the order of the labels.
        training: Videos to train on.
        validation: Videos to test on.
        left_out: Subset -> videos of the lists that were not on disk, or not complete, when the file was made.
    """

    class_names: list[str]
    training: list[VideoRecord]
    validation: list[VideoRecord]
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def records(self, subset: str) -> list[VideoRecord]:
        """The videos of ``"training"`` or ``"validation"``."""
        if subset not in SUBSETS:
            raise AnnotationError(f"there is no subset {subset!r}; one of: {', '.join(SUBSETS)}")
        return self.training if subset == "training" else self.validation


def to_json(lists: SplitLists, num_frames: Mapping[str, int], disk_names: Mapping[str, str]) -> dict[str, Any]:
    """The content of an annotation file.

    Args:
        lists: The lists of the split.
        num_frames: Usable RGB frames by listed name; videos without are left out and named in ``left_out``.
        disk_names: Names of the videos on disk by listed name.
    """
    content: dict[str, Any] = {"labels": {str(i): name for i, name in enumerate(lists.class_names, start=1)}}
    left_out: dict[str, list[str]] = {}
    for subset, videos in (("training", lists.training), ("validation", lists.validation)):
        content[subset] = {
            disk_names[video]: {"set": subset, "label": label + 1, "nframes": num_frames[video]}
            for video, label in videos.items()
            if video in num_frames
        }
        left_out[subset] = [video for video in videos if video not in num_frames]
    content["source"] = dict(lists.source)
    return content | {"left_out": left_out} if any(left_out.values()) else content


def annotation_path(dataset: Path, split: int) -> Path:
    """Where the annotation file of a split is in the folder of a data set."""
    return dataset / ANNOTATIONS_FOLDER / f"annot{split:02d}.json"


def names_sha256(videos: Iterable[str]) -> str:
    """Check sum of the names of some videos, whatever their order: by it weights tell which they were trained on."""
    return hashlib.sha256("\n".join(sorted(videos)).encode("utf-8", "surrogateescape")).hexdigest()


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
        content = json.loads(read_text(path), object_pairs_hook=_without_repeats)
    except ValueError as error:
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
    return Annotation(class_names, training, validation, _left_out_of(path, content.get("left_out", {})))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in content if names.count(name) > 1)!r} is there twice")
    return content


def _class_names_of(path: Path, labels: dict[str, Any]) -> list[str]:
    names = [labels.get(str(i)) for i in range(1, len(labels) + 1)]
    if not names or any(not isinstance(name, str) for name in names):
        raise AnnotationError(f"{path}: 'labels' must map 1, 2, 3, ... without a gap to class names")
    return [str(name) for name in names]


def _left_out_of(path: Path, left_out: Any) -> dict[str, list[str]]:
    if not isinstance(left_out, dict) or any(not isinstance(videos, list) for videos in left_out.values()):
        raise AnnotationError(f"{path}: 'left_out' must map 'training' and 'validation' to lists of names")
    return {subset: [str(video) for video in videos] for subset, videos in left_out.items()}


def _record_of(path: Path, video: str, entry: Any, num_classes: int) -> VideoRecord:
    label, num_frames = (entry.get(k) if isinstance(entry, dict) else None for k in ("label", "nframes"))
    if not _is_int(label) or not 1 <= label <= num_classes:
        raise AnnotationError(f"{path}: {video}: 'label' must be a class number 1 ... {num_classes}, got {label!r}")
    if not _is_int(num_frames) or num_frames < 1:
        raise AnnotationError(f"{path}: {video}: 'nframes' must be a number of frames, got {num_frames!r}")
    return VideoRecord(video, label - 1, num_frames)


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
