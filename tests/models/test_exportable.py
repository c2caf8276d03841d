"""The form for exporters computes what the network does, for every kind of network and size."""

from typing import Any

import pytest
import torch

from stmulnet.models.exportable import Exportable, input_names, min_frames, min_side, output_names
from stmulnet.models.multiplier import Network
from stmulnet.models.verify import random_clips
from stmulnet.models.zoo import create_model

SMALL: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 1 / 16, "input_size": 64, "head_pool": "global"}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "official": ("st_mulnet_resnet50", {}),
    "wide head": ("st_mulnet_resnet50", {"head_pool": 2}),
    "one frame": ("st_mulnet_resnet50", {"temporal_pool": None, "temporal_conv": None}),
    "all frames": ("st_mulnet_resnet50", {"temporal_pool": {"kind": "max", "window": "all"}}),
    "mean of all frames": ("st_mulnet_resnet50", {"temporal_pool": {"kind": "avg", "window": "all"}}),
    "stride": ("st_mulnet_resnet50", {"temporal_pool": {"kind": "avg", "window": 3, "stride": 2}}),
    "difference": ("st_mulnet_resnet50", {"temporal_conv": "difference"}),
    "pointwise": ("st_resnet50", {"temporal_conv": "pointwise"}),
    "both ways": ("st_mulnet_resnet50", {"fusion": {"direction": "both", "scale": True, "stages": (4,)}}),
    "torch geometry": ("st_mulnet_resnet50", {"geometry": "torch"}),
    "basic units": ("st_mulnet_resnet18", {}),
    "appearance": ("appearance_resnet50", {}),
    "motion": ("motion_resnet50", {}),
}


def lively(name: str, **options: Any) -> Network:
    """A network whose every layer has a say: random BatchNorm, biases and temporal filters."""
    torch.manual_seed(7)
    model = create_model(name, 4, **{**SMALL, **options}).eval()
    for key, tensor in model.state_dict().items():
        if key.endswith(("running_mean", "bias")):
            torch.nn.init.normal_(tensor, std=0.1)
        elif key.endswith("running_var") or (key.endswith("weight") and tensor.ndim == 1):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
        elif key.endswith("time.weight"):
            tensor += 0.1 * torch.randn(tensor.shape)
    return model


@pytest.mark.parametrize("kind", NETWORKS)
def test_same_function(kind: str) -> None:
    name, options = NETWORKS[kind]
    model = lively(name, **options)
    config = model.config
    exportable = Exportable(model)
    for sizes in ((1, 5, 64, 64), (3, min_frames(config), min_side(config), 97), (2, 7, 68, min_side(config))):
        clips = random_clips(config, sizes, seed=sum(sizes))
        with torch.inference_mode():
            ours, theirs = model(*clips), exportable(*clips)
        assert len(theirs) == len(output_names(config))
        for field, tensor in zip(output_names(config), theirs, strict=True):
            reference = getattr(ours, field)
            assert tensor.shape == reference.shape
            torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-5 * float(reference.abs().max()))


def test_the_network_stays_as_it_is() -> None:
    model = lively("st_mulnet_resnet50")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Exportable(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_names() -> None:
    both, one = lively("st_mulnet_resnet50").config, lively("motion_resnet50").config
    assert input_names(both) == ["rgb", "flow"]
    assert output_names(both) == ["appearance", "motion", "fused", "appearance_map", "motion_map"]
    assert input_names(one) == ["flow"]
    assert output_names(one) == ["motion", "motion_map"]


def test_smallest_images() -> None:
    official = create_model("appearance_resnet50", 3, units=(1, 1, 1, 1), width_mult=1 / 16).eval()
    side = min_side(official.config)
    assert side == 195
    with torch.inference_mode():
        assert official(torch.zeros(1, 5, 3, side, side)).appearance_map.shape[-2:] == (1, 1)
        assert Exportable(official)(torch.zeros(1, 5, 3, side, 257))[1].shape[-2:] == (1, 2)
