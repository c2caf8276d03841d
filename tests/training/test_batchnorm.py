"""Running statistics against the official rule, written out in NumPy float64 on the inputs of each layer."""

from typing import Any

import numpy as np
import pytest
import torch

from stmulnet import create_model
from stmulnet.models.multiplier import Network
from stmulnet.training.batchnorm import SigmaAverage, freeze

OPTIONS: dict[str, Any] = {"units": (2, 1, 1, 1), "width_mult": 1 / 32, "input_size": 32, "head_pool": "global"}
LAYERS = ("appearance.bn_conv1", "appearance.res2.a.branch1.1", "appearance.res3.a.branch2b.1")


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    model = create_model("appearance_resnet50", 3, **OPTIONS).double().train()
    for index, (name, buffer) in enumerate(model.named_buffers()):
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.linspace(0.5, 2, buffer.numel()) + index)
    return model


def clips(rng: np.random.Generator, videos: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(120, 60, (videos, 5, 3, 32, 32)))


def moments(inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sigma = sqrt(biased variance + eps) per channel (BatchNorm.m)."""
    values = inputs.detach().numpy().transpose(1, 0, 2, 3).reshape(inputs.shape[1], -1)
    return values.mean(1), np.sqrt(((values - values.mean(1, keepdims=True)) ** 2).mean(1) + 1e-5)


def test_two_updates_of_unequal_sub_batches(network: Network, rng: np.random.Generator) -> None:
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in LAYERS}
    for name in LAYERS:
        network.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen[name].append(moments(inputs[0]))
        )
    want = {}
    for name in LAYERS:
        layer: Any = network.get_submodule(name)
        want[name] = [layer.running_mean.numpy().copy(), np.sqrt(layer.running_var.numpy() + 1e-5)]
    statistics = SigmaAverage(network, 0.05)
    for update in ((4, 4, 1), (2,)):
        for videos in update:
            network(clips(rng, videos))
            statistics.add(videos)
        statistics.finish_update(lambda tensor: tensor)
        for name in LAYERS:
            for kind in range(2):
                mean = sum(v * m[kind] for v, m in zip(update, seen[name], strict=True)) / sum(update)
                want[name][kind] = 0.95 * want[name][kind] + 0.05 * mean
            seen[name].clear()
    for name in LAYERS:
        layer = network.get_submodule(name)
        np.testing.assert_allclose(layer.running_mean, want[name][0], rtol=1e-10)
        np.testing.assert_allclose(np.sqrt(layer.running_var.numpy() + 1e-5), want[name][1], rtol=1e-10)


def test_processes_together_do_what_one_does(rng: np.random.Generator) -> None:
    """Two halves of an update, summed, against the whole; one process may have nothing."""
    torch.manual_seed(1)
    models = [create_model("appearance_resnet50", 3, **OPTIONS).double().train() for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    whole, half, nothing = (SigmaAverage(model, 0.05) for model in models)
    for videos in (2, 1):
        batch = clips(rng, videos)
        for model, statistics in zip(models[:2], (whole, half), strict=True):
            model(batch)
            statistics.add(videos)
    sent: list[torch.Tensor] = []
    whole.finish_update(lambda tensor: tensor)
    half.finish_update(lambda tensor: sent.append(tensor) or tensor)  # type: ignore[func-returns-value]
    nothing.finish_update(lambda tensor: tensor + sent[0])
    for name, buffer in models[0].named_buffers():
        assert torch.equal(models[1].get_buffer(name), buffer)
        assert torch.equal(models[2].get_buffer(name), buffer)


def test_averages_go_on_bit_by_bit(network: Network, rng: np.random.Generator) -> None:
    torch.manual_seed(1)
    network.float()
    other = create_model("appearance_resnet50", 3, **OPTIONS).train()
    statistics, batches = SigmaAverage(network), [clips(rng, 2).float() for _ in range(2)]
    network(batches[0])
    statistics.add(2)
    statistics.finish_update(lambda tensor: tensor)
    other.load_state_dict(network.state_dict())
    later = SigmaAverage(other)
    later.restore(statistics.state())
    for model, kept in ((network, statistics), (other, later)):
        model(batches[1])
        kept.add(2)
        kept.finish_update(lambda tensor: tensor)
    assert all(torch.equal(buffer, other.get_buffer(name)) for name, buffer in network.named_buffers())


def test_frozen_layers_stay_as_they_are(network: Network, rng: np.random.Generator) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items() if ".1." in name or "bn_" in name}
    freeze(network)
    output = network(clips(rng, 2))
    output.fused.sum().backward()
    layer = network.get_submodule("appearance.res2.a.branch1.1")
    assert layer.weight.grad is None
    assert network.get_parameter("appearance.conv1.weight").grad is not None
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
