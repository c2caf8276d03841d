"""What `evaluate` makes of scores: figures of merit, and the tables and files that show them."""

# V videos, K classes

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from stmulnet.datasets.lists import group_of
from stmulnet.errors import ConfigError
from stmulnet.evaluation.bootstrap import RESAMPLES, Bootstrap, bootstrap
from stmulnet.evaluation.metrics import (
    Proportion,
    class_table,
    confusion_matrix,
    expected_calibration_error,
    reliability_bins,
)
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.evaluation.report import ResultRow, result_row
from stmulnet.evaluation.scores import SavedScores, ScoresRecord, save_scores
from stmulnet.files import write_json, write_text
from stmulnet.rendering import table_html

LOG_WIDTH = 120  # characters
STREAM_NOTES = {
    "appearance": "appearance stream: frames",
    "motion": "motion stream: optical flow",
    "fused": "mean of the two streams' scores",
    "external": "scores of another method",
    "combined": "network and other method, each video's scores divided by their norm",
}


@dataclass(frozen=True)
class SplitResult:
    """Results on the test list of one split.

    Attributes:
        rows: Figures of merit of each stream and, with two streams, of the fused scores; the last one counts.
        saved: Scores of every video, names of the classes, and where they come from.
        by_video: Bootstrap intervals over single videos, by name of the row.
        calibration_error: Expected calibration error of the softmax of the fused scores, 0..1.
    """

    rows: list[ResultRow]
    saved: SavedScores
    by_video: dict[str, Bootstrap]
    calibration_error: float

    @property
    def title(self) -> str:
        """``"Split 1"``."""
        return "Scores" if self.saved.record.split is None else f"Split {self.saved.record.split}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able results."""
        table, record = self.saved.table, self.saved.record
        return {
            "videos": len(table.videos),
            "protocol": record.protocol,
            "dataset": record.dataset,
            "split": record.split,
            "weights": record.weights,
            "fusion_weights": record.fusion_weights,
            "external": record.external,
            "streams": {row.name: self._row(row) for row in self.rows},
            "expected_calibration_error": self.calibration_error,
            "bootstrap": {"resamples": RESAMPLES, "level": 0.95, "groups": self._groups()},
        }

    def _row(self, row: ResultRow) -> dict[str, Any]:
        single, grouped = self.by_video[row.name], row.bootstrap if self._groups() else None

        def intervals(name: str) -> dict[str, Any]:
            return {"bootstrap": getattr(single, name), "bootstrap_by_group": grouped and getattr(grouped, name)}

        return {
            "top1": {**_share(row.accuracy), **intervals("top1")},
            "top5": None if row.top5 is None else {**_share(row.top5), **intervals("top5")},
            "mean_class_accuracy": row.mean_class,
            "mean_class_intervals": intervals("mean_class"),
        }

    def _groups(self) -> int | None:
        """Groups of videos that the bootstrap drew; None where it drew videos."""
        units = self.rows[-1].bootstrap.units if self.rows[-1].bootstrap else len(self.saved.table.videos)
        return None if units == len(self.saved.table.videos) else units


@dataclass(frozen=True)
class EvaluateSummary:
    """Results of `evaluate`.

    Attributes:
        splits: Results of each split that was evaluated, in the order asked for.
    """

    splits: list[SplitResult]

    @property
    def rows(self) -> list[ResultRow]:
        """Figures of merit of each stream and, with two streams, of the fused scores; the last one counts."""
        return self._only.rows

    @property
    def scores(self) -> ScoreTable:
        """Raw scores of every video."""
        return self._only.saved.table

    @property
    def class_names(self) -> list[str]:
        """Names in class order."""
        return self._only.saved.class_names

    @property
    def frames(self) -> int | None:
        """Frames sampled per video; None where saved scores do not say it."""
        return self._only.saved.record.frames

    @property
    def _only(self) -> SplitResult:
        if len(self.splits) > 1:
            raise ConfigError(f"{len(self.splits)} splits were evaluated: look at the items of .splits")
        return self.splits[0]

    def means(self) -> dict[str, dict[str, Any]]:
        """By row that all splits have: mean and standard deviation (n - 1) over the splits of each figure, 0..1."""
        found: dict[str, dict[str, Any]] = {}
        for name in (row.name for row in self.splits[0].rows):
            rows = [row for split in self.splits for row in split.rows if row.name == name]
            if len(rows) == len(self.splits):
                top5 = [row.top5.value for row in rows if row.top5 is not None]
                found[name] = {
                    "top1": _spread([row.accuracy.value for row in rows]),
                    "top5": _spread(top5) if len(top5) == len(rows) else None,
                    "mean_class_accuracy": _spread([row.mean_class for row in rows]),
                }
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able results: those of the one split, or of each and their means."""
        if len(self.splits) == 1:
            return self.splits[0].to_dict()
        return {"splits": [split.to_dict() for split in self.splits], "means": self.means()}

    def _repr_html_(self) -> str:
        title, header, rows = _cells(self)
        return table_html(header, rows, title=title, notes=_notes(self))


def measure(saved: SavedScores) -> SplitResult:
    """Figures of merit of the scores of one split."""
    table = saved.table
    groups = _groups_of(table.videos)
    rows, by_video = [], {}
    for name, scores in table.streams().items():
        by_video[name] = bootstrap(scores, table.labels)
        intervals = by_video[name] if groups is None else bootstrap(scores, table.labels, groups=groups)
        note = _note(name, saved.record)
        rows.append(result_row(name, scores, table.labels, note=note, bootstrap=intervals))
    error = expected_calibration_error(reliability_bins(table.fused, table.labels))
    return SplitResult(rows, saved, by_video, error)


def print_results(summary: EvaluateSummary) -> None:
    """The table of one split, or of several with their means, on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:  # no reason to break lines in a file
        console.width = LOG_WIDTH
    title, header, lines = _cells(summary)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    for number, heading in enumerate(header):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    for number, line in enumerate(lines, start=1):
        table.add_row(*line, end_section=number == len(summary.splits) > 1)
    console.print(table)
    for note in _notes(summary):
        print(note)


