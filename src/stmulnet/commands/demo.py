"""`stmulnet demo`: the whole way from encoded videos to a report, on synthetic data, in minutes on a CPU."""

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stmulnet.commands.annotate import annotate
from stmulnet.commands.evaluate import example_pictures, open_test_list, score_videos
from stmulnet.commands.train import train
from stmulnet.console import notice
from stmulnet.datasets.annotations import annotation_path
from stmulnet.datasets.moving_shapes import BINDING_CLASSES, CLASSES, PAIR_CLASSES, make_moving_shapes
from stmulnet.device import choose_device
from stmulnet.errors import ConfigError
from stmulnet.evaluation.figures import LearningCurve
from stmulnet.evaluation.metrics import top_k_correct
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.evaluation.report import (
    Example,
    Report,
    ResultRow,
    choose_examples,
    confusion,
    example_scores,
    result_row,
    write_report,
)
from stmulnet.files import write_json
from stmulnet.models.checkpoint import load_model
from stmulnet.overlay import write_overlay
from stmulnet.predictor import VideoPredictor
from stmulnet.rendering import table_html
from stmulnet.training.history import History
from stmulnet.training.run_folder import WEIGHTS_FILE
from stmulnet.video.extract import extract_videos
from stmulnet.video.pool import default_workers, map_unordered

MARKER = "demo.json"  # its presence says that the folder is ours to replace
SIDE_PX = 64
GROUPS_TRAIN, GROUPS_TEST = 32, 16
EPOCHS = 24
PEAK_RATE = 0.03
BATCH = 8
VALIDATE_EVERY = 6
NETWORK_OPTIONS: dict[str, Any] = {
    "units": [2, 2, 2, 2],
    "width_mult": 0.125,
    "input_size": SIDE_PX,
    "head_pool": "global",
    # The same temporal layers in every network, so that only the connection differs.
    "temporal_conv": "center",
    "temporal_pool": {"kind": "max", "window": 5, "stride": 1},
}
MOTION_DROPOUT = 0.2
GROUP_NOTES = {
    "pair classes": "one object; the class says which shape makes which motion. Each stream sees half of the answer.",
    "binding classes": (
        "two objects, both shapes and both motions in every video; the class says which shape makes which motion. "
        "Each stream alone sees the same in both classes, so no sum of their scores can tell them apart."
    ),
}
GROUPS = {"pair classes": PAIR_CLASSES, "binding classes": BINDING_CLASSES}
FINAL = "ST-MulNet"
TABLE_TITLE = "Top-1 accuracy on test videos, %"
TABLE_HEADER = ("network", "all", "95 % interval", *GROUPS)


@dataclass(frozen=True)
class Contestant:
    """One of the four networks: its title, its name in the zoo, its folder, a line for the report."""

    title: str
    network: str
    folder: str
    note: str


CONTESTANTS = (
    Contestant("appearance only", "appearance_resnet50", "appearance", "sees RGB frames"),
    Contestant("motion only", "motion_resnet50", "motion", "sees optical flow"),
    Contestant("late fusion", "two_stream_resnet50", "late_fusion", "both streams, scores added, no connection"),
    Contestant(FINAL, "st_mulnet_resnet50", "st_mulnet", "motion multiplies the input of appearance units"),
)


@dataclass(frozen=True)
class TrainJob:
    """What a worker process needs to train and score one network."""

    contestant: Contestant
    out: Path
    seed: int


@dataclass
class DemoSummary:
    """Results of `demo`.

    Attributes:
        rows: Figures of merit, one per network.
        label: True class of the video that was predicted.
        predicted: What the network said.
        seconds: Time spent on each step.
        report: The HTML page.
    """

    rows: list[ResultRow]
    label: str
    predicted: str
    report: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        return table_html(TABLE_HEADER, _cells(self.rows), title=TABLE_TITLE, notes=[f"report: {self.report}"])


