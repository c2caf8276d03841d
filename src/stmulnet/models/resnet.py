"""One stream: the Caffe ResNet with bottleneck units, fully convolutional, frame by frame.

Axes: N videos, T frames (folded: N*T), W windows, C channels, H x W pixels, h x w positions, K classes.
Layer names are those of the official files (res2a_branch2a is ``res2.a.branch2a``).
"""

import string

from torch import Tensor, nn
from torch.nn import functional as F

from stmulnet.errors import ConfigError
from stmulnet.models.config import STAGES, ModelConfig, StreamConfig, Units
from stmulnet.models.temporal import TemporalConv, TemporalPool

# Share of the newest statistics in the running ones (setLrWd.m:30). Deviation D3: the official code averages standard
# deviations over the sub-batches, once per update; this is PyTorch's rule: variances, after every sub-batch.
BN_MOMENTUM = 0.05
BN_EPS = 1e-5


def unit_names(units: Units, stage: int) -> list[str]:
    """Official names of a stage's units: a, b, c, ...; res3 and res4 of ResNet-101 and 152 have a, b1, b2, ..."""
    count = units[stage - 2]
    if (units[2] > 6 and stage in (3, 4)) or count > len(string.ascii_lowercase):
        return ["a", *(f"b{index}" for index in range(1, count))]
    return list(string.ascii_lowercase[:count])


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, zero-padded to keep the size, and BatchNorm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM))


class Unit(nn.Module):
    """A residual unit: 1x1, 3x3, [over time], 1x1, each with BatchNorm; stride on the first 1x1 (Caffe ResNet)."""

    def __init__(
        self, in_channels: int, mid_channels: int, stride: int, time: TemporalConv | None, first: bool
    ) -> None:
        super().__init__()
        out_channels = 4 * mid_channels
        self.branch1 = conv_bn(in_channels, out_channels, 1, stride) if first else None
        self.branch2a = conv_bn(in_channels, mid_channels, 1, stride)
        self.branch2b = conv_bn(mid_channels, mid_channels, 3)
        self.time = time
        self.branch2c = conv_bn(mid_channels, out_channels, 1)

    def forward(self, state: Tensor, frames: int, residual_input: Tensor | None = None) -> Tensor:
        """The sum of shortcut and residual branch, *before* its ReLU.

        Args:
            state: (N*T, C, H, W), after the previous unit's ReLU.
            frames: T.
            residual_input: What the residual branch reads instead of ``state``; the shortcut always reads ``state``.
        """
        x = state if residual_input is None else residual_input
        x = F.relu(self.branch2a(x), inplace=True)
        x = F.relu(self.branch2b(x), inplace=True)
        if self.time is not None:
            x = self.time.forward_folded(x, frames)
        shortcut: Tensor = state if self.branch1 is None else self.branch1(state)
        total: Tensor = self.branch2c(x) + shortcut
        return total


class Stream(nn.Module):
    """conv1, pool1, res2 ... res5 and the head of one stream."""

    def __init__(self, in_channels: int, stream: StreamConfig, model: ModelConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, stream.stem_channels, 7, stride=2, padding=3, bias=stream.conv1_bias)
        self.bn_conv1 = nn.BatchNorm2d(stream.stem_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        in_channels = stream.stem_channels
        for stage in STAGES:
            self.add_module(f"res{stage}", make_stage(stream, model, stage, in_channels))
            in_channels = stream.out_channels(stage)
        self.head = Head(in_channels, stream.dropout, model)

    def stem(self, x: Tensor) -> Tensor:
        """(N*T, C, H, W), mean subtracted, to (N*T, 64, H/4, W/4)."""
        x = F.relu(self.bn_conv1(self.conv1(x)), inplace=True)
        # pad [0 1 0 1]: windows start at the first pixel and hang over at bottom and right (Caffe's ceil mode)
        return F.max_pool2d(x, 3, stride=2, ceil_mode=True)

    def units(self, stage: int) -> list[Unit]:
        """The residual units of ``stage`` (2 to 5) in order."""
        return list(self.get_submodule(f"res{stage}").children())  # type: ignore[arg-type]

    def features(self, x: Tensor, frames: int) -> Tensor:
        """(N*T, C, H, W), mean subtracted, to the last map (N*T, 2048, h, w), without any other stream."""
        x = self.stem(x)
        for stage in STAGES:
            for unit in self.units(stage):
                x = F.relu(unit(x, frames))
        return x


def make_stage(stream: StreamConfig, model: ModelConfig, stage: int, in_channels: int) -> nn.ModuleDict:
    """The residual units of one stage by their official names."""
    mid_channels = stream.mid_channels(stage)
    units = nn.ModuleDict()
    for name in unit_names(stream.units, stage):
        first = name == "a"
        stride = 2 if first and stage > 2 else 1
        # The official script looks for "b_branch2b": b units only, so none in res3b1 or res4b1 (STMulNet.m:351)
        has_time = model.temporal_conv is not None and name == "b"
        time = TemporalConv(mid_channels, model.temporal_conv) if has_time and model.temporal_conv else None
        units[name] = Unit(in_channels, mid_channels, stride, time, first)
        in_channels = 4 * mid_channels
    return units


class Head(nn.Module):
    """Temporal pooling, then spatial average, then dropout, then the classifier (STMulNet.m: addPool3D)."""

    def __init__(self, channels: int, dropout: float, model: ModelConfig) -> None:
        super().__init__()
        self.temporal_pool = TemporalPool(model.temporal_pool) if model.temporal_pool else None
        self.pool_size = model.head_pool
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Conv2d(channels, model.num_classes, 1)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(N*T, C, h', w') to raw logits (N, K, W, h, w)."""
        videos = x.shape[0] // frames
        if self.temporal_pool is not None:
            x = self.temporal_pool(x, frames)
        if self.pool_size != "global" and min(x.shape[-2:]) < self.pool_size:
            raise ConfigError(
                f"images too small: {tuple(x.shape[-2:])} positions on the last map, head_pool {self.pool_size} "
                "needs as many in height and width"
            )
        x = F.adaptive_avg_pool2d(x, 1) if self.pool_size == "global" else F.avg_pool2d(x, self.pool_size, stride=1)
        x = self.fc(self.dropout(x))
        return x.reshape(videos, -1, *x.shape[1:]).transpose(1, 2)
