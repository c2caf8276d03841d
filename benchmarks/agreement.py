"""Whether the network made fast answers as the plain one: every test video of a data set, official protocol.

Run with ``python -m benchmarks.agreement WEIGHTS --dataset FOLDER [--split N]``.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from stmulnet.commands.scoring import OpenSplit, open_candidate, score_videos
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.models.optimize import fast_dtype, optimize


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", type=int, default=1)
    options = parser.parse_args()
    candidate = open_candidate(options.weights, OpenSplit.open(options.dataset, options.split), allow_mismatch=False)
    cpu = torch.device("cpu")
    plain = score_videos(candidate.network, candidate.videos, device=cpu, as_given=True)
    print(f"{len(plain.videos)} videos; plain network, float32: top-1 {top1(plain):.1%}")
    print("| computed in | same answer | top-1 | largest difference | of the margin, median |\n|---|---|---|---|---|")
    for dtype in dict.fromkeys((torch.float32, fast_dtype())):
        fast = score_videos(optimize(candidate.network, dtype=dtype), candidate.videos, device=cpu)
        print(f"| {str(dtype).removeprefix('torch.')} | {in_words(plain, fast)} |")


def in_words(plain: ScoreTable, fast: ScoreTable) -> str:
    """The cells of one row."""
    same = int((plain.fused.argmax(1) == fast.fused.argmax(1)).sum())
    difference = np.abs(plain.fused - fast.fused).max(1)
    second, first = np.sort(plain.fused, axis=1)[:, -2:].T
    largest, of_margin = difference.max() / np.abs(plain.fused).max(), np.median(difference / (first - second))
    return f"{same} of {len(plain.videos)} | {top1(fast):.1%} | {largest:.1e} of the largest score | {of_margin:.1e}"


def top1(table: ScoreTable) -> float:
    """Share of right answers."""
    return float((table.fused.argmax(1) == table.labels).mean())


if __name__ == "__main__":
    main()
