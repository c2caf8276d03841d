"""The tests' own reading of MatConvNet files: against the recorded official outputs, the official fused file, SciPy."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal, special
from tests.oracle.files import Array, Layer, Net, Param, base_stream
from tests.oracle.interpreter import (
    OPERATIONS,
    conv2d,
    evaluate,
    network_inputs,
    pool2d,
    protocol_scores,
    read,
    thin_frames,
)
from tests.oracle.surgery import st_mulnet

IMAGE_FILE = "ucf101-img-resnettiny-split1-dr0.mat"
FLOW_FILE = "ucf101-flow-resnettiny-split1-dr0.8.mat"
FUSED_FILE = "ucf101ST-MulNet-imgtiny-flowtiny-final-split=1.mat"
TOLERANCE = 2e-5  # of the largest value: the records are float32
STREAMS = ("spatial", "temporal")
LAYERS = (
    "res2a_spatial",
    "res2a_relu_spatial_sum",
    "res2a_relu_temporal",
    "res2b_branch2b_relu_spatial_Time",
    "res5c_relu_pool_spatial1",
    "res5c_relu_pool_temporal1",
)


def distance(values: Array, reference: Array) -> float:
    assert values.shape == reference.shape
    return float(np.abs(values - reference).max() / np.abs(reference).max())


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "fixtures" / "matconvnet"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Array]:
    return dict(np.load(folder / "expected.npz"))


@pytest.fixture(scope="module")
def fused(folder: Path) -> Net:
    return read(folder / FUSED_FILE)


@pytest.fixture(scope="module")
def assembled(folder: Path) -> Net:
    return st_mulnet(read(folder / IMAGE_FILE), read(folder / FLOW_FILE))


# ---- the recorded outputs ----


@pytest.fixture(scope="module")
def values(fused: Net, expected: dict[str, Array]) -> dict[str, Array]:
    inputs = network_inputs(fused, expected["rgb"], expected["flow"])
    return evaluate(fused, inputs, 7, keep=[*LAYERS, "fc1000_spatial", "fc1000_temporal"])


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_have_the_recorded_values(layer: str, values: dict[str, Array], expected: dict[str, Array]) -> None:
    record = expected[f"final/{layer}"]
    assert distance(values[layer][..., : record.shape[3]], record) < TOLERANCE


@pytest.mark.parametrize("stream", STREAMS)
def test_logits_are_the_recorded_ones(stream: str, values: dict[str, Array], expected: dict[str, Array]) -> None:
    assert distance(values[f"fc1000_{stream}"], expected[f"final/logits_{stream}"]) < TOLERANCE


def test_protocol_scores_are_the_recorded_ones(fused: Net, expected: dict[str, Array]) -> None:
    scores = protocol_scores(fused, expected["rgb"], expected["flow"], dtype=np.float32)
    for name, score in scores.items():
        assert distance(score, expected[f"final/protocol_{name}"]) < TOLERANCE


@pytest.mark.parametrize(("file", "kind", "record"), [(IMAGE_FILE, "rgb", "img"), (FLOW_FILE, "flow", "flow")])
def test_base_streams_give_the_recorded_logits(
    file: str, kind: str, record: str, folder: Path, expected: dict[str, Array]
) -> None:
    net = read(folder / file)
    frames: dict[str, Any] = {kind: expected[kind]}
    inputs = network_inputs(net, **frames)
    logits = evaluate(net, inputs, 1, dtype=np.float32, keep=["fc1000"])["fc1000"]
    assert distance(logits, expected[f"{record}/logits"]) < TOLERANCE


# ---- the official fused file, made from its base streams ----


def test_assembled_layers_are_those_of_the_fused_file(assembled: Net, fused: Net) -> None:
    assert assembled.layers == fused.layers  # names, types, inputs, outputs, parameters and all block properties


def test_assembled_parameters_are_those_of_the_fused_file(assembled: Net, fused: Net) -> None:
    for ours, theirs in zip(assembled.params, fused.params, strict=True):
        assert ours.name == theirs.name
        assert ours.value.shape == theirs.value.shape
        assert (ours.learning_rate, ours.weight_decay) == (theirs.learning_rate, theirs.weight_decay)
        # The file is one of a finished training: filters over time and moments have moved on.
        if "_Time_" not in ours.name and "_moments_" not in ours.name:
            np.testing.assert_array_equal(ours.value, theirs.value)


def test_assembled_means_are_those_of_the_fused_file(assembled: Net, fused: Net) -> None:
    ours, theirs = (net.meta["normalization"].pop("averageImage") for net in map(_copy, (assembled, fused)))
    # The file's mean colour was summed in single precision, pixel after pixel: 115.90235 for 115.90290.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def _copy(net: Net) -> Net:
    return replace(net, meta={**net.meta, "normalization": dict(net.meta["normalization"])})


def test_assembled_meta_is_that_of_the_fused_file(assembled: Net, fused: Net) -> None:
    ours, theirs = (_copy(net).meta for net in (assembled, fused))
    for meta in (ours, theirs):
        del meta["normalization"]["averageImage"], meta["curNumFrames"]  # the length of the last training batch
    assert ours == theirs


@pytest.mark.parametrize(("kind", "file"), [("img", IMAGE_FILE), ("flow", FLOW_FILE)])
def test_base_streams_have_the_layers_of_the_files(kind: Any, file: str, folder: Path) -> None:
    net = read(folder / file)
    ours = base_stream(
        kind, units=(2, 2, 2, 3), width=8, num_classes=11, dropout=0.8 if kind == "flow" else None, seed=1
    )
    assert ours.layers == net.layers
    for own, theirs in zip(ours.params, net.params, strict=True):
        assert (own.name, own.learning_rate, own.weight_decay) == (
            theirs.name,
            theirs.learning_rate,
            theirs.weight_decay,
        )
        assert (own.value.shape, own.value.dtype) == (theirs.value.shape, theirs.value.dtype)
    del net.meta["curNumFrames"], net.meta["normalization"]["averageImage"]
    del ours.meta["normalization"]["averageImage"]
    assert ours.meta == net.meta


# ---- operations ----


def test_conv2d_is_a_cross_correlation(rng: np.random.Generator) -> None:
    x, filters, bias = rng.normal(size=(2, 9, 11, 3)), rng.normal(size=(3, 2, 3, 4)), rng.normal(size=4)
    y = conv2d(x, filters, bias, stride=(2, 3), pad=(1, 2, 0, 3))
    padded = np.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)))
    for frame, out in itertools.product(range(2), range(4)):
        planes = [signal.correlate2d(padded[frame, ..., c], filters[..., c, out], "valid") for c in range(3)]
        np.testing.assert_allclose(y[frame, ..., out], np.sum(planes, 0)[::2, ::3] + bias[out], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["max", "avg"])
def test_pool2d_ignores_its_padding(method: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 6, 7, 3)) - 2  # below zero: padding with zeros would show
    y = pool2d(x, method, size=(3, 2), stride=(2, 3), pad=(0, 1, 1, 0))
    assert y.shape == (2, 3, 3, 3)
    for row, column in itertools.product(range(3), range(3)):
        window = x[:, 2 * row : 2 * row + 3, max(3 * column - 1, 0) : 3 * column + 1]
        reference = window.max((1, 2)) if method == "max" else window.mean((1, 2))
        np.testing.assert_allclose(y[:, row, column], reference, rtol=1e-13)


def test_a_window_that_does_not_fit_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pool2d(rng.normal(size=(1, 3, 3, 1)), "max", size=(1, 5), stride=(1, 1))


def run(kind: str, block: dict[str, Any], inputs: list[Array], *params: Array, videos: int = 1) -> Array:
    return OPERATIONS[f"dagnn.{kind}"](block, inputs, list(params), videos)


def test_conv_time_keeps_videos_apart(rng: np.random.Generator) -> None:
    x, filters, bias = rng.normal(size=(8, 2, 3, 3)), rng.normal(size=(1, 3, 3, 4)), rng.normal(size=(4, 1))
    y = run("ConvTime", {"pad": (0, 0, 1, 1), "stride": (1, 1)}, [x], filters, bias, videos=2)
    for video, t in itertools.product(range(2), range(4)):
        terms = [x[4 * video + t + tap] @ filters[0, tap + 1] for tap in (-1, 0, 1) if 0 <= t + tap < 4]
        np.testing.assert_allclose(y[4 * video + t], np.sum(terms, 0) + bias[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("window", "stride", "starts"), [(3, 1, (0, 1, 2, 3)), (3, 2, (0, 2)), (4, 1, (0, 1, 2)), (math.inf, 1, (0,))]
)
@pytest.mark.parametrize("method", ["max", "avg"])
def test_pool_time(window: float, stride: int, starts: tuple[int, ...], method: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(12, 2, 3, 4))
    y = run("PoolTime", {"method": method, "poolSize": (1, window), "stride": (1, stride)}, [x], videos=2)
    length = 6 if math.isinf(window) else int(window)
    windows = [x[6 * video + start : 6 * video + start + length] for video in range(2) for start in starts]
    reference = [part.max(0) if method == "max" else part.mean(0) for part in windows]
    np.testing.assert_allclose(y, reference, rtol=1e-12)


def test_sums_of_different_lengths_thin_the_longer_one() -> None:
    frames = np.arange(16.0).reshape(16, 1, 1, 1)  # two videos of eight frames
    assert thin_frames(frames, 3, 2).ravel().tolist() == [0, 4, 7, 8, 12, 15]  # round(4.5) is 5 in MATLAB
    assert thin_frames(frames, 1, 2).ravel().tolist() == [7, 15]  # linspace(1, 8, 1) is 8 in MATLAB
    total = run("Sum", {}, [frames, np.zeros((6, 1, 1, 1))], videos=2)
    assert total.ravel().tolist() == [0, 4, 7, 8, 12, 15]
    with pytest.raises(ValueError, match="different shapes"):
        run("Mul", {}, [frames, np.zeros((6, 1, 1, 1))], videos=2)


def test_elementwise_layers(rng: np.random.Generator) -> None:
    x, y, scale, bias = (rng.normal(size=size) for size in ((2, 3, 4, 5), (2, 3, 4, 5), (1, 1, 5), (5, 1)))
    np.testing.assert_array_equal(run("Mul", {}, [x, y]), x * y)
    np.testing.assert_array_equal(run("Sum", {}, [x, y, x]), x + y + x)
    np.testing.assert_array_equal(run("Scale", {}, [x], scale, bias), x * scale[0, 0] + bias[:, 0])
    np.testing.assert_array_equal(run("Scale", {"hasBias": False}, [x], scale, bias), x * scale[0, 0])
    np.testing.assert_array_equal(run("ReLU", {"opts": []}, [x]), np.where(x > 0, x, 0))
    np.testing.assert_array_equal(run("ReLU", {"leak": 0.1}, [x]), np.where(x > 0, x, 0.1 * x))
    np.testing.assert_array_equal(run("ReLU", {"opts": ["leak", 0.2]}, [x]), np.where(x > 0, x, 0.2 * x))
    np.testing.assert_array_equal(run("DropOut", {"rate": 0.9}, [x]), x)
    np.testing.assert_allclose(run("SoftMax", {}, [x]), special.softmax(x, 3), rtol=1e-13)


def test_batch_norm_divides_by_sigma_itself(rng: np.random.Generator) -> None:
    x, factor, offset = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(5, 1)), rng.normal(size=(1, 1, 5))
    moments = np.stack([rng.normal(size=5), rng.uniform(0.5, 2, 5)], 1)
    y = run("BatchNorm", {"epsilon": 0.5}, [x], factor, offset, moments)
    np.testing.assert_allclose(
        y, factor[:, 0] * (x - moments[:, 0]) / moments[:, 1] + offset.ravel(), rtol=0, atol=1e-12
    )


def test_layers_run_in_the_order_of_their_data(rng: np.random.Generator) -> None:
    layers = [
        Layer("last", "dagnn.Sum", ["b", "x"], ["c"]),
        Layer("second", "dagnn.ReLU", ["a"], ["b"]),
        Layer("first", "dagnn.Scale", ["x"], ["a"], ["f", "g"]),
        Layer("loss", "dagnn.Loss", ["c", "label"], ["objective"]),
    ]
    net = Net(layers, [Param("f", np.full((1, 1, 2), -2.0)), Param("g", np.zeros((1, 1, 2)))], {})
    x = rng.normal(size=(3, 4, 2, 5))
    values = evaluate(net, {"x": x}, 5)
    assert set(values) == {"first", "second", "last", "a", "b", "c"}
    np.testing.assert_array_equal(values["last"], np.maximum(-2 * x, 0) + x)
    assert set(evaluate(net, {"x": x}, 5, keep=["b", "first"])) == {"b", "first"}
    with pytest.raises(ValueError, match="first"):
        evaluate(net, {"y": x}, 5)
    with pytest.raises(ValueError, match="no layer or variable nothing"):
        evaluate(net, {"x": x}, 5, keep=["nothing"])
    with pytest.raises(ValueError, match="not videos of 4"):
        evaluate(net, {"x": x}, 4)


def test_cycles_are_refused() -> None:
    net = Net([Layer("f", "dagnn.ReLU", ["b"], ["a"]), Layer("g", "dagnn.ReLU", ["a"], ["b"])], [], {})
    with pytest.raises(ValueError, match="cycle"):
        evaluate(net, {"x": np.zeros((1, 1, 1, 1))}, 1)
