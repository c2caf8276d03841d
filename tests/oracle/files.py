"""Networks in the official MatConvNet layout, made from nothing: base streams with random weights, and their files.

Written from the authors' MATLAB sources alone and without the package under test, so that the two can disagree.

Axes: filters are (y, x, in, out), moments (channel, [mean, sigma]), activations (y, x, channel, frame).
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

Array = NDArray[Any]

EPSILON = 1e-5
IMAGENET_CLASSES = 1000
MEAN_COLOUR = (123.1516, 115.9029, 103.0626)
FLOW_MEAN = 128.0
INPUT_STD = 74.0  # of random inputs 0..255
VECTOR_SHAPES = {"Cx1": (-1, 1), "1xC": (1, -1), "1x1xC": (1, 1, -1)}


@dataclass
class Layer:
    """One layer: `type` is the class with its package ("dagnn.Conv"), `block` holds the class's saved properties."""

    name: str
    type: str
    inputs: list[str]
    outputs: list[str]
    params: list[str] = field(default_factory=list)
    block: dict[str, Any] = field(default_factory=dict)


@dataclass
class Param:
    """One parameter array with its multipliers of learning rate and weight decay."""

    name: str
    value: Array
    learning_rate: float = 1.0
    weight_decay: float = 1.0


@dataclass
class Net:
    """A network as MatConvNet's saveobj gives it."""

    layers: list[Layer]
    params: list[Param]
    meta: dict[str, Any]

    @property
    def vars(self) -> list[str]:
        """Names of the variables in order of first use."""
        return list(dict.fromkeys(name for layer in self.layers for name in (*layer.inputs, *layer.outputs)))

    def index(self, name: str) -> int:
        """Position of the layer `name`."""
        for position, layer in enumerate(self.layers):
            if layer.name == name:
                return position
        raise ValueError(f"no layer {name}")

    def layer(self, name: str) -> Layer:
        return self.layers[self.index(name)]

    def param(self, name: str) -> Param:
        return next(param for param in self.params if param.name == name)


