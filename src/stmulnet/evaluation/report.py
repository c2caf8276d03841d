"""One self-contained HTML page about one or more evaluated networks; it opens offline."""

# V videos, K classes, n frames of H x W pixels

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from stmulnet.evaluation.bootstrap import Bootstrap
from stmulnet.evaluation.figures import LearningCurve, Reliability
from stmulnet.evaluation.metrics import (
    Labels,
    Proportion,
    Scores,
    confusion_matrix,
    mean_class_accuracy,
    predictions,
    proportion,
    reliability_bins,
    softmax,
    top_classes,
    top_k_correct,
    top_k_proportion,
)
from stmulnet.evaluation.page import page_view
from stmulnet.files import write_text
from stmulnet.rendering import page_html

TOP = 5
SCORES_NOTE = (
    "Scores are the raw outputs of the networks, averaged over image positions, time windows, the video and its "
    "mirror image; the probabilities are the softmax of these averages."
)


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
        bootstrap: Intervals to show in place of those by Wilson, and for the mean of the class accuracies.
    """

    name: str
    accuracy: Proportion
    mean_class: float
    top5: Proportion | None = None
    groups: Mapping[str, Proportion] = field(default_factory=dict)
    note: str = ""
    bootstrap: Bootstrap | None = None

    @property
    def accuracy_range(self) -> tuple[float, float]:
        """Ends of the 95 % interval of the top-1 accuracy, 0..1."""
        return _interval(self.accuracy, self.bootstrap.top1 if self.bootstrap else None)

    @property
    def top5_range(self) -> tuple[float, float] | None:
        """Ends of the 95 % interval of the top-5 accuracy, 0..1."""
        if self.top5 is None:
            return None
        return _interval(self.top5, self.bootstrap.top5 if self.bootstrap else None)

    @property
    def mean_class_range(self) -> tuple[float, float] | None:
        """Ends of the 95 % interval of the mean class accuracy, 0..1; only a bootstrap gives it."""
        drawn = self.bootstrap.mean_class if self.bootstrap else None
        return drawn if drawn and drawn[0] < drawn[1] else None


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of one network: counts (K, K), rows are the true classes."""

    name: str
    counts: NDArray[np.integer]


@dataclass(frozen=True)
class ExampleScores:
    """What one network said about an example.

    Attributes:
        network: Network or stream.
        top: (class, probability), best first.
        rank: Rank of the true class, 1 is best; None where it is not known.
        probability: Probability of the true class, 0..1.
    """

    network: str
    top: Sequence[tuple[str, float]]
    rank: int | None = None
    probability: float = 0.0


@dataclass(frozen=True)
class Example:
    """One video of the examples or the worst mistakes.

    Attributes:
        video: Name of the video.
        label: Name of the true class.
        frames: A few frames (n, H, W, 3), uint8; None to show flow only.
        flow_px: The flow at these frames (n, 2, H, W), pixels; None to show frames only.
        scores: Answers, one per network; the last is the one that counts.
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
        title: Heading of the page; of a split, the name of its tab.
        lead: One or two sentences: what was evaluated on what.
        class_names: K names in class order.
        rows: Results table.
        facts: (name, value) pairs under the heading, e.g. data set, weights, number of videos.
        group_notes: What each group of classes in the table is.
        confusions: Confusion matrices.
        curves: Learning curves.
        examples: Example videos.
        examples_note: How the examples were chosen.
        mistakes: The worst mistakes, worst first.
        reliabilities: Reliability diagrams.
        classes: Networks to compare class by class; the last gets the bars and the order.
        splits: One report per split, shown as tabs below their mean results; the page itself then has no sections.
        scores_note: What the scores and probabilities are.
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
    mistakes: Sequence[Example] = ()
    reliabilities: Sequence[Reliability] = ()
    classes: Sequence[Confusion] = ()
    splits: Sequence["Report"] = ()
    scores_note: str = SCORES_NOTE

    def _repr_html_(self) -> str:
        return page_html(render_report(self))


def result_row(
    name: str,
    scores: Scores,
    labels: Labels,
    *,
    groups: Mapping[str, Sequence[int]] | None = None,
    note: str = "",
    bootstrap: Bootstrap | None = None,
) -> ResultRow:
    """Measure one score table.

    Args:
        name: Network or stream.
        scores: (V, K) scores.
        labels: (V,) true classes, 0-based.
        groups: Classes (0-based) of each group; a group without videos is left out.
        note: What it is, in a few words.
        bootstrap: Intervals to show in place of those by Wilson.

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
    top1, mean_class = top_k_proportion(scores, labels), mean_class_accuracy(scores, labels)
    return ResultRow(name, top1, mean_class, top5, measured, note, bootstrap)


