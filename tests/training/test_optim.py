"""The optimiser against the official update rule written out in NumPy, and its multipliers by layer name."""

from typing import Any

import numpy as np
import pytest
import torch

from stmulnet import create_model
from stmulnet.errors import ConfigError
from stmulnet.models.multiplier import Network
from stmulnet.training.optim import (
    WeightAverage,
    cosine_rates,
    listed_rates,
    make_optimizer,
    parameter_groups,
    set_rate,
)

OPTIONS: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 1 / 32, "input_size": 64, "head_pool": "global"}


@pytest.fixture
def model() -> Network:
    return create_model("st_mulnet_resnet50", 3, **OPTIONS)


def test_every_parameter_is_in_one_group(model: Network) -> None:
    grouped = [id(p) for group in parameter_groups(model) for p in group["params"]]
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
    (group,) = (g for g in parameter_groups(model, 0.5) if any(p is parameter for p in g["params"]))
    assert (group["lr"], group["weight_decay"]) == (rate, decay * 0.5)


def test_updates_follow_the_official_rule(model: Network, rng: np.random.Generator) -> None:
    """buf = 0.9 buf - (gradient + wd w); w += lr buf, with the rate of the epoch."""
    model.double()
    optimizer = make_optimizer(model, weight_decay=0.01, momentum=0.9)
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
        set_rate(optimizer, rate)
        optimizer.step()
        np.testing.assert_allclose(model.get_parameter(name).detach().numpy(), weight, rtol=1e-12)


def test_listed_rates_change_after_whole_epochs() -> None:
    rate = listed_rates([1.0, 0.1], updates_per_rate=3)
    assert [rate(updates) for updates in range(8)] == [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1]
    rising = listed_rates([1.0, 0.1], updates_per_rate=3, warmup_updates=3)
    assert [rising(updates) for updates in range(4)] == pytest.approx([0.25, 0.5, 0.75, 0.1])


def test_cosine_falls_to_zero() -> None:
    rate = cosine_rates(2.0, updates=12, warmup_updates=2)
    assert [rate(0), rate(1), rate(2)] == pytest.approx([2 / 3, 4 / 3, 2])
    assert [rate(7), rate(12), rate(13)] == pytest.approx([1, 0, 0])
    values = [rate(updates) for updates in range(2, 13)]
    assert values == sorted(values, reverse=True)


def test_adamw_decays_filters_only(model: Network, rng: np.random.Generator) -> None:
    """Loshchilov and Hutter's rule, written out: w -= rate (m / (sqrt(v) + eps) + decay w)."""
    model.double()
    optimizer = make_optimizer(model, weight_decay=0.1, momentum=0.8, kind="adamw")
    names = {"appearance.conv1.weight": (1, 0.1), "appearance.conv1.bias": (2, 0.0)}
    want = {name: model.get_parameter(name).detach().numpy().copy() for name in names}
    first, second = ({name: np.zeros_like(value) for name, value in want.items()} for _ in range(2))
    for step in (1, 2):
        for parameter in model.parameters():
            parameter.grad = torch.from_numpy(rng.normal(size=parameter.shape))
        set_rate(optimizer, 0.01)
        for name, (multiplier, decay) in names.items():
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            first[name] = 0.8 * first[name] + 0.2 * gradient.numpy()
            second[name] = 0.999 * second[name] + 0.001 * gradient.numpy() ** 2
            adapted = first[name] / (1 - 0.8**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
            want[name] = want[name] - 0.01 * multiplier * (adapted + decay * want[name])
        optimizer.step()
    for name, value in want.items():
        np.testing.assert_allclose(model.get_parameter(name).detach().numpy(), value, rtol=1e-9)


def test_frozen_parameters_are_left_out(model: Network) -> None:
    frozen = model.get_parameter("appearance.conv1.weight").requires_grad_(False)
    grouped = [id(p) for group in parameter_groups(model) for p in group["params"]]
    assert id(frozen) not in grouped
    assert len(grouped) == len(list(model.parameters())) - 1


def test_weight_average_follows_its_definition(model: Network, rng: np.random.Generator) -> None:
    name, average = "motion.bn_conv1.running_mean", WeightAverage(model, 0.9)
    want = model.state_dict()[name].double().numpy().copy()
    for _ in range(3):
        new = rng.normal(size=want.shape)
        model.state_dict()[name].copy_(torch.from_numpy(new))
        average.update()
        want = 0.9 * want + 0.1 * new
    np.testing.assert_allclose(average.state[name].numpy(), want, rtol=1e-5)
    assert average.state.keys() == model.state_dict().keys()


@pytest.mark.parametrize("rates", [[], [0.1, -1.0]])
def test_bad_rates_are_refused(rates: list[float]) -> None:
    with pytest.raises(ConfigError, match="positive numbers, at least one"):
        listed_rates(rates, updates_per_rate=1)
