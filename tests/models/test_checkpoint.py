"""Weights come back exactly, and damaged files are refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stmulnet import create_model, load_model, save_model
from stmulnet.errors import CheckpointError
from stmulnet.models.multiplier import Network


@pytest.fixture
def model() -> Network:
    tiny: dict[str, Any] = {"units": (2, 1, 1, 1), "width_mult": 1 / 32, "input_size": 64, "head_pool": "global"}
    fusion = {"operation": "add", "stages": [2]}
    return create_model("st_mulnet_resnet50", 3, class_names=["a", "b", "c"], fusion=fusion, **tiny)


@pytest.fixture
def saved(model: Network, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "x.safetensors", metadata={"training": {"split": 2}})
    return tmp_path / "x.safetensors"


def rewrite(path: Path, header: Any = None, **tensors: torch.Tensor | None) -> None:
    """Write the file again with another header or changed tensors (None removes one)."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        old = json.loads(file.metadata()["stmulnet"])
    state = load_file(path)
    for name, tensor in tensors.items():
        state.pop(name, None)
        if tensor is not None:
            state[name] = tensor
    save_file(state, path, metadata={"stmulnet": json.dumps({**old, **(header or {})})})


def test_round_trip_rebuilds_everything(model: Network, saved: Path) -> None:
    again = load_model(saved)
    assert again.config == model.config
    assert again.class_names == ["a", "b", "c"]
    assert again.metadata == {"training": {"split": 2}}
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_loaded_network_outlives_its_file(model: Network, saved: Path) -> None:
    again = load_model(saved)
    with saved.open("r+b") as file:
        file.write(bytes(saved.stat().st_size))
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_the_first_format_is_read(model: Network, saved: Path) -> None:
    """Its networks divided by no standard deviation and had no buffer for one."""
    rewrite(saved, header={"format": 1}, rgb_std=None, flow_std=None)
    again = load_model(saved).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": {"format": 99}}, "format 99, this version reads 1 to 2: update"),
        ({"header": {"config": {"num_classes": 3, "colour": 1}}}, "no field colour"),
        ({"header": {"colour": 1}}, "unknown header fields colour"),
        ({"header": {"config": ["num_classes", 3]}}, "the header does not describe a network"),
        ({"header": {"config": {"num_classes": "three"}}}, "the header does not describe a network"),
        ({"header": {"class_names": "abc"}}, "a list of class_names"),
        ({"header": {"class_names": [1, 2, 3]}}, "a list of class_names"),
        ({"header": {"metadata": [1]}}, "an object metadata"),
        ({"header": {"metadata": {"preprocessing": "x"}}}, "an object metadata that fits"),
        ({"header": {"metadata": {"preprocessing": {"frames": "x"}}}}, "an object metadata that fits"),
        ({"header": {"metadata": {"preprocessing": {"frames": {"short_side": "x"}}}}}, "an object metadata that fits"),
        (
            {"header": {"metadata": {"preprocessing": {"frames": {"jpeg_quality": 101}}}}},
            "an object metadata that fits",
        ),
        ({"appearance.head.fc.bias": None}, r"no value for \['appearance.head.fc.bias'\] \(1 in all\)"),
        (
            {"appearance.bn_conv1.running_var": torch.tensor([1.0, -1.0])},
            "bn_conv1.running_var holds variances that are negative, -1 at worst",
        ),
        ({"extra": torch.zeros(1)}, r"unknown \['extra'\]"),
        ({"appearance.head.fc.bias": torch.zeros(4)}, r"fc.bias has shape \(4,\), needs \(3,\)"),
        ({"appearance.head.fc.bias": torch.full((3,), torch.nan)}, "fc.bias holds values that are not finite"),
    ],
)
def test_files_that_do_not_fit_are_refused(saved: Path, change: dict[str, Any], message: str) -> None:
    rewrite(saved, **change)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def test_weights_are_as_readable_as_other_files(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert saved.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_damaged_files_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weight file"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="is a folder; name the weight file"):
        load_model(tmp_path)
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    advice = r"weights in torchvision's form are no whole network but start one: give them to create_model"
    with pytest.raises(CheckpointError, match=advice):
        load_model(tmp_path / "x.pth")
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(saved)
    saved.write_bytes(b"MATLAB 5.0 MAT-file".ljust(128))
    with pytest.raises(CheckpointError, match=r"it is a MATLAB file: give it the suffix \.mat"):
        load_model(saved)
    save_file({"x": torch.zeros(1)}, saved)
    with pytest.raises(CheckpointError, match="no stmulnet header"):
        load_model(saved)


def test_nothing_is_written_where_saving_fails(model: Network, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="suffix"):
        save_model(model, tmp_path / "x.pth")
    torch.nn.init.constant_(model.get_parameter("appearance.head.fc.bias"), torch.inf)
    with pytest.raises(CheckpointError, match="not finite"):
        save_model(model, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []
