"""Files in the authors' layout that must be refused: damaged ones, and networks that this package does not have."""

import copy
import functools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray
from tests.oracle import files, surgery
from tests.oracle.files import Layer, Net, Param

from stmulnet import create_model, load_model
from stmulnet.errors import CheckpointError
from stmulnet.models.matconvnet import export_mat, import_mat
from stmulnet.models.matconvnet.file import MatLayer, MatNet, MatParam, read_mat
from stmulnet.models.multiplier import Network

Array = NDArray[Any]
Change = Callable[[Net], Any]
SMALL: dict[str, Any] = {"units": (2, 3, 1, 1), "width": 2, "num_classes": 5, "mean_image": False}
STREAMS = ("spatial", "temporal")


@functools.cache
def _published() -> Net:
    image = files.base_stream("img", **SMALL)
    return surgery.st_mulnet(image, files.base_stream("flow", dropout=0.8, **SMALL), stages=(2, 3))


def published() -> Net:
    """A network as STMulNet.m makes it, which may be changed."""
    return copy.deepcopy(_published())


def refused(net: Net, message: str, path: Path, **options: Any) -> None:
    files.write(net, path, compress=False, **options)
    refused_file(path, message)


def refused_file(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"(?s)^{re.escape(str(path))}: .*{message}"):
        load_model(path)


def as_read(net: Net) -> MatNet:
    """What `read_mat` gives for the file of a network, in a fraction of the time."""
    normalization = net.meta["normalization"]
    return MatNet(
        layers=[
            MatLayer(
                layer.name,
                layer.type.removeprefix("dagnn."),
                list(layer.inputs),
                list(layer.outputs),
                list(layer.params),
                {name: as_read_value(item) for name, item in layer.block.items()},
            )
            for layer in net.layers
        ],
        params=[MatParam(param.name, np.asarray(param.value, np.float32)) for param in net.params],
        mean=normalization["averageImage"],
        image_size=normalization["imageSize"],
        class_names=net.meta["classes"]["name"],
    )


def as_read_value(item: Any) -> Any:
    if isinstance(item, list):
        return [as_read_value(part) for part in item]
    if isinstance(item, str):
        return item
    return np.zeros((0, 0)) if item is None else np.atleast_2d(np.asarray(item, float))


def test_the_network_that_is_changed_below_is_read(tmp_path: Path) -> None:
    files.write(published(), tmp_path / "x.mat")
    assert load_model(tmp_path / "x.mat").config.num_classes == 5
    found, expected = read_mat(tmp_path / "x.mat"), as_read(published())
    assert (found.image_size, found.class_names) == (expected.image_size, expected.class_names)
    np.testing.assert_equal([vars(layer) for layer in found.layers], [vars(layer) for layer in expected.layers])
    for mine, other in zip(found.params, expected.params, strict=True):
        assert mine.name == other.name
        assert np.array_equal(mine.value.ravel(order="F"), other.value.ravel(order="F"))


# ---- changes, one at a time ----


def value(name: str, change: Callable[[Array], Array]) -> Change:
    """Change the values of a parameter."""

    def apply(net: Net) -> None:
        net.param(name).value = change(net.param(name).value)

    return apply


def put(name: str, number: float, at: int = 0) -> Change:
    """Put one number into a parameter."""

    def change(values: Array) -> Array:
        values = values.copy()
        values.flat[at] = number
        return values

    return value(name, change)


def says(layer: str, **properties: Any) -> Change:
    """Change properties of a layer."""
    return lambda net: net.layer(layer).block.update(properties)


def both_say(layer: str, **properties: Any) -> Change:
    """Change properties of a layer in both streams; ``{}`` in its name is the stream's."""
    return lambda net: [net.layer(layer.format(stream)).block.update(properties) for stream in STREAMS]


def reads(layer: str, *inputs: str) -> Change:
    return lambda net: setattr(net.layer(layer), "inputs", list(inputs))


def becomes(layer: str, kind: str) -> Change:
    return lambda net: setattr(net.layer(layer), "type", kind)


def without(layer: str) -> Change:
    return lambda net: net.layers.pop(net.index(layer))


