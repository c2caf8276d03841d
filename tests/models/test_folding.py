"""A network with folded BatchNorm against the network it was made from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stmulnet import create_model, save_model
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.folding import fold_batchnorm
from stmulnet.models.matconvnet import export_mat
from stmulnet.models.multiplier import Network
from stmulnet.models.zoo import list_models

TINY: dict[str, Any] = {"width_mult": 0.0625, "input_size": 64, "head_pool": "global"}
WIRINGS: dict[str, dict[str, Any]] = {
    "sum": {"fusion": {"operation": "add"}},
    "into motion": {"fusion": {"direction": "appearance_to_motion"}},
    "both, scaled": {"fusion": {"direction": "both", "scale": True}},
    "whole state": {"fusion": {"target": "state"}},
    "torch geometry": {"geometry": "torch"},
    "basic units": {"depth": 18},
    "no temporal convolution": {"temporal_conv": None},
    "average over all": {"temporal_pool": {"kind": "avg", "window": "all"}},
}


def randomised(model: Network) -> Network:
    """Every parameter and running statistic drawn anew, float64, in evaluation mode."""
    generator = torch.Generator().manual_seed(11)

    def draw(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=like.dtype)

    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            reach = (3 / parameter[0].numel()) ** 0.5 if parameter.ndim == 4 else 1.0
            parameter.copy_(draw(parameter, -reach, reach))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(draw(module.running_mean, -1, 1))
                module.running_var.copy_(draw(module.running_var, 0.2, 3))
    return model


def noise(model: Network, rng: np.random.Generator, size: int = 64) -> list[torch.Tensor]:
    channels = {"appearance": 3, "motion": 20}
    return [torch.from_numpy(rng.integers(0, 256, (2, 6, channels[s], size, size))) for s in model.config.streams]


def assert_same(model: Network, rng: np.random.Generator) -> None:
    clips = noise(model, rng)
    folded = fold_batchnorm(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        wanted, got = model(*clips), folded(*clips)
    for expected, found in zip(wanted, got, strict=True):
        if expected is not None:
            assert expected.std() > 0
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("name", [name for name in list_models() if "101" not in name and "152" not in name])
def test_folding_keeps_every_output_of_the_zoo(name: str, rng: np.random.Generator) -> None:
    assert_same(randomised(create_model(name, 5, **TINY)), rng)


@pytest.mark.parametrize("options", WIRINGS.values(), ids=WIRINGS)
def test_folding_keeps_every_output_of_every_wiring(options: dict[str, Any], rng: np.random.Generator) -> None:
    assert_same(randomised(create_model("st_mulnet_resnet50", 5, **TINY, **options)), rng)


def test_streams_without_bias_in_conv1_get_one(rng: np.random.Generator) -> None:
    assert_same(randomised(create_model("appearance_resnet50", 5, **TINY, conv1_bias=False)), rng)


def test_folding_leaves_the_network_as_it_is(rng: np.random.Generator) -> None:
    model = randomised(create_model("st_mulnet_resnet50", 5, **TINY)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_batchnorm(model)
    assert model.training
    assert not folded.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    clips, again = noise(folded, rng), fold_batchnorm(folded)
    assert torch.equal(folded(*clips).fused, again(*clips).fused)


def test_float32_networks_keep_their_outputs_up_to_rounding(rng: np.random.Generator) -> None:
    model = randomised(create_model("st_mulnet_resnet50", 5, **TINY)).float()
    clips = noise(model, rng)
    wanted, got = model(*clips).fused, fold_batchnorm(model)(*clips).fused
    assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_layers_keep_their_names_but_convolutions_that_are_nowhere_computed(rng: np.random.Generator) -> None:
    model = randomised(create_model("st_mulnet_resnet50", 5, **TINY))
    folded, clips = fold_batchnorm(model), noise(model, rng)
    lost = set(model.layer_names()) - set(folded.layer_names())
    assert {"conv1_spatial", "res3a_branch1_temporal", "res5c_branch2c_spatial"} < lost
    assert len(lost) == sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    names = folded.layer_names()
    with torch.inference_mode():
        wanted, got = model.activations(*clips, names), folded.activations(*clips, names)
    for name in names:
        torch.testing.assert_close(got[name], wanted[name], rtol=1e-9, atol=1e-9 * float(wanted[name].abs().max()))
    with pytest.raises(ConfigError, match=r"no layer 'conv1_spatial'.*folded"):
        folded.activations(*clips, ["conv1_spatial"])


@pytest.mark.parametrize("save", [save_model, export_mat])
def test_folded_networks_are_not_saved(save: Any, tmp_path: Path) -> None:
    folded = fold_batchnorm(create_model("appearance_resnet50", 5, **TINY))
    path = tmp_path / f"x{'.mat' if save is export_mat else '.safetensors'}"
    with pytest.raises(CheckpointError, match="folded into the convolutions of this network: save the one"):
        save(folded, path)
    assert not path.exists()
