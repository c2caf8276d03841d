"""Training that is killed at random moments, and started by torchrun in several processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.runs import OPTIONS, same, state

ARGUMENTS = [
    *("--network", "st_mulnet_resnet50", "--network-options", json.dumps(OPTIONS), "--strides", "[1, 2]"),
    *("--batch-size", "4", "--sub-batch-size", "2", "--device", "cpu", "--cache", "--checkpoint-minutes", "0"),
]


def command(dataset: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--dataset", str(dataset), "--out", str(out), *ARGUMENTS, *more]


def updates_saved(run: Path) -> int:
    """Of the newest checkpoint."""
    return max((int(path.stem.partition("-")[2]) for path in run.glob("checkpoints/update-*.ckpt")), default=0)


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # starts twelve trainings, one after the other
def test_killed_ten_times_at_random_moments(tiny_project: Any, tmp_path: Path) -> None:
    """The same weights and metrics, bit by bit, as those of the undisturbed run; every kill hits a training."""
    schedule = ["--learning-rates", "[0.01, 0.001]", "--passes-per-epoch", "20"]
    schedule += ["--validate-every", "1", "--validation-frames", "5"]
    python = [sys.executable, "-m", "stmulnet"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    subprocess.run([*python, *command(tiny_project.dataset, whole, *schedule)], check=True, env=environment())
    moments, kills, resumed = random.Random(20170721), 0, 0
    while not (part / "model.safetensors").exists():
        resume = ["--resume"] if list(part.glob("checkpoints/update-*.ckpt")) else []
        resumed += len(resume)
        log = tmp_path / f"{kills}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*python, *command(tiny_project.dataset, part, *schedule, *resume)], stderr=file, env=environment()
            )
            while not log.read_text() and process.poll() is None:  # until the first line: the data set is open
                time.sleep(0.01)
            if kills < 10:
                goal = updates_saved(part) + moments.randrange(3)
                while updates_saved(part) < goal and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(moments.uniform(0, 0.15))
                assert process.poll() is None, log.read_text()
                process.send_signal(signal.SIGKILL)
                kills += 1
                assert process.wait() == -signal.SIGKILL
            else:
                assert process.wait() == 0, log.read_text()
    assert kills == 10
    assert resumed >= 5  # else nothing but the start was tried
    assert same(state(whole), state(part))
    tables = [(folder / "metrics.csv").read_text().splitlines() for folder in (whole, part)]
    assert len(tables[0]) == 3
    assert [line.rpartition(",")[0] for line in tables[0]] == [line.rpartition(",")[0] for line in tables[1]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_let_the_update_be_finished(number: int, tiny_project: Any, tmp_path: Path) -> None:
    """As a terminal and a job scheduler send them: to the loader's processes too."""
    schedule = ["--learning-rates", "[0.01]", "--passes-per-epoch", "400"]
    arguments = [word for word in command(tiny_project.dataset, tmp_path / "run", *schedule) if word != "--cache"]
    arguments += ["--workers", "2", "--checkpoint-minutes", "100"]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "stmulnet", *arguments], stderr=file, env=environment(), start_new_session=True
        )
        while not list(tmp_path.glob("run/tensorboard/*")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(4)
        os.killpg(process.pid, number)
        assert process.wait() == 130, log.read_text()
    assert "saved; the same command with --resume goes on from there" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert len(list(tmp_path.glob("run/checkpoints/update-*.ckpt"))) == 1


@pytest.mark.slow
def test_a_torchrun_that_is_stopped_lets_the_update_be_finished(tiny_project: Any, tmp_path: Path) -> None:
    schedule = ["--learning-rates", "[0.01]", "--passes-per-epoch", "400", "--checkpoint-minutes", "100"]
    together = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "stmulnet",
    ]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*together, *command(tiny_project.dataset, tmp_path / "run", *schedule)], stderr=file, env=environment()
        )
        while not list(tmp_path.glob("run/tensorboard/*")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(4)
        process.terminate()
        process.wait()
    assert log.read_text().count("saved; the same command with --resume goes on from there") == 1
    assert len(list(tmp_path.glob("run/checkpoints/update-*.ckpt"))) == 1


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_together_train_what_one_does(processes: int, tiny_project: Any, tmp_path: Path) -> None:
    """Six clips: updates of 4 and 2, that is of two sub-batches and of one, in which others have nothing to do."""
    schedule = ["--learning-rates", "[0.01, 0.001]", "--passes-per-epoch", "1"]
    schedule += ["--validate-every", "1", "--validation-frames", "5"]
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    runs = {"alone": [sys.executable, "-m", "stmulnet"], "together": [*together, "-m", "stmulnet"]}
    for name, start in runs.items():
        arguments = command(tiny_project.dataset, tmp_path / name, *schedule)
        done = subprocess.run([*start, *arguments], env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("weights: ") == 1
    alone, many = state(tmp_path / "alone"), state(tmp_path / "together")
    assert alone.keys() == many.keys()
    for name, value in alone.items():
        torch.testing.assert_close(many[name], value, rtol=1e-4, atol=1e-5)
    tables = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in runs]
    for one, other in zip(tables[0][1:], tables[1][1:], strict=True):
        numbers = [[float(value) for value in line.split(",")[:-1]] for line in (one, other)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-4)


@pytest.mark.slow
def test_a_full_disk_stops_with_the_reason_and_the_run_goes_on_later(tiny_project: Any, tmp_path: Path) -> None:
    """Files may not grow beyond a limit, as on a disk that is full; later they may."""
    arguments = command(tiny_project.dataset, tmp_path / "run", "--learning-rates", "[0.01]", "--passes-per-epoch", "2")
    arguments += ["--keep-checkpoints", "1"]
    limited = [sys.executable, "-c", LIMITED, *arguments]
    started = subprocess.run(limited, env=environment() | {"LIMIT": "3"}, capture_output=True, text=True)
    assert started.returncode == 2, started.stderr
    *_, message = started.stderr.splitlines()
    assert "update-0000003.ckpt: cannot be written (File too large); the last good checkpoint is" in message
    assert "update-0000002.ckpt; make room, then go on with --resume" in message
    assert [path.name for path in tmp_path.glob("run/checkpoints/*")] == ["update-0000002.ckpt"]
    assert not list(tmp_path.glob("run/checkpoints/.*"))
    resumed = [sys.executable, "-m", "stmulnet", *arguments, "--resume"]
    assert subprocess.run(resumed, env=environment()).returncode == 0


LIMITED = """
import os, resource, sys
from stmulnet.training.checkpoints import Checkpoints
save = Checkpoints.save
def limited(self, updates, state):
    if updates == int(os.environ["LIMIT"]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    return save(self, updates, state)
Checkpoints.save = limited
from stmulnet.__main__ import main
sys.exit(main())
"""
