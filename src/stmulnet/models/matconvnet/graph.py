"""The layers of a file as a graph: who makes a variable, who reads it."""

from typing import Any

import numpy as np

from stmulnet.errors import CheckpointError
from stmulnet.models.matconvnet.file import MatLayer, MatNet, in_words, is_empty

KINDS = ("Conv", "ConvTime", "BatchNorm", "ReLU", "Pooling", "PoolTime", "Sum", "Mul", "Scale", "DropOut")
NO_PART = {"Loss", "LossSpatioTemporal", "LossSmoothL1", "SoftMax"}  # of what is computed for a score


class Graph:
    """Layers that take part in scoring, by the variables they make and read."""

    def __init__(self, net: MatNet) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        for param in net.params:
            if param.name in self.shapes:
                raise CheckpointError(f"parameter {param.name} stands in the file twice")
            self.shapes[param.name] = four_axes(param.value.shape)
        layers = [layer for layer in net.layers if layer.type not in NO_PART]
        for layer in layers:
            _check_kind(layer)
        self.layers = _without_idle_dropout(layers)
        self.producers: dict[str, MatLayer] = {}
        self.readers: dict[str, list[MatLayer]] = {}
        for layer in self.layers:
            if layer.outputs[0] in self.producers:
                other = self.producers[layer.outputs[0]].name
                raise CheckpointError(f"layers {other} and {layer.name} both make the variable {layer.outputs[0]}")
            self.producers[layer.outputs[0]] = layer
            for name in dict.fromkeys(layer.inputs):
                self.readers.setdefault(name, []).append(layer)
            for name in layer.params:
                if name not in self.shapes:
                    raise CheckpointError(
                        f"layer {layer.name} needs the parameter {name}, which the file does not hold"
                    )

    @property
    def roots(self) -> list[MatLayer]:
        """Convolutions that read what no layer makes: images."""
        return [layer for layer in self.layers if layer.type == "Conv" and layer.inputs[0] not in self.producers]

    def made_by(self, variable: str, kind: str) -> MatLayer | None:
        """The layer that makes ``variable``, if it is of that kind."""
        layer = self.producers.get(variable)
        return layer if layer is not None and layer.type == kind else None

    def read_by(self, variable: str, *kinds: str) -> list[MatLayer]:
        """Layers of these kinds that read ``variable``, in the order of the file."""
        return [layer for layer in self.readers.get(variable, []) if layer.type in kinds]

    def filter_shape(self, layer: MatLayer) -> tuple[int, ...]:
        """(y, x, in, out) of a convolution's first parameter; of its block only the strides are reliable."""
        if not layer.params:
            raise CheckpointError(f"layer {layer.name} ({layer.type}) has no parameters")
        return self.shapes[layer.params[0]]


def four_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """MATLAB does not store trailing axes of length 1."""
    return (*shape, *(1,) * (4 - len(shape)))


def _check_kind(layer: MatLayer) -> None:
    if layer.type not in KINDS:
        raise CheckpointError(
            f"layer {layer.name} is of type {layer.type}, which no network of this package has; known are "
            f"{', '.join(KINDS)}, and losses"
        )
    if not layer.inputs or len(layer.outputs) != 1:
        raise CheckpointError(
            f"layer {layer.name} must read variables and make one, reads {layer.inputs} and makes {layer.outputs}"
        )


def _without_idle_dropout(layers: list[MatLayer]) -> list[MatLayer]:
    """Leave out dropout of rate 0, as the script does (STMulNet.m: zero_drs)."""
    replaced = {}
    for layer in layers:
        if layer.type == "DropOut" and number(layer, "rate", 0.5) == 0:
            replaced[layer.outputs[0]] = layer.inputs[0]
    kept = [layer for layer in layers if not (layer.type == "DropOut" and layer.outputs[0] in replaced)]
    for layer in kept:
        layer.inputs = [replaced.get(name, name) for name in layer.inputs]
    return kept


def number(layer: MatLayer, name: str, default: float) -> float:
    """A single number among a layer's properties."""
    value = numbers(layer, name, [default])
    return value[0]


def numbers(layer: MatLayer, name: str, default: list[float]) -> list[float]:
    """Numbers among a layer's properties; older versions of MatConvNet lack some."""
    value: Any = layer.block.get(name)
    if value is None or is_empty(value):
        return default
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise CheckpointError(f"layer {layer.name}: {name} must be numbers, is {in_words(value)}")
    return [float(item) for item in value.ravel()]


def pads(layer: MatLayer) -> list[float]:
    """Top, bottom, left, right."""
    values = numbers(layer, "pad", [0])
    if len(values) == 2:
        return [values[0], values[0], values[1], values[1]]
    return values * 4 if len(values) == 1 else values


def pair(layer: MatLayer, name: str, default: float = 1) -> list[float]:
    """Stride or window along y and x."""
    values = numbers(layer, name, [default])
    return values * 2 if len(values) == 1 else values


def options(layer: MatLayer) -> set[str]:
    """Words among the options that MatConvNet passes to the layer's function, in lower case."""
    items = layer.block.get("opts", [])
    return {item.lower() for item in (items if isinstance(items, list) else [items]) if isinstance(item, str)}


def text(layer: MatLayer, name: str, default: str) -> str:
    """A word among a layer's properties."""
    value = layer.block.get(name, default)
    if not isinstance(value, str):
        raise CheckpointError(f"layer {layer.name}: {name} must be a word, is {in_words(value)}")
    return value
