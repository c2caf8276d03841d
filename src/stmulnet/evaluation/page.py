"""What the template of a report shows, worked out from the report's content."""

# K classes, n frames of H x W pixels

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.evaluation.confusion import MAX_CLASSES_WITH_COUNTS, confusion_clusters, confusion_figure, heat
from stmulnet.evaluation.figures import NUM_LINE_STYLES, curve_figures, reliability_figure
from stmulnet.evaluation.flow_colours import flow_colours, full_colour_speed
from stmulnet.evaluation.metrics import Proportion, class_table, most_confused, proportion
from stmulnet.evaluation.pictures import image_uri, thumbnails, wheel_uri

if TYPE_CHECKING:
    from stmulnet.evaluation.report import Confusion, Example, Report, ResultRow

View = dict[str, Any]

MAX_PAIRS_SMALL, MAX_PAIRS_LARGE = 6, 15
LEGEND_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 1.0)


def page_view(report: "Report") -> View:
    """Everything the template needs."""
    parts = [_part_view(part) for part in report.splits or [report]]
    return {
        "report": report,
        "parts": parts,
        "means": _split_means(report.splits),
        "interval_note": _interval_note([row for split in report.splits for row in split.rows]),
        "wheel": wheel_uri() if any(part["has_flow"] for part in parts) else None,
        "heat_steps": [(share, heat(share)) for share in LEGEND_SHARES],
        "num_line_styles": NUM_LINE_STYLES,
    }


def _part_view(part: "Report") -> View:
    """What the template shows of a page without splits, or of one split."""
    large = len(part.class_names) > MAX_CLASSES_WITH_COUNTS
    # One order for all matrices, so that they can be compared.
    together = np.sum([item.counts for item in part.confusions], axis=0)
    clusters = confusion_clusters(together) if large and part.confusions else None
    shown = [*part.examples, *part.mistakes]
    return {
        "report": part,
        "interval_note": _interval_note(part.rows),
        "large": large,
        "best": max((row.accuracy.value for row in part.rows), default=0.0),
        "groups": list(dict.fromkeys(group for row in part.rows for group in row.groups)),
        "confusions": [_confusion_view(item, part.class_names, clusters) for item in part.confusions],
        "curves": curve_figures(part.curves) if part.curves else None,
        "reliabilities": [(item, reliability_figure(item)) for item in part.reliabilities],
        "classes": _class_rows(part.classes, part.class_names) if part.classes else [],
        "without_videos": _without_videos(part),
        "examples": [_example_view(example) for example in part.examples],
        "mistakes": [_example_view(example) for example in part.mistakes],
        "has_flow": any(example.flow_px is not None for example in shown),
    }


def _interval_note(rows: Sequence["ResultRow"]) -> str:
    """What the ranges in the results table are."""
    drawn = [row for row in rows if row.bootstrap]
    if not drawn:
        method = "(Wilson)"
    elif all(row.bootstrap and row.bootstrap.units == row.accuracy.total for row in drawn):
        method = "(bootstrap over the videos)"
    else:
        method = "(bootstrap over groups of videos that were cut from the same recording)"
    if any(_has_wilsons(row) for row in drawn):
        method = method.replace(")", "; Wilson where all videos are right, or none)")
    return (
        f"The range below it is the 95 % confidence interval {method}, that is, how far chance in the choice of test "
        "videos may have moved the figure."
    )


def _has_wilsons(row: "ResultRow") -> bool:
    """Whether a bootstrap's interval was replaced."""
    drawn = row.bootstrap
    return drawn is not None and (row.accuracy_range != drawn.top1 or row.top5_range not in (None, drawn.top5))


def _split_means(splits: Sequence["Report"]) -> list[View]:
    """One line per network that every split has: its results on each, and the means over the splits."""
    if not splits:
        return []
    tables = [{row.name: row for row in split.rows} for split in splits]
    lines: list[View] = []
    for name, row in tables[0].items():
        if all(name in table for table in tables):
            rows = [table[name] for table in tables]
            figures = {
                "top1": [item.accuracy.value for item in rows],
                "mean_class": [item.mean_class for item in rows],
            }
            means = {key: (float(np.mean(values)), _deviation(values)) for key, values in figures.items()}
            lines.append({"name": name, "note": row.note, "rows": rows, **means})
    return lines


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _confusion_view(item: "Confusion", class_names: Sequence[str], clusters: Sequence[Sequence[int]] | None) -> View:
    numbers = {name: number for number, name in enumerate(class_names)}
    limit = MAX_PAIRS_LARGE if len(class_names) > MAX_CLASSES_WITH_COUNTS else MAX_PAIRS_SMALL
    pairs = most_confused(item.counts, class_names, limit)
    return {
        "name": item.name,
        "figure": confusion_figure(item.counts, class_names, clusters=clusters, name=item.name),
        "pairs": [(pair, int(item.counts[numbers[pair.predicted], numbers[pair.true]])) for pair in pairs],
        "mistakes": int(item.counts.sum() - np.trace(item.counts)),
    }


def _class_rows(items: Sequence["Confusion"], class_names: Sequence[str]) -> list[View]:
    """One line per class that has videos, the hardest for the last of the networks first."""
    lines = [(number, line) for number, line in enumerate(class_table(items[-1].counts, class_names)) if line.videos]
    return [
        {
            "line": line,
            "share": proportion(line.correct, line.videos),
            "others": [_class_share(item.counts, number) for item in items[:-1]],
        }
        for number, line in sorted(lines, key=lambda pair: (pair[1].correct / pair[1].videos, -pair[1].videos))
    ]


def _class_share(counts: NDArray[np.integer], number: int) -> Proportion | None:
    total = int(counts[number].sum())
    return proportion(int(counts[number, number]), total) if total else None


def _without_videos(part: "Report") -> list[str]:
    lines = class_table(part.classes[-1].counts, part.class_names) if part.classes else []
    return [line.name for line in lines if not line.videos]


def _example_view(example: "Example") -> View:
    full_px = 1.0 if example.flow_px is None else full_colour_speed(example.flow_px)
    flow = None if example.flow_px is None else flow_colours(example.flow_px, full_px=full_px)
    shown = [(kind, images) for kind, images in (("frames", example.frames), ("flow", flow)) if images is not None]
    answers = [
        {
            "network": item.network,
            "top": item.top,
            "right": item.top[0][0] == example.label,
            "rank": item.rank,
            "probability": item.probability,
        }
        for item in example.scores
    ]
    return {
        "video": example.video,
        "label": example.label,
        "guess": example.scores[-1].top[0][0],
        "content": " above optical ".join(kind for kind, _ in shown),
        "rows": [[image_uri(image) for image in thumbnails(images)] for _, images in shown],
        "full_px": None if flow is None else full_px,
        "answers": answers,
    }
