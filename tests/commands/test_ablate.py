"""Ablations end to end on a tiny data set: runs, table, going on after a stop, what is refused."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped] # the stubs are a package of their own
from tests.commands.evaluating import all_for_training
from tests.training.runs import OPTIONS, same, state

from stmulnet import cli, load_model
from stmulnet.commands import ablate as command
from stmulnet.commands import ablation_runs
from stmulnet.commands.ablate import AblateSummary, ablate
from stmulnet.datasets.annotations import load_annotation
from stmulnet.datasets.folder import hold_out
from stmulnet.errors import ConfigError, MissingExtraError, StmulnetError
from stmulnet.evaluation.scores import load_scores
from stmulnet.files import locked
from stmulnet.training.loop import Loop
from stmulnet.video.pool import WorkerDiedError

TRAIN = {
    "network": "st_mulnet_resnet50",
    "network_options": OPTIONS,
    "learning_rates": [0.01],
    "passes_per_epoch": 1,
    "batch_size": 4,
    "sub_batch_size": 2,
    "strides": [1, 2],
    "cache": True,
    "checkpoint_minutes": 0,
}
VARIANTS: dict[str, Any] = {"multiply": None, "add them": {"network_options": {"fusion": {"operation": "add"}}}}
CONTENT: dict[str, Any] = {
    "question": "Which is better?",
    "train": TRAIN,
    "seeds": [0, 5],
    "variants": VARIANTS,
    "groups": {"one object": ["RingSwings", "CrossBobs"]},
    "evaluate": {"holdout": 0.5, "seed": 1, "frames": 5},
}
FOLDERS = [f"{variant}/seed-{seed}" for seed in (0, 5) for variant in ("multiply", "add-them")]


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "gate.yaml"
    content = {name: value for name, value in (CONTENT | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def go(file: Path, dataset: Path, out: Path, *more: str) -> int:
    return cli.main(["ablate", str(file), "--dataset", str(dataset), "--out", str(out), "--device", "cpu", *more])


@pytest.fixture(scope="module")
def dataset(tiny_project: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with all its videos for training, two groups per class, and none for testing."""
    return all_for_training(tiny_project, tmp_path_factory.mktemp("ablation") / "shapes")


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ablation that nobody disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    assert go(write(folder), dataset, folder / "out", "--jobs", "1") == 0
    return folder / "out" / "gate"


def no_training(*_: Any) -> None:
    raise AssertionError("nothing is left to train")


def test_everything_is_written(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        *("multiply", "add-them", "table.md", "table.csv", "results.json")
    }
    for name in FOLDERS:
        assert load_model(finished / name / "model.safetensors").metadata["training"]["holdout_seed"] == 1
        assert "epoch 1/1  train_loss" in (finished / f"{name}.log").read_text()
        assert json.loads((finished / name / "environment.json").read_text())["threads"] == 1
    results = json.loads((finished / "results.json").read_text())
    assert results["variants"]["add them"] == {"folder": "add-them", "options": VARIANTS["add them"]}
    assert (results["reference"], results["seeds"], len(results["rows"])) == ("multiply", [0, 5], 4)
    assert "Data set shapes, split 1: 0.5 of the training list held out (seed 1); 5 frames" in results["about"]


def test_held_out_videos_are_the_same_in_all_runs_and_unseen(finished: Path, dataset: Path) -> None:
    annotation = load_annotation(dataset / "annotations" / "annot01.json")
    expected = hold_out(annotation, 0.5, seed=1)
    for name in FOLDERS:
        saved = load_scores(finished / name / "scores.npz")
        assert saved.table.videos == [record.video for record in expected.validation]
        assert (saved.record.dataset, saved.record.split) == ("shapes, hold-out of the training list", None)
        assert json.loads((finished / name / "data.json").read_text())["training_videos"] == len(expected.training) == 6