def added(*layers: Layer) -> Change:
    return lambda net: net.layers.extend(layers)


def means(**fields: Any) -> Change:
    return lambda net: net.meta["normalization"].update(fields)


def all_of(*changes: Change) -> Change:
    return lambda net: [change(net) for change in changes]


FILTER, NORM = "res3a_branch2b_filter_spatial", "bn3a_branch2b_{}_spatial"
MOMENTS = NORM.format("moments")

VALUES: dict[str, tuple[Change, str]] = {
    "NaN in a filter": (put(FILTER, np.nan), f"layer res3a_branch2b_spatial: parameter {FILTER} holds .* not finite"),
    "infinity in a filter": (put("conv1_filter_temporal", -np.inf), "conv1_filter_temporal holds .* not finite"),
    "NaN in a bias": (put("fc1000_bias_spatial", np.nan), "fc1000_bias_spatial holds values that are not finite"),
    "infinite mean": (put(MOMENTS, np.inf), f"parameter {MOMENTS} holds values that are not finite"),
    "infinite sigma": (put(MOMENTS, np.inf, at=1), f"parameter {MOMENTS} holds values that are not finite"),
    "NaN as sigma": (put(MOMENTS, np.nan, at=1), f"parameter {MOMENTS} holds values that are not finite"),
    "sigma whose square is too large": (put(MOMENTS, 1e30, at=1), f"{MOMENTS} holds values that are not finite"),
    "sigma 0": (put(MOMENTS, 0, at=1), rf"{MOMENTS}: the smallest standard deviation is 0; .* 0\.0032 is the least"),
    "negative sigma": (put(MOMENTS, -2, at=3), f"{MOMENTS}: the smallest standard deviation is -2"),
    "sigma without eps": (put(MOMENTS, 1e-6, at=1), f"{MOMENTS}: the smallest standard deviation is 1e-06"),
    "NaN in the mean image": (means(averageImage=np.full((1, 1, 23), np.nan)), "averageImage holds .* not finite"),
    "too large a mean": (means(averageImage=np.full((1, 1, 23), 1e300)), "averageImage holds .* not finite"),
}

