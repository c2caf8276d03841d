"""The small networks in the authors' layout that were recorded beside this project, and their recorded scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.oracle import interpreter

from stmulnet import load_model
from stmulnet.evaluation.protocol import video_scores
from stmulnet.models.matconvnet import export_mat
from stmulnet.models.multiplier import Network

IMAGE = "ucf101-img-resnettiny-split1-dr0.mat"
FLOW = "ucf101-flow-resnettiny-split1-dr0.8.mat"
FUSED = "ucf101ST-MulNet-imgtiny-flowtiny-final-split=1.mat"
SINGLE, DOUBLE = 2e-5, 1e-10  # of the largest value


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "fixtures" / "matconvnet"


@pytest.fixture(scope="module")
def expected(folder: Path) -> Any:
    return np.load(folder / "expected.npz")


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return load_model(folder / FUSED)


def clip(expected: Any, name: str) -> torch.Tensor:
    """(T, H, W, C) as (T, C, H, W)."""
    return torch.from_numpy(expected[name]).permute(0, 3, 1, 2)


def relative_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def official_axes(logits: torch.Tensor | None) -> NDArray[Any]:
    """(1, K, W, h, w) to (y, x, class, window)."""
    assert logits is not None
    return logits[0].permute(2, 3, 0, 1).detach().numpy()


def test_logits_of_one_pass(network: Network, expected: Any) -> None:
    out = network(clip(expected, "rgb")[None], clip(expected, "flow")[None])
    for logits, name in ((out.appearance_map, "spatial"), (out.motion_map, "temporal")):
        assert relative_error(official_axes(logits), expected[f"final/logits_{name}"]) < SINGLE


def test_layers_by_their_official_names(network: Network, expected: Any) -> None:
    names = [key.removeprefix("final/") for key in expected if key.startswith("final/res")]
    assert len(names) == 6
    found = network.activations(clip(expected, "rgb")[None], clip(expected, "flow")[None], names)
    for name in names:
        want = expected[f"final/{name}"].transpose(3, 2, 0, 1)
        assert relative_error(found[name][0].detach().numpy()[: len(want)], want) < SINGLE, name


def test_scores_of_the_test_protocol(network: Network, expected: Any) -> None:
    scores = video_scores(network, clip(expected, "rgb"), clip(expected, "flow"))
    for got, name in ((scores.appearance, "spatial"), (scores.motion, "temporal"), (scores.fused, "score")):
        assert got is not None
        assert relative_error(got, expected[f"final/protocol_{name}"].ravel()) < SINGLE


@pytest.mark.parametrize(("file", "images", "record"), [(IMAGE, "rgb", "img"), (FLOW, "flow", "flow")])
def test_base_streams(file: str, images: str, record: str, folder: Path, expected: Any) -> None:
    out = load_model(folder / file)(clip(expected, images)[None])
    logits = out.appearance_map if record == "img" else out.motion_map
    assert relative_error(official_axes(logits), expected[f"{record}/logits"]) < SINGLE


def test_in_double_precision(folder: Path, expected: Any) -> None:
    """Against an evaluation of the same file in NumPy."""
    net = interpreter.read(folder / FUSED)
    names = ["fc1000_spatial", "fc1000_temporal"]
    inputs = interpreter.network_inputs(net, expected["rgb"], expected["flow"])
    want = interpreter.evaluate(net, inputs, len(expected["rgb"]), keep=names)
    out = load_model(folder / FUSED, dtype=torch.float64)(clip(expected, "rgb")[None], clip(expected, "flow")[None])
    for logits, name in zip((out.appearance_map, out.motion_map), names, strict=True):
        assert relative_error(official_axes(logits), want[name]) < DOUBLE


@pytest.mark.parametrize("file", [IMAGE, FLOW, FUSED])
def test_written_again(file: str, folder: Path, tmp_path: Path) -> None:
    """All that scores depend on comes back: filters bitwise, moments within one step of their type."""
    export_mat(load_model(folder / file), tmp_path / file)
    before, after = interpreter.read(folder / file), interpreter.read(tmp_path / file)
    assert [param.name for param in after.params] == [param.name for param in before.params]
    for old, new in zip(before.params, after.params, strict=True):
        np.testing.assert_array_max_ulp(new.value, old.value, 1 if "moments" in old.name else 0)
        assert (new.learning_rate, new.weight_decay) == (old.learning_rate, old.weight_decay), old.name
    kept = [[layer for layer in net.layers if layer.type != "dagnn.Loss"] for net in (before, after)]
    for old_layer, new_layer in zip(*kept, strict=True):
        assert (new_layer.name, new_layer.type, new_layer.inputs, new_layer.params) == (
            old_layer.name,
            old_layer.type,
            old_layer.inputs,
            old_layer.params,
        )
        for key in ("pad", "stride", "poolSize", "method", "rate"):
            np.testing.assert_array_equal(new_layer.block.get(key), old_layer.block.get(key), err_msg=new_layer.name)
