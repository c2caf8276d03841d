"""One stream: the Caffe ResNet, fully convolutional, frame by frame.

Axes: N videos, T frames (folded: N*T), W windows, C channels, H x W pixels, h x w positions, K classes.
Every layer of the official network is a module, with the official name as far as it goes (res2a_branch2a is
``res2.a.branch2a[0]``), so that it can be watched from outside: `stmulnet.models.layers` has the list.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from stmulnet.errors import ConfigError
from stmulnet.models.config import STAGES, ModelConfig, StreamConfig
from stmulnet.models.temporal import InsertedTemporalConv, PointwiseTemporalConv, TemporalConv, TemporalPool

# Share of the newest statistics in the running ones (setLrWd.m:30); `stmulnet train` averages them as the authors do.
BN_MOMENTUM = 0.05
BN_EPS = 1e-5


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm with the official constants."""
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class ConvBN(nn.Sequential):
    """Convolution without bias, BatchNorm, and a ReLU if asked for."""

    def __init__(self, conv: nn.Conv2d, relu: bool) -> None:
        layers = [conv, batch_norm(conv.out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers if relu else layers[:2])

    def forward(self, x: Tensor, frames: int) -> Tensor:  # type: ignore[override] # time is folded into the batch
        """(N*T, C, H, W) to the same with other channels and size."""
        conv, *rest = self
        x = conv(x, frames) if isinstance(conv, TemporalConv) else conv(x)
        for layer in rest:
            x = layer(x)
        return x


def conv2d(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias, zero-padded to keep the size."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


class Sum(nn.Module):
    """Shortcut plus residual branch: what a unit's ReLU reads."""

    def forward(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        """Two tensors of one shape to a third."""
        return residual + shortcut


class Unit(nn.Module):
    """A residual unit: convolutions branch2a, 2b, [2c], each with BatchNorm; a ReLU and [time] between; shortcut.

    ``branch1`` is None where the shortcut is the identity. ``time`` sits right before the last convolution
    (STMulNet.m: after the ReLU that follows b_branch2b).
    """

    branches: tuple[str, ...]

    def __init__(self, convs: Mapping[str, nn.Conv2d], time: InsertedTemporalConv | None, first: bool) -> None:
        super().__init__()
        branch1 = convs.get("branch1")
        self.branch1 = ConvBN(branch1, relu=False) if branch1 is not None else None
        self.branches = tuple(name for name in convs if name != "branch1")
        *inner, last = self.branches
        for name in inner:
            self.add_module(name, ConvBN(convs[name], relu=True))
        self.time = time
        self.add_module(last, ConvBN(convs[last], relu=False))
        self.sum = Sum()
        self.relu = nn.ReLU(inplace=not first)  # what a connection reads after a first unit must stay as it is

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The BatchNorm at the end of the residual branch."""
        return self.get_submodule(f"{self.branches[-1]}.1")  # type: ignore[return-value]

    def forward(self, state: Tensor, frames: int, residual_input: Tensor | None = None) -> Tensor:
        """The sum of shortcut and residual branch, *before* its ReLU.

        Args:
            state: (N*T, C, H, W), after the previous unit's ReLU.
            frames: T.
            residual_input: What the residual branch reads instead of ``state``; the shortcut always reads ``state``.
        """
        x = state if residual_input is None else residual_input
        *inner, last = self.branches
        for name in inner:
            x = self.get_submodule(name)(x, frames)
        if self.time is not None:
            x = self.time(x, frames)
        shortcut = state if self.branch1 is None else self.branch1(state, frames)
        total: Tensor = self.sum(shortcut, self.get_submodule(last)(x, frames))
        return total


class Stream(nn.Module):
    """conv1, pool1, res2 ... res5 and the head of one stream."""

    def __init__(self, in_channels: int, stream: StreamConfig, model: ModelConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, stream.stem_channels, 7, stride=2, padding=3, bias=stream.conv1_bias)
        self.bn_conv1 = batch_norm(stream.stem_channels)
        self.conv1_relu = nn.ReLU(inplace=True)
        if stream.geometry == "torch":
            self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        else:  # pad [0 1 0 1]: windows start at the first pixel and hang over at bottom and right (Caffe's ceil mode)
            self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for stage in STAGES:
            self.add_module(f"res{stage}", make_stage(stream, model.temporal_conv, stage))
        self.head = Head(stream.out_channels(5), stream.dropout, model)

    def stem(self, x: Tensor) -> Tensor:
        """(N*T, C, H, W), normalised, to (N*T, 64, H/4, W/4)."""
        out: Tensor = self.pool1(self.conv1_relu(self.bn_conv1(self.conv1(x))))
        return out

    def units(self, stage: int) -> list[Unit]:
        """The residual units of ``stage`` (2 to 5) in order."""
        return list(self.get_submodule(f"res{stage}").children())  # type: ignore[arg-type]

    def stage(self, stage: int, x: Tensor, frames: int) -> Tensor:
        """One stage without any other stream."""
        return run_units(self.units(stage), x, frames)

    def last_units(self, stage: int, x: Tensor) -> Tensor:
        """Units c, d, ...: none of them sees time, so that every frame goes through them by itself."""
        return run_units(self.units(stage)[2:], x, frames=1)


def run_units(units: Sequence[Unit], x: Tensor, frames: int) -> Tensor:
    """Units one after the other, each with its ReLU."""
    for unit in units:
        x = unit.relu(unit(x, frames))
    return x


def make_stage(stream: StreamConfig, temporal_conv: str | None, stage: int) -> nn.ModuleDict:
    """The residual units of one stage by their official names."""
    units = nn.ModuleDict()
    for index, name in enumerate(stream.unit_names(stage)):
        sees_time = index == 1 and stream.sees_time(stage)
        init = temporal_conv if sees_time else None
        make_convs = bottleneck if stream.block == "bottleneck" else basic
        convs = make_convs(stream, stage, first=index == 0, pointwise=init == "pointwise")
        inserted = init is not None and init != "pointwise"
        time = InsertedTemporalConv(stream.mid_channels(stage), init) if inserted and init else None
        units[name] = Unit(convs, time, first=index == 0)
    return units


def bottleneck(stream: StreamConfig, stage: int, *, first: bool, pointwise: bool) -> dict[str, nn.Conv2d]:
    """Convolutions of a unit of ResNet-50 and deeper, in the order of the official files."""
    in_channels, mid, out_channels, stride = unit_shape(stream, stage, first=first)
    stride_a, stride_b = (stride, 1) if stream.geometry == "caffe" else (1, stride)
    convs = {"branch1": conv2d(in_channels, out_channels, 1, stride)} if projects(stream, stage, first=first) else {}
    if pointwise:
        convs["branch2a"] = PointwiseTemporalConv(in_channels, mid)
    else:
        convs["branch2a"] = conv2d(in_channels, mid, 1, stride_a)
    convs["branch2b"] = conv2d(mid, mid, 3, stride_b)
    convs["branch2c"] = PointwiseTemporalConv(mid, out_channels) if pointwise else conv2d(mid, out_channels, 1)
    return convs


def basic(stream: StreamConfig, stage: int, *, first: bool, pointwise: bool) -> dict[str, nn.Conv2d]:
    """Convolutions of a unit of ResNet-18 and 34."""
    assert not pointwise  # refused by ModelConfig
    in_channels, mid, out_channels, stride = unit_shape(stream, stage, first=first)
    convs = {"branch1": conv2d(in_channels, out_channels, 1, stride)} if projects(stream, stage, first=first) else {}
    convs["branch2a"] = conv2d(in_channels, mid, 3, stride)
    convs["branch2b"] = conv2d(mid, out_channels, 3)
    return convs


def unit_shape(stream: StreamConfig, stage: int, *, first: bool) -> tuple[int, int, int, int]:
    """Channels in, inside and out, and stride of a unit."""
    out_channels = stream.out_channels(stage)
    if not first:
        return out_channels, stream.mid_channels(stage), out_channels, 1
    before = stream.stem_channels if stage == 2 else stream.out_channels(stage - 1)
    return before, stream.mid_channels(stage), out_channels, 1 if stage == 2 else 2


def projects(stream: StreamConfig, stage: int, *, first: bool) -> bool:
    """Whether the shortcut of a unit has a convolution."""
    in_channels, _, out_channels, stride = unit_shape(stream, stage, first=first)
    return first and (stream.geometry == "caffe" or in_channels != out_channels or stride != 1)


class Head(nn.Module):
    """Temporal pooling, then spatial average, then dropout, then the classifier (STMulNet.m: addPool3D)."""

    def __init__(self, channels: int, dropout: float, model: ModelConfig) -> None:
        super().__init__()
        self.temporal_pool = TemporalPool(model.temporal_pool) if model.temporal_pool else None
        self.pool_size = model.head_pool
        self.pool5 = nn.AdaptiveAvgPool2d(1) if self.pool_size == "global" else nn.AvgPool2d(self.pool_size, stride=1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Conv2d(channels, model.num_classes, 1)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(N*T, C, h', w') to raw logits (N, K, W, h, w)."""
        videos = x.shape[0] // frames
        if self.temporal_pool is not None:
            x = self.temporal_pool(x, frames)
        if self.pool_size != "global" and any(side < self.pool_size for side in x.shape[-2:]):
            raise ConfigError(
                f"images too small: {tuple(x.shape[-2:])} positions on the last map, head_pool {self.pool_size} "
                "needs as many in height and width"
            )
        x = self.fc(self.dropout(self.pool5(x)))
        return x.reshape(videos, -1, *x.shape[1:]).transpose(1, 2)