SHAPES: dict[str, tuple[Change, str]] = {
    "transposed filter": (
        value("res3a_branch2a_filter_spatial", lambda v: v.transpose(0, 1, 3, 2)),
        r"layer res3a_branch2a_spatial: parameter \S+ has shape \(1, 1, 4, 8\), needs \(1, 1, 8, 4\)",
    ),
    "filter with all axes reversed": (
        value("conv1_filter_spatial", lambda v: v.transpose(3, 2, 1, 0)),
        "layer conv1_spatial reads 7 channels of input, which no layer makes",
    ),
    "filter for half of the channels": (value(FILTER, lambda v: v[:, :, :2]), r"\(3, 3, 2, 4\), needs \(3, 3, 4, 4\)"),
    "five axes": (value(FILTER, lambda v: np.stack([v, v], 4)), r"\(3, 3, 4, 4, 2\), needs \(3, 3, 4, 4\)"),
    "empty filter": (value(FILTER, lambda v: np.zeros((0, 0))), r"needs \(3, 3, 4, 4\)"),
    "five taps over time": (
        value("res2b_branch2b_relu_temporal_Time_f", lambda v: np.hstack([v, v[:, :2]])),
        r"_Time_f has shape \(1, 5, 2, 2\), needs \(1, 3, 2, 2\)",
    ),
    "taps along y": (
        value("res2b_branch2b_relu_temporal_Time_f", lambda v: v.transpose(1, 0, 2, 3)),
        r"_Time_f has shape \(3, 1, 2, 2\), needs \(1, 3, 2, 2\)",
    ),
    "vector too long": (value(NORM.format("mult"), lambda v: np.vstack([v, v])), r"shape \(8, 1\), needs \(4,\)"),
    "vector too short": (value(NORM.format("bias"), lambda v: v[1:]), r"bn3a_\S+ has shape \(3, 1\), needs \(4,\)"),
    "one number for all channels": (value(NORM.format("mult"), lambda v: v[:1]), r"shape \(1, 1\), needs \(4,\)"),
    "bias too long": (value("conv1_bias_spatial", lambda v: np.vstack([v, v])), r"conv1_bias\S+ has shape \(4, 1\)"),
    "transposed moments": (value(MOMENTS, lambda v: v.T), rf"{MOMENTS} has shape \(2, 4\), needs \(4, 2\)"),
    "moments of too few channels": (value(MOMENTS, lambda v: v[1:]), r"has shape \(3, 2\), needs \(4, 2\)"),
    "three moments": (value(MOMENTS, lambda v: np.hstack([v, v[:, :1]])), r"has shape \(4, 3\), needs \(4, 2\)"),
    "classes that differ": (
        all_of(
            value("fc1000_filter_temporal", lambda v: v[..., :4]),
            value("fc1000_bias_temporal", lambda v: v[:4]),
        ),
        r"layer fc1000_temporal: \S+ fc1000_filter_temporal has shape \(1, 1, 64, 4\), needs \(1, 1, 64, 5\)",
    ),
    "images of five channels": (
        value("conv1_filter_spatial", lambda v: v[:, :, [0, 1, 2, 0, 1]]),
        r"layer conv1_spatial reads 5 channels of input, which no layer makes; images have 3 \(RGB\) or 20 \(flow\)",
    ),
    "two streams of RGB": (
        value("conv1_filter_temporal", lambda v: v[:, :, :3]),
        "layers conv1_spatial and conv1_temporal both read images of 3 channels",
    ),
    "mean of five channels": (
        means(averageImage=np.ones((1, 1, 5))),
        r"averageImage has shape \(1, 1, 5\), needs 23 channels",
    ),
    "mean of four axes": (means(averageImage=np.ones((2, 2, 23, 2))), "averageImage .* needs 23 channels"),
    "too wide": (value("conv1_filter_spatial", lambda v: np.ones((7, 7, 3, 2000))), "width_mult must .* got 31.25"),
}

NAMES: dict[str, tuple[Change, str]] = {
    "no parameter": (
        lambda net: net.params.remove(net.param(FILTER)),
        f"layer res3a_branch2b_spatial needs the parameter {FILTER}, which the file does not hold",
    ),
    "one parameter more": (
        lambda net: net.params.append(Param("spare", np.ones((2, 1), np.float32))),
        r"parameters that no layer uses: spare \(1 in all\)",
    ),
    "one parameter twice": (
        lambda net: net.params.append(copy.deepcopy(net.param(FILTER))),
        f"parameter {FILTER} stands in the file twice",
    ),
    "a convolution without parameters": (
        lambda net: net.layer("res3a_branch2b_spatial").params.clear(),
        r"layer res3a_branch2b_spatial \(Conv\) has no parameters",
    ),
    "a BatchNorm without moments": (
        lambda net: net.layer("bn3a_branch2b_spatial").params.pop(),
        "layer bn3a_branch2b_spatial has 2 parameters, needs 3",
    ),
    "a classifier without bias": (
        lambda net: net.layer("prediction_spatial").params.pop(),
        "layer prediction_spatial has 1 parameters, needs 2",
    ),
    "a bias inside a unit": (
        lambda net: net.layer("res3a_branch2b_spatial").params.append(NORM.format("bias")),
        "layer res3a_branch2b_spatial has 2 parameters, needs 1",
    ),
    "a name that is a number": (
        lambda net: setattr(net.layers[3], "name", 3.0),
        "layer 4: a name was expected, found an array",
    ),
    "inputs that are numbers": (lambda net: setattr(net.layers[3], "inputs", (1.0, 2.0)), "layer 4: a name was"),
    "a class name that is a number": (lambda net: net.meta.update(classes={"name": [1.0]}), "a name was expected"),
}

