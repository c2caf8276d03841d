"""Whole updates against a plain loop, written from the authors' update rule without the package's training code.

The network's forward pass is the package's; losses, gradients' weights, multipliers, momentum, weight decay and the
running moments are written here once more.
"""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.runs import RandomClips
from torch import Tensor

from stmulnet import create_model
from stmulnet.models.multiplier import Network
from stmulnet.training.config import TrainConfig
from stmulnet.training.loop import Loop
from stmulnet.training.processes import start_fabric

SMALL: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 1 / 16, "input_size": 64, "head_pool": "global"}
RATES = [1e-2, 1e-3]
DECAY, MOMENTUM, EPS = 5e-4, 0.9, 1e-5


def make_config(batch_size: int, sub_batch_size: int) -> TrainConfig:
    return TrainConfig(
        dataset=Path("none"),
        network="st_mulnet_resnet50",
        split=1,
        network_options={},
        weights=None,
        appearance_weights=None,
        motion_weights=None,
        allow_mismatch=False,
        learning_rates=RATES,
        passes_per_epoch=1,
        epochs=None,
        schedule="list",
        warmup_epochs=0,
        optimizer="sgd",
        momentum=MOMENTUM,
        weight_decay=DECAY,
        clip_gradients=0,
        batch_size=batch_size,
        sub_batch_size=sub_batch_size,
        batchnorm="official",
        batchnorm_rate=0.05,
        frames=5,
        strides=(5, 35),
        augmentation="f25noCtr",
        repair=(),
        resize_on_device=False,
        label_smoothing=0,
        mixup=0,
        ema=0,
        holdout=0,
        holdout_seed=0,
        validate_every=0,
        validation_frames=25,
        precision="float32",
        compile=False,
        gradient_checkpointing=False,
        seed=7,
        workers=0,
        cache=False,
        checkpoint_minutes=100,
        keep_checkpoints=1,
    )


class PlainLoop:
    """buf = 0.9 buf - (grad / videos + wd w); w += lr buf, per parameter by its name."""

    def __init__(self, model: Network) -> None:
        self.model = model.train()
        self.buffers = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        for name, layer in model.named_modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.register_forward_pre_hook(lambda _, inputs, name=name: self._see(name, inputs[0]))
                assert layer.running_mean is not None
                assert layer.running_var is not None
                self.moments[name] = layer.running_mean.clone(), (layer.running_var + EPS).sqrt()
        self.seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.moments}

    def _see(self, name: str, inputs: Tensor) -> None:
        values = inputs.detach().double()
        mean = values.mean((0, 2, 3))
        sigma = ((values - mean[:, None, None]).square().mean((0, 2, 3)) + EPS).sqrt()
        self.seen[name].append((mean.to(inputs.dtype), sigma.to(inputs.dtype)))

    def update(self, sub_batches: list[Any], rate: float) -> None:
        videos = sum(len(batch.label) for batch in sub_batches)
        summed = {name: torch.zeros_like(p) for name, p in self.model.named_parameters()}
        for batch in sub_batches:
            self.model.zero_grad()
            output = self.model(batch.rgb, batch.flow)
            loss = self._loss(output.appearance_map, batch.label) + self._loss(output.motion_map, batch.label)
            loss.backward()  # type: ignore[no-untyped-call]
            for name, parameter in self.model.named_parameters():
                assert parameter.grad is not None
                summed[name] += parameter.grad
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                rate_factor, decay_factor = self._multipliers(name)
                gradient = summed[name] / videos + DECAY * decay_factor * parameter
                self.buffers[name] = MOMENTUM * self.buffers[name] - gradient
                parameter.add_(rate * rate_factor * self.buffers[name])
            for name, kept in self.moments.items():
                weights = [len(batch.label) / videos for batch in sub_batches]
                mean, sigma = (
                    0.95 * kept[kind]
                    + 0.05 * sum(w * seen[kind] for w, seen in zip(weights, self.seen[name], strict=True))
                    for kind in range(2)
                )
                self.moments[name] = mean, sigma
                self.seen[name].clear()

    @staticmethod
    def _loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Summed over videos, windows and positions."""
        log_probabilities = logits - logits.exp().sum(1, keepdim=True).log()
        return -torch.stack([log_probabilities[n, label].sum() for n, label in enumerate(labels.tolist())]).sum()

    @staticmethod
    def _multipliers(name: str) -> tuple[float, float]:
        if ".time." in name:
            return 1, 1
        if name.endswith("bn_conv1.weight") or name.endswith(".1.weight"):
            return 2, 0
        if name.endswith("bn_conv1.bias") or name.endswith(".1.bias"):
            return 1, 0
        return (2, 0) if name.endswith("bias") else (1, 1)


def compare(
    model: Network, clips: RandomClips, config: TrainConfig, tmp_path: Path, epochs: int, tolerance: float
) -> None:
    plain = PlainLoop(copy.deepcopy(model))
    fabric = start_fabric("cpu", "float32", "official")
    loop = Loop(fabric, config, model, clips, None, tmp_path)  # type: ignore[arg-type] # the part of a data set it uses
    before = {name: value.clone() for name, value in model.named_parameters()}
    loop.run()
    for number in range(epochs):
        clips.set_epoch(number)
        order = clips.epoch_order()
        for start in range(0, len(order), config.batch_size):
            batches = []
            update = order[start : start + config.batch_size]
            for at in range(0, len(update), config.sub_batch_size):
                items = [clips[index] for index in update[at : at + config.sub_batch_size]]
                labels = torch.tensor([item.label for item in items])
                rgb, flow = (torch.stack([getattr(item, part) for item in items]) for part in ("rgb", "flow"))
                batches.append(type(items[0])(rgb, flow, labels, ""))  # type: ignore[arg-type] # as collated
            plain.update(batches, config.learning_rates[number])
    for name, parameter in model.named_parameters():
        want = plain.model.get_parameter(name)
        moved = (want - before[name]).abs().max().item()
        no_gradient = name.endswith(
            ("conv1.bias", "time.bias")
        )  # BatchNorm takes it out again; what is left is rounding
        assert no_gradient or moved > 1e-7, name
        difference = (parameter - want).abs().max().item()
        assert difference <= tolerance, name
        last_place = torch.finfo(want.dtype).eps * want.abs().max().item()
        assert no_gradient or difference <= 0.01 * moved + last_place, name
    for name, (mean, sigma) in plain.moments.items():
        layer: Any = model.get_submodule(name)
        # Here in double precision; torch's own means of 125,000 values are less exact in single.
        scale = 10 * (sigma.abs().max().item() + mean.abs().max().item())
        torch.testing.assert_close(layer.running_mean, mean, rtol=0, atol=tolerance * scale)
        torch.testing.assert_close((layer.running_var + EPS).sqrt(), sigma, rtol=0, atol=tolerance * scale)


def lively(model: Network) -> Network:
    """A fresh network's residual branches are silent: let them speak, softly."""
    for name, parameter in model.named_parameters():
        if name.endswith("branch2c.1.weight"):
            torch.nn.init.constant_(parameter, 0.3)
    return model


