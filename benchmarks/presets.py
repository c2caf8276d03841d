"""What the fast preset changes: accuracy and answers over the test videos of a run of `stmulnet demo`.

    python -m benchmarks.presets runs/demo [--network st_mulnet] [--frames 5 8 10]

"same" is the share of videos with the answer of the paper preset, "core s" what all threads together used for all.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from stmulnet.datasets.annotations import load_annotation
from stmulnet.predictor import Prediction, VideoPredictor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--network", default="st_mulnet")
    parser.add_argument("--frames", type=int, nargs="+", default=[5, 8, 10])
    options = parser.parse_args()
    annotation = load_annotation(options.demo / "dataset" / "annotations" / "annot01.json")
    place_of = {path.stem: path for path in (options.demo / "videos").rglob("*.*")}
    truth = {
        place_of[record.video]: annotation.class_names[record.label] for record in annotation.records("validation")
    }
    weights = options.demo / "networks" / options.network / "model.safetensors"
    reference: list[str] = []
    print(f"{len(truth)} videos\n{'settings':<66}{'accuracy':>9}{'same':>6}{'core s':>8}")
    presets: list[dict[str, Any]] = [{"preset": "paper"}]
    for chosen in [*presets, *({"preset": "fast", "num_frames": count} for count in options.frames)]:
        predictor, start = VideoPredictor(weights, **chosen), time.process_time()
        outcomes = [outcome for _, outcome in predictor.predict_many(truth)]
        answers = [outcome.label for outcome in outcomes if isinstance(outcome, Prediction)]
        reference = reference or answers
        accuracy, same = _share(answers, list(truth.values())), _share(answers, reference)
        print(f"{predictor.preset:<66}{accuracy:>9.3f}{same:>6.3f}{time.process_time() - start:>8.1f}", flush=True)
    return 0


def _share(answers: list[str], others: list[str]) -> float:
    return sum(answer == other for answer, other in zip(answers, others, strict=True)) / len(others)


if __name__ == "__main__":
    sys.exit(main())