def _notes(summary: EvaluateSummary) -> list[str]:
    if len(summary.splits) > 1:
        return []
    drawn = "videos" if summary.splits[0]._groups() is None else "groups of videos cut from the same recording"
    return [f"intervals are of 95 %; the bootstrap draws {drawn}, {RESAMPLES} times"]


def write_split(out: Path, result: SplitResult) -> None:
    """The scores of a split, its figures, and its classes one by one, into a folder."""
    saved = result.saved
    save_scores(out / "scores.npz", saved)
    write_json(out / "metrics.json", result.to_dict())
    counts = confusion_matrix(saved.table.final, saved.table.labels)
    classes = class_table(counts, saved.class_names)
    header = ["class", "videos", "correct", "accuracy", "confused_with", "confused"]
    lines = [(row.name, row.videos, row.correct, row.accuracy, row.confused_with, row.confused) for row in classes]
    write_text(out / "classes.csv", _csv(header, lines))
    matrix = [(name, *line) for name, line in zip(saved.class_names, counts.tolist(), strict=True)]
    write_text(out / "confusion.csv", _csv(["true class", *saved.class_names], matrix))


def _note(name: str, record: ScoresRecord) -> str:
    weights = record.fusion_weights
    if name == "fused" and weights is not None and weights[0] != weights[1]:
        return f"mean of the two streams' scores, appearance weighted {weights[0]:g}, motion {weights[1]:g}"
    if name == "combined" and record.external is not None and record.external["weight"] != 1:
        return f"{STREAM_NOTES[name]}, the other method weighted {record.external['weight']:g}"
    return STREAM_NOTES[name]


def _groups_of(videos: Sequence[str]) -> list[str] | None:
    """The recording each video was cut from; None where names do not tell, or each is its own."""
    groups = [group for group in map(group_of, videos) if group is not None]
    return groups if len(groups) == len(videos) > len(set(groups)) else None


def _cells(summary: EvaluateSummary) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and lines of the table of one split, or of several with their means, as text."""
    return _split_cells(summary.splits[0]) if len(summary.splits) == 1 else _splits_cells(summary)


def _split_cells(result: SplitResult) -> tuple[str, list[str], list[list[str]]]:
    header = ["scores", "top-1 %", "Wilson", "bootstrap", "top-5 %", "mean class %", "bootstrap"]
    lines = []
    for row in result.rows:
        assert row.bootstrap is not None
        line = [
            row.name,
            f"{100 * row.accuracy.value:.1f}",
            _interval((row.accuracy.low, row.accuracy.high)),
            _interval(row.bootstrap.top1),
            "" if row.top5 is None else f"{100 * row.top5.value:.1f}",
            f"{100 * row.mean_class:.1f}",
            _interval(row.bootstrap.mean_class),
        ]
        lines.append(line)
    return f"{len(result.saved.table.videos)} videos; {result.saved.record.protocol}", header, lines


def _splits_cells(summary: EvaluateSummary) -> tuple[str, list[str], list[list[str]]]:
    means = summary.means()
    last = list(means)[-1]
    header = ["", "videos", *(f"{name} top-1 %" for name in means), f"{last} mean class %"]
    lines = []
    for split in summary.splits:
        rows = {row.name: row for row in split.rows}
        figures = [rows[name].accuracy.value for name in means] + [rows[last].mean_class]
        lines.append([split.title, str(len(split.saved.table.videos)), *_percents(figures)])
    for field in ("mean", "std"):
        figures = [means[name]["top1"][field] for name in means] + [means[last]["mean_class_accuracy"][field]]
        lines.append([field, "", *_percents(figures)])
    return f"{len(summary.splits)} splits; {summary.splits[0].saved.record.protocol}", header, lines


def _percents(shares: Iterable[float]) -> list[str]:
    return [f"{100 * share:.1f}" for share in shares]


def _interval(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.1f}-{100 * ends[1]:.1f}"


def _share(share: Proportion) -> dict[str, Any]:
    return {"value": share.value, **asdict(share)}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
