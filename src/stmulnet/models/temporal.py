"""Layers that see time. Frames are folded into the batch everywhere else.

Axes: N videos, T frames, C channels, H x W pixels. A folded tensor is (N*T, C, H, W), frames fastest, in
channels_last memory: its bytes lie as N, T, H, W, C, so that (N, C, T, H*W) in channels_last is a view of it and a
convolution along time is an ordinary 2-D one, without a copy.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stmulnet.errors import ConfigError
from stmulnet.models.config import TemporalPoolConfig

TAPS = {  # weights of frames t-1, t, t+1 (STMulNet.m: addConv3D = 9, 8, 10)
    "center": (0.0, 1.0, 0.0),
    "average": (1 / 3, 1 / 3, 1 / 3),
    "difference": (-1.0, 3.0, -1.0),
}


def unfold_time(x: Tensor, frames: int) -> Tensor:
    """(N*T, C, H, W) to (N, C, T, H*W); a view for channels_last input."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch // frames, frames, height * width, channels).permute(0, 3, 1, 2)


def fold_time(x: Tensor, height: int, width: int) -> Tensor:
    """(N, C, T, H*W) to (N*T, C, H, W); a view for channels_last input."""
    videos, channels, frames, _ = x.shape
    return x.permute(0, 2, 3, 1).reshape(videos * frames, height, width, channels).permute(0, 3, 1, 2)


class TemporalConv(nn.Conv2d):
    """A 3-tap convolution over frames with zero frames at both ends. Weight (out, in, time, 1)."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(in_channels, out_channels, kernel_size=(3, 1), padding=(1, 0), bias=bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:  # type: ignore[override] # time is folded into the batch
        """(N*T, C, H, W) to the same with ``out_channels``."""
        height, width = x.shape[-2:]
        return fold_time(super().forward(unfold_time(x, frames)), height, width)


class InsertedTemporalConv(TemporalConv):
    """A layer of its own, with bias (STMulNet.m: addConv3D = 8, 9, 10).

    Nothing follows it: no BatchNorm, no ReLU (appendBnorm3D = 0).
    """

    def __init__(self, channels: int, init: str = "center") -> None:
        super().__init__(channels, channels, bias=True)
        self.init = init
        self.reset_identity()

    @torch.no_grad()
    def reset_identity(self) -> None:
        """Each channel sees only itself, with the taps of ``init``; bias 0."""
        if self.weight.is_meta:  # weights will come from a file; `torch.eye` there would import the compiler, a second
            return
        eye = torch.eye(self.in_channels)
        self.weight.copy_((eye[:, :, None] * torch.tensor(TAPS[self.init])).unsqueeze(-1))
        assert self.bias is not None
        self.bias.zero_()


class PointwiseTemporalConv(TemporalConv):
    """In place of a 1x1 convolution without bias, each tap a third of it (STResNet_stage1.m: addConv3D = 1)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, bias=False)

    @torch.no_grad()
    def spread(self, pointwise: Tensor) -> None:
        """Take over a 1x1 convolution, weight (out, in, 1, 1)."""
        self.weight.copy_((pointwise / 3).expand_as(self.weight))


class TemporalPool(nn.Module):
    """Pooling over frames, no padding: T frames give (T - window) // stride + 1 windows (STMulNet.m: addPool3D = 2)."""

    def __init__(self, config: TemporalPoolConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(N*T, C, H, W) to (N*W, C, H, W)."""
        window = frames if self.config.window == "all" else self.config.window
        if frames < window:
            raise ConfigError(f"temporal pooling over {window} frames needs at least as many, got {frames}")
        pool = F.max_pool2d if self.config.kind == "max" else F.avg_pool2d
        return fold_time(pool(unfold_time(x, frames), (window, 1), (self.config.stride, 1)), *x.shape[-2:])
