"""Evaluation shared among processes: every video once, the numbers of one process, and one that speaks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TinyProject
from tests.processes import run_processes

from stmulnet.commands.evaluate import PARTIAL, evaluate


def test_two_processes_give_the_scores_of_one(tiny_project: TinyProject, tmp_path: Path) -> None:
    whole = evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, frames=5, workers=0)
    code = f"""
from pathlib import Path
from stmulnet.commands import evaluate as module, scoring
from stmulnet.evaluation import protocol
scored = []
def counting(*arguments, **options):
    for video in protocol.score_each(*arguments, **options):
        scored.append(video.video)
        yield video
scoring.score_each = counting
summary = module.evaluate(dataset=Path({str(tiny_project.dataset)!r}), weights=Path({str(tiny_project.weights)!r}),
                          frames=5, workers=0, out=Path({str(tmp_path / "out")!r}), examples=0)
print("SCORED", scored, summary.scores.videos == {whole.scores.videos!r})
"""
    first, second = run_processes(code)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.splitlines()[-1] == f"SCORED {whole.scores.videos[0::2]} True"
    assert second.stdout == f"SCORED {whole.scores.videos[1::2]} True\n"
    assert "evaluate: " not in second.stderr
    with np.load(tmp_path / "out" / "scores.npz") as file:
        assert file["videos"].tolist() == whole.scores.videos
        np.testing.assert_allclose(file["fused"], whole.scores.fused, rtol=1e-6, atol=1e-9)
    assert not (tmp_path / "out" / PARTIAL).exists()


@pytest.mark.slow
def test_torchrun(tiny_project: TinyProject, tmp_path: Path) -> None:
    whole = evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, frames=5, workers=0)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "stmulnet", "evaluate", "--dataset", str(tiny_project.dataset), "--frames", "5"]
    command += ["--weights", str(tiny_project.weights), "--out", str(out), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ}, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 videos; 5 frames") == 1
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["streams"]["fused"]["top1"]["correct"] == whole.rows[-1].accuracy.correct
    with np.load(out / "scores.npz") as file:
        np.testing.assert_allclose(file["fused"], whole.scores.fused, rtol=1e-5, atol=1e-7)

    video = whole.scores.videos[1]  # of the second process
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", str(tiny_project.dataset), str(broken)], check=True)
    (broken / "images" / video / "frame000006.jpg").unlink()
    command[command.index(str(tiny_project.dataset))] = str(broken)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode != 0
    assert "frame000006.jpg" in done.stderr
    assert (out / PARTIAL).is_dir()
