"""The same network the usual way: videos as (N, C, T, H, W), every layer a 3-D one, in the default memory format.

Weights are shared with the package's network, so that both compute the same (checked by whoever compares them).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stmulnet.models.config import STAGES
from stmulnet.models.multiplier import MultiplierNetwork, TwoStreamOutput, joint_output
from stmulnet.models.resnet import ConvBN, Head, Stream, Unit
from stmulnet.models.temporal import TemporalConv


class Conv3dNetwork(nn.Module):
    """ST-MulNet with motion gating the residual input of appearance, in 3-D layers.

    Args:
        network: The package's network; its parameters and buffers are used.
    """

    def __init__(self, network: MultiplierNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor, flow: Tensor) -> TwoStreamOutput:
        """(N, T, 3, H, W) and (N, T, 20, H, W), as the package's network takes them."""
        net = self.network
        appearance = _stem(net.appearance, _normalised(rgb, net.rgb_mean, net.rgb_std))
        motion = _stem(net.motion, _normalised(flow, net.flow_mean, net.flow_std))
        for stage in STAGES:
            (first, *units), (motion_first, *motion_units) = net.appearance.units(stage), net.motion.units(stage)
            appearance_sum = _unit(first, appearance)
            motion = F.relu(_unit(motion_first, motion))
            appearance, gated = F.relu(appearance_sum), appearance_sum * motion
            for unit in motion_units:
                motion = F.relu(_unit(unit, motion))
            for number, unit in enumerate(units):
                appearance = F.relu(_unit(unit, appearance, gated if number == 0 else None))
        return joint_output(_head(net.appearance.head, appearance), _head(net.motion.head, motion))


def _normalised(clips: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    shape = (-1, 1, 1, 1)
    return (clips.transpose(1, 2).float() - mean.view(shape)) / std.view(shape)


def _conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    if isinstance(layer, TemporalConv):
        return F.conv3d(x, layer.weight[..., None], layer.bias, padding=(1, 0, 0))
    return F.conv3d(x, layer.weight[:, :, None], layer.bias, (1, *layer.stride), (0, *layer.padding))


def _norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    statistics = (None, None) if layer.training else (layer.running_mean, layer.running_var)
    return F.batch_norm(x, *statistics, layer.weight, layer.bias, layer.training, 0.0, layer.eps)


def _stem(stream: Stream, x: Tensor) -> Tensor:
    x = F.relu(_norm(stream.bn_conv1, _conv(stream.conv1, x)))
    return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), ceil_mode=True)


def _conv_bn(layers: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layers, ConvBN)
    conv, norm, *relu = layers
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    x = _norm(norm, _conv(conv, x))
    return F.relu(x) if relu else x


def _unit(unit: Unit, state: Tensor, residual_input: Tensor | None = None) -> Tensor:
    x = state if residual_input is None else residual_input
    *inner, last = unit.branches
    for name in inner:
        x = _conv_bn(unit.get_submodule(name), x)
    if unit.time is not None:
        x = _conv(unit.time, x)
    shortcut = state if unit.branch1 is None else _conv_bn(unit.branch1, state)
    return shortcut + _conv_bn(unit.get_submodule(last), x)


def _head(head: Head, x: Tensor) -> Tensor:
    assert head.temporal_pool is not None
    window, stride, size = head.temporal_pool.config.window, head.temporal_pool.config.stride, head.pool_size
    assert isinstance(window, int)
    assert isinstance(size, int)
    x = F.max_pool3d(x, (window, 1, 1), (stride, 1, 1))
    x = F.avg_pool3d(x, (1, size, size), (1, 1, 1))
    return _conv(head.fc, F.dropout(x, head.dropout.p, head.training))


def same_scores(network: MultiplierNetwork, rgb: Tensor, flow: Tensor) -> float:
    """Largest difference of the two networks' scores, relative to the largest score, in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        ours, theirs = network(rgb, flow).fused, Conv3dNetwork(network)(rgb, flow).fused
    return float((ours - theirs).abs().max() / ours.abs().max())
