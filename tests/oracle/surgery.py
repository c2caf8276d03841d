"""What the authors' scripts do to two base streams, step by step: STMulNet.m, STResNet_stage1.m, STResNet_stage2.m.

Layers are found by the same searches for parts of names and the same positions in the list as there, for better or
worse. Streams are called by their official names: spatial (images) and temporal (flow).

Axes: filters are (y, x, in, out), filters over time (1, time, in, out).
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from tests.oracle.files import Array, Layer, Net, Param, loss_block, set_multipliers

Stream = Literal["spatial", "temporal"]
STREAMS: tuple[Stream, Stream] = ("spatial", "temporal")
TAPS = {8: (1 / 3, 1 / 3, 1 / 3), 9: (0.0, 1.0, 0.0), 10: (-1.0, 3.0, -1.0)}


@dataclass(frozen=True)
class Switches:
    """The scripts' settings, with the values STMulNet.m has.

    `stages` are the rows of fusionLayer; `window` (nFrames) may be inf, `pool_stride` is always 1 in STMulNet.m;
    `dropout` None is NaN: rates stay as they are. `time_anchor` is part of the names of the 3x3 convolutions behind
    which the filters over time go. The script always takes b_branch2b; in basic units, which no official file has,
    that is the last convolution, so that the filter comes after the sum. b_branch2a puts it inside their branch.
    """

    stages: tuple[int, ...] = (2, 3, 4, 5)
    fuse_into: Stream = "spatial"
    do_sum: bool = False
    do_mul: bool = True
    do_scale: bool = False
    do_bidirectional: bool = False
    add_conv3d: Literal[0, 1, 8, 9, 10] = 9
    add_pool3d: Literal[0, 1, 2] = 2
    window: float = 5
    pool_stride: int = 1
    dropout: float | None = 0.8
    time_anchor: str = "b_branch2b"


def st_mulnet(spatial: Net, temporal: Net, switches: Switches | None = None, **changes: Any) -> Net:
    """STMulNet.m: the fused network of two base streams, which stay as they are."""
    switches = replace(switches or Switches(), **changes)
    spatial, temporal = copy.deepcopy(spatial), copy.deepcopy(temporal)
    # The script takes the first net's length for both where there is no loss layer.
    for net in (spatial, temporal):
        _rename_prediction(net, len(spatial.layers))
        _before_last_pooling(net).name = "res5c_relu"
    temporal.meta["normalization"]["imageSize"] = (*temporal.meta["normalization"]["imageSize"][:2], 20.0)
    temporal.meta["normalization"]["averageImage"] = np.full((1, 1, 20), 128.0)
    net = _join(spatial, temporal)
    _fuse_streams(net, switches)
    _name_inputs(net)
    if switches.add_conv3d == 1:
        make_pointwise_temporal(net)
    elif switches.add_conv3d:
        _inject_time_convolutions(net, TAPS[switches.add_conv3d], switches.time_anchor)
    if switches.add_pool3d:
        for stream in STREAMS:
            _append_time_pool(net, stream, switches)
    return _finish(net, switches.dropout)


def st_resnet_stage1(spatial: Net, temporal: Net, **changes: Any) -> Net:
    """STResNet_stage1.m: addition, the 1x1 convolutions of the b units over time, no temporal pooling, no dropout."""
    defaults = Switches(do_sum=True, do_mul=False, add_conv3d=1, add_pool3d=0, dropout=0.0)
    switches = replace(defaults, **changes)
    net = _join(*_renamed(spatial, temporal))
    _fuse_streams(net, switches)
    _name_inputs(net)
    if switches.add_conv3d:
        make_pointwise_temporal(net)
    return _finish(net, switches.dropout)


def st_resnet_stage2(net: Net, *, window: float = 5, stride: int = 2, method: str = "max") -> Net:
    """STResNet_stage2.m: temporal pooling put right behind res5c_relu of a network of stage 1.

    Neither script renames that layer, so stage 5 must have three units.
    """
    net = copy.deepcopy(net)
    for stream in STREAMS:
        relu = net.index(f"res5c_relu_{stream}")
        name = f"res5c_relu_pool_{stream}"
        source = net.layers[relu].outputs[0]
        net.layers.insert(relu + 1, Layer(name, "dagnn.PoolTime", [source], [name], [], _pool(window, stride, method)))
        _redirect(net, source, name)
    net.meta["normalization"]["rgbVariance"] = None
    _remove_dropout(net, lambda rate: rate == 0)
    _replace_error_layers(net)
    return net


def perturb_temporal(net: Net, seed: int) -> None:
    """Give the parameters that the surgery made (Scale, ConvTime) random values, as training would.

    Filters over time become asymmetric in time and not symmetric in their channels.
    """
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        params = [net.param(name) for name in layer.params]
        if layer.type == "dagnn.Scale":
            shape = params[0].value.shape
            params[0].value = _single(rng.uniform(0.3, 1.2, shape) * rng.choice([-1, 1, 1], shape))
            params[1].value = _single(rng.normal(0, 0.2, params[1].value.shape))
        elif layer.type == "dagnn.ConvTime":
            filters = params[0].value
            noise = rng.standard_normal(filters.shape, np.float32)
            params[0].value = filters + noise * np.float32(0.5 / math.sqrt(filters[..., 0].size) * _gain(filters))
            for bias in params[1:]:
                bias.value = _single(rng.normal(0, 0.1, bias.value.shape))


def _gain(filters: Array) -> float:
    """Root mean square that one output has for inputs of mean square 1."""
    return float(np.sqrt(np.mean(np.sum(filters.astype(np.float64) ** 2, (0, 1, 2)))))


def _single(value: Array) -> Array:
    return np.asarray(value, np.float32)


# ---- names ----


def _positions(net: Net, kind: str) -> list[int]:
    return [index for index, layer in enumerate(net.layers) if layer.type == kind]


def _rename_prediction(net: Net, first_length: int | None) -> None:
    """The layer before the first loss becomes 'prediction', whatever it is."""
    losses = _positions(net, "dagnn.Loss")
    if not losses and first_length is None:
        raise ValueError("STResNet_stage1.m needs base streams with loss layers")
    position = losses[0] if losses else first_length
    assert position is not None
    if position > len(net.layers):
        raise ValueError("STMulNet.m makes a broken network of this pair: the second net is shorter and has no loss")
    net.layers[position - 1].name = "prediction"


def _before_last_pooling(net: Net) -> Layer:
    return net.layers[_positions(net, "dagnn.Pooling")[-1] - 1]


def _renamed(spatial: Net, temporal: Net) -> tuple[Net, Net]:
    spatial, temporal = copy.deepcopy(spatial), copy.deepcopy(temporal)
    for net in (spatial, temporal):
        _rename_prediction(net, None)
    return spatial, temporal


def _append_suffix(net: Net, stream: Stream) -> None:
    def renamed(names: Sequence[str]) -> list[str]:
        return [name if name == "label" else f"{name}_{stream}" for name in names]

    for layer in net.layers:
        layer.name = f"{layer.name}_{stream}"
        layer.inputs, layer.outputs = renamed(layer.inputs), renamed(layer.outputs)
        layer.params = [f"{name}_{stream}" for name in layer.params]
    for param in net.params:
        param.name = f"{param.name}_{stream}"


def _join(spatial: Net, temporal: Net) -> Net:
    """One list of layers and parameters, spatial first; the temporal net's meta with 23 means, flow first."""
    images = [np.asarray(net.meta["normalization"]["averageImage"]) for net in (temporal, spatial)]
    means = np.concatenate([image.mean((0, 1), np.float64, keepdims=True) for image in images], 2)
    single = np.float32 in [image.dtype for image in images]  # MATLAB: single and double give single
    temporal.meta["normalization"]["averageImage"] = means.astype(np.float32 if single else np.float64)
    for net, stream in ((spatial, STREAMS[0]), (temporal, STREAMS[1])):
        _append_suffix(net, stream)
    joined = Net(spatial.layers + temporal.layers, spatial.params + temporal.params, temporal.meta)
    set_multipliers(joined)
    return joined