def confusion(name: str, scores: Scores, labels: Labels) -> Confusion:
    """Confusion matrix of a score table (V, K) with labels (V,)."""
    return Confusion(name, confusion_matrix(scores, labels))


def reliability(name: str, scores: Scores, labels: Labels) -> Reliability:
    """Confidence against accuracy of a score table (V, K) with labels (V,), in ten bins."""
    return Reliability(name, reliability_bins(scores, labels))


def example_scores(
    network: str, scores: Scores, class_names: Sequence[str], *, label: int | None = None
) -> ExampleScores:
    """The five best classes of one video's raw scores (K,), with their softmax probabilities.

    Args:
        network: Network or stream.
        scores: (K,) raw scores.
        class_names: K names.
        label: True class, 0-based, to show its rank and probability too.
    """
    top = top_classes(scores, class_names, TOP)
    if label is None:
        return ExampleScores(network, top)
    order = np.argsort(-np.asarray(scores), kind="stable")
    rank = 1 + int(np.flatnonzero(order == label)[0])
    return ExampleScores(network, top, rank, float(softmax(scores)[label]))


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


def worst_mistakes(scores: Scores, labels: Labels, count: int) -> list[int]:
    """Numbers of up to ``count`` wrong videos, those whose right class got the lowest probability first.

    Clips cut from one video are often wrong in the same way: of each pair of true and predicted class only the worst
    is taken, unless there are fewer pairs than ``count``.

    Args:
        scores: (V, K) raw scores.
        labels: (V,) true classes, 0-based.
        count: How many to choose.

    Returns:
        Positions in the list, worst first.
    """
    guesses, positions = predictions(scores), np.arange(len(labels))
    shifted = scores - scores.max(axis=1, keepdims=True)  # the logarithm tells apart what rounds to zero
    log_probability = shifted[positions, labels] - np.log(np.exp(shifted).sum(axis=1))
    order = [int(video) for video in np.argsort(log_probability, kind="stable") if guesses[video] != labels[video]]
    first: dict[tuple[int, int], int] = {}
    for video in order:
        first.setdefault((int(labels[video]), int(guesses[video])), video)
    chosen = [*first.values(), *(video for video in order if video not in set(first.values()))][:count]
    return [video for video in order if video in chosen]


def render_report(report: Report) -> str:
    """The page as HTML: styles and charts inline, pictures as data URIs, no scripts, no addresses."""
    environment = Environment(
        loader=PackageLoader("stmulnet.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(page_view(report))


def write_report(path: Path, report: Report) -> None:
    """Render the page and write it in one step."""
    write_text(path, render_report(report))


def _interval(share: Proportion, drawn: tuple[float, float] | None) -> tuple[float, float]:
    """The bootstrap's interval; Wilson's without one, and where every draw is the same (all videos right, or none)."""
    return drawn if drawn and drawn[0] < drawn[1] else (share.low, share.high)


def _spread(numbers: NDArray[np.integer], count: int) -> list[int]:
    """``count`` of the numbers, evenly spaced, without repetition."""
    count = min(count, len(numbers))
    return [int(numbers[(2 * k + 1) * len(numbers) // (2 * count)]) for k in range(count)]
