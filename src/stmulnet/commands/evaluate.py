"""`stmulnet evaluate`: the test protocol over the test list of a data set, or saved scores measured again."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stmulnet import distributed
from stmulnet.commands.fusing import Settings, rescored
from stmulnet.commands.results import EvaluateSummary, measure, print_results, write_split
from stmulnet.commands.results_page import example_pictures as example_pictures
from stmulnet.commands.results_page import write_page
from stmulnet.commands.scoring import Candidate, OpenSplit, journal_key, open_candidate
from stmulnet.commands.scoring import open_test_list as open_test_list
from stmulnet.commands.scoring import score_videos as score_videos
from stmulnet.console import notice
from stmulnet.constants import STREAMS, TEST_FRAMES
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.errors import ConfigError
from stmulnet.evaluation.clip_views import ViewsName
from stmulnet.evaluation.fusion import check_weights, fuse_streams, merge_tables
from stmulnet.evaluation.scores import SavedScores, ScoresRecord
from stmulnet.files import check_output, write_json

PARTIAL = ".partial"  # in the output folder: scores of a run that has not finished


@dataclass(frozen=True)
class Job:
    """What is to be scored of one split: one network, or one of appearance and one of motion."""

    tests: OpenSplit
    candidates: list[Candidate]
    external: NDArray[np.float64] | None


def evaluate(
    *,
    dataset: Path | None = None,
    weights: Path | None = None,
    motion_weights: Path | None = None,
    split: int | list[int] = 1,
    holdout: bool = False,
    views: ViewsName = "official",
    frames: int = TEST_FRAMES,
    fusion_weights: list[float] | None = None,
    external_scores: Path | None = None,
    external_weight: float = 1.0,
    scores: list[Path] | Path | None = None,
    out: Path | None = None,
    examples: int = 8,
    allow_mismatch: bool = False,
    workers: int | None = None,
    device: str = "auto",
) -> EvaluateSummary:
    """Score the test videos of a split by the official protocol, or measure saved scores again; print the accuracy.

    Args:
        dataset: Folder with frames and flow, in any known tree, and annotations/annot01.json ... (from extract or
            import-archive, and annotate).
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file;
            with the classes of the data set. {split} in it stands for the number of the split.
        motion_weights: Weight file of a motion network, for late fusion with the appearance network of --weights.
        split: Number of the split whose validation list is evaluated, or several such as "[1, 2, 3]", with their mean.
        holdout: Score the videos of the training list that --weights was trained without (train --holdout), in place
            of the validation list.
        views: Views of a video: official is the whole frame, original and mirrored; the others are explained in
            docs/evaluation.md.
        frames: Frames sampled per video (official: 25).
        fusion_weights: Of appearance and motion in the fused scores, such as "[1, 1.5]"; officially one each. With
            several --scores, of these files.
        external_scores: CSV file with another method's scores, added last: a column video, and one per class.
        external_weight: Weight of these against the network's 1.
        scores: scores.npz of earlier runs, in place of data set and weights: measured again, or several fused.
        out: Folder for scores.npz, metrics.json, classes.csv, confusion.csv and report.html, and what a stopped run
            goes on from; without it the results are only printed.
        examples: Videos shown in the report.
        allow_mismatch: Evaluate weights that have seen test videos; it is said.
        workers: Processes that read frames, up to four by default; 0 reads in this one and needs no shared memory.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        Figures of merit and scores.
    """
    for name, number in (("examples", examples), ("workers", workers or 0)):
        if number < 0:
            raise ConfigError(f"{name} must be 0 or more, got {number}")
    splits = [split] if isinstance(split, int) else list(split)
    settings = Settings(
        splits, views, frames, fusion_weights, external_scores, external_weight, allow_mismatch, holdout
    )
    if out is not None:
        check_output(out)
    networks = {"dataset": dataset, "weights": weights, "motion_weights": motion_weights}
    lists: list[list[TwoStreamDataset]] = [[] for _ in splits]
    with distributed.processes() as (rank, _), _silent(rank > 0), _kept(out):
        if scores is not None:
            _refuse_with_scores(networks, settings)
            files = [scores] if isinstance(scores, Path) else scores
            saved = [rescored(files, number, settings) for number in splits]
        else:
            jobs = _open_jobs(dataset, weights, motion_weights, settings)
            lists = [[candidate.videos for candidate in job.candidates] for job in jobs]
            chosen = distributed.own_device(device)
            saved = [_score(job, settings, chosen, workers, out) for job in jobs]
        summary = EvaluateSummary([measure(part) for part in saved])
        if rank == 0:
            print_results(summary)
            if out is not None:
                _write(out, summary, lists, examples)
        distributed.gather(None)  # from here on, nobody needs what a stopped run would go on from
        if out is not None and scores is None:
            shutil.rmtree(out / PARTIAL, ignore_errors=True)
    return summary


def _open_jobs(
    dataset: Path | None, weights: Path | None, motion_weights: Path | None, settings: Settings
) -> list[Job]:
    """Open and check everything of every split, so that nothing is scored in vain."""
    if dataset is None or weights is None:
        raise ConfigError("evaluate needs --dataset and --weights, or the --scores of an earlier run")
    given = {"weights": weights} | ({"motion_weights": motion_weights} if motion_weights else {})
    paths = [{name: settings.file(name, path, split) for name, path in given.items()} for split in settings.splits]
    if settings.holdout:
        all_tests = [OpenSplit.open_hold_out(dataset, settings.splits[0], list(paths[0].values()))]
    else:
        all_tests = [OpenSplit.open(dataset, split) for split in settings.splits]
    jobs = []
    for tests, files in zip(all_tests, paths, strict=True):
        if tests.left_out:
            notice(f"{tests.path} lacks {tests.left_out} videos of the test list: accuracies are those of the others")
        videos = [record.video for record in tests.annotation.validation]
        external = settings.external(tests.split, tests.annotation.class_names, videos)
        candidates = [
            open_candidate(
                path,
                tests,
                views=settings.views,
                frames=settings.frames,
                allow_mismatch=settings.allow_mismatch,
            )
            for path in files.values()
        ]
        _check_streams(candidates, settings)
        jobs.append(Job(tests, candidates, external))
    notice(f"{dataset}: {jobs[0].candidates[0].videos.reads}")
    return jobs


def _check_streams(candidates: list[Candidate], settings: Settings) -> None:
    streams = [candidate.network.config.streams for candidate in candidates]
    if len(candidates) == 2 and streams != [(name,) for name in STREAMS]:
        held = " and ".join("+".join(names) for names in streams)
        raise ConfigError(
            f"with --motion-weights, --weights is of an appearance network and --motion-weights of a motion network; "
            f"{candidates[0].path} and {candidates[1].path} have {held}"
        )
    if settings.fusion_weights is not None:
        if sum(map(len, streams)) != 2:
            raise ConfigError(f"fusion_weights weigh two streams; {candidates[0].path} has {streams[0][0]} alone")
        check_weights(settings.fusion_weights, 2, "the appearance and the motion stream")


def _score(job: Job, settings: Settings, device: torch.device, workers: int | None, out: Path | None) -> SavedScores:
    """Score the videos of one split."""
    tables = []
    for candidate in job.candidates:
        name = "-".join((f"split{job.tests.split}", *candidate.network.config.streams))
        key = journal_key(candidate, job.tests, views=settings.views, frames=settings.frames, device=device.type)
        table = score_videos(
            candidate.network,
            candidate.videos,
            device=device,
            workers=workers,
            views=settings.views,
            journal=out and out / PARTIAL / name,
            key=key,
        )
        tables.append(table)
        candidate.network.cpu()  # the memory of a GPU is for one at a time
    table = tables[0] if len(tables) == 1 else merge_tables(tables, [1.0, 1.0])
    two = table.appearance is not None and table.motion is not None
    weights = settings.fusion_weights or [1.0, 1.0]
    record = ScoresRecord(
        **job.tests.record(),
        views=settings.views,
        frames=settings.frames,
        weights=[candidate.record() for candidate in job.candidates],
        fusion_weights=weights if two else None,
    )
    saved = SavedScores(fuse_streams(table, weights) if two else table, job.tests.annotation.class_names, record)
    return settings.combine(saved, job.tests.split, job.external)


def _refuse_with_scores(networks: dict[str, Path | None], settings: Settings) -> None:
    given = [f"--{name.replace('_', '-')}" for name, path in networks.items() if path is not None]
    given += ["--views"] * (settings.views != "official") + ["--frames"] * (settings.frames != TEST_FRAMES)
    given += ["--holdout"] * settings.holdout
    if given:
        raise ConfigError(f"scores are measured as they were saved: leave out {', '.join(given)}")


def _write(out: Path, summary: EvaluateSummary, lists: list[list[TwoStreamDataset]], examples: int) -> None:
    if len(summary.splits) == 1:
        write_split(out, summary.splits[0])
    else:
        for result in summary.splits:
            write_split(out / f"split{result.saved.record.split}", result)
        write_json(out / "metrics.json", summary.to_dict())
    write_page(out / "report.html", summary, lists, examples)
    print(f"{out / 'report.html'}: the results as a page, with confusion matrix, classes and examples")


@contextlib.contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Keep all processes but one from saying what that one says; errors are not concerned."""
    with contextlib.ExitStack() as stack:
        if wanted:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def _kept(out: Path | None) -> Iterator[None]:
    """Say to who interrupts that the work so far is not lost."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if out is not None and (out / PARTIAL).is_dir():
            raise KeyboardInterrupt("the scores so far are kept; the same command goes on from there") from stop
        raise
