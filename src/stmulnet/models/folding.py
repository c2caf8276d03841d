"""BatchNorm folded into the convolutions before it: the same function with half the layers, for inference."""

import copy

import torch
from torch import Tensor, nn

from stmulnet.models.multiplier import Network
from stmulnet.models.resnet import ConvBN, Stream

_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def fold_batchnorm(model: Network, *, inplace: bool = False) -> Network:
    """A copy for inference in which every BatchNorm is part of the convolution before it.

    With its running statistics a BatchNorm is a factor and an offset per channel, gamma (x - mu) / sigma + beta with
    sigma = sqrt(variance + eps). The factor goes into the filters, the offset into the bias. Convolutions over time
    that are layers of their own, connections and classifiers have no BatchNorm and stay as they are; so do dropouts,
    which do nothing in evaluation mode.

    The copy knows the same layer names, but for convolutions before a BatchNorm: what these gave is nowhere computed
    any more, and `activations` refuses their names. It cannot be saved or trained.

    Args:
        model: A network; not changed, but with ``inplace``. One that is folded already is copied only.
        inplace: Whether ``model`` itself becomes that network, for callers that need it no longer: a copy is 200 MB at
            the official size.

    Returns:
        A network in evaluation mode with the same outputs up to rounding (float32: about 1e-6 of the largest).
    """
    folded = (model if inplace else copy.deepcopy(model)).eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, Stream):
            module.bn_conv1 = _fold(module.conv1, module.bn_conv1)  # type: ignore[assignment]
        elif isinstance(module, ConvBN):
            conv, norm = module[0], module[1]
            assert isinstance(conv, nn.Conv2d)
            module[1] = _fold(conv, norm)
    folded.folded = True
    folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's hints lack the keyword alone
    return folded


def _fold(conv: nn.Conv2d, norm: nn.Module) -> nn.Identity:
    """Change the convolution to what it and the BatchNorm compute; returns what takes the BatchNorm's place."""
    if isinstance(norm, nn.Identity):
        return norm
    assert isinstance(norm, _BATCH_NORMS)
    factor, offset = _factor_and_offset(norm)
    dtype, bias = conv.weight.dtype, conv.bias
    if bias is not None:
        offset = offset + bias.double() * factor
    weight = conv.weight.double() * factor[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(offset.to(dtype), requires_grad=False)
    return nn.Identity()


def _factor_and_offset(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> tuple[Tensor, Tensor]:
    """What a BatchNorm with its running statistics multiplies by and adds, float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return factor, norm.bias.double() - norm.running_mean.double() * factor
