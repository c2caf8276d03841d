"""Which network a list of layers describes, from wiring and parameter shapes alone.

What is found here is a claim: `stmulnet.models.matconvnet.match` then holds every layer of the file against it.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from stmulnet.constants import FLOW_CHANNELS, INPUT_SIZE
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.config import STAGES, FusionConfig, ModelConfig, StreamConfig, TemporalPoolConfig
from stmulnet.models.matconvnet.file import MatLayer, MatNet
from stmulnet.models.matconvnet.graph import Graph, number, pads, pair, text

STREAM_OF_CHANNELS = {3: "appearance", FLOW_CHANNELS: "motion"}
STEM_CHANNELS = 64  # of the official networks
MAX_CONVS = 3  # in a residual branch
MAX_IMAGE_SIDE = 4096  # a damaged file must not make us take its size for granted
ALL_FRAMES = float("inf")  # PoolTime.m: poolSize(2)


@dataclass
class UnitOf:
    """A residual unit as the file wires it."""

    sum: MatLayer
    projects: bool  # whether the shortcut has a convolution
    convs: list[MatLayer]  # of the residual branch
    time: MatLayer | None  # inserted temporal convolution
    state: str  # the variable its shortcut starts from


@dataclass
class StreamOf:
    """A stream as the file wires it."""

    conv1: MatLayer
    pool1: MatLayer
    stages: list[list[UnitOf]]
    last_state: str


def infer_config(net: MatNet, graph: Graph) -> ModelConfig:
    """The configuration of the network in a file.

    Raises:
        CheckpointError: The layers form none of the networks of this package; says where that shows.
    """
    streams = find_streams(graph)
    first = next(iter(streams.values()))
    classifier, pool5 = _classifier(graph, first.last_state)
    temporal_conv = _temporal_conv([unit for stream in streams.values() for stage in stream.stages for unit in stage])
    try:
        configs = {name: _stream_config(graph, stream, temporal_conv) for name, stream in streams.items()}
        return ModelConfig(
            num_classes=graph.filter_shape(classifier)[3],
            appearance=configs.get("appearance"),
            motion=configs.get("motion"),
            fusion=_fusion(graph, streams),
            temporal_conv=temporal_conv,
            temporal_pool=_temporal_pool(graph, first.last_state),
            input_size=_input_size(net),
            head_pool=_whole(pool5, "poolSize")[0],
        )
    except ConfigError as error:
        raise CheckpointError(f"its layers form no network of this package: {error}") from error


def _input_size(net: MatNet) -> int:
    """Side of the training images; files need not say it."""
    sides = set(net.image_size[:2]) if net.image_size else {float(INPUT_SIZE)}
    side = max(sides)
    if len(sides) > 1 or not side.is_integer() or side > MAX_IMAGE_SIDE:
        raise CheckpointError(
            f"meta.normalization.imageSize is {net.image_size}, needs one side for height and width, of whole pixels "
            f"up to {MAX_IMAGE_SIDE}"
        )
    return int(side)


def _whole(layer: MatLayer, name: str) -> list[int]:
    """Two whole numbers among a layer's properties."""
    values = pair(layer, name)
    if len(values) != 2 or not all(value.is_integer() for value in values):
        raise CheckpointError(f"layer {layer.name} ({layer.type}): {name} is {values}, needs two whole numbers")
    return [int(value) for value in values]


def find_streams(graph: Graph) -> dict[str, StreamOf]:
    """The streams of a file by their name."""
    units = _units(graph)
    streams: dict[str, StreamOf] = {}
    for root in graph.roots:
        channels = graph.filter_shape(root)[2]
        stream = STREAM_OF_CHANNELS.get(channels)
        if stream is None:
            raise CheckpointError(
                f"layer {root.name} reads {channels} channels of {root.inputs[0]}, which no layer makes; images have "
                f"3 (RGB) or {FLOW_CHANNELS} (flow)"
            )
        if stream in streams:
            raise CheckpointError(
                f"layers {streams[stream].conv1.name} and {root.name} both read images of {channels} channels; one "
                f"stream of 3 (RGB) and one of {FLOW_CHANNELS} (flow) are known"
            )
        streams[stream] = _stream(graph, root, units)
    if not streams:
        raise CheckpointError("no convolution reads an image")
    return {name: streams[name] for name in ("appearance", "motion") if name in streams}


