"""Evaluations that were stopped go on where they were."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands.evaluating import make_dataset, save_network
from tests.conftest import TinyProject

from stmulnet import cli
from stmulnet.commands import scoring
from stmulnet.commands.evaluate import PARTIAL, evaluate
from stmulnet.evaluation.protocol import ScoredVideo, score_each


class Stopping:
    """`score_each` that is interrupted after some videos, and counts those it scores."""

    def __init__(self, after: int | None) -> None:
        self.after = after
        self.scored: list[str] = []

    def __call__(self, *arguments: Any, **options: Any) -> Iterator[ScoredVideo]:
        for video in score_each(*arguments, **options):
            self.scored.append(video.video)
            yield video
            if len(self.scored) == self.after:
                raise KeyboardInterrupt


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Any:
    def after(count: int | None) -> Stopping:
        stopping = Stopping(count)
        monkeypatch.setattr(scoring, "score_each", stopping)
        return stopping

    return after


def arguments_of(project: TinyProject, out: Path) -> dict[str, Any]:
    return {
        "dataset": project.dataset,
        "weights": project.weights,
        "frames": 5,
        "workers": 0,
        "out": out,
        "examples": 0,
    }


def test_the_same_command_goes_on(
    tiny_project: TinyProject, tmp_path: Path, stop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluate(**arguments_of(tiny_project, tmp_path / "whole"))
    out = tmp_path / "out"
    arguments = ["--dataset", str(tiny_project.dataset), "--weights", str(tiny_project.weights), "--frames", "5"]
    stop(4)
    assert cli.main(["evaluate", *arguments, "--workers", "0", "--out", str(out)]) == 130
    assert [path.name for path in out.iterdir()] == [PARTIAL]
    assert "interrupted: the scores so far are kept; the same command goes on" in capsys.readouterr().err
    rest = stop(None)
    summary = evaluate(**arguments_of(tiny_project, out))
    assert rest.scored == whole.scores.videos[4:]
    assert "4 of 6 videos were scored before; going on with the others" in capsys.readouterr().err
    assert not (out / PARTIAL).exists()
    assert summary.scores.videos == whole.scores.videos
    for name in ("appearance", "motion", "fused", "appearance_views", "motion_views"):
        np.testing.assert_array_equal(getattr(summary.scores, name), getattr(whole.scores, name))


@pytest.mark.parametrize("change", ["weights", "frames", "views", "list"])
def test_another_evaluation_starts_anew(tiny_project: TinyProject, tmp_path: Path, stop: Any, change: str) -> None:
    arguments = arguments_of(tiny_project, tmp_path / "out")
    arguments["dataset"] = make_dataset(tiny_project, tmp_path / "set")
    stop(4)
    with pytest.raises(KeyboardInterrupt, match="kept"):
        evaluate(**arguments)
    if change == "weights":
        path = tmp_path / "other.safetensors"
        arguments["weights"] = save_network(path, "two_stream_resnet50", tiny_project)
    elif change == "list":
        annotation = tmp_path / "set" / "annotations" / "annot01.json"
        annotation.write_text(annotation.read_text().replace('"nframes": 16', '"nframes": 15'))
    else:
        arguments[change] = {"frames": 6, "views": "center"}[change]
    rest = stop(None)
    evaluate(**arguments)
    assert len(rest.scored) == 6


def test_splits_that_are_complete_are_not_scored_again(tiny_project: TinyProject, tmp_path: Path, stop: Any) -> None:
    for split in (1, 2):
        save_network(tmp_path / f"{split}.safetensors", "motion_resnet50", tiny_project, seed=split)
    arguments = arguments_of(tiny_project, tmp_path / "out") | {"split": [1, 2]}
    arguments |= {
        "dataset": make_dataset(tiny_project, tmp_path / "set", 2),
        "weights": tmp_path / "{split}.safetensors",
    }
    stop(8)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**arguments)
    rest = stop(None)
    assert len(evaluate(**arguments).splits) == 2
    assert len(rest.scored) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("metrics.json", "report.html", "split1", "split2")
    ]


@pytest.mark.slow
def test_killed_at_any_moment(tiny_project: TinyProject, tmp_path: Path, rng: np.random.Generator) -> None:
    whole = evaluate(**arguments_of(tiny_project, tmp_path / "whole"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stmulnet", "evaluate", "--dataset", str(tiny_project.dataset)]
    command += ["--weights", str(tiny_project.weights), "--frames", "5", "--workers", "0", "--out", str(out)]
    for _ in range(6):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (out / PARTIAL).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (out / "report.html").exists():
            break
    summary = evaluate(**arguments_of(tiny_project, out))
    np.testing.assert_array_equal(summary.scores.fused, whole.scores.fused)
    assert not (out / PARTIAL).exists()
