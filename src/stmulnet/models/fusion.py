"""Where the streams are connected.

Axes: N videos, T frames (folded: N*T), C channels, H x W positions.
"""

import torch
from torch import Tensor, nn

from stmulnet.models.config import FusionConfig

SCALE_START = 0.1  # STMulNet.m: block.initParams(0.1)


class Gate(nn.Module):
    """Joins the features of the other stream with a stream's own sum.

    Official wiring (STMulNet.m:239-305): the other stream's state is taken after its ReLU, the own sum *before* its
    ReLU, so the product can be negative. Gradients flow into both.
    """

    def __init__(self, config: FusionConfig, channels: int) -> None:
        super().__init__()
        self.operation = config.operation
        self.scale = Scale(channels) if config.scale else None

    def forward(self, own_sum: Tensor, other_state: Tensor) -> Tensor:
        """Two tensors of one shape (N*T, C, H, W) to a third."""
        if self.scale is not None:
            other_state = self.scale(other_state)
        return other_state * own_sum if self.operation == "multiply" else other_state + own_sum


class Scale(nn.Module):
    """A factor and an offset per channel (STMulNet.m: doScale)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), SCALE_START))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N*T, C, H, W) to the same shape."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]