def _only(layers: list[MatLayer], what: str) -> MatLayer:
    if len(layers) != 1:
        raise CheckpointError(f"one {what} was expected, found {[layer.name for layer in layers] or 'none'}")
    return layers[0]


def _units(graph: Graph) -> dict[str, UnitOf]:
    """Residual units by the variable their shortcut starts from: sums that add the output of a BatchNorm."""
    units: dict[str, UnitOf] = {}
    for layer in graph.layers:
        chains = [_chain(graph, name) for name in layer.inputs] if layer.type == "Sum" else []
        if len(chains) == 2 and any(convs for convs, _, _ in chains):
            # The residual branch is the longer chain: the shortcut has one convolution or none.
            short, long = sorted(range(2), key=lambda index: len(chains[index][0]))
            convs, time, _ = chains[long]
            unit = UnitOf(layer, bool(chains[short][0]), convs, time, chains[short][2])
            if unit.state in units:
                raise CheckpointError(f"layers {units[unit.state].sum.name} and {layer.name} start from one state")
            units[unit.state] = unit
    return units


def _chain(graph: Graph, variable: str) -> tuple[list[MatLayer], MatLayer | None, str]:
    """Follow convolution, BatchNorm, ReLU backwards: convolutions, inserted temporal one, variable it starts from."""
    convs: list[MatLayer] = []
    time = None
    while norm := graph.made_by(variable, "BatchNorm"):
        conv = graph.made_by(norm.inputs[0], "Conv") or graph.made_by(norm.inputs[0], "ConvTime")
        if conv is None:
            raise CheckpointError(f"layer {norm.name} normalises {norm.inputs[0]}, which is no convolution")
        convs.insert(0, conv)
        if len(convs) > MAX_CONVS:
            raise CheckpointError(
                f"the residual branch that ends in {norm.name} has more than {MAX_CONVS} convolutions"
            )
        start = conv.inputs[0]
        inserted = graph.made_by(start, "ConvTime")
        relu = graph.made_by(inserted.inputs[0] if inserted else start, "ReLU")
        if relu is None or graph.made_by(relu.inputs[0], "BatchNorm") is None:
            return convs, time, start
        time = inserted or time
        variable = relu.inputs[0]
    return convs, time, variable


def _stream(graph: Graph, conv1: MatLayer, units: dict[str, UnitOf]) -> StreamOf:
    norm = _only(graph.read_by(conv1.outputs[0], "BatchNorm"), f"BatchNorm behind {conv1.name}")
    relu = _only(graph.read_by(norm.outputs[0], "ReLU"), f"ReLU behind {norm.name}")
    pool1 = _only(graph.read_by(relu.outputs[0], "Pooling"), f"pooling behind {relu.name}")
    state = pool1.outputs[0]
    stages: list[list[UnitOf]] = []
    while unit := units.pop(state, None):
        if unit.projects or not stages:
            stages.append([])
        stages[-1].append(unit)
        state = _next_state(graph, unit)
    if len(stages) != len(STAGES):
        raise CheckpointError(
            f"the stream behind {conv1.name} has {len(stages)} stages up to {state}, {len(STAGES)} are needed"
        )
    return StreamOf(conv1, pool1, stages, state)


def _next_state(graph: Graph, unit: UnitOf) -> str:
    """The variable behind the ReLU that reads a unit's sum, by itself or joined with the other stream."""
    total = unit.sum.outputs[0]
    relus = graph.read_by(total, "ReLU")
    for gate in _gates(graph, total):
        relus += graph.read_by(gate.outputs[0], "ReLU")
    return _only(relus, f"ReLU behind {unit.sum.name}").outputs[0]


def _gates(graph: Graph, total: str) -> list[MatLayer]:
    """Layers that join a unit's sum with something that is no residual branch."""
    return graph.read_by(total, "Mul", "Sum")


def _stream_config(graph: Graph, stream: StreamOf, temporal_conv: str | None) -> StreamConfig:
    units = [len(stage) for stage in stream.stages]
    basic = len(stream.stages[0][0].convs) == 2
    config = StreamConfig(
        units=(units[0], units[1], units[2], units[3]),
        width_mult=graph.filter_shape(stream.conv1)[3] / STEM_CHANNELS,
        dropout=_dropout(graph, stream.last_state),
        conv1_bias=len(stream.conv1.params) > 1,
        block="basic" if basic else "bottleneck",
        geometry="torch" if pads(stream.pool1) == [1, 1, 1, 1] else "caffe",
    )
    return _explicit_stages(config, stream, temporal_conv)