def demo(*, out: Path = Path("runs/demo"), seed: int = 0, workers: int | None = None) -> DemoSummary:
    """Make a small data set, train four networks on it, evaluate and report; minutes on a CPU.

    The four networks (appearance only, motion only, late fusion, ST-MulNet) have the same size and training; only
    the connection between the streams differs. The same seed gives the same numbers on the same machine.

    Args:
        out: Folder for data, networks, report.html and overlay.mp4; the demo of an earlier run there is replaced.
        seed: Of the data set and of the training.
        workers: Processes; one per core by default. The numbers do not depend on it.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be 1 or more, got {workers}; one per core if not given")
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    workers = workers or default_workers()
    _prepare(out, seed)
    seconds: dict[str, float] = {}
    with _step(1, "make the videos", seconds):
        shapes = make_moving_shapes(out, groups_train=GROUPS_TRAIN, groups_test=GROUPS_TEST, size=SIDE_PX, seed=seed)
    with _step(2, "extract frames and optical flow", seconds):
        extract_videos(shapes.videos, out / "dataset", short_side=SIDE_PX, workers=workers)
        annotate(shapes.lists, out / "dataset")
    with _step(3, "train and test four networks", seconds):
        jobs = [TrainJob(contestant, out, seed) for contestant in reversed(CONTESTANTS)]  # the longest first
        results = {job.contestant.title: table for job, table in map_unordered(_train_and_score, jobs, workers=workers)}
    tables = {contestant.title: results[contestant.title] for contestant in CONTESTANTS}
    with _step(4, "predict a held-out video, write the report", seconds):
        label, predicted = _predict_one(out, tables[FINAL])
        rows = [_row(contestant, tables[contestant.title]) for contestant in CONTESTANTS]
        summary = DemoSummary(rows, label, predicted, out / "report.html", seconds)
        write_report(summary.report, _report(out, tables, summary, seed))
    _write_results(out, summary, seed)
    _print(summary, out)
    return summary


def _prepare(out: Path, seed: int) -> None:
    if out.is_file():
        raise ConfigError(f"{out} is a file; --out must be a folder")
    if out.is_dir() and any(out.iterdir()):
        if not (out / MARKER).is_file():
            raise ConfigError(f"{out} is not empty and holds no earlier demo; give a new or empty folder with --out")
        for folder in ("videos", "lists", "dataset", "networks"):
            shutil.rmtree(out / folder, ignore_errors=True)
        for file in ("report.html", "overlay.mp4", "results.json"):
            (out / file).unlink(missing_ok=True)
    write_json(out / MARKER, {"seed": seed})


@contextmanager
def _step(number: int, title: str, seconds: dict[str, float]) -> Iterator[None]:
    notice(f"\n[{number}/4] {title}")
    start = time.monotonic()
    yield
    seconds[title] = round(time.monotonic() - start, 1)
    notice(f"[{number}/4] {title}: {seconds[title]:.0f} s")


def _learning_rates() -> list[float]:
    """A warm-up over three epochs, then half a cosine: short runs from random weights need both."""
    cosine = [0.5 * (1 + math.cos(math.pi * epoch / EPOCHS)) for epoch in range(EPOCHS)]
    return [PEAK_RATE * min((epoch + 1) / 3, factor) for epoch, factor in enumerate(cosine)]


def _train_and_score(job: TrainJob) -> ScoreTable:
    """Train one network and run the test protocol; on one thread, so that the numbers do not depend on the cores."""
    import torch

    torch.set_num_threads(1)
    run = job.out / "networks" / job.contestant.folder
    options = dict(NETWORK_OPTIONS)
    if job.contestant.network != "appearance_resnet50":
        options["motion"] = {"units": options["units"], "width_mult": options["width_mult"], "dropout": MOTION_DROPOUT}
    train(
        job.out / "dataset",
        job.contestant.network,
        run,
        network_options=options,
        learning_rates=_learning_rates(),
        passes_per_epoch=1,
        batch_size=BATCH,
        sub_batch_size=BATCH,
        strides=(1, 4),
        validate_every=VALIDATE_EVERY,
        validation_frames=5,
        seed=job.seed,
        cache=True,
        device="cpu",
    )
    network = load_model(run / WEIGHTS_FILE)
    videos = open_test_list(job.out / "dataset", _annotation(job.out), network)
    return score_videos(network, videos, device=choose_device("cpu"), workers=0)


def _annotation(out: Path) -> Path:
    return annotation_path(out / "dataset", 1)


def _row(contestant: Contestant, table: ScoreTable) -> ResultRow:
    numbers = {name: number for number, name in enumerate(CLASSES)}
    groups = {group: [numbers[name] for name in names] for group, names in GROUPS.items()}
    return result_row(contestant.title, table.fused, table.labels, groups=groups, note=contestant.note)


def _predict_one(out: Path, table: ScoreTable) -> tuple[str, str]:
    """Predict the first test video of a binding class from its file and draw the overlay; true and predicted class."""
    binding = [name in BINDING_CLASSES for name in (list(CLASSES)[label] for label in table.labels)]
    video = table.videos[int(np.flatnonzero(binding)[0])]
    label = video.split("_")[1]
    path = out / "videos" / label / f"{video}.avi"
    predictor = VideoPredictor(out / "networks" / CONTESTANTS[-1].folder / WEIGHTS_FILE, device="cpu")
    prediction = predictor(path)
    write_overlay(out / "overlay.mp4", path, prediction, predictor)
    return label, prediction.label


def _report(out: Path, tables: dict[str, ScoreTable], summary: DemoSummary, seed: int) -> Report:
    final, names = tables[FINAL], list(CLASSES)
    network = load_model(out / "networks" / CONTESTANTS[-1].folder / WEIGHTS_FILE)
    videos = open_test_list(out / "dataset", _annotation(out), network)
    # Where late fusion fails and the gate does not is the point of the page.
    chosen = choose_examples(top_k_correct(tables["late fusion"].fused, final.labels), 6)
    return Report(
        title="Which shape makes which motion?",
        lead=(
            "Four small networks, trained from random weights on synthetic videos and tested on videos with "
            "backgrounds they have never seen. They differ in one thing: whether and how the appearance stream "
            "(RGB frames) and the motion stream (optical flow) are connected."
        ),
        class_names=names,
        rows=summary.rows,
        facts=[
            ("Videos", f"{6 * GROUPS_TRAIN} for training, {len(final.videos)} for testing, 32 frames each"),
            ("Training", f"{EPOCHS} epochs, seed {seed}, the same for all networks"),
            ("Test protocol", "25 frames, whole frame, original and mirrored, raw scores averaged"),
        ],
        group_notes=GROUP_NOTES,
        confusions=[confusion(title, table.fused, table.labels) for title, table in tables.items()],
        curves=[_curve(out, contestant) for contestant in CONTESTANTS],
        examples=[_example(videos, index, tables) for index in chosen],
        examples_note="Half of them are videos that late fusion gets wrong.",
    )


def _curve(out: Path, contestant: Contestant) -> LearningCurve:
    rows = History(out / "networks" / contestant.folder).rows()
    return LearningCurve(
        contestant.title,
        [row["epoch"] for row in rows],
        [row["train_loss"] for row in rows],
        [row.get("val_top1", math.nan) for row in rows],
    )


def _example(videos: Any, index: int, tables: dict[str, ScoreTable]) -> Example:
    names = list(CLASSES)
    answers = [example_scores(title, table.fused[index], names) for title, table in tables.items()]
    video, label = tables[FINAL].videos[index], names[tables[FINAL].labels[index]]
    return Example(video, label, *example_pictures(videos, index), answers)


def _write_results(out: Path, summary: DemoSummary, seed: int) -> None:
    networks = {
        row.name: {
            "top1": row.accuracy.value,
            "interval": [row.accuracy.low, row.accuracy.high],
            **{group: share.value for group, share in row.groups.items()},
        }
        for row in summary.rows
    }
    prediction = {"label": summary.label, "predicted": summary.predicted}
    values = {"seed": seed, "networks": networks, "prediction": prediction, "seconds": summary.seconds}
    write_json(out / "results.json", values)


def _cells(rows: Sequence[ResultRow]) -> list[list[str]]:
    """The table's lines, as text."""
    lines = []
    for row in rows:
        interval = f"{100 * row.accuracy.low:.0f} to {100 * row.accuracy.high:.0f}"
        shares = [f"{100 * share.value:.1f}" for share in (row.accuracy, *row.groups.values())]
        lines.append([row.name, shares[0], interval, *shares[1:]])
    return lines


def _print(summary: DemoSummary, out: Path) -> None:
    table = Table(title=f"\n{TABLE_TITLE}", title_justify="left")
    for number, heading in enumerate(TABLE_HEADER):
        table.add_column(heading, justify="right" if number else "left")
    for cells in _cells(summary.rows):
        table.add_row(*cells)
    Console(highlight=False).print(table)
    print(f"{FINAL} on a held-out video of class {summary.label}: {summary.predicted}")
    print(f"report:  {out / 'report.html'}\noverlay: {out / 'overlay.mp4'}")
    print(f"{sum(summary.seconds.values()):.0f} s in all")
