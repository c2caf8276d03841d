"""Small lists for the tests of annotations."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from stmulnet.datasets.lists import SplitLists

SUBSET_FLAGS = {"training": 1, "validation": 2, "unused": 0}


def write_ucf101(folder: Path, splits: Mapping[int, SplitLists]) -> Path:
    """The lists of splits in UCF-101's format."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, lists in splits.items():
        names = lists.class_names
        _write(folder / "classInd.txt", (f"{i} {name}" for i, name in enumerate(names, start=1)))
        training = (f"{names[label]}/{video}.avi {label + 1}" for video, label in lists.training.items())
        _write(folder / f"trainlist{split:02d}.txt", training)
        validation = (f"{names[label]}/{video}.avi" for video, label in lists.validation.items())
        _write(folder / f"testlist{split:02d}.txt", validation)
    return folder


def write_hmdb51(folder: Path, splits: Mapping[int, Mapping[str, Mapping[str, str]]]) -> Path:
    """Lists in HMDB-51's format, from split -> class -> video -> subset (or "unused")."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, classes in splits.items():
        for name, videos in classes.items():
            lines = (f"{video}.avi {SUBSET_FLAGS[subset]} " for video, subset in videos.items())
            _write(folder / f"{name}_test_split{split}.txt", lines)
    return folder


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
