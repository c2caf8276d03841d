"""Training from streams that were trained before: once through `stmulnet train`, resumed without the files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped] # the stubs are a package of their own
from tests.oracle.torchvision_resnet import random_state

from stmulnet import cli, load_model
from stmulnet.commands.train import train
from stmulnet.errors import ConfigError
from stmulnet.training.loop import Loop

UNITS = (2, 1, 1, 1)
OPTIONS: dict[str, Any] = {"units": UNITS, "width_mult": 0.0625, "input_size": 64, "head_pool": "global"}
SETTINGS: dict[str, Any] = {"passes_per_epoch": 1, "batch_size": 4, "sub_batch_size": 2, "cache": True, "device": "cpu"}


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    torch.save(random_state(50, 1000, width=4, units=UNITS), tmp_path / "resnet.pth")
    return tmp_path / "resnet.pth"


@pytest.fixture
def ucf101(tiny_project: Any, tmp_path: Path) -> Path:
    """The tiny data set under a name that others have too."""
    dataset = tmp_path / "UCF-101"
    shutil.copytree(tiny_project.dataset, dataset)
    shutil.copy(dataset / "annotations" / "annot01.json", dataset / "annotations" / "annot02.json")
    return dataset


def run(dataset: Path, network: str, out: Path, **changes: Any) -> Path:
    settings = {"network_options": OPTIONS, "learning_rates": [1e-3], "strides": (1, 2), **SETTINGS, **changes}
    return train(dataset, network, out, **settings).weights


def test_from_imagenet_to_a_fused_network(ucf101: Path, imagenet: Path, tmp_path: Path) -> None:
    """Both streams from ImageNet, then the network from these streams, as the authors went."""
    image = run(ucf101, "appearance_resnet50", tmp_path / "image", appearance_weights=imagenet)
    arguments = [
        *("train", "--dataset", str(ucf101), "--network", "motion_resnet50", "--out", str(tmp_path / "flow")),
        *("--motion-weights", str(imagenet), "--network-options", json.dumps(OPTIONS), "--learning-rates", "[0.001]"),
        *("--passes-per-epoch", "1", "--batch-size", "4", "--sub-batch-size", "2", "--strides", "[1, 2]"),
        *("--device", "cpu", "--cache"),
    ]
    assert cli.main(arguments) == 0
    bases = {"appearance_weights": image, "motion_weights": tmp_path / "flow" / "model.safetensors"}
    options = {**OPTIONS, "fusion": {"stages": [2]}}
    model = load_model(run(ucf101, "st_mulnet_resnet50", tmp_path / "both", network_options=options, **bases))
    assert model.config.motion is not None
    assert model.config.motion.geometry == "torch"
    assert model.rgb_std.tolist() == pytest.approx([58.395, 57.12, 57.375])
    start = {"file": "resnet.pth", "dataset": "imagenet", "split": None}
    stage = {"file": "model.safetensors", "dataset": "UCF-101", "split": 1, "from": start}
    assert model.metadata["provenance"] == {"appearance": stage, "motion": stage}
    assert model.metadata["training"]["appearance_weights"] == "model.safetensors"
    recorded = yaml.safe_load((tmp_path / "both" / "config.yaml").read_text())
    assert (recorded["appearance_weights"], recorded["allow_mismatch"]) == (str(image), False)
    for stream in ("appearance", "motion"):  # small steps from where the stream was
        name = f"{stream}.res5.a.branch2b.0.weight"
        before, after = load_model(bases[f"{stream}_weights"]).state_dict()[name], model.state_dict()[name]
        assert 0 < (after - before).abs().max() < 0.1 * before.abs().max()


def test_streams_that_have_seen_the_test_videos_are_refused(
    ucf101: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = run(ucf101, "appearance_resnet50", tmp_path / "image")
    for out, split, seen in (("again", 1, False), ("other", 2, True)):
        settings: dict[str, Any] = {"split": split, "appearance_weights": image}
        if seen:
            with pytest.raises(
                ConfigError,
                match=r"model\.safetensors was trained on split 1 of UCF-101, and has seen videos that split 2 of UCF",
            ):
                run(ucf101, "appearance_resnet50", tmp_path / out, **settings)
            assert not (tmp_path / out).exists()
            assert "note: " not in capsys.readouterr().err
        run(ucf101, "appearance_resnet50", tmp_path / out, **settings, allow_mismatch=seen)
    assert "allowed: figures of that test will be too good" in capsys.readouterr().err


def test_resuming_needs_no_base_files(
    tiny_project: Any, imagenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"learning_rates": [1e-2, 1e-3], "appearance_weights": imagenet}
    arguments = tiny_project.dataset, "appearance_resnet50"
    whole = load_model(run(*arguments, tmp_path / "whole", **settings))
    step = Loop._step

    def interrupt(self: Loop) -> None:
        if self.position.updates == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(*arguments, tmp_path / "part", **settings)
    imagenet.unlink()
    resumed = load_model(run(*arguments, tmp_path / "part", **settings, resume=True))
    assert resumed.config == whole.config
    assert resumed.metadata == whole.metadata
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())
    with pytest.raises(ConfigError, match="started with other values of allow_mismatch"):
        run(*arguments, tmp_path / "part", **settings, resume=True, allow_mismatch=True)