def _name_inputs(net: Net) -> None:
    """conv1 of the temporal stream reads input_flow, the first variable becomes input."""
    first_temporal = next(layer for layer in net.layers if "temporal" in layer.name)
    first_temporal.inputs = ["input_flow"]
    old = net.layers[0].inputs[0]
    for layer in net.layers:
        layer.inputs = ["input" if name == old else name for name in layer.inputs]


# ---- fusion ----


def _fuse_streams(net: Net, switches: Switches) -> None:
    into = switches.fuse_into
    _fuse(net, into, switches)
    if switches.do_bidirectional:
        _fuse(net, _other(into), switches)


def _other(stream: Stream) -> Stream:
    return STREAMS[1 - STREAMS.index(stream)]


def _fuse(net: Net, into: Stream, switches: Switches) -> None:
    for stage in switches.stages:
        # Column 1 of fusionLayer for a spatial target, column 2 for a temporal one: the ReLU or the sum before it.
        anchor = f"res{stage}a_relu_{into}" if into == "spatial" else f"res{stage}a_{into}"
        position = max(index for index, layer in enumerate(net.layers) if anchor in layer.name)
        incoming = net.layer(f"res{stage}a_relu_{_other(into)}").outputs
        if switches.do_scale:
            incoming = _add_scale(net, position, incoming)
            position += 1
        name = f"{net.layers[position].name}_sum"
        own = net.layer(f"res{stage}a_{into}").outputs
        kind = "dagnn.Sum"
        block: dict[str, Any] = {"pickTemporalCentre": True}
        if switches.do_mul:
            kind, block = "dagnn.Mul", {"numInputs": 2.0, "backPropInput": (1.0, 1.0)}
        net.layers.insert(position + 1, Layer(name, kind, [*incoming, *own], [name], [], block))
        for layer in net.layers:
            if layer.inputs == own:
                layer.block["useShortCircuit"] = 0.0
        net.layers[position + 2].inputs[0] = name


