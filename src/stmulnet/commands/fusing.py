"""What `evaluate` fuses: saved scores of networks, and scores of another method."""

# V videos, K classes

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.console import notice
from stmulnet.constants import STREAMS
from stmulnet.errors import ConfigError
from stmulnet.evaluation.clip_views import ViewsName
from stmulnet.evaluation.external import read_external_scores, scores_of
from stmulnet.evaluation.fusion import add_external, check_weights, fuse_streams, merge_tables
from stmulnet.evaluation.scores import SavedScores, ScoresRecord, load_scores
from stmulnet.files import sha256_of

PLACEHOLDER = "{split}"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """The options of `evaluate` that decide the scores, as given there."""

    splits: list[int]
    views: ViewsName
    frames: int
    fusion_weights: list[float] | None
    external_scores: Path | None
    external_weight: float
    allow_mismatch: bool
    holdout: bool = False

    def __post_init__(self) -> None:
        if not self.splits or len(set(self.splits)) < len(self.splits) or min(self.splits) < 1:
            raise ConfigError(f"split must be a number from 1, or several different ones, got {self.splits}")
        if self.holdout and len(self.splits) > 1:
            raise ConfigError(f"holdout must be that of one split, got {self.splits}")
        check_weights([1.0, self.external_weight], 2, "the network (1) and the external scores")

    def file(self, option: str, path: Path, split: int) -> Path:
        """The path of an option for one split, ``{split}`` in it replaced.

        Raises:
            ConfigError: One path for several splits.
        """
        if PLACEHOLDER not in str(path) and len(self.splits) > 1:
            raise ConfigError(
                f"{option} needs {PLACEHOLDER} in its name to evaluate the splits {self.splits}, such as "
                f"runs/split{PLACEHOLDER}/model.safetensors; got {path}"
            )
        return Path(str(path).replace(PLACEHOLDER, str(split)))

    def external(self, split: int, class_names: Sequence[str], videos: Sequence[str]) -> Floats | None:
        """Scores (V, K) of the other method; None where there is none.

        Raises:
            ConfigError: The file is not as it should be, or lacks videos.
        """
        if self.external_scores is None:
            return None
        path = self.file("external_scores", self.external_scores, split)
        scores = read_external_scores(path, class_names)
        if more := len(scores) - len(set(videos)):
            notice(f"note: {path} also has scores of {more} videos that are not in the test list")
        return scores_of(path, scores, videos)

    def combine(self, saved: SavedScores, split: int, external: Floats | None) -> SavedScores:
        """Add what `external` has given."""
        if external is None or self.external_scores is None:
            return saved
        path = self.file("external_scores", self.external_scores, split)
        record = {"file": path.name, "sha256": sha256_of(path), "weight": self.external_weight}
        table = add_external(saved.table, external, self.external_weight)
        return replace(saved, table=table, record=replace(saved.record, external=record))


def rescored(files: Sequence[Path], split: int, settings: Settings) -> SavedScores:
    """Saved scores, fused as the settings say.

    Args:
        files: One file, whose streams are fused anew where weights are given, or several, which are fused.
        split: Number of the split; only counts where files have a placeholder, or where it is not the default.
        settings: Further options.

    Raises:
        ConfigError: A file is missing, damaged, of another split, or not of the same videos as the others.
    """
    if not files:
        raise ConfigError("scores: give one or more scores.npz of earlier runs")
    paths = [settings.file("scores", path, split) for path in files]
    parts = [load_scores(path) for path in paths]
    asked = split != 1 or any(PLACEHOLDER in str(path) for path in files)
    for path, part in zip(paths, parts, strict=True):
        if asked and part.record.split not in (None, split):
            raise ConfigError(f"{path} has scores of split {part.record.split}, not of split {split}")
        if part.class_names != parts[0].class_names:
            raise ConfigError(f"{path} and {paths[0]} have different classes; fuse scores of one data set")
    if asked:  # files of earlier versions do not say it
        parts = [replace(part, record=replace(part.record, split=split)) for part in parts]
    saved = _fused_anew(parts[0], settings) if len(parts) == 1 else _merged(paths, parts, settings)
    return settings.combine(saved, split, settings.external(split, saved.class_names, saved.table.videos))


def _fused_anew(saved: SavedScores, settings: Settings) -> SavedScores:
    if settings.fusion_weights is None:
        return saved
    table = fuse_streams(saved.table, settings.fusion_weights)
    if table.external is not None and saved.record.external is not None:
        table = add_external(table, table.external, saved.record.external["weight"])
    return replace(saved, table=table, record=replace(saved.record, fusion_weights=settings.fusion_weights))


def _merged(paths: Sequence[Path], parts: Sequence[SavedScores], settings: Settings) -> SavedScores:
    weights = settings.fusion_weights or [1.0] * len(parts)
    check_weights(weights, len(parts), "fusion_weights of the scores files: they")
    for path, part in zip(paths, parts, strict=True):
        if part.table.external is not None:
            notice(f"note: {path} is fused without its external scores; --external-scores adds them to the result")
    table = merge_tables([part.table for part in parts], weights)
    streams = [tuple(part.table.streams()) for part in parts]
    by_stream = {names[0]: weight for names, weight in zip(streams, weights, strict=True)}
    singles = len(parts) == 2 and sorted(streams) == [(name,) for name in STREAMS]
    records = [part.record for part in parts]
    record = ScoresRecord(
        dataset=_common([record.dataset for record in records]),
        split=_common([record.split for record in records]),
        views=_common([record.views for record in records]),
        frames=_common([record.frames for record in records]),
        left_out=max(record.left_out for record in records),
        weights=[entry for record in records for entry in record.weights],
        fusion_weights=[by_stream[name] for name in STREAMS] if singles else None,
    )
    return SavedScores(table, parts[0].class_names, record)


def _common(values: Sequence[Any]) -> Any:
    """What all files say; None where they do not agree."""
    return values[0] if all(value == values[0] for value in values) else None
