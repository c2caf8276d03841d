"""`stmulnet ablate`: variants of a network, each trained with several seeds, scored and compared."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stmulnet.cli import options_of_table
from stmulnet.commands.ablation_runs import SCORES_FILE, Run, is_done, make
from stmulnet.commands.train import config_of, metadata_of, train, training_package
from stmulnet.console import counted, notice, progress
from stmulnet.device import choose_device
from stmulnet.errors import ConfigError, StmulnetError
from stmulnet.evaluation.clip_views import in_words
from stmulnet.evaluation.scores import load_scores
from stmulnet.files import check_output, locked, write_json, write_text
from stmulnet.rendering import notes_html, table_html
from stmulnet.training.ablation import Ablation, Variant, read_ablation
from stmulnet.training.ablation_table import Row, cells, compare, to_csv, to_markdown
from stmulnet.training.config import TrainConfig
from stmulnet.video.pool import WorkerDiedError, default_workers, map_unordered

POSITIONAL = ("files",)


@dataclass(frozen=True)
class Plan:
    """An ablation with its folder and, by variant, its runs in the order of the seeds."""

    ablation: Ablation
    folder: Path
    runs: dict[str, list[Run]]

    def all_runs(self) -> list[Run]:
        """All variants with the first seed, then with the second, ..."""
        return [run for of_seed in zip(*self.runs.values(), strict=True) for run in of_seed]


@dataclass
class AblateSummary:
    """Results of `ablate`.

    Attributes:
        tables: Rows by folder of an ablation; those of which a run failed are missing.
        failures: Runs that failed, with the reason.
    """

    tables: dict[Path, list[Row]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 if a run failed."""
        return 1 if self.failures else 0

    def _repr_html_(self) -> str:
        parts = []
        for folder, rows in self.tables.items():
            for classes in dict.fromkeys(row.classes for row in rows):
                header, *lines = cells([row for row in rows if row.classes == classes])
                parts.append(table_html(header, lines, title=f"{folder.name}, {classes}: top-1 %"))
        failed = [f"failed: {run}: {reason}" for run, reason in self.failures.items()]
        return "".join(parts) + notes_html(failed)


def ablate(
    files: list[Path],
    *,
    dataset: Path | None = None,
    out: Path = Path("runs/ablations"),
    jobs: int | None = None,
    device: str = "auto",
) -> AblateSummary:
    """Train variants of a network with several seeds each, score them, and compare them in a table with intervals.

    After an interruption the same command goes on; runs that are there are not made again.

    Args:
        files: YAML files with the variants, see docs/training.md and configs/ablations.
        dataset: Folder of the data set, in place of the one that the files name.
        out: Folder for a folder per file, with table.md, table.csv, results.json and a run folder per variant and seed.
        jobs: Trainings at the same time, in processes of one thread each; by default one per core, on a GPU one. The
            results do not depend on it.
        device: Where to train and score: auto, cpu, cuda or cuda:N.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs must be 1 or more, got {jobs}; one per core if not given")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("ablate starts processes of its own (--jobs); start it without torchrun")
    jobs = jobs or (1 if choose_device(device).type == "cuda" else default_workers())
    plans = [_plan(ablation, dataset, out, device) for ablation in _read(files)]
    summary = AblateSummary()
    with contextlib.ExitStack() as stack:
        for plan in plans:
            plan.folder.mkdir(parents=True, exist_ok=True)
            busy = ConfigError(f"{plan.folder}: another ablate is at work there; wait for it, or choose another --out")
            stack.enter_context(locked(plan.folder, busy))
        summary.failures = _work_off([run for plan in plans for run in plan.all_runs()], jobs)
        for plan in plans:
            if not summary.failures.keys() & {run.title for run in plan.all_runs()}:
                summary.tables[plan.folder] = _finish(plan)
    return summary


def _read(files: Sequence[Path]) -> list[Ablation]:
    stems = [path.stem for path in files]
    if len(set(stems)) < len(stems):
        raise ConfigError(f"each file gets a folder of its name: they must differ, got {', '.join(stems)}")
    return [read_ablation(path) for path in files]


def _plan(ablation: Ablation, dataset: Path | None, out: Path, device: str) -> Plan:
    """The runs of a file; whatever can be known to be wrong with them is found here."""
    folder, place = out / ablation.path.stem, dataset or ablation.dataset
    check_output(folder)
    if place is None:
        raise ConfigError(f"{ablation.path}: names no dataset; give one with --dataset")
    runs: dict[str, list[Run]] = {}
    metadata: dict[str, Any] | None = None
    for variant in ablation.variants:
        with _naming(f"{ablation.path}, {variant.name}"):
            configs = [_config(ablation, variant, place, seed) for seed in ablation.seeds]
            training_package().check(configs[0], device=device).check_frames(ablation.scored.frames)
            metadata = metadata_of(configs[0]) if metadata is None else metadata
        titles = [f"{ablation.path.stem}, {variant.name}, seed {seed}" for seed in ablation.seeds]
        folders = [folder / variant.slug / f"seed-{seed}" for seed in ablation.seeds]
        runs[variant.name] = [
            Run(title, run_folder, config, ablation.scored, metadata, device)
            for title, run_folder, config in zip(titles, folders, configs, strict=True)
        ]
    plan = Plan(ablation, folder, runs)
    with _naming(str(ablation.path)):
        _check_videos(plan)
    return plan


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Say where in a file a mistake is."""
    try:
        yield
    except StmulnetError as error:
        raise ConfigError(f"{where}: {error}") from error


