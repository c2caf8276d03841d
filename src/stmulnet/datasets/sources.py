"""Where splits come from: lists of UCF-101 or HMDB-51, a CSV file or class folders, told apart by their content."""

from collections.abc import Sequence
from pathlib import Path

from stmulnet.datasets import hmdb51, ucf101
from stmulnet.datasets.folder import TEST_FRACTION, random_split, read_classes
from stmulnet.datasets.lists import SplitLists, check_agreement
from stmulnet.datasets.table import read_table
from stmulnet.errors import AnnotationError, ConfigError

LOOKED_FOR = (
    "UCF-101's lists (classInd.txt, trainlist01.txt, testlist01.txt, ...), HMDB-51's (golf_test_split1.txt, ...), "
    "a CSV file with the columns video, class, subset, or one folder per class"
)


def read_splits(
    source: Path,
    *,
    splits: Sequence[int] | None = None,
    seed: int | None = None,
    test_fraction: float | None = None,
) -> dict[int, SplitLists]:
    """Read or draw splits, number -> lists, ascending.

    Args:
        source: Folder of lists, CSV file or folder of class folders.
        splits: Numbers of those wanted; None takes all that there are, of class folders one.
        seed: Of random splits, that is for class folders only; 0 by default.
        test_fraction: Share of the groups of each class to test on, likewise; 0.3 by default.

    Raises:
        AnnotationError: The source is none of these, or contradicts itself.
        ConfigError: An option does not fit the source or is out of range.
    """
    wanted = None if splits is None else sorted(set(splits))
    if wanted is not None and (not wanted or wanted[0] < 1):
        raise ConfigError(f"splits must be numbers from 1, as in [1, 2, 3], got {wanted}; leave it out for all")
    kind = _recognise(source)
    if kind == "folder":
        return _draw_splits(source, wanted or [1], seed or 0, TEST_FRACTION if test_fraction is None else test_fraction)
    if seed is not None or test_fraction is not None:
        raise ConfigError(f"seed and test_fraction are for class folders, split at random, but {source} has lists")
    found = _read_lists(source, kind, wanted)
    check_agreement(found)
    return found


def _recognise(source: Path) -> str:
    if source.is_file():
        return "csv"
    if not source.is_dir():
        raise AnnotationError(f"{source}: no such file or folder; it must be {LOOKED_FOR}")
    entries = [entry for entry in source.iterdir() if not entry.name.startswith(".")]
    names = {entry.name for entry in entries}
    if ucf101.is_ucf101(names) and hmdb51.is_hmdb51(names):
        raise AnnotationError(f"{source}: holds lists of UCF-101 and of HMDB-51; give each its own folder")
    if ucf101.is_ucf101(names):
        return "ucf101"
    if hmdb51.is_hmdb51(names):
        return "hmdb51"
    if any(entry.is_dir() for entry in entries):
        return "folder"
    raise AnnotationError(f"{source}: holds neither lists nor folders; it must be {LOOKED_FOR}")


def _draw_splits(source: Path, splits: list[int], seed: int, test_fraction: float) -> dict[int, SplitLists]:
    classes = read_classes(source)
    return {split: random_split(classes, split, seed=seed, test_fraction=test_fraction) for split in splits}


def _read_lists(source: Path, kind: str, wanted: list[int] | None) -> dict[int, SplitLists]:
    if kind == "csv":
        table = read_table(source)
        return {split: table[split] for split in _choose(source, list(table), wanted)}
    reader = ucf101 if kind == "ucf101" else hmdb51
    return {split: reader.read_split(source, split) for split in _choose(source, reader.find_splits(source), wanted)}


def _choose(source: Path, found: list[int], wanted: list[int] | None) -> list[int]:
    unknown = [split for split in wanted or [] if split not in found]
    if unknown:
        raise AnnotationError(f"{source}: no lists of split {unknown[0]}; there are lists of {found}")
    return found if wanted is None else wanted
