"""A network in the form that exporters can follow: one graph for any number of clips and frames and any size of image.

Axes: N videos, T frames, W windows, C channels, H x W pixels; a folded tensor is (N*T, C, H, W), frames fastest.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stmulnet.models.config import ModelConfig
from stmulnet.models.folding import fold_batchnorm
from stmulnet.models.multiplier import INPUTS, Network, TwoStreamOutput
from stmulnet.models.resnet import Head, Stream, Unit
from stmulnet.models.temporal import TemporalConv, TemporalPool


class Exportable(nn.Module):
    """A network without BatchNorm whose outputs are plain tensors.

    Four layers are written otherwise, with the same result: exporters cannot follow how the originals depend on sizes
    that are not known yet.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = fold_batchnorm(network)
        self.outputs = output_names(network.config)
        for module in list(self.network.modules()):
            if isinstance(module, Stream) and module.pool1.ceil_mode:
                module.pool1 = _pool_without_ceil(module.pool1)  # type: ignore[assignment]
            if isinstance(module, Unit):
                _replace_temporal_convs(module)
            if isinstance(module, Head):
                if module.temporal_pool is not None:
                    module.temporal_pool = _FoldedPool(module.temporal_pool)
                module.pool5 = nn.Sequential(_Contiguous(), module.pool5)  # type: ignore[assignment]
                plain = module.fc.weight.detach().clone(memory_format=torch.contiguous_format)
                module.fc.weight = nn.Parameter(plain, requires_grad=False)

    def forward(self, *clips: Tensor) -> tuple[Tensor, ...]:
        """Clips (N, T, C, H, W), uint8, of each stream to the outputs of `output_names`."""
        output: TwoStreamOutput = self.network(*clips)
        return tuple(getattr(output, name) for name in self.outputs)


def input_names(config: ModelConfig) -> list[str]:
    """``rgb`` and ``flow``, or the one that the network has."""
    return [INPUTS[name] for name in config.streams]


def output_names(config: ModelConfig) -> list[str]:
    """Fields of `TwoStreamOutput` that the network fills; with one stream ``fused`` would be that stream again."""
    both = ["fused"] if len(config.streams) == 2 else []
    return [*config.streams, *both, *(f"{name}_map" for name in config.streams)]


def min_frames(config: ModelConfig) -> int:
    """Frames that an exported clip must have: exporters treat one frame as another case."""
    return max(2, config.min_frames)


def min_side(config: ModelConfig) -> int:
    """Pixels that an exported clip must have on each side: for two positions on the last map, or those averaged."""
    return config.min_side(2 if config.head_pool == "global" else max(2, config.head_pool))


def _pool_without_ceil(pool: nn.MaxPool2d) -> nn.Sequential:
    """Windows hang over at bottom and right; zeros there change nothing, since the pooling follows a ReLU."""
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(pool.kernel_size, pool.stride))


def _replace_temporal_convs(unit: Unit) -> None:
    if isinstance(unit.time, TemporalConv):
        unit.time = _FoldedConv(unit.time)  # type: ignore[assignment]
    for name in unit.branches:
        branch = unit.get_submodule(name)
        if isinstance(branch[0], TemporalConv):  # type: ignore[index]
            branch[0] = _FoldedConv(branch[0])  # type: ignore[index, operator]


def unfold_batch(x: Tensor, frames: int) -> Tensor:
    """(N*T, C, H, W) to (N, T, C, H, W)."""
    clips: Tensor = x.unflatten(0, (-1, frames))  # type: ignore[no-untyped-call]
    return clips


class _FoldedConv(TemporalConv):
    """The neighbours in time become channels of a 1x1 convolution, so that the batch stays folded."""

    def __init__(self, conv: TemporalConv) -> None:
        super().__init__(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
        taps = conv.weight.detach()  # (out, in, time, 1)
        self.weight = nn.Parameter(taps.transpose(1, 2).flatten(1, 2).unsqueeze(-1), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: Tensor, frames: int) -> Tensor:  # type: ignore[override] # as in TemporalConv
        """(N*T, C, H, W) to the same with other channels."""
        clips = F.pad(unfold_batch(x, frames), (0, 0, 0, 0, 0, 0, 1, 1))
        before, here, after = clips[:, :-2], clips[:, 1:-1], clips[:, 2:]
        return F.conv2d(torch.cat((before, here, after), dim=2).flatten(0, 1), self.weight, self.bias)


class _FoldedPool(TemporalPool):
    """Pooling over frames as a 2-D pooling of (N, 1, T, C*H*W)."""

    def __init__(self, pool: TemporalPool) -> None:
        super().__init__(pool.config)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(N*T, C, H, W) to (N*W, C, H, W)."""
        clips = unfold_batch(x, frames)
        kind, window = self.config.kind, self.config.window
        if window == "all":
            return clips.amax(1) if kind == "max" else clips.mean(1)
        pool = F.max_pool2d if kind == "max" else F.avg_pool2d
        pooled = pool(clips.flatten(2).unsqueeze(1), (window, 1), (self.config.stride, 1)).flatten(0, 2)
        windows: Tensor = pooled.unflatten(1, x.shape[1:])  # type: ignore[no-untyped-call]
        return windows


class _Contiguous(nn.Module):
    """Back from channels_last: of a map of one position, the two look alike, and exporters would ask which it is."""

    def forward(self, x: Tensor) -> Tensor:
        """The same values in the usual order."""
        return x.contiguous()
