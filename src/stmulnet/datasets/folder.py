"""Random splits of class folders, ``<class>/<video>``, for videos without lists.

Videos of one group (``v_Wave_g01_c01``, ``v_Wave_g01_c02``) stay on one side; a video without a group is its own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from stmulnet.datasets.annotations import Annotation
from stmulnet.datasets.lists import SplitLists, check_split, class_order, group_or_self
from stmulnet.errors import AnnotationError, ConfigError
from stmulnet.video.io import VIDEO_SUFFIXES
from stmulnet.video.trees import NO_VIDEOS

TEST_FRACTION = 0.3  # UCF-101 and HMDB-51 test on three of ten
_MAX_SEED = 2**64 - 1
_HOLD_OUT = 0  # as the number of a split, which starts at 1


def read_classes(folder: Path) -> dict[str, list[str]]:
    """Class -> sorted names of its videos: its video files, or where it has none its folders (extracted videos).

    A folder annotations is no class: `stmulnet annotate` makes it in data sets that are class folders themselves.

    Raises:
        AnnotationError: A class has no videos, or two videos have one name.
    """
    folders = [entry for entry in _visible(folder) if entry.is_dir() and entry.name not in NO_VIDEOS]
    classes = {entry.name: _videos_of(Path(entry.path)) for entry in folders}
    place_of: dict[str, str] = {}
    for name in class_order(classes):
        for video in classes[name]:
            if video in place_of:
                raise AnnotationError(
                    f"{folder}: video {video!r} is in {place_of[video]!r} and in {name!r}; names must be unique"
                )
            place_of[video] = name
    return classes


def random_split(
    classes: Mapping[str, Sequence[str]], split: int, *, seed: int = 0, test_fraction: float = TEST_FRACTION
) -> SplitLists:
    """Draw the test videos of every class by whole groups.

    The result depends on the names, the seed and the number of the split, not on the order of the names. Splits are
    drawn independently of each other: their test videos may overlap.

    Args:
        classes: Class -> names of its videos.
        split: Number of the split.
        seed: Of all splits.
        test_fraction: Share of the groups of a class that is tested on, above 0 and below 1. Of two groups or more at
            least one is on either side; a single group is for training.

    Raises:
        ConfigError: The fraction or the seed is out of range.
    """
    if not 0 < test_fraction < 1:
        raise ConfigError(f"test_fraction must be above 0 and below 1, got {test_fraction}")
    if not 0 <= seed <= _MAX_SEED:
        raise ConfigError(f"seed must be 0 to {_MAX_SEED}, got {seed}")
    class_names = class_order(classes)
    training: dict[str, int] = {}
    validation: dict[str, int] = {}
    for label, name in enumerate(class_names):
        rng = np.random.default_rng([seed, split, label])
        tested = _draw_groups(sorted({group_or_self(video) for video in classes[name]}), test_fraction, rng)
        for video in sorted(classes[name]):
            (validation if group_or_self(video) in tested else training)[video] = label
    source = {"kind": "folder", "split": split, "seed": seed, "test_fraction": test_fraction}
    return check_split(f"random split {split}", SplitLists(class_names, training, validation, source=source))


def hold_out(annotation: Annotation, fraction: float, *, seed: int = 0) -> Annotation:
    """Set videos of the training list apart to choose by; the validation list, on which nothing may be chosen, goes.

    Args:
        annotation: The split.
        fraction: Share of the groups of every class, above 0 and below 1; of two or more at least one on either side.
        seed: Decides which.

    Returns:
        The rest of the training list to train on, the videos set apart to validate on.

    Raises:
        AnnotationError: No class has two groups.
        ConfigError: The fraction or the seed is out of range.
    """
    classes: dict[str, list[str]] = {name: [] for name in annotation.class_names}
    for record in annotation.training:
        classes[annotation.class_names[record.label]].append(record.video)
    apart = random_split(classes, _HOLD_OUT, seed=seed, test_fraction=fraction).validation
    if not apart:
        raise AnnotationError(
            "no class has two groups of training videos (v_Wave_g01_..., v_Wave_g02_...), so that none can be held "
            "out; train without a hold-out"
        )
    training = [record for record in annotation.training if record.video not in apart]
    return replace(annotation, training=training, validation=[r for r in annotation.training if r.video in apart])


def _draw_groups(groups: list[str], test_fraction: float, rng: np.random.Generator) -> set[str]:
    if len(groups) < 2:
        return set()
    count = min(max(round(test_fraction * len(groups)), 1), len(groups) - 1)
    return {groups[i] for i in rng.permutation(len(groups))[:count]}


def _videos_of(folder: Path) -> list[str]:
    entries = _visible(folder)
    files = [PurePath(e.name) for e in entries if PurePath(e.name).suffix.lower() in VIDEO_SUFFIXES and e.is_file()]
    names = sorted(file.stem for file in files) or sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise AnnotationError(
            f"{folder}: holds no videos, neither files ({', '.join(VIDEO_SUFFIXES)}) nor folders of frames; a folder "
            "without lists must hold one folder per class, and nothing else"
        )
    return names


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]