def _config(ablation: Ablation, variant: Variant, dataset: Path, seed: int) -> TrainConfig:
    fixed = {"dataset": str(dataset), "out": "", "seed": seed}
    fixed |= {"holdout": ablation.scored.holdout, "holdout_seed": ablation.scored.seed}
    return config_of(options_of_table("train", train, {**variant.options, **fixed}))


def _check_videos(plan: Plan) -> None:
    _, annotation = training_package().lists(plan.all_runs()[0].config)
    if not annotation.validation:
        raise ConfigError("the test list of this split is empty; evaluate a holdout")
    present = {annotation.class_names[record.label] for record in annotation.validation}
    for name, classes in plan.ablation.groups.items():
        if unknown := [entry for entry in classes if entry not in annotation.class_names]:
            known = ", ".join(annotation.class_names)
            raise ConfigError(f"groups: {name}: no class {', '.join(unknown)}; there are {known}")
        if not present & set(classes):
            raise ConfigError(f"groups: {name}: none of the videos that are scored is of these classes")


def _work_off(runs: Sequence[Run], jobs: int) -> dict[str, str]:
    """Make the runs that are not there; those that failed, with the reason."""
    pending = [run for run in runs if not is_done(run)]
    if len(pending) < len(runs):
        notice(f"{len(runs) - len(pending)} of {counted(len(runs), 'run')} were made before")
    failures = {}
    try:
        with progress(len(pending), "ablate", "runs") as advance:
            for run, result in map_unordered(make, pending, workers=jobs):
                if isinstance(result, str):
                    failures[run.title] = result
                notice(f"{run.title}: " + (result if isinstance(result, str) else f"{100 * result:.1f} %"))
                advance(1)
    except KeyboardInterrupt as stop:
        kept = "finished runs are kept, and checkpoints of the others; the same command goes on from there"
        raise KeyboardInterrupt(kept) from stop
    except WorkerDiedError as error:
        raise StmulnetError(
            f"a training process died ({error}), perhaps for lack of memory: try fewer --jobs; the same command goes "
            "on from the last checkpoints"
        ) from error
    if failures:
        notice(f"{counted(len(failures), 'run')} failed, no table for: {'; '.join(failures)}")
    return failures


def _finish(plan: Plan) -> list[Row]:
    """The table of an ablation whose runs are all there: written, and printed."""
    ablation, some = plan.ablation, plan.all_runs()[0]
    scores = {name: [load_scores(run.folder / SCORES_FILE) for run in runs] for name, runs in plan.runs.items()}
    rows = compare(scores, ablation.reference, ablation.groups)
    scored = ablation.scored
    videos = f"{scored.holdout:g} of the training list held out (seed {scored.seed})" if scored.holdout else "test list"
    dataset = some.config.dataset.resolve().name
    about = (
        f"{counted(len(plan.runs), 'variant')}, {'seeds' if len(ablation.seeds) > 1 else 'seed'} "
        f"{', '.join(map(str, ablation.seeds))}. Data set {dataset}, split {some.config.split}: {videos}; "
        f"{in_words('official', scored.frames)}."
    )
    text = to_markdown(rows, ablation.question, about)
    write_text(plan.folder / "table.md", text)
    write_text(plan.folder / "table.csv", to_csv(rows, ablation.seeds))
    variants = {variant.name: {"folder": variant.slug, "options": variant.changes} for variant in ablation.variants}
    result = {"question": ablation.question, "about": about, "seeds": ablation.seeds, "reference": ablation.reference}
    write_json(plan.folder / "results.json", {**result, "variants": variants, "rows": [row.to_dict() for row in rows]})
    print(f"{text}\n{plan.folder / 'table.md'}")
    return rows
