"""The runs of an ablation: what is there already, and training and scoring the others, each in a process of its own."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from stmulnet.commands.scoring import OpenSplit, open_candidate, score_videos
from stmulnet.commands.train import training_package
from stmulnet.device import choose_device
from stmulnet.errors import ConfigError, StmulnetError
from stmulnet.evaluation.metrics import top_k_accuracy
from stmulnet.evaluation.scores import SavedScores, ScoresRecord, load_scores, save_scores
from stmulnet.training.ablation import Scored
from stmulnet.training.config import TrainConfig
from stmulnet.training.run_folder import (
    WEIGHTS_FILE,
    check_data,
    check_options,
    check_run,
    fingerprint,
    is_started,
)
from stmulnet.video.manifest import load_manifests

SCORES_FILE = "scores.npz"  # in the folder of a run; the last thing that is written there


@dataclass(frozen=True)
class Run:
    """One variant with one seed.

    Attributes:
        title: For messages.
        folder: Its run folder.
        config: Its training.
        scored: Which videos are scored.
        metadata: What the header of its weights says of the data set.
        device: Where to train and score.
    """

    title: str
    folder: Path
    config: TrainConfig
    scored: Scored
    metadata: dict[str, Any]
    device: str


def is_done(run: Run) -> bool:
    """Whether a run is trained and scored.

    Raises:
        ConfigError: Its folder holds a run with other options or videos, or something else; says what.
    """
    scores = run.folder / SCORES_FILE
    if scores.is_file() or (run.folder / WEIGHTS_FILE).is_file():
        check_options(run.config, run.folder)
    else:
        started = is_started(run.config, run.folder)
        check_run(run.config, run.folder, resume=started)
        if not started:
            return False
    path, annotation = training_package().lists(run.config)
    data = fingerprint(path, run.config.split, annotation.training, annotation.validation)
    del data["validation_videos"]  # recorded where they are watched during training
    check_data(run.folder, data | run.metadata)
    if not scores.is_file():
        return False
    before = load_scores(scores).record.frames
    if before != run.scored.frames:
        raise ConfigError(
            f"{scores} has other values of frames ({before}, now {run.scored.frames}); go on with the same, delete "
            "the file to score anew, or start in another folder"
        )
    return True


def make(run: Run) -> float | str:
    """Train and score what is not yet; returns the top-1 accuracy, 0..1, or why the run failed.

    On one thread, so that the numbers do not depend on how many run at a time; what is said goes to a log file beside
    the run folder.
    """
    log = run.folder.with_name(f"{run.folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file, _one_thread(), _said_to(file):
        try:
            if not (run.folder / WEIGHTS_FILE).is_file():
                _train(run)
            return _score(run)
        except StmulnetError as error:
            return str(error)


def _train(run: Run) -> None:
    resume = is_started(run.config, run.folder)
    training_package().fit(run.config, run.folder, resume=resume, device=run.device, metadata=run.metadata)


def _score(run: Run) -> float:
    config = run.config
    path, annotation = training_package().lists(config)
    manifest, held_out = load_manifests(config.dataset), bool(config.holdout)
    videos = OpenSplit(config.dataset, config.split, path, annotation, manifest, held_out)
    candidate = open_candidate(
        run.folder / WEIGHTS_FILE, videos, frames=run.scored.frames, allow_mismatch=config.allow_mismatch
    )
    table = score_videos(candidate.network, candidate.videos, device=choose_device(run.device), workers=0)
    record = ScoresRecord(
        **videos.record(),
        views="official",
        frames=run.scored.frames,
        weights=[candidate.record()],
        fusion_weights=[1.0, 1.0] if len(candidate.network.config.streams) == 2 else None,
    )
    save_scores(run.folder / SCORES_FILE, SavedScores(table, annotation.class_names, record))
    return top_k_accuracy(table.final, table.labels)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _said_to(file: TextIO) -> Iterator[None]:
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield
