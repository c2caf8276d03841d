"""ImageNet weights by torchvision's names: the scores of an independent evaluation, and every refusal."""

import argparse
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.oracle.torchvision_resnet import MEAN, STD, State, features, random_state, scores
from torch.nn import functional as F

from stmulnet import create_model, load_model, save_model
from stmulnet.errors import CheckpointError
from stmulnet.models.imagenet import load_imagenet

SMALL: dict[str, Any] = {"input_size": 64, "head_pool": "global"}


def small_state(**options: Any) -> State:
    """A ResNet-14 of bottleneck units, a sixteenth as wide."""
    return random_state(50, 12, width=4, units=(1, 1, 1, 1), **options)


def write(state: State, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})
    else:
        torch.save(state, path)
    return path


def images(channels: int = 3) -> torch.Tensor:
    """(N, T, C, H, W): not square, so that transposed axes would show."""
    return torch.randint(0, 256, (2, 1, channels, 64, 96), generator=torch.Generator().manual_seed(9))


def assert_close(found: torch.Tensor | None, wanted: torch.Tensor, tolerance: float = 1e-10) -> None:
    assert found is not None
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize(("depth", "suffix"), [(18, ".pth"), (34, ".safetensors"), (50, ".pt")])
def test_appearance_scores_are_torchvisions(depth: int, suffix: str, tmp_path: Path) -> None:
    state = random_state(depth, 20)
    path = write(state, tmp_path / f"resnet{suffix}")
    model = create_model(f"appearance_resnet{depth}", 20, appearance_weights=path, **SMALL).eval()
    assert (model.config.appearance.geometry, model.config.appearance.conv1_bias) == ("torch", False)  # type: ignore[union-attr]
    rgb = images()
    wanted = scores(state, rgb[:, 0])
    with torch.inference_mode():
        assert_close(model(rgb).appearance, wanted, 2e-5)
        assert_close(model.double()(rgb).appearance, wanted)


@pytest.mark.parametrize("depth", [18, 50])
def test_motion_features_are_those_of_the_averaged_first_filters(depth: int, tmp_path: Path) -> None:
    """conv1 is the mean over R, G, B, twenty times; flow minus 128, divided by what RGB is divided by on average."""
    state = random_state(depth, 1000, width=16)
    path = write(state, tmp_path / "resnet.pth")
    model = create_model(f"motion_resnet{depth}", 7, motion_weights=path, width_mult=0.25, **SMALL).eval().double()
    flow = images(20)
    inflated = {**state, "conv1.weight": state["conv1.weight"].mean(1, keepdim=True).expand(-1, 20, -1, -1)}
    pooled = features(inflated, (flow[:, 0].double() - 128) / (255 * STD.double().mean()))
    fc = model.get_submodule("motion.head.fc")
    with torch.inference_mode():
        wanted = F.linear(pooled, fc.weight[..., 0, 0], fc.bias)  # type: ignore[arg-type, index]
        assert_close(model(flow).motion, wanted, 1e-6)  # conv1 is averaged in float32


def test_one_file_serves_both_streams(tmp_path: Path) -> None:
    path = write(random_state(18, 1000, width=4), tmp_path / "resnet18.pth")
    model = create_model("st_mulnet_resnet18", 7, width_mult=1 / 16, appearance_weights=path, motion_weights=path)
    state = model.state_dict()
    assert torch.allclose(state["rgb_mean"], 255 * MEAN)
    assert torch.allclose(state["rgb_std"], 255 * STD)
    assert torch.equal(state["flow_mean"], torch.full((20,), 128.0))
    assert torch.allclose(state["flow_std"], 255 * STD.mean())
    assert torch.equal(state["appearance.res5.b.branch2b.0.weight"], state["motion.res5.b.branch2b.0.weight"])
    assert model.metadata["provenance"]["motion"] == {"file": "resnet18.pth", "dataset": "imagenet", "split": None}


@pytest.mark.parametrize(("depth", "units"), [(101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))])
def test_deeper_networks_are_recognised(depth: int, units: tuple[int, ...], tmp_path: Path) -> None:
    model = load_imagenet(write(random_state(depth, 10, width=1), tmp_path / "x.safetensors"))
    config = model.config.appearance
    assert config is not None
    assert (config.units, config.block, config.width_mult, model.config.num_classes) == (
        units,
        "bottleneck",
        1 / 64,
        10,
    )


def test_what_was_read_can_be_saved(tmp_path: Path) -> None:
    model = load_imagenet(write(small_state(), tmp_path / "x.pth"))
    save_model(model, tmp_path / "x.safetensors")
    again = load_model(tmp_path / "x.safetensors").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("form", ["state_dict", "model", "module.", "both", "legacy", "half", "no counts"])
