"""Which videos a stream was trained on: streams that are joined, and scored, must agree in that.

A record is JSON-able and saved with the weights: ``file``, ``dataset``, ``split`` (None where unknown) and, where these
weights were the start of a further training, their record as ``from``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from stmulnet.console import notice
from stmulnet.errors import CheckpointError, ConfigError

IMAGENET = "imagenet"  # as a data set; holds no videos
IMAGENET_CLASSES = 1000

Record = Mapping[str, Any]


def read_record(path: Path, metadata: Mapping[str, Any], stream: str) -> Record:
    """Where the stream of a file comes from, by the file's own account.

    Raises:
        CheckpointError: The account is damaged.
    """
    before, training = metadata.get("provenance"), metadata.get("training")
    if isinstance(before, dict) and "file" not in before:  # by stream, where it was assembled from files
        before = before.get(stream)
    record = before or {"file": path.name, "dataset": None, "split": None}
    if isinstance(training, dict):
        record = {"file": path.name, **{field: training.get(field) for field in ("dataset", "split")}}
        record |= {"from": before} if before else {}
    _check_record(path, record)
    return record


def check_common(records: Sequence[Record], *, allow_mismatch: bool = False) -> None:
    """Refuse streams from different data sets, or from different splits of one: no test list is unseen by all.

    Raises:
        ConfigError: Names both files.
    """
    if len(records) < 2:
        return
    ours, theirs = (list(_trainings(record)) for record in records)
    problems = [pair for pair in product(ours, theirs) if _same_dataset(*pair) and _other_split(*pair)]
    problems += [pair for pair in zip(ours[:1], theirs[:1], strict=False) if not _same_dataset(*pair)]
    if problems:
        one, other = (f"{record['file']} was trained on {in_words(record)}" for record in problems[0])
        consequence = "no test list is unseen by both streams"
        if not _same_dataset(*problems[0]):
            consequence = "the streams have learnt from the videos, and perhaps the classes, of two data sets"
        disagree(f"{one}, {other}", consequence, allow_mismatch)


def check_unseen(provenance: Mapping[str, Record], dataset: str, split: int, *, allow_mismatch: bool = False) -> None:
    """Refuse streams from another split of a data set: they have seen videos of this split's test list.

    Args:
        provenance: Records by stream, from a network's metadata.
        dataset: Name of the data set; case and punctuation do not count.
        split: The split whose test list must be unseen.
        allow_mismatch: Say so instead.

    Raises:
        ConfigError: Names the file and both splits.
    """
    here = {"dataset": dataset, "split": split}
    for training in (training for record in provenance.values() for training in _trainings(record)):
        if _same_dataset(training, here) and _other_split(training, here):
            disagree(
                f"{training['file']} was trained on {in_words(training)}, and has seen videos that split {split} of "
                f"{dataset} tests on",
                "figures of that test will be too good",
                allow_mismatch,
            )


def disagree(problem: str, consequence: str, allow_mismatch: bool) -> None:
    """Refuse what does not fit, or say what follows where the user allows it."""
    if not allow_mismatch:
        raise ConfigError(f"{problem}; give other files, or allow it (allow_mismatch): {consequence}")
    notice(f"note: {problem}; allowed: {consequence}")


def plain(name: str) -> str:
    """UCF101, ucf101 and UCF-101 are one name."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _check_record(path: Path, record: Any) -> None:
    while record is not None:
        if not _is_record(record):
            raise CheckpointError(f"{path}: a provenance has file, dataset and split, this is {record!r}")
        record = record.get("from")


def _is_record(value: Any) -> bool:
    """Any JSON can stand in a header."""
    if not (isinstance(value, dict) and {"file", "dataset", "split"} <= value.keys()):
        return False
    file, dataset, split = value["file"], value["dataset"], value["split"]
    return isinstance(file, str) and isinstance(dataset, str | None) and isinstance(split, int | None)


def _trainings(record: Record | None) -> Iterator[Record]:
    """Every training on known videos, the last one first."""
    while record is not None:
        if record["dataset"] is not None and plain(record["dataset"]) != IMAGENET:
            yield record
        record = record.get("from")


def _same_dataset(one: Record, other: Record) -> bool:
    return plain(one["dataset"]) == plain(other["dataset"])


def _other_split(one: Record, other: Record) -> bool:
    return None not in (one["split"], other["split"]) and one["split"] != other["split"]


def in_words(record: Record) -> str:
    """Data set and split, for messages."""
    if record["dataset"] is None:
        return "an unknown data set"
    if plain(record["dataset"]) == IMAGENET:
        return "ImageNet"
    return f"split {record['split'] or '?'} of {record['dataset']}"