def test_two_epochs_of_unequal_updates(tmp_path: Path) -> None:
    """Seven clips: updates of 4 and 3, sub-batches of 2, 2, 2 and 1."""
    torch.manual_seed(3)
    model = lively(create_model("st_mulnet_resnet50", 3, dropout=0.0, **SMALL)).double()
    compare(model, RandomClips(7), make_config(4, 2), tmp_path, epochs=2, tolerance=1e-12)


def one_update(tmp_path: Path, **options: Any) -> dict[str, Tensor]:
    """How far an update of five clips moves the parameters; each by its rate, with neither momentum nor decay."""
    torch.manual_seed(3)
    model = lively(create_model("st_mulnet_resnet50", 3, dropout=0.0, **SMALL)).double()
    before = {name: value.clone() for name, value in model.named_parameters()}
    plain = dataclasses.replace(make_config(5, 5), learning_rates=[1e-3], weight_decay=0, momentum=0)
    config = dataclasses.replace(plain, **options)
    Loop(start_fabric("cpu", "float32", "official"), config, model, RandomClips(5), None, tmp_path).run()  # type: ignore[arg-type]
    return {name: value.detach() - before[name].detach() for name, value in model.named_parameters()}


def test_clipped_gradients_are_shorter_by_one_factor(tmp_path: Path) -> None:
    whole = one_update(tmp_path / "whole")
    multipliers = {name: PlainLoop._multipliers(name)[0] for name in whole}
    norm = float(sum((value / multipliers[name] / 1e-3).square().sum() for name, value in whole.items())) ** 0.5
    clipped = one_update(tmp_path / "clipped", clip_gradients=norm / 4)
    for name, value in whole.items():
        torch.testing.assert_close(clipped[name], value / 4, rtol=1e-5, atol=1e-12)
    same = one_update(tmp_path / "same", clip_gradients=norm * 1.01)
    assert all(torch.equal(same[name], value) for name, value in whole.items())


@pytest.mark.parametrize("option", [{"label_smoothing": 0.1}, {"mixup": 0.5}, {"optimizer": "adamw", "momentum": 0.9}])
def test_each_option_by_itself_counts(option: dict[str, Any], tmp_path: Path) -> None:
    plain, changed = one_update(tmp_path / "plain"), one_update(tmp_path / "changed", **option)
    assert all(not torch.equal(changed[name], plain[name]) for name in plain if name.endswith("head.fc.weight"))


def test_dropout_and_order_do_not_depend_on_what_came_before(tmp_path: Path) -> None:
    """Two loops, the second after other random numbers were drawn."""
    states = []
    for number in range(2):
        torch.manual_seed(3)
        model = create_model("st_mulnet_resnet50", 3, **SMALL)  # dropout 0.8 in the motion stream
        torch.manual_seed(100 + number)
        np.random.default_rng(number)
        fabric = start_fabric("cpu", "float32", "official")
        Loop(fabric, make_config(4, 2), model, RandomClips(4), None, tmp_path / str(number)).run()  # type: ignore[arg-type]
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.slow
def test_an_update_of_the_full_network(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = lively(create_model("st_mulnet_resnet50", 101, dropout=0.0))
    clips = RandomClips(3, size=224, classes=101)
    compare(
        model,
        clips,
        dataclasses.replace(make_config(4, 2), learning_rates=RATES[1:]),
        tmp_path,
        epochs=1,
        tolerance=1e-6,
    )