class _Builder:
    """Appends layers with random weights; keeps track of every variable's mean square, so that scales stay ordinary."""

    def __init__(self, seed: int, width: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.width = width
        self.layers: list[Layer] = []
        self.params: list[Param] = []
        self.power: dict[str, float] = {}
        self.channels: dict[str, int] = {}

    def add_params(self, values: Mapping[str, Array]) -> list[str]:
        self.params += [Param(name, np.asarray(value, np.float32)) for name, value in values.items()]
        return list(values)

    def conv(
        self, name: str, source: str, size: int, out: int, *, stride: int = 1, bias: bool = False, block: Any = None
    ) -> str:
        channels = self.channels[source]
        std = self.rng.uniform(0.5, 2.0)
        scale = std / math.sqrt(size * size * channels * self.power[source])
        shape = (size, size, channels, out)
        values = {f"{name}_filter": self.rng.standard_normal(shape, np.float32) * np.float32(scale)}
        if bias:
            values[f"{name}_bias"] = self.rng.normal(0, 0.3, (out, 1))
        pad = 0.0 if size == 1 else float(size // 2)
        block = {"size": tuple(map(float, block or shape)), "hasBias": bias, "opts": ["cuDNN"]}
        block |= {"pad": (pad,) * 4, "stride": (float(stride),) * 2, "dilate": (1.0, 1.0)}
        self.layers.append(Layer(name, "dagnn.Conv", [source], [name], self.add_params(values), block))
        return self._set(name, out, std**2 + (0.09 if bias else 0.0))

    def batch_norm(self, conv: str, *, gain: float = 1.0) -> str:
        """Statistics near, but not at, what the convolution gives; some factors negative; sigma is never 1."""
        name = "bn_conv1" if conv == "conv1" else f"bn{conv.removeprefix('res')}"
        rng, count, std = self.rng, self.channels[conv], math.sqrt(self.power[conv])
        factor = gain * rng.uniform(0.6, 1.4, (count, 1)) * rng.choice([1.0, 1.0, 1.0, 1.0, 1.0, -1.0], (count, 1))
        offset = gain * rng.normal(0, 0.3, (count, 1))
        mean, sigma = rng.normal(0, 0.3 * std, (count, 1)), std * rng.uniform(0.7, 1.4, (count, 1))
        sigma = np.sqrt(sigma**2 + EPSILON)
        values = {f"{name}_mult": factor, f"{name}_bias": offset, f"{name}_moments": np.hstack([mean, sigma])}
        block = {"numChannels": None, "epsilon": EPSILON, "opts": ["NoCuDNN"], "freeze": False}
        self.layers.append(Layer(name, "dagnn.BatchNorm", [conv], [f"{conv}x"], self.add_params(values), block))
        power = float(np.mean(factor**2 * (std**2 + mean**2) / sigma**2 + offset**2))
        return self._set(f"{conv}x", count, power)

    def relu(self, name: str, source: str, target: str, *, passed: float = 0.5) -> str:
        """`passed`: the part of the mean square that is positive."""
        block = {"useShortCircuit": True, "leak": 0.0, "opts": []}
        self.layers.append(Layer(f"{name}_relu", "dagnn.ReLU", [source], [target], [], block))
        return self._set(target, self.channels[source], passed * self.power[source])

    def pool(self, name: str, source: str, method: str, size: int, stride: int, pad: Sequence[float]) -> str:
        block = {"method": method, "poolSize": (float(size),) * 2, "opts": ["cuDNN"], "pad": tuple(pad)}
        block |= {"stride": (float(stride),) * 2, "dilate": (1.0, 1.0)}
        self.layers.append(Layer(name, "dagnn.Pooling", [source], [name], [], block))
        return self._set(name, self.channels[source], self.power[source])

    def add(self, name: str, sources: Sequence[str]) -> str:
        self.layers.append(Layer(name, "dagnn.Sum", list(sources), [name], [], {"pickTemporalCentre": True}))
        return self._set(name, self.channels[sources[0]], sum(self.power[source] for source in sources))

    def conv_bn_relu(self, name: str, source: str, size: int, out: int, *, stride: int = 1) -> str:
        bn = self.batch_norm(self.conv(name, source, size, out, stride=stride))
        return self.relu(name, bn, f"{name}xxx")

    def unit(self, name: str, source: str, mid: int, *, first: bool, stage: int, block: str, geometry: str) -> str:
        out = 4 * mid if block == "bottleneck" else mid
        stride = 2 if first and stage > 2 else 1
        shortcut = source
        if first and (geometry == "caffe" or stride > 1 or self.channels[source] != out):
            shortcut = self.batch_norm(self.conv(f"{name}_branch1", source, 1, out, stride=stride))
        gain = 1.0 if first else 0.4  # or the state of a 152-layer network would grow without end
        if block == "bottleneck":
            on_a, on_b = (stride, 1) if geometry == "caffe" else (1, stride)
            x = self.conv_bn_relu(f"{name}_branch2a", source, 1, mid, stride=on_a)
            x = self.conv_bn_relu(f"{name}_branch2b", x, 3, mid, stride=on_b)
            x = self.batch_norm(self.conv(f"{name}_branch2c", x, 1, out), gain=gain)
        else:
            x = self.conv_bn_relu(f"{name}_branch2a", source, 3, mid, stride=stride)
            x = self.batch_norm(self.conv(f"{name}_branch2b", x, 3, out), gain=gain)
        passed = 0.9 if shortcut == source else 0.5  # a state is never negative
        return self.relu(name, self.add(name, [shortcut, x]), f"{name}x", passed=passed)

    def _set(self, name: str, channels: int, power: float) -> str:
        self.channels[name], self.power[name] = channels, power
        return name


def unit_names(stage: int, count: int, *, numbered: bool) -> list[str]:
    """Names of a stage's units: res3a, res3b, ... or res3a, res3b1, res3b2, ..."""
    letters = ["a", *(f"b{i}" for i in range(1, count))] if numbered else [chr(ord("a") + i) for i in range(count)]
    return [f"res{stage}{letter}" for letter in letters]


def base_stream(
    kind: Literal["img", "flow"],
    *,
    units: Sequence[int] = (3, 4, 6, 3),
    block: Literal["bottleneck", "basic"] = "bottleneck",
    width: int = 64,
    num_classes: int = 101,
    numbered_stages: Collection[int] = (),
    conv1_bias: bool = True,
    geometry: Literal["caffe", "torch"] = "caffe",
    dropout: float | None = None,
    dropout_layout: Literal["before", "appended"] = "appended",
    with_losses: bool = True,
    mean_image: bool = True,
    imagenet_classes: bool = False,
    seed: int = 0,
) -> Net:
    """A base stream as cnn_ucf101_{spatial,temporal}.m save it, with random weights of ordinary scale.

    Args:
        kind: "img" (3 input channels) or "flow" (20).
        units: Residual units of stages 2 to 5.
        block: Three convolutions per unit, or two of 3x3.
        width: Channels of conv1; 64 in the official files.
        num_classes: Outputs of the classifier, whose block.size stays at ImageNet's.
        numbered_stages: Stages whose units are called a, b1, b2, ...; (3, 4) in ResNet-101 and -152.
        conv1_bias: False in ResNet-101 and -152.
        geometry: "caffe": stride on branch2a, pool1 padded at the end only, branch1 in every first unit. "torch":
            stride on the 3x3, pool1 padded by 1 all around, branch1 only where shapes differ.
        dropout: Rate of the dropout between pool5 and the classifier, None for no such layer.
        dropout_layout: Whether that layer stands directly before the classifier in the list or is appended after it.
        with_losses: Whether the loss and error layers are there.
        mean_image: Whether an image stream's mean is an image (224, 224, 3) or a colour (1, 1, 3).
        imagenet_classes: Whether meta still lists ImageNet's 1000 classes, which no official script replaces, or
            `num_classes` names.
        seed: Seed of the weights.
    """
    build = _Builder(seed, width)
    build._set("input", 3 if kind == "img" else 20, INPUT_STD**2)
    x = build.conv("conv1", "input", 7, width, stride=2, bias=conv1_bias, block=(7, 7, 3, width))
    x = build.relu("conv1", build.batch_norm(x), "conv1xxx")
    x = build.pool("pool1", x, "max", 3, 2, (0.0, 1.0, 0.0, 1.0) if geometry == "caffe" else (1.0,) * 4)
    for stage, count in zip((2, 3, 4, 5), units, strict=True):
        for index, name in enumerate(unit_names(stage, count, numbered=stage in numbered_stages)):
            mid = width * 2 ** (stage - 2)
            x = build.unit(name, x, mid, first=index == 0, stage=stage, block=block, geometry=geometry)
    pool5 = build.pool("pool5", x, "avg", 7, 1, (0.0,) * 4)
    classifier_size = (1, 1, build.channels[pool5], IMAGENET_CLASSES)
    build.conv("fc1000", pool5, 1, num_classes, bias=True, block=classifier_size)
    if dropout is not None:
        _insert_dropout(build.layers, dropout, before=dropout_layout == "before")
    if with_losses:
        build.layers += _loss_layers()
    meta = _meta(kind, IMAGENET_CLASSES if imagenet_classes else num_classes, build.rng, mean_image=mean_image)
    net = Net(build.layers, build.params, meta)
    set_multipliers(net)
    return net


def _insert_dropout(layers: list[Layer], rate: float, *, before: bool) -> None:
    classifier = len(layers) - 1
    layers[classifier].inputs = ["drop_pool5"]
    block = {"rate": rate, "frozen": False, "scale": True}
    layer = Layer("drop_pool5", "dagnn.DropOut", ["pool5"], ["drop_pool5"], [], block)
    layers.insert(classifier if before else classifier + 1, layer)


def loss_block(loss: str, opts: Iterable[Any] = ()) -> dict[str, Any]:
    """Properties of a dagnn.Loss."""
    return {"loss": loss, "ignoreAverage": False, "opts": list(opts), "hard_temporal_mining": 0.0}


def _loss_layers() -> list[Layer]:
    kinds = {
        ("loss_fc1000", "objective_fc1000"): loss_block("softmaxlog"),
        ("top1error", "top1error"): loss_block("classerror"),
        ("top5error", "top5error"): loss_block("topkerror", ["topK", 5.0]),
    }
    return [
        Layer(name, "dagnn.Loss", ["fc1000", "label"], [output], [], block) for (name, output), block in kinds.items()
    ]


def _meta(kind: str, num_classes: int, rng: np.random.Generator, *, mean_image: bool) -> dict[str, Any]:
    mean: Array = np.full((1, 1, 20), FLOW_MEAN)
    if kind == "img":
        mean = np.asarray(MEAN_COLOUR, np.float32).reshape(1, 1, 3)
        if mean_image:
            mean = (mean + rng.normal(0, 4, (224, 224, 3))).astype(np.float32)
    normalization = {"imageSize": (224.0, 224.0, float(mean.shape[2])), "averageImage": mean}
    normalization |= {"interpolation": "bilinear", "keepAspect": True, "border": (32.0, 32.0)}
    normalization |= {"cropSize": (0.875, 0.875), "rgbVariance": None}
    return {
        "inputs": {"name": "data", "size": (224.0, 224.0, 3.0, 10.0)},
        "normalization": normalization,
        "classes": {"name": [f"class{i:03d}" for i in range(1, num_classes + 1)]},
        "curBatchSize": 1.0,
    }


def set_multipliers(net: Net) -> None:
    """setLrWd: multipliers of learning rate and weight decay by the layer's class and the parameter's position."""
    for layer in net.layers:
        rates: list[tuple[float, float]] = [(1.0, 1.0), (2.0, 0.0)]
        if layer.type == "dagnn.BatchNorm":
            rates = [(2.0, 0.0), (1.0, 0.0), (0.05, 0.0)]
        for name, (learning_rate, weight_decay) in zip(layer.params, rates, strict=False):
            param = net.param(name)
            param.learning_rate, param.weight_decay = learning_rate, weight_decay


def write(
    net: Net,
    path: Path,
    *,
    wrapped: bool = True,
    training_run: bool = False,
    dtype: Literal["single", "double"] = "single",
    vector_shape: Literal["Cx1", "1xC", "1x1xC"] = "Cx1",
    drop_optional_fields: Collection[str] = (),
    average_image: Literal["single", "double"] | None = None,
    compress: bool = True,
) -> None:
    """Write `net` as a v5 MAT-file.

    Args:
        net: The network.
        path: File to write.
        wrapped: One variable `net` holds all, or the fields of `net` are the file's variables.
        training_run: Add the variables `state`, `stats` and `opts` that training leaves.
        dtype: Class of all parameters.
        vector_shape: Shape of biases, BatchNorm factors and offsets.
        drop_optional_fields: Left out wherever they occur: a block's property ("dilate", "opts", "leak",
            "pickTemporalCentre", "hasBias", ...), a parameter's "learningRate" or "weightDecay", a variable's
            "precious", "vars" as a whole, or a field of meta by its path ("meta.classes",
            "meta.normalization.border").
        average_image: Class of the mean; None leaves it as it is in `net`.
        compress: Deflate as MATLAB does; slow for full-size networks.
    """
    drop = set(drop_optional_fields)
    fields = {
        "vars": _struct_array([{"name": name, "precious": False} for name in net.vars], drop),
        "params": _struct_array([_param_fields(param, dtype, vector_shape) for param in net.params], drop),
        "layers": _struct_array([_layer_fields(layer, drop) for layer in net.layers], drop),
        "meta": to_matlab(_without(_meta_as(net.meta, average_image), drop, "meta")),
    }
    fields = {name: value for name, value in fields.items() if name not in drop}
    variables: dict[str, Any] = {"net": fields} if wrapped else fields
    if training_run:
        variables["state"] = {"solverState": to_matlab([0.0] * len(net.params)), "stats": to_matlab(None)}
        variables |= {"stats": {"train": {"objective": 1.5}}, "opts": {"momentum": 0.9}}
    savemat(path, variables, do_compression=compress, long_field_names=True)


def _param_fields(param: Param, dtype: str, vector_shape: str) -> dict[str, Any]:
    value = np.asarray(param.value, {"single": np.float32, "double": np.float64}[dtype])
    if value.size == max(value.shape) and value.ndim <= 3:
        value = value.reshape(VECTOR_SHAPES[vector_shape])
    while value.ndim > 2 and value.shape[-1] == 1:  # as MATLAB, which stores no trailing axes of length 1
        value = value[..., 0]
    return {
        "name": param.name,
        "value": value,
        "learningRate": param.learning_rate,
        "weightDecay": param.weight_decay,
    }


def _layer_fields(layer: Layer, drop: set[str]) -> dict[str, Any]:
    block = {name: value for name, value in layer.block.items() if name not in drop}
    fields = {"name": layer.name, "type": layer.type, "inputs": layer.inputs, "outputs": layer.outputs}
    return fields | {"params": layer.params, "block": block}


def _meta_as(meta: Mapping[str, Any], average_image: str | None) -> dict[str, Any]:
    if average_image is None:
        return dict(meta)
    dtype = {"single": np.float32, "double": np.float64}[average_image]
    normalization = dict(meta["normalization"])
    normalization["averageImage"] = np.asarray(normalization["averageImage"], dtype)
    return {**meta, "normalization": normalization}


def _without(fields: Mapping[str, Any], drop: set[str], prefix: str) -> dict[str, Any]:
    return {
        name: _without(value, drop, f"{prefix}.{name}") if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if f"{prefix}.{name}" not in drop
    }


def _struct_array(records: Sequence[Mapping[str, Any]], drop: set[str]) -> Array:
    names = [name for name in records[0] if name not in drop]
    array = np.empty((1, len(records)), [(name, object) for name in names])
    for index, record in enumerate(records):
        for name in names:
            array[name][0, index] = to_matlab(record[name])
    return array


def to_matlab(value: Any) -> Any:
    """Text to char, truth to logical, numbers to a double row, a list to a cell row, a dict to a struct, None to []."""
    if isinstance(value, str | np.ndarray):
        return value
    if isinstance(value, Mapping):
        return {name: to_matlab(item) for name, item in value.items()}
    if isinstance(value, bool):
        return np.full((1, 1), value)
    if isinstance(value, list):
        cells = np.empty((1, len(value)) if value else (0, 0), object)
        for index, item in enumerate(value):
            cells[0, index] = to_matlab(item)
        return cells
    if value is None:
        return np.zeros((0, 0))
    return np.atleast_2d(np.asarray(value, np.float64))
