"""Residual units for inference: convolution, bias, sum and ReLU in one pass over memory.

Axes: N videos, T frames (folded: N*T), C channels, H x W pixels. Tensors are (N*T, C, H, W) in channels_last memory.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stmulnet.models.resnet import Unit
from stmulnet.models.temporal import TemporalConv, fold_time, unfold_time

Size = tuple[int, int]


class FusedConv(nn.Module):
    """A convolution with what follows it: a sum with another tensor, if one is given, and a ReLU if asked for.

    Args:
        conv: The convolution, over space or time; its weights are taken in the type they have.
        relu: Whether a ReLU follows.
        packed: Whether oneDNN computes all of it at once, from weights in the order of its own (`packs`); otherwise
            ordinary layers do, one after the other.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, *, relu: bool, packed: bool) -> None:
        super().__init__()
        self.relu, self.packed = relu, packed
        self.over_time = isinstance(conv, TemporalConv)
        self.stride: Size = conv.stride  # type: ignore[assignment]
        self.padding: Size = conv.padding  # type: ignore[assignment]
        self.dtype = conv.weight.dtype
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", None if packed else weight)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        # Weights in oneDNN's order, and the input size that they are for: another size can want another order, and
        # putting them into it at every call takes longer than the convolution. One pair, so that threads see it whole.
        self._order: tuple[torch.Size | None, Tensor] = None, weight

    def forward(self, x: Tensor, frames: int = 1, other: Tensor | None = None) -> Tensor:
        """(N*T, C, H, W) to the same with other channels and size; ``other`` is added and may be overwritten."""
        x = x.to(self.dtype)
        if not self.over_time:
            return self._compute(x, other)
        other = None if other is None else unfold_time(other, frames)
        return fold_time(self._compute(unfold_time(x, frames), other), *x.shape[-2:])

    def _compute(self, x: Tensor, other: Tensor | None) -> Tensor:
        if self.packed:
            weight = self._packed_for(x.shape)
            return _packed_conv(x, weight, self.bias, self.stride, self.padding, other, relu=self.relu)
        assert self.weight is not None
        out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        out = out if other is None else out.add_(other)
        return out.relu_() if self.relu else out

    def _packed_for(self, size: torch.Size) -> Tensor:
        packed_for, weight = self._order
        if packed_for != size:
            plain = weight if packed_for is None else weight.to_dense()
            weight = _pack(plain, self.stride, self.padding, size)
            self._order = size, weight
        return weight


class FusedUnit(nn.Module):
    """What a `Unit` with folded BatchNorm computes.

    Args:
        unit: The unit.
        sum_is_read: Whether something reads the unit's sum before ``relu``, which then overwrites it; otherwise the
            ReLU is part of the sum.
        packed: As for `FusedConv`.
    """

    def __init__(self, unit: Unit, *, sum_is_read: bool, packed: bool) -> None:
        super().__init__()
        *inner, last = unit.branches
        convs = [FusedConv(_conv(unit, name), relu=True, packed=packed) for name in inner]
        if unit.time is not None:
            convs.append(FusedConv(unit.time, relu=False, packed=packed))
        self.inner = nn.ModuleList(convs)
        self.last = FusedConv(_conv(unit, last), relu=not sum_is_read, packed=packed)
        project = unit.branch1 is not None
        self.branch1 = FusedConv(_conv(unit, "branch1"), relu=False, packed=packed) if project else None
        self.relu = nn.ReLU(inplace=True) if sum_is_read else nn.Identity()

    def forward(self, state: Tensor, frames: int, residual_input: Tensor | None = None) -> Tensor:
        """As of `Unit`; where ``relu`` is part of the sum, after it. ``state`` may be overwritten."""
        x = state if residual_input is None else residual_input
        for conv in self.inner:
            x = conv(x, frames)
        shortcut = state if self.branch1 is None else self.branch1(state, frames)
        out: Tensor = self.last(x, frames, shortcut)
        return out


def _conv(unit: Unit, branch: str) -> nn.Conv2d:
    return unit.get_submodule(f"{branch}.0")  # type: ignore[return-value]


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's convolutions with what follows them, and they compute what they should.

    These are what `torch.compile` calls for frozen weights. They are no documented interface, so that they are tried
    here, and where they have changed ordinary layers take their place.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, other = (torch.randn(size, generator=generator) for size in _TRIAL)
    wanted = (F.conv2d(x, weight, bias, 2, 1) + other).relu()
    last = torch.channels_last
    x, weight, other = (tensor.to(dtype).contiguous(memory_format=last) for tensor in (x, weight, other))
    try:
        with torch.inference_mode():
            packed = _pack(weight, (2, 2), (1, 1), x.shape)
            found = _packed_conv(x, packed, bias.to(dtype), (2, 2), (1, 1), other, relu=True).float()
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False
    return bool((found - wanted).abs().max() < 0.02 * wanted.abs().max())


_TRIAL = ((2, 16, 9, 9), (32, 16, 3, 3), (32,), (2, 32, 5, 5))  # input, filters, bias, what is added


def _pack(weight: Tensor, stride: Size, padding: Size, input_size: torch.Size) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, padding, stride, (1, 1), 1, input_size)
    return packed


def _packed_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, other: Tensor | None, *, relu: bool
) -> Tensor:
    shared = weight, bias, padding, stride, (1, 1), 1
    out: Tensor
    if other is None:
        out = torch.ops.mkldnn._convolution_pointwise(x, *shared, "relu" if relu else "none", [], "")
    else:
        out = torch.ops.mkldnn._convolution_pointwise_(
            other, x, *shared, "add", 1.0, "relu" if relu else None, [], None
        )
    return out
