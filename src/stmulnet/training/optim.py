"""The official optimiser: SGD with multipliers per kind of parameter, a list of learning rates. And modern ones."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from stmulnet.errors import ConfigError
from stmulnet.models.fusion import Scale
from stmulnet.models.multiplier import Network
from stmulnet.models.temporal import TemporalConv

MOMENTUM = 0.9  # cnn_train_dag.m
WEIGHT_DECAY = 5e-4  # cnn_train_dag.m
_MULTIPLIER = "multiplier"  # key of a parameter group

Rates = Callable[[int], float]  # number of finished updates -> learning rate of the next one


def parameter_groups(model: Network, weight_decay: float = WEIGHT_DECAY) -> list[dict[str, Any]]:
    """Parameters by their official multipliers of learning rate and weight decay (setLrWd.m).

    Filters of convolutions and classifiers 1 and 1; their biases 2 and 0; BatchNorm gamma 2 and 0, beta 1 and 0;
    temporal convolutions and scales, added after setLrWd.m ran, 1 and 1 for filter *and* bias. Frozen parameters are
    left out.

    Returns:
        Groups for a torch optimiser; ``lr`` is the multiplier, until `set_rate` scales it.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                groups.setdefault(_multipliers(module, name), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, _MULTIPLIER: rate, "weight_decay": decay * weight_decay}
        for (rate, decay), parameters in groups.items()
    ]


def _multipliers(module: nn.Module, name: str) -> tuple[float, float]:
    if isinstance(module, (TemporalConv, Scale)):
        return 1.0, 1.0
    if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        return (2.0, 0.0) if name == "weight" else (1.0, 0.0)
    assert isinstance(module, nn.Conv2d), f"no multipliers for {type(module).__name__}.{name}"
    return (1.0, 1.0) if name == "weight" else (2.0, 0.0)


def make_optimizer(
    model: Network, weight_decay: float = WEIGHT_DECAY, momentum: float = MOMENTUM, *, kind: str = "sgd"
) -> torch.optim.Optimizer:
    """SGD without Nesterov momentum, or AdamW, in the official groups.

    Args:
        model: The network.
        weight_decay: Of the filters.
        momentum: Of SGD; the first beta of AdamW.
        kind: ``"sgd"`` or ``"adamw"``.
    """
    groups = parameter_groups(model, weight_decay)
    if kind == "adamw":
        return torch.optim.AdamW(groups, betas=(momentum, 0.999))
    return torch.optim.SGD(groups, momentum=momentum)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group to ``rate`` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_MULTIPLIER]


def listed_rates(rates: Sequence[float], *, updates_per_rate: int, warmup_updates: int = 0) -> Rates:
    """One learning rate after the other, each for so many updates; the last one stays."""
    if not rates or min(rates) <= 0:
        raise ConfigError(f"learning_rates must be positive numbers, at least one, got {list(rates)}")

    def rate(updates: int) -> float:
        listed = rates[min(updates // updates_per_rate, len(rates) - 1)]
        return listed * _warmup(updates, warmup_updates)

    return rate


def cosine_rates(peak: float, *, updates: int, warmup_updates: int = 0) -> Rates:
    """From 0 to ``peak`` in a straight line, then to 0 along half a cosine (Loshchilov and Hutter 2017)."""

    def rate(done: int) -> float:
        if done < warmup_updates:
            return peak * _warmup(done, warmup_updates)
        share = (done - warmup_updates) / max(updates - warmup_updates, 1)
        return peak * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    return rate


def _warmup(updates: int, warmup_updates: int) -> float:
    return min(1.0, (updates + 1) / (warmup_updates + 1))


class WeightAverage:
    """Exponential moving average of all that a network has learnt, BatchNorm's statistics included.

    Args:
        model: The network; its state now is the first average.
        decay: Share of the old average after an update.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network as it is now."""
        now = self._model.state_dict()
        averaged = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in averaged], [now[n] for n in averaged], 1 - self._decay)
        for name in now.keys() - set(averaged):
            self.state[name].copy_(now[name])
