"""A network as the authors' files list it: layers with official names, types, wiring and parameters.

`Network.activations` finds modules by these names; the MatConvNet files are written by and compared with this list.
Sources: utils/layers.py of MatConvNet's importer (names of one stream: an ``x`` per Caffe layer that works in place)
and STMulNet.m (suffixes, connections, temporal layers).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from stmulnet.models.config import STAGES, ModelConfig
from stmulnet.models.resnet import ConvBN, Stream, Unit
from stmulnet.models.temporal import TemporalConv

SUFFIX = {"appearance": "_spatial", "motion": "_temporal"}  # official names of the streams; none in a single stream


@dataclass(frozen=True)
class Layer:
    """One layer of the official list.

    Attributes:
        name: Official name, e.g. ``res2a_relu_spatial_sum``.
        type: MatConvNet's class without its package: Conv, BatchNorm, ReLU, Pooling, Sum, Mul, Scale, ...
        inputs: Names of the variables it reads.
        output: Name of the variable it makes.
        module: Path of the module of our network that computes it.
        params: Official names of its parameters, in the order of the files.
        block: Its other properties (pad: top, bottom, left, right; stride; poolSize; method; rate).
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    output: str
    module: str
    params: tuple[str, ...] = ()
    block: dict[str, Any] = field(default_factory=dict)


def official_layers(network: nn.Module, config: ModelConfig) -> list[Layer]:
    """The layers of ``network``, in the order of the official files, without losses."""
    streams = [_StreamLayers(network, config, stream) for stream in config.streams]
    for stream in streams:
        stream.build()
    # The script appends the layers over time behind both streams.
    return [
        *(layer for stream in streams for layer in stream.layers),
        *(layer for stream in streams for layer in stream.temporal_convs),
        *(layer for stream in streams for layer in stream.temporal_pools),
    ]


