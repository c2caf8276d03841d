"""A small network in the authors' file layout: weights copied by layer name give the recorded official scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import loadmat

from stmulnet import create_model
from stmulnet.evaluation.protocol import video_scores
from stmulnet.models.multiplier import Network

FUSED_FILE = "ucf101ST-MulNet-imgtiny-flowtiny-final-split=1.mat"
UNITS = (2, 2, 2, 3)
SUFFIX = {"appearance": "spatial", "motion": "temporal"}
BN_EPS = 1e-5


class OfficialParams:
    """Parameters of a MatConvNet file by name; remembers which were read."""

    def __init__(self, path: Path) -> None:
        self.net = loadmat(path, squeeze_me=False, struct_as_record=False)["net"][0, 0]
        self.values = {str(param.name[0]): np.asarray(param.value, np.float64) for param in self.net.params[0]}
        self.unread = set(self.values)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        self.unread.discard(name)
        return self.values[name]

    def filter(self, name: str) -> NDArray[np.float64]:
        """(y, x, in, out) as (out, in, y, x); trailing axes of length 1 are not stored."""
        value = self[name]
        return value.reshape(value.shape + (1,) * (4 - value.ndim)).transpose(3, 2, 0, 1)

    def batch_norm(self, ours: str, official: str, suffix: str) -> dict[str, NDArray[np.float64]]:
        moments = self[f"{official}_moments_{suffix}"]
        return {
            f"{ours}.weight": self[f"{official}_mult_{suffix}"].ravel(),
            f"{ours}.bias": self[f"{official}_bias_{suffix}"].ravel(),
            f"{ours}.running_mean": moments[:, 0],
            f"{ours}.running_var": moments[:, 1] ** 2 - BN_EPS,  # the file holds sqrt(variance + eps)
        }


def stream_state(params: OfficialParams, stream: str) -> dict[str, NDArray[np.float64]]:
    suffix = SUFFIX[stream]
    state = {
        f"{stream}.conv1.weight": params.filter(f"conv1_filter_{suffix}"),
        f"{stream}.conv1.bias": params[f"conv1_bias_{suffix}"].ravel(),
        f"{stream}.head.fc.weight": params.filter(f"fc1000_filter_{suffix}"),
        f"{stream}.head.fc.bias": params[f"fc1000_bias_{suffix}"].ravel(),
        **params.batch_norm(f"{stream}.bn_conv1", "bn_conv1", suffix),
    }
    for stage, count in zip((2, 3, 4, 5), UNITS, strict=True):
        for unit in "abc"[:count]:
            for branch in ("branch1", "branch2a", "branch2b", "branch2c")[unit != "a" :]:
                ours, official = f"{stream}.res{stage}.{unit}.{branch}", f"{stage}{unit}_{branch}"
                state[f"{ours}.0.weight"] = params.filter(f"res{official}_filter_{suffix}")
                state |= params.batch_norm(f"{ours}.1", f"bn{official}", suffix)
        time = f"res{stage}b_branch2b_relu_{suffix}_Time"  # (1, time, in, out)
        state[f"{stream}.res{stage}.b.time.weight"] = params[f"{time}_f"].transpose(3, 2, 1, 0)
        state[f"{stream}.res{stage}.b.time.bias"] = params[f"{time}_b"].ravel()
    return state


@pytest.fixture(scope="module")
def expected(shared_dir: Path) -> Any:
    return np.load(shared_dir / "fixtures" / "matconvnet" / "expected.npz")


@pytest.fixture(scope="module")
def network(shared_dir: Path) -> Network:
    params = OfficialParams(shared_dir / "fixtures" / "matconvnet" / FUSED_FILE)
    mean = params.net.meta[0, 0].normalization[0, 0].averageImage.ravel()
    state = {"flow_mean": mean[:20], "rgb_mean": mean[20:], "flow_std": np.ones(20), "rgb_std": np.ones(3)}
    for stream in SUFFIX:
        state |= stream_state(params, stream)
    assert params.unread == set()
    model = create_model("st_mulnet_resnet50", 11, units=UNITS, width_mult=1 / 8)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)).float() for name, value in state.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert [name for name in missing if not name.endswith("num_batches_tracked")] == []
    assert unexpected == []
    return model.eval()


def clip(expected: Any, name: str) -> torch.Tensor:
    """(T, H, W, C) as (T, C, H, W)."""
    return torch.from_numpy(expected[name]).permute(0, 3, 1, 2)


def relative_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def test_logits_of_one_pass(network: Network, expected: Any) -> None:
    out = network(clip(expected, "rgb")[None], clip(expected, "flow")[None])
    for logits, name in ((out.appearance_map, "spatial"), (out.motion_map, "temporal")):
        got = logits[0].detach().permute(2, 3, 0, 1).numpy()  # (K, W, h, w) to (y, x, class, window)
        assert relative_error(got, expected[f"final/logits_{name}"]) < 1e-5


def test_scores_of_the_test_protocol(network: Network, expected: Any) -> None:
    scores = video_scores(network, clip(expected, "rgb"), clip(expected, "flow"))
    for got, name in ((scores.appearance, "spatial"), (scores.motion, "temporal"), (scores.fused, "score")):
        assert got is not None
        assert relative_error(got, expected[f"final/protocol_{name}"].ravel()) < 1e-5