def _explicit_stages(config: StreamConfig, stream: StreamOf, temporal_conv: str | None) -> StreamConfig:
    """Add names and temporal stages where they are not those of the official rules."""
    second = {stage: units[1] for stage, units in zip(STAGES, stream.stages, strict=True) if len(units) > 1}
    # Names mean something only here: they decide where the official script puts temporal convolutions.
    numbered = tuple(stage for stage, unit in second.items() if re.search(r"res\d+b1(?!\d)", unit.sum.name))
    named = replace(config, numbered_stages=numbered)
    if any(named.unit_names(stage) != config.unit_names(stage) for stage in second):
        config = named
    temporal = tuple(stage for stage, unit in second.items() if _sees_time(unit))
    if temporal_conv and any(config.sees_time(stage) != (stage in temporal) for stage in second):
        config = replace(config, temporal_stages=temporal)
    return config


def _sees_time(unit: UnitOf) -> bool:
    return unit.time is not None or any(conv.type == "ConvTime" for conv in unit.convs)


def _temporal_conv(units: list[UnitOf]) -> Literal["center", "pointwise"] | None:
    """The kind of temporal convolutions; what the inserted ones started from is not in a file."""
    if any(conv.type == "ConvTime" for unit in units for conv in unit.convs):
        return "pointwise"
    return "center" if any(unit.time for unit in units) else None


def _fusion(graph: Graph, streams: dict[str, StreamOf]) -> FusionConfig | None:
    """The connections between the streams; all of them must be of one kind, which `match` sees to."""
    found: list[dict[str, Any]] = []
    for name, stream in streams.items():
        for stage, units in zip(STAGES, stream.stages, strict=True):
            for gate in _gates(graph, units[0].sum.outputs[0]):
                whole = bool(graph.read_by(gate.outputs[0], "ReLU"))
                scale = any(graph.made_by(source, "Scale") for source in gate.inputs)
                found.append({"into": name, "stage": stage, "type": gate.type, "whole": whole, "scale": scale})
    if not found:
        return None
    into = {gate["into"] for gate in found}
    both = len(into) == 2
    return FusionConfig(
        operation="multiply" if found[0]["type"] == "Mul" else "add",
        stages=tuple(stage for stage in STAGES if any(gate["stage"] == stage for gate in found)),
        direction="both" if both else "motion_to_appearance" if into == {"appearance"} else "appearance_to_motion",
        scale=found[0]["scale"],
        target="state" if into == {"appearance"} and found[0]["whole"] else "residual",
    )


def _temporal_pool(graph: Graph, last_state: str) -> TemporalPoolConfig | None:
    pools = graph.read_by(last_state, "PoolTime")
    if not pools:
        return None
    pool = _only(pools, f"temporal pooling of {last_state}")
    all_frames = pair(pool, "poolSize")[1:] == [ALL_FRAMES]
    return TemporalPoolConfig(
        kind="max" if text(pool, "method", "max") == "max" else "avg",
        window="all" if all_frames else _whole(pool, "poolSize")[1],
        stride=_whole(pool, "stride")[1],
    )


def _head(graph: Graph, last_state: str) -> tuple[MatLayer, str]:
    """The spatial average and the variable that the classifier reads, or its dropout."""
    pools = graph.read_by(last_state, "PoolTime")
    source = pools[0].outputs[0] if pools else last_state
    pool5 = _only(graph.read_by(source, "Pooling"), f"spatial pooling of {source}")
    return pool5, pool5.outputs[0]


def _classifier(graph: Graph, last_state: str) -> tuple[MatLayer, MatLayer]:
    pool5, source = _head(graph, last_state)
    for dropout in graph.read_by(source, "DropOut"):
        source = dropout.outputs[0]
    return _only(graph.read_by(source, "Conv"), f"classifier reading {source}"), pool5


def _dropout(graph: Graph, last_state: str) -> float:
    _, source = _head(graph, last_state)
    return next((number(layer, "rate", 0.5) for layer in graph.read_by(source, "DropOut")), 0.0)
