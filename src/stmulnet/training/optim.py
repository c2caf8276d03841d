"""The official optimiser: SGD with multipliers per kind of parameter, a list of learning rates."""

from collections.abc import Sequence

import torch
from torch import nn

from stmulnet.errors import ConfigError
from stmulnet.models.fusion import Scale
from stmulnet.models.multiplier import Network
from stmulnet.models.temporal import TemporalConv

MOMENTUM = 0.9  # cnn_train_dag.m
WEIGHT_DECAY = 5e-4  # cnn_train_dag.m


def parameter_groups(model: Network, weight_decay: float = WEIGHT_DECAY) -> list[dict[str, object]]:
    """Parameters by their official multipliers of learning rate and weight decay (setLrWd.m).

    Filters of convolutions and classifiers 1 and 1; their biases 2 and 0; BatchNorm gamma 2 and 0, beta 1 and 0;
    temporal convolutions and scales, added after setLrWd.m ran, 1 and 1 for filter *and* bias.

    Returns:
        Groups for a torch optimiser; ``lr`` holds the multiplier, which a schedule scales.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            groups.setdefault(_multipliers(module, name), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay * weight_decay}
        for (rate, decay), parameters in groups.items()
    ]


def _multipliers(module: nn.Module, name: str) -> tuple[float, float]:
    if isinstance(module, (TemporalConv, Scale)):
        return 1.0, 1.0
    if isinstance(module, nn.BatchNorm2d):
        return (2.0, 0.0) if name == "weight" else (1.0, 0.0)
    assert isinstance(module, nn.Conv2d), f"no multipliers for {type(module).__name__}.{name}"
    return (1.0, 1.0) if name == "weight" else (2.0, 0.0)


def make_optimizer(model: Network, weight_decay: float, momentum: float) -> torch.optim.SGD:
    """SGD without Nesterov momentum; the learning rates are the multipliers until a schedule scales them."""
    return torch.optim.SGD(parameter_groups(model, weight_decay), momentum=momentum)


def make_schedule(
    optimizer: torch.optim.Optimizer, rates: Sequence[float], passes_per_rate: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """One learning rate per ``passes_per_rate`` passes over the training list; the last one stays."""
    if not rates or min(rates) <= 0:
        raise ConfigError(f"learning_rates must be positive numbers, at least one, got {list(rates)}")

    def rate(finished_passes: int) -> float:
        return rates[min(finished_passes // passes_per_rate, len(rates) - 1)]

    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
