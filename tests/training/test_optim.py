"""The optimiser against the official update rule written out in NumPy, and its multipliers by layer name."""

from typing import Any

import numpy as np
import pytest
import torch

from stmulnet import create_model
from stmulnet.errors import ConfigError
from stmulnet.models.multiplier import Network
from stmulnet.training.optim import make_optimizer, make_schedule, parameter_groups

OPTIONS: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 1 / 32, "input_size": 64, "head_pool": "global"}


@pytest.fixture
def model() -> Network:
    return create_model("st_mulnet_resnet50", 3, **OPTIONS)


def test_every_parameter_is_in_one_group(model: Network) -> None:
    grouped = [id(p) for group in parameter_groups(model) for p in group["params"]]  # type: ignore[attr-defined]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "rate", "decay"),
    [
        ("appearance.conv1.weight", 1, 1),
        ("appearance.conv1.bias", 2, 0),
        ("motion.bn_conv1.weight", 2, 0),
        ("motion.bn_conv1.bias", 1, 0),
        ("motion.res3.a.branch1.0.weight", 1, 1),
        ("motion.res3.a.branch1.1.weight", 2, 0),
        ("appearance.res5.b.time.weight", 1, 1),
        ("appearance.res5.b.time.bias", 1, 1),
        ("appearance.head.fc.weight", 1, 1),
        ("appearance.head.fc.bias", 2, 0),
    ],
)
def test_official_multipliers(model: Network, name: str, rate: float, decay: float) -> None:
    parameter = model.get_parameter(name)
    (group,) = (g for g in parameter_groups(model, 0.5) if any(p is parameter for p in g["params"]))  # type: ignore[attr-defined]
    assert (group["lr"], group["weight_decay"]) == (rate, decay * 0.5)


def test_updates_follow_the_official_rule(model: Network, rng: np.random.Generator) -> None:
    """buf = 0.9 buf - (gradient + wd w); w += lr buf, with the rate of the epoch."""
    model.double()
    optimizer = make_optimizer(model, weight_decay=0.01, momentum=0.9)
    schedule = make_schedule(optimizer, [0.1, 0.02], passes_per_rate=1)
    name = "appearance.conv1.weight"
    weight = model.get_parameter(name).detach().numpy().copy()
    buffer = np.zeros_like(weight)
    for rate in (0.1, 0.02, 0.02):
        for parameter in model.parameters():
            parameter.grad = torch.from_numpy(rng.normal(size=parameter.shape))
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        buffer = 0.9 * buffer - (gradient.numpy() + 0.01 * weight)
        weight = weight + rate * buffer
        optimizer.step()
        schedule.step()
        np.testing.assert_allclose(model.get_parameter(name).detach().numpy(), weight, rtol=1e-12)


def test_rates_change_after_whole_passes(model: Network) -> None:
    optimizer = make_optimizer(model, 0.0, 0.9)
    schedule = make_schedule(optimizer, [1.0, 0.1], passes_per_rate=2)
    seen = []
    for _ in range(5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([1, 1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("rates", [[], [0.1, -1.0]])
def test_bad_rates_are_refused(model: Network, rates: list[float]) -> None:
    with pytest.raises(ConfigError, match="positive numbers, at least one"):
        make_schedule(make_optimizer(model, 0.0, 0.9), rates, 1)