class _StreamLayers:
    """Collects the layers of one stream."""

    def __init__(self, network: nn.Module, config: ModelConfig, stream: str) -> None:
        self.config, self.stream = config, stream
        self.model: Stream = network.get_submodule(stream)  # type: ignore[assignment]
        two = len(config.streams) == 2
        self.suffix = SUFFIX[stream] if two else ""
        self.other_suffix = SUFFIX["motion" if stream == "appearance" else "appearance"] if two else ""
        self.layers: list[Layer] = []
        self.temporal_convs: list[Layer] = []
        self.temporal_pools: list[Layer] = []

    def build(self) -> None:
        state = self._stem()
        for stage in STAGES:
            state = self._stage(stage, state)
        self._head(state)

    def _add(self, kind: str, name: str, inputs: list[str], output: str, module: str, **extra: Any) -> str:
        """``module`` is relative to the stream; names come with their suffix."""
        layer = Layer(name, kind, tuple(inputs), output, f"{self.stream}.{module}", **extra)
        self.layers.append(layer)
        return output

    def _conv(self, name: str, module: str, source: str, output: str | None = None, layer: str | None = None) -> str:
        """A convolution, over space or time; ``name`` without suffix gives the parameters theirs."""
        conv: nn.Conv2d = self.model.get_submodule(module)  # type: ignore[assignment]
        params = [f"{name}_filter{self.suffix}"] + [f"{name}_bias{self.suffix}"] * (conv.bias is not None)
        over_time = isinstance(conv, TemporalConv)
        pad = [0, 0, 1, 1] if over_time else [int(conv.padding[0])] * 4
        block = {"pad": pad, "stride": list(conv.stride), "hasBias": conv.bias is not None}
        return self._add(
            "ConvTime" if over_time else "Conv",
            layer or name + self.suffix,
            [source],
            output or name + self.suffix,
            module,
            params=tuple(params),
            block=block,
        )

    def _batch_norm(self, name: str, module: str, source: str, output: str) -> str:
        params = tuple(f"{name}_{part}{self.suffix}" for part in ("mult", "bias", "moments"))
        return self._add("BatchNorm", name + self.suffix, [source], output + self.suffix, module, params=params)

    def _relu(self, name: str, module: str, source: str, output: str) -> str:
        return self._add("ReLU", name + self.suffix, [source], output + self.suffix, module)

    def _stem(self) -> str:
        flow_beside_rgb = self.stream == "motion" and self.suffix
        x = self._conv("conv1", "conv1", "input_flow" if flow_beside_rgb else "input")
        x = self._batch_norm("bn_conv1", "bn_conv1", x, "conv1x")
        x = self._relu("conv1_relu", "conv1_relu", x, "conv1xxx")
        pad = [0, 1, 0, 1] if self.model.pool1.ceil_mode else [1, 1, 1, 1]
        block = {"method": "max", "poolSize": [3, 3], "pad": pad, "stride": [2, 2]}
        return self._add("Pooling", "pool1" + self.suffix, [x], "pool1" + self.suffix, "pool1", block=block)

    def _stage(self, stage: int, state: str) -> str:
        gated = None
        for name, unit in zip(self._unit_names(stage), self.model.units(stage), strict=True):
            official, module = f"res{stage}{name}", f"res{stage}.{name}"
            total = self._unit(official, module, unit, state, gated or state)
            gated = None
            if name == "a" and self._whole_state_gated(stage):
                total = self._gate(stage, f"{official}{self.suffix}", total)
            relu = "res5c_relu" if self.suffix and self._is_last(stage, name) else f"{official}_relu"
            state = self._relu(relu, f"{module}.relu", total, f"{official}x")
            if name == "a" and self._residual_gated(stage):
                gated = self._gate(stage, f"{official}_relu{self.suffix}", total)
        return state

    def _unit_names(self, stage: int) -> list[str]:
        names: list[str] = getattr(self.config, self.stream).unit_names(stage)
        return names

    def _is_last(self, stage: int, unit: str) -> bool:
        """STMulNet.m calls the layer before pool5 res5c_relu, whichever it is."""
        return stage == STAGES[-1] and unit == self._unit_names(stage)[-1]

    def _unit(self, name: str, module: str, unit: Unit, state: str, residual_input: str) -> str:
        shortcut = state
        if unit.branch1 is not None:
            shortcut = self._conv_bn(f"{name}_branch1", f"{module}.branch1", state)
        x = residual_input
        for branch in unit.branches:
            if unit.time is not None and branch == unit.branches[-1]:
                x = self._time(f"{name}_{unit.branches[-2]}_relu{self.suffix}_Time", f"{module}.time", x)
            x = self._conv_bn(f"{name}_{branch}", f"{module}.{branch}", x)
        return self._add("Sum", name + self.suffix, [shortcut, x], name + self.suffix, f"{module}.sum")

    def _conv_bn(self, name: str, module: str, source: str) -> str:
        x = self._conv(name, f"{module}.0", source)
        x = self._batch_norm("bn" + name.removeprefix("res"), f"{module}.1", x, f"{name}x")
        block: ConvBN = self.model.get_submodule(module)  # type: ignore[assignment]
        return self._relu(f"{name}_relu", f"{module}.2", x, f"{name}xxx") if len(block) > 2 else x

    def _time(self, name: str, module: str, source: str) -> str:
        block = {"pad": [0, 0, 1, 1], "stride": [1, 1], "hasBias": True}
        params = (f"{name}_f", f"{name}_b")
        layer = Layer(name, "ConvTime", (source,), name, f"{self.stream}.{module}", params, block)
        self.temporal_convs.append(layer)
        return name

    def _whole_state_gated(self, stage: int) -> bool:
        fusion = self.config.fusion
        if fusion is None or stage not in fusion.stages:
            return False
        if self.stream == "motion":
            return fusion.into_motion
        return fusion.into_appearance and fusion.target == "state"

    def _residual_gated(self, stage: int) -> bool:
        fusion = self.config.fusion
        if fusion is None or stage not in fusion.stages or self.stream == "motion":
            return False
        return fusion.into_appearance and fusion.target == "residual"

    def _gate(self, stage: int, anchor: str, total: str) -> str:
        """The layers that the script puts behind ``anchor``: [scale,] product or sum."""
        fusion, other = self.config.fusion, f"res{stage}ax{self.other_suffix}"
        assert fusion is not None
        module = f"into_{self.stream}.res{stage}"
        if fusion.scale:
            anchor = f"{anchor}_scale"
            params = (f"{anchor}_f", f"{anchor}_b")
            self.layers.append(Layer(anchor, "Scale", (other,), anchor, f"{module}.scale", params))
            other = anchor
        name = f"{anchor}_sum"
        kind = "Mul" if fusion.operation == "multiply" else "Sum"
        self.layers.append(Layer(name, kind, (other, total), name, module))
        return name

    def _head(self, state: str) -> None:
        head, s = self.model.head, self.suffix
        pool = self.config.temporal_pool
        if pool is not None:
            # STMulNet.m gives a number, STResNet_stage2.m does not.
            fusion = self.config.fusion
            st_resnet = self.config.temporal_conv == "pointwise" and fusion is not None and fusion.operation == "add"
            name = f"res5c_relu_pool{s}" + ("" if st_resnet else "1")
            block = {"method": pool.kind, "poolSize": [1, pool.window], "pad": [0] * 4, "stride": [1, pool.stride]}
            path = f"{self.stream}.head.temporal_pool"
            self.temporal_pools.append(Layer(name, "PoolTime", (state,), name, path, block=block))
            state = name
        average = {"method": "avg", "poolSize": [head.pool_size] * 2, "pad": [0] * 4, "stride": [1, 1]}
        x = self._add("Pooling", f"pool5{s}", [state], f"pool5{s}", "head.pool5", block=average)
        # "prediction" is what stands before the loss: the classifier, or the dropout that was appended behind it.
        if head.dropout.p == 0:
            self._conv("fc1000", "head.fc", x, layer=f"prediction{s}" if s else None)
            return
        self._conv("fc1000", "head.fc", f"drop_pool5{s}")
        name = f"prediction{s}" if s else "drop_pool5"
        self._add("DropOut", name, [x], f"drop_pool5{s}", "head.dropout", block={"rate": head.dropout.p})


def modules_by_name(layers: list[Layer]) -> dict[str, str]:
    """Module paths by official layer name and by name of the variable the layer makes."""
    names: dict[str, str] = {}
    for layer in layers:
        names[layer.name] = layer.module
    for layer in layers:
        names.setdefault(layer.output, layer.module)
    return names


def parameters(layer: Layer) -> Iterator[tuple[str, str]]:
    """Official name and our name (module path, attribute) of each parameter; moments come as ``running``."""
    ours = {"BatchNorm": ("weight", "bias", "running")}.get(layer.type, ("weight", "bias"))
    for official, attribute in zip(layer.params, ours, strict=False):
        yield official, f"{layer.module}.{attribute}"