def _add_scale(net: Net, position: int, incoming: list[str]) -> list[str]:
    name = f"{net.layers[position].name}_scale"
    channels = _last_filters(net, position).shape[3]
    params = [Param(f"{name}_f", np.full((1, 1, channels), 0.1, np.float32))]
    params += [Param(f"{name}_b", np.zeros((1, 1, channels), np.float32))]
    block = {"size": (1.0, 1.0, float(channels), 1.0), "hasBias": True}
    net.layers.insert(position + 1, Layer(name, "dagnn.Scale", incoming, [name], [p.name for p in params], block))
    net.params += params
    return [name]


def _last_filters(net: Net, position: int) -> Array:
    """Filters of the nearest layer at or before `position` that has one or two parameters."""
    layer = next(layer for layer in net.layers[position::-1] if len(layer.params) in (1, 2))
    return net.param(layer.params[0]).value


# ---- time ----


def make_pointwise_temporal(net: Net) -> None:
    """addConv3D = 1: 1x1 convolutions branch2a and branch2c of the b units become filters over time, a third each."""
    for layer in net.layers:
        if layer.type != "dagnn.Conv" or layer.block["size"][0] != 1 or layer.block["stride"][0] != 1:
            continue
        if "b_branch2a" not in layer.name and "b_branch2c" not in layer.name:
            continue
        param = net.param(layer.params[0])
        param.value = np.concatenate([param.value / 3] * 3, 1)
        layer.type = "dagnn.ConvTime"
        layer.block = _time_block(param.value, has_bias=layer.block["hasBias"])