PROPERTIES: dict[str, tuple[Change, str]] = {
    "stride 1": (
        says("res3a_branch2a_spatial", stride=(1.0, 1.0)),
        r"\(Conv\): stride is \[1.0, 1.0\], needs \[2, 2\]",
    ),
    "stride along y only": (says("res3a_branch2a_spatial", stride=(2.0, 1.0)), r"stride is \[2.0, 1.0\], needs"),
    "stride on the 3x3": (
        all_of(says("res3a_branch2a_spatial", stride=1.0), says("res3a_branch2b_spatial", stride=2.0)),
        r"layer res3a_branch2a_spatial \(Conv\): stride is \[1.0, 1.0\], needs \[2, 2\]",
    ),
    "stride over time": (says("res3b_branch2b_relu_spatial_Time", stride=(1.0, 2.0)), r"stride is \[1.0, 2.0\]"),
    "stride that is no number": (says("conv1_spatial", stride=np.nan), r"stride is \[nan, nan\], needs \[2, 2\]"),
    "no padding": (says("res3a_branch2b_spatial", pad=0.0), r"layer res3a_\S+ \(Conv\): pad is \[0.0, .*needs \[1, 1"),
    "three paddings": (says("res3a_branch2b_spatial", pad=(1.0,) * 3), r"pad is \[1.0, 1.0, 1.0\], needs \[1, 1, 1"),
    "padding at the other side": (
        says("pool1_temporal", pad=(1.0, 0.0, 1.0, 0.0)),
        r"layer pool1_temporal \(Pooling\): pad is \[1.0, 0.0, 1.0, 0.0\], needs \[0, 1, 0, 1\]",
    ),
    "torch's padding with Caffe's strides": (says("pool1_spatial", pad=1.0), r"stride is \[2.0, 2.0\], needs \[1, 1\]"),
    "other windows": (says("pool1_spatial", poolSize=2.0), r"poolSize is \[2.0, 2.0\], needs \[3, 3\]"),
    "other averages": (says("pool5_temporal", poolSize=5.0), r"poolSize is \[5.0, 5.0\], needs \[7, 7\]"),
    "oblong averages": (both_say("pool5_{}", poolSize=(7.0, 5.0)), r"poolSize is \[7.0, 5.0\], needs \[7, 7\]"),
    "half a position": (both_say("pool5_{}", poolSize=6.5), r"poolSize is \[6.5, 6.5\], needs two whole numbers"),
    "average over all positions": (both_say("pool5_{}", poolSize=np.inf), r"poolSize is \[inf, inf\], needs two whole"),
    "average over no number": (both_say("pool5_{}", poolSize=np.nan), r"poolSize is \[nan, nan\], needs two whole"),
    "maximum instead of average": (says("pool5_spatial", method="max"), r"\(Pooling\): method is max, needs avg"),
    "average instead of maximum": (says("pool1_spatial", method="avg"), r"\(Pooling\): method is avg, needs max"),
    "a method that is a number": (says("pool1_spatial", method=1.0), "pool1_spatial: method must be a word, is an arr"),
    "a method over time that is none": (both_say("res5c_relu_pool_{}1", method="min"), "method is min, needs avg"),
    "one stream pooled differently": (says("res5c_relu_pool_temporal1", poolSize=(1.0, 3.0)), r"needs \[1, 5\]"),
    "pooled over time and y": (both_say("res5c_relu_pool_{}1", poolSize=(2.0, 5.0)), r"\[2.0, 5.0\], needs \[1, 5\]"),
    "windows of no frame": (both_say("res5c_relu_pool_{}1", poolSize=(1.0, 0.0)), "needs a window of at least 1"),
    "windows of no number": (both_say("res5c_relu_pool_{}1", poolSize=(1.0, np.nan)), "needs two whole numbers"),
    "endless stride": (both_say("res5c_relu_pool_{}1", stride=(1.0, np.inf)), "needs two whole numbers"),
    "leak": (says("res3a_relu_spatial", leak=0.1), r"layer res3a_relu_spatial \(ReLU\): leak is \[0.1\], needs \[0\]"),
    "leak as an option": (says("res3a_relu_spatial", opts=["Leak", 0.1]), r"\(ReLU\): opts sets leak, which its prope"),
    "leak in words": (says("res3a_relu_spatial", leak="none"), "leak must be numbers, is the text 'none'"),
    "dilation": (says("res3a_branch2b_spatial", dilate=2.0), r"\(Conv\): dilate is \[2.0, 2.0\], needs \[1, 1\]"),
    "a bias that is switched off": (says("prediction_spatial", hasBias=False), r"hasBias is \[0.0\], needs \[True\]"),
    "all dropped": (says("prediction_temporal", rate=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
    "two rates": (says("prediction_temporal", rate=(0.5, 0.6)), r"rate is \[0.5, 0.6\], needs \[0.5\]"),
    "images not square": (means(imageSize=(224.0, 320.0, 3.0)), r"imageSize is \(224.0, 320.0, 3.0\), needs one side"),
    "images without end": (means(imageSize=(np.inf,) * 3), "imageSize .* needs one side .* up to 4096"),
    "images too large to be true": (means(imageSize=(1e18, 1e18, 3.0)), "imageSize .* needs one side .* up to 4096"),
    "images too small": (
        means(imageSize=(64.0, 64.0, 3.0)),
        "input_size 64 leaves fewer positions .* than head_pool 7 needs",
    ),
}

GATE = "res3a_relu_spatial_sum"
WIRING: dict[str, tuple[Change, str]] = {
    "a layer of no known type": (
        added(Layer("both", "dagnn.Concat", ["pool5_spatial", "pool5_temporal"], ["both"])),
        "layer both is of type Concat, which no network of this package has; known are Conv, ",
    ),
    "a product over time": (becomes(GATE, "dagnn.MulTime"), f"layer {GATE} is of type MulTime, which no network"),
    "no BatchNorm": (without("bn3a_branch2b_spatial"), "no BatchNorm reads res3a_branch2b_spatial, as bn3a_branch2b"),
    "no ReLU": (
        without("res3a_branch2b_relu_spatial"),
        "layer res3a_branch2c_spatial reads 4 channels of res3a_branch2bxxx_spatial, which no layer makes",
    ),
    "no first convolution": (without("conv1_spatial"), r"layers that no network .* bn_conv1_spatial \(BatchNorm\)"),
    "no temporal convolution": (without("res3b_branch2b_relu_spatial_Time"), "_Time, which no layer makes"),
    "no sum": (without("res3b_spatial"), "the stream behind conv1_spatial has 2 stages up to res3ax_spatial, 4 are"),
    "no gate": (without(GATE), f"reads 16 channels of {GATE}, which no layer makes"),
    "no average": (without("pool5_spatial"), "reads 64 channels of pool5_spatial, which no layer makes"),
    "no classifier": (without("prediction_spatial"), "one classifier reading pool5_spatial was expected, found none"),
    "two classifiers": (
        added(Layer("fc2", "dagnn.Conv", ["pool5_spatial"], ["fc2"], ["fc1000_filter_spatial"])),
        r"one classifier reading pool5_spatial was expected, found \['prediction_spatial', 'fc2'\]",
    ),
    "a ReLU behind the scores": (
        added(Layer("relu", "dagnn.ReLU", ["fc1000_spatial"], ["relu"])),
        r"layers that no network of this package has: relu \(ReLU\) \(1 in all\)",
    ),
    "a BatchNorm behind a temporal convolution": (
        all_of(
            added(
                Layer(
                    "norm",
                    "dagnn.BatchNorm",
                    ["res3b_branch2b_relu_spatial_Time"],
                    ["norm"],
                    [f"bn3b_branch2b_{part}_spatial" for part in ("mult", "bias", "moments")],
                )
            ),
            reads("res3b_branch2c_spatial", "norm"),
        ),
        r"no Conv reads res3b_branch2bxxx_spatial, .* read by res3b_branch2b_relu_spatial_Time \(ConvTime\)",
    ),
    "the gate reads unit b's sum": (
        reads(GATE, "res3ax_temporal", "res3b_spatial"),
        r"no Conv reads res3ax_spatial, as res3b_branch2a_spatial does .* is read by res3b_spatial \(Sum\)",
    ),
    "the gate reads the state": (reads(GATE, "res3ax_temporal", "res3ax_spatial"), "no Conv reads res3ax_spatial"),
    "the gate reads the other sum": (reads(GATE, "res3a_temporal", "res3a_spatial"), "no Mul reads res2ax_spatial"),
    "the gate reads another stage": (
        reads(GATE, "res2ax_temporal", "res3a_spatial"),
        "no Mul reads res3ax_temporal and res3a_spatial, as res3a_relu_spatial_sum does in the network",
    ),
    "the gate reads its own stream twice": (reads(GATE, "res3a_spatial", "res3a_spatial"), "no Mul reads res3ax_temp"),
    "the gate reads one state": (reads(GATE, "res3a_spatial"), "no Mul reads res3ax_temporal and res3a_spatial"),
    "the third unit is gated": (
        all_of(reads("res3b_branch2a_spatial", "res3ax_spatial"), reads("res3c_branch2a_spatial", GATE)),
        "no ConvTime reads res3c_branch2bxxx_spatial, as res3b_branch2b_relu_spatial_Time does",
    ),
    "the gated unit reads its state": (
        reads("res3b_branch2a_spatial", "res3ax_spatial"),
        f"no Conv reads {GATE}, as res3b_branch2a_spatial does in the network its other layers form; .* by nothing",
    ),
    "a sum among products": (
        becomes(GATE, "dagnn.Sum"),
        rf"no Mul reads res3ax_temporal and res3a_spatial, .*{GATE} \(Sum\)",
    ),
    "a product instead of the shortcut": (becomes("res3b_spatial", "dagnn.Mul"), "2 stages up to res3ax_spatial"),
    "a cycle through the network": (reads("res2a_branch1_spatial", "res5ax_spatial"), "0 stages up to pool1_spatial"),
    "a cycle through a unit": (
        all_of(reads("res2a_branch1_spatial", "res2bx_spatial"), reads("res2a_branch2a_spatial", "res2bx_spatial")),
        "layers res2a_spatial and res3a_spatial start from one state",
    ),
    "a BatchNorm that reads itself": (
        reads("bn3a_branch2b_spatial", "res3a_branch2bx_spatial"),
        "bn3a_branch2b_spatial normalises res3a_branch2bx_spatial, which is no convolution",
    ),
    "a convolution that reads itself": (
        reads("res3a_branch2b_spatial", "res3a_branch2b_spatial"),
        "no Conv reads res3a_branch2axxx_spatial",
    ),
    "the first convolution reads its pooling": (reads("conv1_spatial", "pool1_spatial"), r"\(\d+ in all\)"),
    "idle dropout that reads itself": (
        all_of(reads("prediction_temporal", "drop_pool5_temporal"), says("prediction_temporal", rate=0.0)),
        "layer fc1000_temporal reads 64 channels of drop_pool5_temporal, which no layer makes",
    ),
    "two layers make one variable": (
        lambda net: setattr(net.layer("res3b_relu_spatial"), "outputs", ["res3ax_spatial"]),
        "layers res3a_relu_spatial and res3b_relu_spatial both make the variable res3ax_spatial",
    ),
    "one layer twice": (
        lambda net: net.layers.append(copy.deepcopy(net.layer("pool1_spatial"))),
        "layers pool1_spatial and pool1_spatial both make",
    ),
    "a layer that makes nothing": (
        lambda net: net.layer("pool1_spatial").outputs.clear(),
        r"layer pool1_spatial must read variables and make one, reads \['conv1xxx_spatial'\] and makes \[\]",
    ),
    "a layer that reads nothing": (reads("bn3a_branch2b_spatial"), r"bn3a_branch2b_spatial must .* reads \[\]"),
    "nothing but a loss": (
        lambda net: setattr(net, "layers", [Layer("loss", "dagnn.Loss", ["x"], ["y"])]),
        "no convolution reads an image",
    ),
}

ALL = VALUES | SHAPES | PROPERTIES | WIRING
assert len(ALL) == sum(map(len, (VALUES, SHAPES, PROPERTIES, WIRING)))


@pytest.mark.parametrize("case", ALL)
def test_a_changed_network_is_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, message = ALL[case]
    net = published()
    change(net)
    monkeypatch.setattr("stmulnet.models.matconvnet.importer.read_mat", lambda _: as_read(net))
    with pytest.raises(CheckpointError, match=f"(?s)^some.mat: .*{message}"):
        import_mat("some.mat")


@pytest.mark.parametrize("case", NAMES)
def test_a_network_of_other_parameters_and_names_is_refused(case: str, tmp_path: Path) -> None:
    change, message = NAMES[case]
    net = published()
    change(net)
    refused(net, message, tmp_path / "x.mat")


def test_doubles_that_single_precision_does_not_hold(tmp_path: Path) -> None:
    net = published()
    net.param(FILTER).value = net.param(FILTER).value * np.float64(1e300)
    refused(net, f"{FILTER} holds values that are not finite", tmp_path / "x.mat", dtype="double")


def test_streams_of_different_width_cannot_be_joined(tmp_path: Path) -> None:
    image, flow = files.base_stream("img", **SMALL), files.base_stream("flow", **{**SMALL, "width": 4})
    net = surgery.st_mulnet(image, flow, stages=(3,))
    refused(net, "fusion at res3 joins 16 with 32 channels", tmp_path / "x.mat")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.ones((3, 3, 4, 4), complex) * 1j, "is an array of complex numbers"),
        (np.array([[1.0, "x"]], object), "is a cell or struct"),
        ({"data": 1.0}, "is a cell or struct"),
        ("x.bin", "is the text 'x.bin'"),
        (scipy.sparse.eye(4), "is a sparse matrix"),
    ],
)
def test_parameters_that_are_no_real_numbers(found: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    files.write(published(), path, compress=False)
    content = scipy.io.loadmat(path)
    params = content["net"]["params"][0, 0]
    params[0, 2]["value"] = found
    scipy.io.savemat(path, {"net": content["net"]}, long_field_names=True)
    refused_file(path, f"parameter 3: {params[0, 2]['name'].item()} must be an array of real numbers, {message}")


# ---- files that hold no network ----


def save(path: Path, **variables: Any) -> None:
    scipy.io.savemat(path, variables)


NO_NETWORK: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (Path.touch, "not a MATLAB file of version 5; an interrupted download or an error page of a server?"),
    "an error page": (
        lambda path: path.write_text("<html>404 Not Found</html>"),
        "not a MATLAB file of version 5; an interrupted",
    ),
    "safetensors": (
        lambda path: path.write_bytes(b"\x40\0\0\0\0\0\0\0" + b'{"x": 1}'.ljust(64)),
        "not a MATLAB file of version 5; it looks like a safetensors file: give it the suffix .safetensors",
    ),
    "MATLAB 4": (
        lambda path: scipy.io.savemat(path, {"x": np.ones((3, 3))}, format="4"),
        r"perhaps one of version 4; in MATLAB, load it and save it again with save\(file, 'net', '-v7'\)",
    ),
    "a folder": (Path.mkdir, "is a folder"),
    "MATLAB 7.3": (
        lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n"),
        r"a MATLAB 7.3 file; in MATLAB, load it and save it again with save\(file, 'net', '-v7'\)",
    ),
    "a header alone": (
        lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"),
        r"holds no DagNN, which has layers and params \(in net or by themselves\); it holds nothing",
    ),
    "half a header": (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "the header is not that of"),
    "other variables": (lambda path: save(path, state=1.0, stats=2.0), "it holds state, stats"),
    "layers without params": (lambda path: save(path, layers=1.0, meta=2.0), "it holds layers, meta"),
    "net is a number": (lambda path: save(path, net=1.0), "it holds net with nothing"),
    "a SimpleNN": (
        lambda path: save(path, net={"layers": np.array([[{"type": "conv"}]], object), "meta": {"x": 1.0}}),
        "it holds net with layers, meta",
    ),
    "layers that are a number": (lambda path: save(path, layers=1.0, params=2.0), "layer 1 has no field 'name'"),
    "layers without inputs": (
        lambda path: save(path, layers={"name": "x", "type": "dagnn.ReLU"}, params={"name": "x", "value": 1.0}),
        "layer 1 has no field 'inputs'",
    ),
}


