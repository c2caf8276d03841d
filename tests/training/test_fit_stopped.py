"""Training that is stopped, killed or interrupted, and goes on to what it would have become."""

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.training.runs import run, same, state

from stmulnet import load_model
from stmulnet.evaluation.protocol import video_scores
from stmulnet.training import validation
from stmulnet.training.checkpoints import Checkpoints
from stmulnet.training.loop import Loop


class _Stopped(Exception):
    pass


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "optimizer": "adamw", "mixup": 0.2, "checkpoint_minutes": 0}])
def test_killed_after_any_update_and_resumed_equals_undisturbed(
    changes: dict[str, Any], tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"checkpoint_minutes": 0, "validate_every": 1, "validation_frames": 5, **changes}
    run(tiny_project, tmp_path / "whole", **settings)
    step, steps = Loop._step, 0

    def die(self: Loop) -> None:
        nonlocal steps
        steps += 1
        step(self)
        if steps % 2 == 0:  # after the step, before its checkpoint
            raise _Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", die)
        stops = 0
        while not (tmp_path / "part" / "model.safetensors").exists():
            stops += 1
            assert stops < 9
            try:
                run(tiny_project, tmp_path / "part", resume=stops > 1, **settings)
            except _Stopped:
                continue
    assert stops > 2
    assert same(state(tmp_path / "whole"), state(tmp_path / "part"))
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "part")]
    assert [line.rpartition(",")[0] for line in rows[0]] == [line.rpartition(",")[0] for line in rows[1]]


def test_ctrl_c_finishes_the_update_and_saves(
    tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_project, tmp_path / "whole")
    step = Loop._step

    def interrupted(self: Loop) -> None:
        signal.raise_signal(signal.SIGINT)
        step(self)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", interrupted)
        for resume, updates in ((False, 1), (True, 2), (True, 3)):
            with pytest.raises(KeyboardInterrupt):
                run(tiny_project, tmp_path / "part", resume=resume)
            assert Checkpoints(tmp_path / "part" / "checkpoints", 1).load()["updates"] == updates
            said = capsys.readouterr().err
            assert "stopping: an update is finished and saved first" in said
            assert "saved; the same command with --resume goes on from there" in said
    assert signal.getsignal(signal.SIGINT) is handler
    run(tiny_project, tmp_path / "part", resume=True)
    assert same(state(tmp_path / "whole"), state(tmp_path / "part"))


def test_ctrl_c_breaks_off_a_validation_which_is_made_again(
    tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"validate_every": 1, "validation_frames": 5}
    run(tiny_project, tmp_path / "whole", **settings)
    scored = 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal scored
        scored += 1
        if scored == 2:
            signal.raise_signal(signal.SIGINT)
        return video_scores(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "video_scores", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_project, tmp_path / "part", **settings)
    assert scored == 2
    assert not (tmp_path / "part" / "metrics.csv").exists()
    assert not (tmp_path / "part" / "best.safetensors").exists()
    capsys.readouterr()
    run(tiny_project, tmp_path / "part", resume=True, **settings)
    assert "goes on with the validation of epoch 1" in capsys.readouterr().err
    assert same(state(tmp_path / "whole"), state(tmp_path / "part"))
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "part")]
    assert [line.rpartition(",")[0] for line in rows[0]] == [line.rpartition(",")[0] for line in rows[1]]
    best = [load_model(tmp_path / name / "best.safetensors") for name in ("whole", "part")]
    assert same(best[0].state_dict(), best[1].state_dict())
    assert best[0].metadata["metric"] == best[1].metadata["metric"]