def _inject_time_convolutions(net: Net, taps: Sequence[float], anchor: str) -> None:
    """addConv3D = 8, 9, 10: a filter over time after the layer two behind the 3x3 convolution of the b units."""
    found = [
        index + 2
        for index, layer in enumerate(net.layers)
        if layer.type == "dagnn.Conv"
        and layer.block["size"][0] == 3
        and (anchor in layer.name or "b_branch2d" in layer.name)
    ]
    for position in found:
        layer = net.layers[position]
        name, source = f"{layer.name}_Time", layer.outputs[0]
        channels = _last_filters(net, position).shape[2:]
        filters = np.eye(*channels)[None, None] * np.asarray(taps)[None, :, None, None]
        params = [Param(f"{name}_f", _single(filters)), Param(f"{name}_b", np.zeros((channels[1], 1), np.float32))]
        block = _time_block(filters, has_bias=True)
        _redirect(net, source, name)
        net.layers.append(Layer(name, "dagnn.ConvTime", [source], [name], [p.name for p in params], block))
        net.params += params


def _time_block(filters: Array, *, has_bias: bool) -> dict[str, Any]:
    block = {"size": tuple(map(float, filters.shape)), "hasBias": has_bias, "opts": ["cuDNN"]}
    return block | {"pad": (0.0, 0.0, 1.0, 1.0), "stride": (1.0, 1.0), "dilate": (1.0, 1.0)}


def _append_time_pool(net: Net, stream: Stream, switches: Switches) -> None:
    name, source = f"res5c_relu_pool_{stream}1", net.layer(f"res5c_relu_{stream}").outputs[0]
    block = _pool(switches.window, switches.pool_stride, {1: "avg", 2: "max"}[switches.add_pool3d])
    _redirect(net, source, name)
    net.layers.append(Layer(name, "dagnn.PoolTime", [source], [name], [], block))


def _pool(window: float, stride: int, method: str) -> dict[str, Any]:
    block = {"method": method, "poolSize": (1.0, float(window)), "opts": ["cuDNN"], "pad": (0.0,) * 4}
    return block | {"stride": (1.0, float(stride)), "dilate": (1.0, 1.0)}


def _redirect(net: Net, old: str, new: str) -> None:
    """Every layer but `new` itself that reads `old` reads `new`."""
    for layer in net.layers:
        if layer.name != new:
            layer.inputs = [new if name == old else name for name in layer.inputs]


# ---- losses and dropout ----


def _finish(net: Net, dropout: float | None) -> Net:
    _insert_loss_layers(net)
    net.meta["normalization"]["rgbVariance"] = None
    _remove_dropout(net, lambda rate: rate == 0)
    if dropout == 0:
        _remove_dropout(net, lambda rate: True)
    elif dropout is not None:
        for layer in net.layers:  # the script's assignment works for exactly one such layer
            if layer.type == "dagnn.DropOut":
                layer.block["rate"] = dropout
    _replace_error_layers(net)
    return net


def _insert_loss_layers(net: Net) -> None:
    """A loss behind every layer whose first parameter has as many filters as there are classes, unless it has one."""
    num_classes = net.param("fc1000_filter_spatial").value.shape[3]
    for name in [param.name for param in net.params if param.value.ndim == 4 and param.value.shape[3] == num_classes]:
        layer = next(layer for layer in net.layers if name in layer.params)
        readers = [other for other in net.layers if set(layer.outputs) & set(other.inputs)]
        if any(other.type == "dagnn.Loss" and "err" not in other.name for other in readers):
            continue
        inputs, output = [*layer.outputs, "label"], f"objective_{layer.name}"
        net.layers.append(Layer(f"loss_{layer.name}", "dagnn.Loss", inputs, [output], [], loss_block("softmaxlog")))


def _remove_dropout(net: Net, condition: Callable[[float], bool]) -> None:
    for layer in [layer for layer in net.layers if layer.type == "dagnn.DropOut" and condition(layer.block["rate"])]:
        _redirect(net, layer.outputs[0], layer.inputs[0])
        net.layers.remove(layer)


def _replace_error_layers(net: Net) -> None:
    """Layers with 'err' in their names go; every loss gets a new one, named for the last eight characters."""
    net.layers = [layer for layer in net.layers if "err" not in layer.name]
    for layer in [layer for layer in net.layers if layer.type == "dagnn.Loss"]:
        name = f"err1_{layer.name[-8:]}"
        net.layers.append(Layer(name, "dagnn.Loss", list(layer.inputs), ["error"], [], loss_block("classerror")))