def test_table_is_that_of_the_scores(finished: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (finished / "table.csv").open(newline="") as file:
        rows = {(row["classes"], row["variant"]): row for row in csv.DictReader(file)}
    for variant, folder in (("multiply", "multiply"), ("add them", "add-them")):
        tables = [load_scores(finished / folder / f"seed-{seed}" / "scores.npz").table for seed in (0, 5)]
        shares = [np.mean(table.fused.argmax(axis=1) == table.labels) for table in tables]
        row = rows["all classes", variant]
        assert [float(row[f"seed_{seed}"]) for seed in (0, 5)] == pytest.approx(shares, rel=1e-5)
        wanted = np.isin(tables[0].labels, [0, 3])  # RingSwings and CrossBobs
        part = np.mean([np.mean(table.fused.argmax(axis=1)[wanted] == table.labels[wanted]) for table in tables])
        assert float(rows["one object", variant]["mean"]) == pytest.approx(part, rel=1e-5)


def test_again_trains_nothing(
    finished: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And tells the same, or answers another question about the same runs."""
    monkeypatch.setattr(Loop, "run", no_training)
    shutil.copytree(finished, tmp_path / "gate")
    before = (tmp_path / "gate" / "table.md").read_text()
    assert go(write(tmp_path), dataset, tmp_path) == 0
    said = capsys.readouterr()
    assert "4 of 4 runs were made before" in said.err
    assert said.out.startswith(before)
    assert (tmp_path / "gate" / "table.md").read_text() == before
    assert go(write(tmp_path, groups=None, reference="add them", seeds=[5]), dataset, tmp_path) == 0
    text = (tmp_path / "gate" / "table.md").read_text()
    assert "Differences to *add them*" in text
    assert "With one seed" in text
    assert "One object" not in text
    assert go(write(tmp_path, groups=None, variants={"multiply": None}), dataset, tmp_path) == 0
    text = (tmp_path / "gate" / "table.md").read_text()
    assert "1 variant, seeds 0, 5." in text
    assert "Differences" not in text


class _Stopped(Exception):
    pass


def stopping(step: Callable[[Loop], None], updates: int, error: BaseException) -> Callable[[Loop], None]:
    done = 0

    def stop(self: Loop) -> None:
        nonlocal done
        step(self)
        done += 1
        if done == updates:
            raise error

    return stop


def test_goes_on_after_a_stop(finished: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second of four runs, after its first checkpoint."""
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_save", stopping(Loop._save, 3, _Stopped()))
        with pytest.raises(_Stopped):
            ablate([write(tmp_path)], dataset=dataset, out=tmp_path / "out", jobs=1, device="cpu")
    folder = tmp_path / "out" / "gate"
    assert (folder / FOLDERS[0] / "scores.npz").is_file()
    assert [path.name for path in (folder / FOLDERS[1] / "checkpoints").iterdir()] == ["update-0000001.ckpt"]
    assert not (folder / FOLDERS[2]).exists()
    (folder / FOLDERS[0] / "scores.npz").unlink()  # as if killed between training and scoring
    summary = ablate([tmp_path / "gate.yaml"], dataset=dataset, out=tmp_path / "out", jobs=1, device="cpu")
    assert all(same(state(folder / name), state(finished / name)) for name in FOLDERS)
    assert (folder / "table.csv").read_text() == (finished / "table.csv").read_text()
    assert list(summary.tables) == [folder]
    assert summary.exit_code == 0


@pytest.mark.slow
def test_killed_with_two_processes_it_goes_on(finished: Path, dataset: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle leaves nothing that trains on; the rest gives the weights of one process."""
    arguments = [sys.executable, "-m", "stmulnet", "ablate", str(write(tmp_path)), "--dataset", str(dataset)]
    arguments += ["--out", str(tmp_path / "out"), "--device", "cpu", "--jobs", "2"]
    folder = tmp_path / "out" / "gate"
    process = subprocess.Popen(arguments)
    while not list(folder.glob("*/*/checkpoints/*.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    time.sleep(1)
    left = sorted(folder.rglob("*"))
    time.sleep(1)
    assert sorted(folder.rglob("*")) == left
    assert not (folder / "table.md").exists()
    assert subprocess.run(arguments).returncode == 0
    assert all(same(state(folder / name), state(finished / name)) for name in FOLDERS)
    assert (folder / "table.csv").read_text() == (finished / "table.csv").read_text()


def test_ctrl_c_says_that_the_same_command_goes_on(
    finished: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, threads = Loop._step, torch.get_num_threads()

    def interrupted(self: Loop) -> None:
        signal.raise_signal(signal.SIGINT)
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", interrupted)
        assert go(write(tmp_path, seeds=[0]), dataset, tmp_path / "out", "--jobs", "1") == 130
    assert torch.get_num_threads() == threads
    said = capsys.readouterr().err
    assert "stmulnet ablate: interrupted: finished runs are kept, and checkpoints of the others" in said
    assert go(tmp_path / "gate.yaml", dataset, tmp_path / "out", "--jobs", "1") == 0
    assert same(state(tmp_path / "out" / "gate" / FOLDERS[0]), state(finished / FOLDERS[0]))


def test_a_run_that_fails_does_not_stop_the_others(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {"diverges": {"learning_rates": [1e30]}, "learns": None}
    file = write(tmp_path, seeds=[0], variants=variants)
    assert go(file, dataset, tmp_path, "--jobs", "1") == 1
    said = capsys.readouterr()
    assert "gate, diverges, seed 0: the loss is" in said.err
    assert "1 run failed, no table for: gate, diverges, seed 0" in said.err
    assert (tmp_path / "gate" / "learns" / "seed-0" / "scores.npz").is_file()
    assert not (tmp_path / "gate" / "table.md").exists()


def test_the_test_list(tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "make", lambda run: "not made" if run.config.holdout else 0.5)
    monkeypatch.setattr(command, "_finish", lambda plan: [])
    grid = {"network": ["st_mulnet_resnet50", "motion_resnet50"], "network_options.fusion": [None]}
    file = write(tmp_path, variants=None, grid=grid, evaluate={"list": "test", "frames": 5})
    assert go(file, tiny_project.dataset, tmp_path, "--jobs", "1") == 0


def test_another_file_than_that_of_the_runs_is_refused(
    finished: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "run", no_training)
    shutil.copytree(finished, tmp_path / "gate")

    def again(**changes: Any) -> AblateSummary:
        return ablate([write(tmp_path, **changes)], dataset=dataset, out=tmp_path, device="cpu")

    with pytest.raises(ConfigError, match=r"seed-0 was started with other values of weight_decay \(0\.0005, now 0"):
        again(train=TRAIN | {"weight_decay": 0.1})
    with pytest.raises(ConfigError, match=r"other values of holdout \(0\.5, now 0\.4\)"):
        again(evaluate={"holdout": 0.4, "seed": 1, "frames": 5})
    with pytest.raises(ConfigError, match=r"scores\.npz has other values of frames \(5, now 6\)"):
        again(evaluate={"holdout": 0.5, "seed": 1, "frames": 6})
    with pytest.raises(ConfigError, match="other values of network_options"):
        again(variants=VARIANTS | {"add them": {"network_options": {"fusion": {"operation": "add", "scale": True}}}})
    annotation = dataset / "annotations" / "annot01.json"
    text = annotation.read_text()
    try:
        annotation.write_text(text + " ")
        with pytest.raises(ConfigError, match="it differs in annotation_sha256"):
            again()
    finally:
        annotation.write_text(text)
    (tmp_path / "gate" / "multiply" / "seed-6").mkdir()
    (tmp_path / "gate" / "multiply" / "seed-6" / "cat.jpg").touch()
    with pytest.raises(ConfigError, match="seed-6 holds other files"):
        again(seeds=[0, 6])
    assert again().exit_code == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"one": None, "two": {"momemtum": 0.9}}}, "yaml, two: .*no option 'momemtum'; there are dataset"),
        ({"variants": {"one": None, "two": {"momentum": 2}}}, r"yaml, two: momentum must lie in \[0, 1\), got 2"),
        ({"variants": {"one": None, "two": {"momentum": "x"}}}, "yaml, two: --momentum must be a number, got x"),
        ({"variants": {"one": None, "two": {"network": "x"}}}, "yaml, two: no network 'x'; one of: "),
        ({"variants": {"one": None, "two": {"network_options": {"units": [1, 1, 1, 1]}}}}, "two: fusion at res2 needs"),
        ({"variants": {"one": None, "two": {"precision": "fp16"}}}, "two: precision fp16 needs a GPU"),
        ({"variants": {"one": None, "two": {"frames": 4}}}, "two: frames must be 5 to 1000 for this network, got 4"),
        ({"variants": {"one": None, "two": {"weights": "none.safetensors"}}}, r"two: none\.safetensors: no such"),
        ({"evaluate": {"holdout": 0.5, "frames": 3}}, "one: frames must be 5 to 1000 for this network, got 3"),
        ({"evaluate": {"list": "test"}}, "the test list of this split is empty; evaluate a holdout"),
        ({"groups": {"moving": ["Run"]}}, "groups: moving: no class Run; there are RingSwings"),
        ({"seeds": [2**32]}, "seed must be at most 4294967295"),
        ({"train": TRAIN | {"split": 2}}, r"annot02\.json: no such annotation file"),
    ],
)
def test_mistakes_are_found_before_any_training(
    changes: dict[str, Any], message: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "run", no_training)
    content = {"variants": {"one": None, "two": {"momentum": 0.8}}} | changes
    with pytest.raises(StmulnetError, match=message):
        ablate([write(tmp_path, **content)], dataset=dataset, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_other_bad_input_is_refused(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path)
    with pytest.raises(ConfigError, match="names no dataset; give one with --dataset"):
        ablate([file], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="jobs must be 1 or more, got 0"):
        ablate([file], jobs=0)
    with pytest.raises(ConfigError, match="each file gets a folder of its name: they must differ, got gate, gate"):
        ablate([file, tmp_path / "sub" / "gate.yaml"], dataset=dataset)
    with pytest.raises(ConfigError, match=r"cannot be written, .*gate\.yaml is no folder"):
        ablate([file], dataset=dataset, out=file)
    (tmp_path / "out" / "gate").mkdir(parents=True)
    with locked(tmp_path / "out" / "gate", None), pytest.raises(ConfigError, match="another ablate is at work there"):
        ablate([file], dataset=dataset, out=tmp_path / "out", device="cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="start it without torchrun"):
        ablate([file], dataset=dataset)


def test_a_process_that_dies_is_reported(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise WorkerDiedError("it was killed")

    monkeypatch.setattr(command, "map_unordered", die)
    with pytest.raises(StmulnetError, match=r"a training process died \(it was killed\), perhaps for lack of memory"):
        ablate([write(tmp_path)], dataset=dataset, out=tmp_path / "out", device="cpu")


def test_needs_the_extra(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtraError("training", "train")

    for module in (command, ablation_runs):
        monkeypatch.setattr(module, "training_package", missing)
    with pytest.raises(StmulnetError, match=r"pip install 'stmulnet\[train\]'"):
        ablate([write(tmp_path)], dataset=dataset, out=tmp_path / "out", device="cpu")
