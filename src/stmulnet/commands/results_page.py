"""The HTML report of an evaluation."""

# n frames of H x W pixels

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmulnet.commands.results import EvaluateSummary, SplitResult
from stmulnet.constants import FLOW_STACK_BEFORE, FLOW_ZERO_LEVEL
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.sampling import test_frames
from stmulnet.evaluation.metrics import top_k_correct
from stmulnet.evaluation.report import (
    SCORES_NOTE,
    Example,
    Report,
    choose_examples,
    confusion,
    example_scores,
    reliability,
    worst_mistakes,
    write_report,
)
from stmulnet.flow.quantize import to_pixels

Images = NDArray[np.uint8]
Flow = NDArray[np.float32]
Pictures = tuple[Images | None, Flow | None]

FRAMES_PER_EXAMPLE = 5


def write_page(
    path: Path, summary: EvaluateSummary, lists: Sequence[Sequence[TwoStreamDataset]], num_examples: int
) -> None:
    """Write the report of one split, or of several.

    Args:
        path: The page.
        summary: Results.
        lists: Per split the data sets that show its videos; none show nothing.
        num_examples: Videos shown per split.
    """
    parts = [_part(split, of, num_examples) for split, of in zip(summary.splits, lists, strict=True)]
    write_report(path, parts[0] if len(parts) == 1 else _joint(summary, parts))


def example_pictures(videos: TwoStreamDataset, index: int) -> Pictures:
    """A few frames (n, H, W, 3) uint8 of a test video and the flow at them (n, 2, H, W) in pixels; None if not read."""
    sample = videos[index]
    count = max(len(sample.rgb), len(sample.flow))
    # Short videos repeat frames: show each at most once, in order.
    _, distinct = np.unique(test_frames(videos.records[index].num_frames, count), return_index=True)
    shown = distinct[np.linspace(0, len(distinct) - 1, min(FRAMES_PER_EXAMPLE, len(distinct))).round().astype(int)]
    frames = sample.rgb.numpy()[shown].transpose(0, 2, 3, 1) if sample.rgb.numel() else None
    if not sample.flow.numel():
        return frames, None
    u = 2 * FLOW_STACK_BEFORE  # field t of the stack t-5 ... t+4: from the frame shown to the next one
    levels = sample.flow.numpy()[shown, u : u + 2]
    # A level stands for the middle of its displacements; shifted so that standstill is exactly zero (white).
    return frames, to_pixels(levels) - to_pixels(np.array(FLOW_ZERO_LEVEL, dtype=np.uint8))


def _part(result: SplitResult, lists: Sequence[TwoStreamDataset], num_examples: int) -> Report:
    table = result.saved.table
    final = list(table.streams())[-1]
    right = np.flatnonzero(top_k_correct(table.final, table.labels))
    wrong = worst_mistakes(table.final, table.labels, max(num_examples - len(right), (num_examples + 1) // 2))
    spread = choose_examples(np.ones(len(right), dtype=bool), num_examples - len(wrong))
    matrices = [confusion(name, scores, table.labels) for name, scores in table.streams().items()]
    return Report(
        title=f"Evaluation on {len(table.videos)} test videos",
        lead=(
            "How well a network recognises the action in videos it has not been trained on, "
            f"and which of the {len(result.saved.class_names)} actions it takes for which."
        ),
        facts=_facts(result),
        class_names=result.saved.class_names,
        rows=result.rows,
        confusions=matrices[-1:],
        classes=matrices,
        reliabilities=[reliability(final if table.combined is None else "fused", table.fused, table.labels)],
        mistakes=[_example(result, lists, index) for index in wrong] if lists else [],
        examples=[_example(result, lists, int(right[place])) for place in spread] if lists else [],
        examples_note="All of them were recognised.",
        scores_note=_scores_note(result),
    )


def _joint(summary: EvaluateSummary, parts: Sequence[Report]) -> Report:
    first = parts[0]
    titled = [replace(part, title=of.title, lead="") for part, of in zip(parts, summary.splits, strict=True)]
    return Report(
        title=f"Evaluation on {len(parts)} splits",
        lead=first.lead,
        class_names=first.class_names,
        rows=[],
        splits=titled,
        scores_note=first.scores_note,
    )


def _facts(result: SplitResult) -> list[tuple[str, str]]:
    record = result.saved.record
    facts = [("Data set", record.dataset), ("Split", record.split and str(record.split))]
    facts += [("Weights", ", ".join(entry["file"] for entry in record.weights) or None), ("Protocol", record.protocol)]
    if record.external is not None:
        facts.append(("Other method", record.external.get("file")))
    if record.left_out:
        facts.append(("Not tested", f"{record.left_out} videos of the test list that were not on disk"))
    return [(name, value) for name, value in facts if value]


def _scores_note(result: SplitResult) -> str:
    record = result.saved.record
    note = SCORES_NOTE
    if record.views != "official":
        note = f"Scores are the raw outputs of the networks ({record.protocol}); the probabilities are their softmax."
    if result.saved.table.combined is None:
        return note
    return f"{note} Those of combined scores, which are divided by their norm, lie close to each other."


def _example(result: SplitResult, lists: Sequence[TwoStreamDataset], index: int) -> Example:
    table, names = result.saved.table, result.saved.class_names
    frames, flow = None, None
    for videos in lists:  # two networks, two lists: each reads what its network needs
        pictures = example_pictures(videos, index)
        frames, flow = pictures[0] if frames is None else frames, pictures[1] if flow is None else flow
    label = int(table.labels[index])
    answers = [example_scores(name, scores[index], names, label=label) for name, scores in table.streams().items()]
    return Example(table.videos[index], names[label], frames, flow, answers)
