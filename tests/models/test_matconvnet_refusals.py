"""Networks in the authors' layout whose parameters or properties this package does not have: refused."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from tests.models.refusing import (
    SMALL,
    Change,
    all_of,
    as_read,
    assert_refused,
    both_say,
    means,
    published,
    put,
    refused,
    refused_file,
    says,
    value,
)
from tests.oracle import files, surgery
from tests.oracle.files import Param

from stmulnet import load_model
from stmulnet.models.matconvnet.file import read_mat


def test_the_network_that_is_changed_below_is_read(tmp_path: Path) -> None:
    files.write(published(), tmp_path / "x.mat")
    assert load_model(tmp_path / "x.mat").config.num_classes == 5
    found, expected = read_mat(tmp_path / "x.mat"), as_read(published())
    assert (found.image_size, found.class_names) == (expected.image_size, expected.class_names)
    np.testing.assert_equal([vars(layer) for layer in found.layers], [vars(layer) for layer in expected.layers])
    for mine, other in zip(found.params, expected.params, strict=True):
        assert mine.name == other.name
        assert np.array_equal(mine.value.ravel(order="F"), other.value.ravel(order="F"))


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

ALL = VALUES | SHAPES | PROPERTIES
assert len(ALL) == sum(map(len, (VALUES, SHAPES, PROPERTIES)))


@pytest.mark.parametrize("case", ALL)
def test_a_changed_network_is_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(*ALL[case], monkeypatch)


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
