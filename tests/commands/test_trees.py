"""Commands on the same images in other trees: the same results."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TinyProject

from stmulnet.commands.evaluate import evaluate
from stmulnet.commands.train import train

PLANES = {"rgb": "images", "u": "flows/u", "v": "flows/v"}
TREES = {
    "official": {
        "rgb": "jpegs_256/{video}/frame{n:06d}.jpg",
        "u": "tvl1_flow/u/{video}/frame{n:06d}.jpg",
        "v": "tvl1_flow/v/{video}/frame{n:06d}.jpg",
    },
    "denseflow": {  # counts from 0
        "rgb": "{video[2]}/{video}/img_{before:05d}.jpg",
        "u": "{video[2]}/{video}/flow_x_{before:05d}.jpg",
        "v": "{video[2]}/{video}/flow_y_{before:05d}.jpg",
    },
}


def copied(dataset: Path, to: Path, tree: Mapping[str, str]) -> Path:
    """The images of a data set of ours in another tree, with its annotations."""
    for plane, folder in PLANES.items():
        for path in (dataset / folder).rglob("*.jpg"):
            number = int(path.stem.removeprefix("frame"))
            target = to / tree[plane].format(video=path.parent.name, n=number, before=number - 1)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copytree(dataset / "annotations", to / "annotations")
    return to


@pytest.mark.parametrize(
    ("tree", "found"),
    [("official", "jpegs_256/<video>/frame000001.jpg"), ("denseflow", "data/<class>/<video>/img_00000.jpg")],
)
def test_evaluate(
    tiny_project: TinyProject, tmp_path: Path, tree: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copied(tiny_project.dataset, tmp_path / "data", TREES[tree])
    ours, theirs = (
        evaluate(dataset=dataset, weights=tiny_project.weights, frames=5, workers=0)
        for dataset in (tiny_project.dataset, other)
    )
    assert ours.scores.videos == theirs.scores.videos
    np.testing.assert_array_equal(ours.scores.fused, theirs.scores.fused)
    assert f"frames: {found}; flow: " in capsys.readouterr().err


def test_train(tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = copied(tiny_project.dataset, tmp_path / "data", TREES["official"])
    options = {"units": [1, 1, 1, 1], "width_mult": 0.0625, "input_size": 64, "head_pool": "global"}
    steps: dict[str, Any] = {"learning_rates": [0.01], "passes_per_epoch": 1, "batch_size": 4, "strides": (1, 2)}
    summary = train(dataset, "two_stream_resnet50", tmp_path / "run", network_options=options, device="cpu", **steps)
    assert summary.weights.is_file()
    assert "frames: jpegs_256/<video>/frame000001.jpg; flow: tvl1_flow/u/" in capsys.readouterr().err
