"""The table of an ablation: every variant's accuracy over the seeds, and how far it is from the reference."""

# S seeds, V videos

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.console import counted
from stmulnet.constants import STREAMS
from stmulnet.datasets.lists import group_or_self
from stmulnet.errors import ConfigError
from stmulnet.evaluation.metrics import top_k_correct
from stmulnet.evaluation.paired import Difference, paired_difference
from stmulnet.evaluation.scores import SavedScores

ALL = "all classes"


@dataclass(frozen=True)
class Row:
    """A variant on the videos of some classes.

    Attributes:
        classes: The name of these classes.
        videos: Their videos.
        units: What the interval drew: these videos, or the groups that they were cut from.
        variant: The variant.
        top1: Accuracy with each seed, 0..1.
        streams: The same for each stream, where the network has two.
        difference: To the reference; None for the reference itself.
    """

    classes: str
    videos: int
    units: int
    variant: str
    top1: list[float]
    streams: dict[str, list[float]]
    difference: Difference | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return self.difference.verdict if self.difference else "reference"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        found = asdict(self) | {"top1": _spread(self.top1), "verdict": self.verdict}
        return found | {"streams": {name: _spread(shares) for name, shares in self.streams.items()}}


def compare(scores: Mapping[str, Sequence[SavedScores]], reference: str, groups: Mapping[str, list[str]]) -> list[Row]:
    """The rows of the table: for all classes and for each group of classes, one per variant.

    Args:
        scores: By variant, the scores of its runs, of the same seeds in the same order.
        reference: The variant that the others are compared with.
        groups: Names of some classes each.

    Raises:
        ConfigError: The runs were not scored on the same videos, or a group has no videos.
    """
    first = scores[reference][0]
    for name, runs in scores.items():
        if not all(_same_videos(run, first) for run in runs):
            raise ConfigError(f"a run of {name!r} was scored on other videos than one of {reference!r}; start anew")
    rows = []
    for classes, chosen in {ALL: first.class_names, **groups}.items():
        wanted = np.isin(first.table.labels, [first.class_names.index(name) for name in chosen])
        if not wanted.any():
            raise ConfigError(f"there are no videos of the classes of {classes!r}")
        rows += [_row(classes, wanted, name, scores, reference) for name in scores]
    return rows


def _same_videos(one: SavedScores, other: SavedScores) -> bool:
    same = one.table.videos == other.table.videos and one.class_names == other.class_names
    return same and np.array_equal(one.table.labels, other.table.labels)


def _row(
    classes: str,
    wanted: NDArray[np.bool_],
    name: str,
    scores: Mapping[str, Sequence[SavedScores]],
    reference: str,
) -> Row:
    correct = {variant: _correct(scores[variant], wanted) for variant in (name, reference)}
    videos = [video for video, chosen in zip(scores[name][0].table.videos, wanted, strict=True) if chosen]
    units = [group_or_self(video) for video in videos]
    tables = [run.table.streams() for run in scores[name]]
    streams = {}
    if all(stream in table for table in tables for stream in STREAMS):
        streams = {stream: _shares(_correct(scores[name], wanted, stream)) for stream in STREAMS}
    difference = None
    if name != reference:
        difference = paired_difference(correct[name], correct[reference], groups=units)
    return Row(classes, len(videos), len(set(units)), name, _shares(correct[name]), streams, difference)


def _correct(runs: Sequence[SavedScores], wanted: NDArray[np.bool_], stream: str | None = None) -> NDArray[np.bool_]:
    """(S, V) whether the runs recognise the wanted videos."""
    tables = [run.table.streams()[stream] if stream else run.table.final for run in runs]
    return np.stack([top_k_correct(table[wanted], runs[0].table.labels[wanted]) for table in tables])


def _shares(correct: NDArray[np.bool_]) -> list[float]:
    return [float(share) for share in correct.mean(axis=1)]


def _spread(shares: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1); None with one seed."""
    std = statistics.stdev(shares) if len(shares) > 1 else None
    return {"mean": statistics.fmean(shares), "std": std, "seeds": list(shares)}


def to_markdown(rows: Sequence[Row], title: str, about: str) -> str:
    """The table to read; columns are aligned so that it can be read as plain text too.

    Args:
        rows: Of `compare`.
        title: The heading.
        about: What was trained and scored.
    """
    reference = next(row for row in rows if row.difference is None)
    several = len(reference.top1) > 1
    drawn = "videos, by the groups they were cut from" if reference.units < reference.videos else "videos"
    text = f"Top-1 accuracy in %{', mean ± standard deviation over the seeds' * several}."
    if any(row.difference for row in rows):
        text += (
            f" Differences to *{reference.variant}* are in points, with 95 % intervals over {'seeds and ' * several}"
            f"{drawn}; an interval that holds 0 leaves it undecided."
        )
    if not several:
        text += " With one seed it is not known how runs differ."
    parts = [f"# {title}", about, text]
    for classes in dict.fromkeys(row.classes for row in rows):
        chosen = [row for row in rows if row.classes == classes]
        units = f" of {counted(chosen[0].units, 'group')}" if chosen[0].units < chosen[0].videos else ""
        parts.append(f"## {classes[0].upper()}{classes[1:]} ({counted(chosen[0].videos, 'video')}{units})")
        parts.append(_aligned(cells(chosen)))
    return "\n\n".join(parts) + "\n"


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Header and lines of the table of some classes, as text; of one variant, without differences."""
    streams = [stream for stream in STREAMS if any(stream in row.streams for row in rows)]
    compared = len(rows) > 1
    table = [["variant", "top-1", *(f"{stream} stream" for stream in streams)]]
    table[0] += ["difference", "interval", ""] if compared else []
    for row in rows:
        shares = [row.top1, *(row.streams.get(stream, []) for stream in streams)]
        ends, found = ["", ""], row.difference
        if found:
            ends = [f"{100 * found.value:+.1f}", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"]
        table.append([row.variant, *map(_in_words, shares), *([*ends, row.verdict] if compared else [])])
    return table


def _in_words(shares: Sequence[float]) -> str:
    if not shares:
        return ""
    spread = _spread(shares)
    return f"{100 * spread['mean']:.1f}" + ("" if spread["std"] is None else f" ± {100 * spread['std']:.1f}")


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    fill: list[Callable[[str, int], str]] = [str.ljust, *([str.rjust] * (len(widths) - 2)), str.ljust]
    rule = [
        "-" * width if pad is str.ljust else "-" * (width - 1) + ":" for width, pad in zip(widths, fill, strict=True)
    ]
    lines = [[pad(cell, width) for cell, width, pad in zip(row, widths, fill, strict=True)] for row in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def to_csv(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """The table for other programs: shares 0..1, one column per seed."""
    names = [*(f"{stream}_{what}" for stream in STREAMS for what in ("mean", "std"))]
    ends = ["difference", "low", "high"]
    header = ["classes", "variant", "videos", "mean", "std", *ends, "verdict"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*header, *names, *(f"seed_{seed}" for seed in seeds)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        line: dict[str, Any] = {name: getattr(row, name) for name in ("classes", "variant", "videos", "verdict")}
        line |= {name: _spread(row.top1)[name] for name in ("mean", "std")}
        if row.difference:
            line |= dict(zip(ends, (row.difference.value, row.difference.low, row.difference.high), strict=True))
        for stream, shares in row.streams.items():
            line |= {f"{stream}_{what}": _spread(shares)[what] for what in ("mean", "std")}
        line |= {f"seed_{seed}": share for seed, share in zip(seeds, row.top1, strict=True)}
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in line.items()})
    return text.getvalue()
