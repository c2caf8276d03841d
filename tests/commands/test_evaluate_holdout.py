"""The hold-out that weights were trained without: exactly those videos, and nothing where that is not certain."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands.evaluating import all_for_training, make_dataset
from tests.conftest import TinyProject
from tests.training.runs import SETTINGS

from stmulnet import cli
from stmulnet.commands.evaluate import evaluate
from stmulnet.commands.train import train
from stmulnet.datasets.annotations import load_annotation
from stmulnet.datasets.folder import hold_out
from stmulnet.errors import ConfigError
from stmulnet.models.checkpoint import load_model, save_model

OPTIONS = {key: value for key, value in SETTINGS["network_options"].items() if key != "fusion"}
SHORT: dict[str, Any] = {**SETTINGS, "learning_rates": [0.01], "network_options": OPTIONS}


@pytest.fixture(scope="module")
def dataset(tiny_project: TinyProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return all_for_training(tiny_project, tmp_path_factory.mktemp("holdout") / "shapes")


@pytest.fixture(scope="module")
def weights(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An appearance network that was trained without half of the videos."""
    out = tmp_path_factory.mktemp("run") / "run"
    return train(dataset, "appearance_resnet50", out, holdout=0.5, holdout_seed=3, **SHORT).weights


def test_the_videos_that_were_held_out_are_scored(
    dataset: Path, weights: Path, tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", str(dataset), "--weights", str(weights), "--frames", "5", "--workers", "0"]
    assert cli.main(["evaluate", *arguments, "--holdout", "--out", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["dataset"], metrics["split"]) == ("shapes, hold-out of the training list", None)
    assert "shapes, hold-out of the training list" in (tmp_path / "out" / "report.html").read_text()
    scores = np.load(tmp_path / "out" / "scores.npz")

    whole = load_annotation(dataset / "annotations" / "annot01.json")
    expected = {record.video for record in hold_out(whole, 0.5, seed=3).validation}
    assert set(scores["videos"]) == expected
    assert len(expected) == 6
    path = make_dataset(tiny_project, tmp_path / "listed") / "annotations" / "annot01.json"  # the same as a test list
    videos = json.loads((dataset / "annotations" / "annot01.json").read_text())["training"]
    parts: dict[str, dict[str, Any]] = {"training": {}, "validation": {}}
    for video, entry in videos.items():
        parts["validation" if video in expected else "training"][video] = entry
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    listed = evaluate(dataset=tmp_path / "listed", weights=weights, frames=5, workers=0)
    np.testing.assert_array_equal(listed.scores.final, scores["appearance"])
    assert "note" not in capsys.readouterr().err


def test_what_was_chosen_by_the_hold_out_or_began_as_something_else_is_said(
    dataset: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_model(weights)
    network.metadata["metric"] = {"top1": 1.0, "chosen_by": "top1"}
    network.metadata["provenance"] = {"file": "first.safetensors", "dataset": "Shapes", "split": 1}
    save_model(network, tmp_path / "best.safetensors")
    evaluate(dataset=dataset, weights=tmp_path / "best.safetensors", holdout=True, frames=5, workers=0)
    said = capsys.readouterr().err
    assert "note: best.safetensors was chosen among the epochs of its training by this list" in said
    assert "the appearance stream of best.safetensors began as first.safetensors, trained on split 1 of Shapes" in said


def test_weights_without_that_hold_out_are_refused(
    dataset: Path, weights: Path, tiny_project: TinyProject, tmp_path: Path
) -> None:
    def refused(message: str, **changes: Any) -> None:
        arguments: dict[str, Any] = {"dataset": dataset, "weights": weights, "holdout": True, "frames": 5, "workers": 0}
        with pytest.raises(ConfigError, match=message):
            evaluate(**(arguments | changes))

    refused("records no hold-out", weights=tiny_project.weights)
    refused("was not trained on the training list of .* less a hold-out", dataset=tiny_project.dataset)
    refused("holdout must be that of one split, got", split=[1, 2])
    refused("leave out --dataset, --weights, --frames, --holdout", scores=tmp_path / "scores.npz")
    motion = train(dataset, "motion_resnet50", tmp_path / "motion", holdout=0.5, holdout_seed=4, **SHORT).weights
    refused("were trained without different videos: give weights with the same hold-out", motion_weights=motion)