@pytest.mark.parametrize("case", NO_NETWORK)
def test_files_that_hold_no_network(case: str, tmp_path: Path) -> None:
    make, message = NO_NETWORK[case]
    make(tmp_path / "x.mat")
    refused_file(tmp_path / "x.mat", message)


# ---- damage anywhere ----


def stream_file(path: Path, *, compress: bool) -> bytes:
    files.write(files.base_stream("flow", units=(1, 1, 1, 1), width=2, num_classes=2), path, compress=compress)
    return path.read_bytes()


def outcome(path: Path, data: bytes) -> dict[str, torch.Tensor] | None:
    """The tensors of a file with these bytes; None if it is refused."""
    path.write_bytes(data)
    try:
        return load_model(path).state_dict()
    except CheckpointError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    return None


@pytest.mark.parametrize("compress", [True, False])
def test_a_file_cut_off_anywhere_is_refused(compress: bool, tmp_path: Path) -> None:
    data = stream_file(tmp_path / "x.mat", compress=compress)
    places = {0, 1, 127, 128, 130, 136, len(data) - 1, *range(0, len(data), len(data) // 40)}
    for place in places:
        assert outcome(tmp_path / "x.mat", data[:place]) is None, place


def flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
    return bytes(damaged)


def test_a_damaged_compressed_file_is_refused_or_makes_no_difference(tmp_path: Path) -> None:
    data, rng = stream_file(tmp_path / "x.mat", compress=True), random.Random(11)
    right = outcome(tmp_path / "x.mat", data)
    assert right is not None
    outcomes = [outcome(tmp_path / "x.mat", flipped(data, rng)) for _ in range(100)]
    for tensors in outcomes:
        assert tensors is None or all(torch.equal(tensors[name], tensor) for name, tensor in right.items())
    assert outcomes.count(None) > 90


def test_a_damaged_file_that_is_not_compressed_is_refused_or_read(tmp_path: Path) -> None:
    """Such a file has no check sum, so a wrong number is a number; but nothing else may happen."""
    data, rng = stream_file(tmp_path / "x.mat", compress=False), random.Random(12)
    outcomes = [outcome(tmp_path / "x.mat", flipped(data, rng)) for _ in range(100)]
    assert 30 < outcomes.count(None) < 100


# ---- networks that such a file cannot hold ----


def exportable(**options: Any) -> Network:
    size: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 1 / 32, "input_size": 64, "head_pool": 2}
    return create_model("appearance_resnet50", 3, **{**size, **options})


def nan_somewhere() -> Network:
    model = exportable()
    with torch.no_grad():
        model.get_parameter("appearance.res3.a.branch2b.0.weight")[0, 0, 0, 0] = torch.nan
    return model


def with_deviation() -> Network:
    model = exportable()
    model.rgb_std.fill_(58.0)
    return model


NOT_EXPORTABLE: dict[str, tuple[Callable[[], Network], str, str]] = {
    "global average": (lambda: exportable(head_pool="global"), "x.mat", "head_pool 'global' has no layer"),
    "standard deviation": (with_deviation, "x.mat", "divides its images by a standard deviation"),
    "not finite": (nan_somewhere, "x.mat", "tensor appearance.res3.a.branch2b.0.weight holds .* not finite"),
    "suffix": (exportable, "x.safetensors", "MatConvNet files end in .mat; give the file that suffix"),
    "no suffix": (exportable, "x", "MatConvNet files end in .mat"),
}


@pytest.mark.parametrize("case", NOT_EXPORTABLE)
def test_what_cannot_be_written_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    make, name, message = NOT_EXPORTABLE[case]
    path = tmp_path / name
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{message}"):
        export_mat(make(), path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mat"
    export_mat(exportable(), path)
    before = path.read_bytes()

    def fail(file: Any, *_: Any, **__: Any) -> None:
        file.write(before[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scipy.io, "savemat", fail)
    with pytest.raises(OSError, match="No space left"):
        export_mat(exportable(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