def test_forms_in_which_state_dicts_come(form: str, tmp_path: Path) -> None:
    state, path = small_state(), tmp_path / "x.pth"
    wanted = load_imagenet(write(state, path)).state_dict()
    content: dict[str, Any] = dict(state)
    if form in ("module.", "both"):
        content = {f"module.{name}": tensor for name, tensor in content.items()}
    if form == "half":
        content = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if form == "no counts":
        content = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    if form in ("state_dict", "model", "both"):
        content = {"epoch": 3, "arch": "resnet50", "state_dict" if form != "model" else form: content}
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    found = load_imagenet(path).state_dict()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        if not (form == "no counts" and "num_batches" in name):
            assert torch.allclose(found[name].float(), tensor.float(), rtol=1e-3 if form == "half" else 0, atol=1e-4)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "x.pth"
    torch.save({**small_state(), "extra": Evil(marker)}, path)
    with pytest.raises(CheckpointError, match=r"holds more than tensors \((posix|nt)\.system\).*is not unpickled"):
        load_imagenet(path)
    path.write_bytes(pickle.dumps(Evil(marker), protocol=2))
    with pytest.raises(CheckpointError, match="is not unpickled"):
        load_imagenet(path)
    assert not marker.exists()
    torch.save({"model": small_state(), "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(CheckpointError, match=r"\(argparse\.Namespace\).*save its state dict alone"):
        load_imagenet(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict, but a list"),
        ({}, "holds no state dict"),
        (torch.zeros(3), "holds no state dict, but a Tensor"),
        ({"optimizer": {"lr": 1}}, "'optimizer' is no tensor but a dict"),
        ({"conv1.weight": [1.0]}, "'conv1.weight' is no tensor but a list"),
        ({3: torch.zeros(1)}, "3 is no tensor"),
        ({"conv1.weight": torch.zeros(4, 3, 7, 7).to_sparse()}, "'conv1.weight' is no tensor"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, r"tensor features\.0\.weight of shape \(64, 3, 3, 3\) is un"),
        ({"bn1.weight": torch.tensor(1.0)}, r"tensor conv1\.weight of shape \(64, 3, 7, 7\) is missing"),
        ({"bn1.weight": torch.zeros(0)}, "describes no network that can be built: width_mult"),
        ({f"layer1.{i}.x": torch.zeros(1) for i in range(101)}, "describes no network that can be built: units"),
    ],
)
def test_pickles_without_a_state_dict_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        load_imagenet(tmp_path / "x.pth")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "zip", "script"])
def test_damaged_pickles_are_refused(damage: str, tmp_path: Path) -> None:
    path = write(small_state(), tmp_path / "x.pth")
    content = bytearray(path.read_bytes())
    if damage == "script":
        with zipfile.ZipFile(path, "w") as archive:  # as torch tells such files from its own
            for name in ("constants.pkl", "data.pkl", "version"):
                archive.writestr(f"x/{name}", "3")
    else:
        content[len(content) // 2] ^= 1
        empty_zip = b"PK\x05\x06" + b"\0" * 18
        changed: dict[str, bytes | bytearray] = {"cut": content[:-500], "flipped": content}
        path.write_bytes((changed | {"text": b"hello", "empty": b"", "zip": empty_zip})[damage])
    with pytest.raises(CheckpointError, match="checksum of .* is another one" if damage == "flipped" else "damaged"):
        load_imagenet(path)


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    path = write(small_state(), tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="not a safetensors file, or damaged"):
        load_imagenet(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"conv1.weight": None, "conv1.0.weight": torch.zeros(32, 3, 3, 3)},  # resnet50d
            r"conv1\.0\.weight of shape \(32, 3, 3, 3\) is unknown, tensor conv1\.weight of shape \(4, 3, 7, 7\) is",
        ),
        (
            {"layer1.0.conv1.weight": torch.zeros(8, 4, 1, 1)},  # wide and grouped ResNets
            r"layer1\.0\.conv1\.weight has shape \(8, 4, 1, 1\), needs \(4, 4, 1, 1\); what can be read are",
        ),
        (
            {"layer1.0.conv2.weight": torch.zeros(4, 1, 3, 3)},
            r"layer1\.0\.conv2\.weight has shape \(4, 1, 3, 3\), needs \(4, 4, 3, 3\)",
        ),
        (
            {"layer1.0.se.fc1.weight": torch.zeros(1, 16, 1, 1)},
            r"tensor layer1\.0\.se\.fc1\.weight of shape \(1, 16, 1, 1\) is unknown; what can",
        ),
        (
            {"conv1.weight": torch.zeros(4, 1, 7, 7)},
            r"conv1\.weight has shape \(4, 1, 7, 7\), needs \(4, 3, 7, 7\)",
        ),
        ({"fc.weight": None, "fc.bias": None}, r"tensor fc\.weight of shape \(1000, 128\) is missing"),
        ({"bn1.running_var": None}, r"tensor bn1\.running_var of shape \(4,\) is missing"),
        ({"fc.bias": torch.zeros(13)}, r"fc\.bias has shape \(13,\), needs \(12,\)"),
        ({"fc.bias": torch.zeros(12, dtype=torch.int64)}, r"fc\.bias holds torch\.int64"),
        ({"fc.bias": torch.full((12,), torch.nan)}, r"fc\.bias holds values that are not finite"),
        ({"layer1.0.downsample.1.bias": None}, r"layer1\.0\.downsample\.1\.bias of shape \(16,\) is missing"),
        ({"conv1.bias": torch.zeros(4)}, r"tensor conv1\.bias of shape \(4,\) is unknown"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_architectures_are_refused(
    changes: dict[str, torch.Tensor | None], message: str, suffix: str, tmp_path: Path
) -> None:
    state = {**small_state(), **changes}
    path = write({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / f"x{suffix}")
    with pytest.raises(CheckpointError, match=message):
        load_imagenet(path)


def test_files_without_content_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("not found")
    for name, problem in (("empty", "empty"), ("text", "not a file of torch.save with tensors, or damaged")):
        with pytest.raises(CheckpointError, match=rf"{name}\.pth: {problem} \(\w+\); get it again from where it came"):
            load_imagenet(tmp_path / f"{name}.pth")
