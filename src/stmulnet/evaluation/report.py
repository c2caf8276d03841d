"""One self-contained HTML page about one or more evaluated networks; it opens offline."""

# V videos, K classes, n frames of H x W pixels

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from stmulnet.evaluation.figures import (
    LearningCurve,
    confusion_figure,
    confusion_width_px,
    curves_figure,
    image_uri,
    strip_image,
    wheel_uri,
)
from stmulnet.evaluation.flow_colours import full_colour_speed
from stmulnet.evaluation.metrics import (
    Labels,
    Proportion,
    Scores,
    confusion_matrix,
    mean_class_accuracy,
    proportion,
    top_classes,
    top_k_correct,
    top_k_proportion,
)
from stmulnet.files import write_text

MAX_PAIRS = 8
TOP = 5


@dataclass(frozen=True)
class ResultRow:
    """One line of the results table.

    Attributes:
        name: Network or stream.
        accuracy: Top-1 accuracy.
        mean_class: Mean of the class accuracies, 0..1.
        top5: Top-5 accuracy; None with five classes or fewer.
        groups: Top-1 accuracy over the videos of each group of classes.
        note: What it is, in a few words.
    """

    name: str
    accuracy: Proportion
    mean_class: float
    top5: Proportion | None = None
    groups: Mapping[str, Proportion] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of one network: counts (K, K), rows are the true classes."""

    name: str
    counts: NDArray[np.integer]


@dataclass(frozen=True)
class ExampleScores:
    """What one network said about an example: ``top`` lists (class, probability), best first."""

    network: str
    top: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Example:
    """One video of the examples section.

    Attributes:
        video: Name of the video.
        label: Name of the true class.
        frames: A few frames (n, H, W, 3), uint8; None to show flow only.
        flow_px: The flow at these frames (n, 2, H, W), pixels; None to show frames only.
        scores: Answers, one per network.
    """

    video: str
    label: str
    frames: NDArray[np.uint8] | None
    flow_px: NDArray[np.floating] | None
    scores: Sequence[ExampleScores]


@dataclass(frozen=True)
class Report:
    """Content of a page; empty sections are left out.

    Attributes:
        title: Heading of the page.
        lead: One or two sentences: what was evaluated on what.
        facts: (name, value) pairs under the heading, e.g. data set, weights, number of videos.
        class_names: K names in class order.
        rows: Results table.
        group_notes: What each group of classes in the table is.
        confusions: Confusion matrices.
        curves: Learning curves.
        examples: Example videos.
        examples_note: How the examples were chosen.
    """

    title: str
    lead: str
    class_names: Sequence[str]
    rows: Sequence[ResultRow]
    facts: Sequence[tuple[str, str]] = ()
    group_notes: Mapping[str, str] = field(default_factory=dict)
    confusions: Sequence[Confusion] = ()
    curves: Sequence[LearningCurve] = ()
    examples: Sequence[Example] = ()
    examples_note: str = ""


def result_row(
    name: str, scores: Scores, labels: Labels, *, groups: Mapping[str, Sequence[int]] | None = None, note: str = ""
) -> ResultRow:
    """Measure one score table.

    Args:
        name: Network or stream.
        scores: (V, K) scores.
        labels: (V,) true classes, 0-based.
        groups: Classes (0-based) of each group; a group without videos is left out.
        note: What it is, in a few words.

    Returns:
        The line for the results table.
    """
    right = top_k_correct(scores, labels)
    measured = {}
    for group, classes in (groups or {}).items():
        members = np.isin(labels, list(classes))
        if members.any():
            measured[group] = proportion(int(right[members].sum()), int(members.sum()))
    top5 = top_k_proportion(scores, labels, TOP) if scores.shape[1] > TOP else None
    return ResultRow(name, top_k_proportion(scores, labels), mean_class_accuracy(scores, labels), top5, measured, note)


def confusion(name: str, scores: Scores, labels: Labels) -> Confusion:
    """Confusion matrix of a score table (V, K) with labels (V,)."""
    return Confusion(name, confusion_matrix(scores, labels))


def example_scores(network: str, scores: Scores, class_names: Sequence[str]) -> ExampleScores:
    """The five best classes of one video's raw scores (K,), with their softmax probabilities."""
    return ExampleScores(network, top_classes(scores, class_names, TOP))


def choose_examples(right: NDArray[np.bool_], count: int) -> list[int]:
    """Numbers of up to ``count`` videos, half of them wrong ones where there are as many, spread over the list.

    Args:
        right: (V,) whether each video was recognised.
        count: How many to choose.

    Returns:
        Positions in the list, ascending.
    """
    wrong_videos, right_videos = np.flatnonzero(~right), np.flatnonzero(right)
    num_wrong = min(len(wrong_videos), max(count // 2, count - len(right_videos)))
    chosen = [*_spread(wrong_videos, num_wrong), *_spread(right_videos, count - num_wrong)]
    return sorted(chosen)


def render_report(report: Report) -> str:
    """The page as HTML: styles inline, pictures as data URIs, no scripts, no addresses."""
    environment = Environment(
        loader=PackageLoader("stmulnet.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        report=report,
        best=max((row.accuracy.value for row in report.rows), default=0.0),
        groups=list(dict.fromkeys(group for row in report.rows for group in row.groups)),
        confusions=[_confusion_view(item, report.class_names) for item in report.confusions],
        curves=curves_figure(report.curves) if report.curves else None,
        examples=[_example_view(example) for example in report.examples],
        wheel=wheel_uri() if any(example.flow_px is not None for example in report.examples) else None,
    )


def write_report(path: Path, report: Report) -> None:
    """Render the page and write it in one step."""
    write_text(path, render_report(report))


def _spread(numbers: NDArray[np.integer], count: int) -> list[int]:
    """``count`` of the numbers, evenly spaced, without repetition."""
    count = min(count, len(numbers))
    return [int(numbers[(2 * k + 1) * len(numbers) // (2 * count)]) for k in range(count)]


def _confusion_view(item: Confusion, class_names: Sequence[str]) -> dict[str, object]:
    return {
        "name": item.name,
        "image": confusion_figure(item.counts, class_names),
        "width_px": confusion_width_px(len(class_names)),
        "pairs": _frequent_mistakes(item.counts, class_names),
        "right": int(np.trace(item.counts)),
        "total": int(item.counts.sum()),
    }


def _frequent_mistakes(counts: NDArray[np.integer], class_names: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """(true class, predicted class, videos, videos of the true class) of the most frequent mistakes."""
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MAX_PAIRS]
    cells = [divmod(int(flat), len(class_names)) for flat in order]
    return [
        (class_names[row], class_names[column], int(mistakes[row, column]), int(counts[row].sum()))
        for row, column in cells
        if mistakes[row, column]
    ]


def _example_view(example: Example) -> dict[str, object]:
    full_px = 1.0 if example.flow_px is None else full_colour_speed(example.flow_px)
    answers = [
        {"network": item.network, "top": item.top, "right": item.top[0][0] == example.label} for item in example.scores
    ]
    return {
        "video": example.video,
        "label": example.label,
        "image": image_uri(strip_image(example.frames, example.flow_px, full_px=full_px)),
        "has_frames": example.frames is not None,
        "full_px": None if example.flow_px is None else full_px,
        "answers": answers,
    }
