"""Networks the tests make themselves: the wiring of every variant of the authors' scripts, and the files they write."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat
from tests.oracle.files import Net, base_stream, unit_names, write
from tests.oracle.interpreter import calibrate, evaluate, network_inputs, read
from tests.oracle.surgery import perturb_temporal, st_mulnet, st_resnet_stage1, st_resnet_stage2

STREAMS = ("spatial", "temporal")


def small(kind: Any, **options: Any) -> Net:
    defaults: dict[str, Any] = {"units": (2, 2, 2, 2), "width": 2, "num_classes": 5}
    defaults["dropout"] = 0.8 if kind == "flow" else None
    return base_stream(kind, **{**defaults, **options}, seed=len(kind))


def pair(**options: Any) -> tuple[Net, Net]:
    return small("img", **options), small("flow", **options)


def inputs_of(net: Net, *names: str) -> list[list[str]]:
    return [net.layer(name).inputs for name in names]


def test_into_the_spatial_stream_only_the_branch_reads_the_product() -> None:
    net = st_mulnet(*pair(), add_conv3d=0)
    assert inputs_of(net, "res3a_relu_spatial_sum", "res3b_branch2a_spatial", "res3b_spatial") == [
        ["res3ax_temporal", "res3a_spatial"],
        ["res3a_relu_spatial_sum"],
        ["res3ax_spatial", "res3b_branch2cx_spatial"],
    ]
    assert inputs_of(net, "res3b_branch2a_temporal", "res3b_temporal")[0] == ["res3ax_temporal"]


def test_into_the_temporal_stream_the_state_is_replaced() -> None:
    net = st_mulnet(*pair(), fuse_into="temporal")
    assert inputs_of(net, "res3a_temporal_sum", "res3a_relu_temporal", "res3b_branch2a_temporal", "res3b_temporal") == [
        ["res3ax_spatial", "res3a_temporal"],
        ["res3a_temporal_sum"],
        ["res3ax_temporal"],
        ["res3ax_temporal", "res3b_branch2cx_temporal"],
    ]
    assert not [layer.name for layer in net.layers if layer.name.endswith("spatial_sum")]


def test_both_directions_do_not_depend_on_their_order() -> None:
    first, second = (st_mulnet(*pair(), fuse_into=into, do_bidirectional=True) for into in STREAMS)
    wiring = [{layer.name: (layer.type, layer.inputs) for layer in net.layers} for net in (first, second)]
    assert wiring[0] == wiring[1]
    assert wiring[0]["res4a_relu_spatial_sum"] == ("dagnn.Mul", ["res4ax_temporal", "res4a_spatial"])
    assert wiring[0]["res4a_relu_temporal"][1] == ["res4a_temporal_sum"]


@pytest.mark.parametrize(("into", "anchor"), [("spatial", "res5a_relu_spatial"), ("temporal", "res5a_temporal")])
def test_scale_comes_between_the_incoming_state_and_the_fusion(into: Any, anchor: str) -> None:
    net = st_mulnet(*pair(), fuse_into=into, do_scale=True, do_sum=True, do_mul=False, stages=(5,))
    other = STREAMS[into == "spatial"]
    assert inputs_of(net, f"{anchor}_scale", f"{anchor}_scale_sum") == [
        [f"res5ax_{other}"],
        [f"{anchor}_scale", f"res5a_{into}"],
    ]
    assert net.layer(f"{anchor}_scale_sum").type == "dagnn.Sum"
    assert net.param(f"{anchor}_scale_f").value.ravel().tolist() == pytest.approx([0.1] * 64)
    reader = "res5b_branch2a_spatial" if into == "spatial" else "res5a_relu_temporal"
    assert inputs_of(net, reader) == [[f"{anchor}_scale_sum"]]


def test_numbered_units_get_filters_over_time_only_where_a_b_unit_is() -> None:
    net = st_mulnet(small("img"), small("flow", units=(2, 3, 4, 2), numbered_stages=(3, 4)))
    times = [layer.name for layer in net.layers if layer.type == "dagnn.ConvTime"]
    assert times == [
        *(f"res{stage}b_branch2b_relu_spatial_Time" for stage in (2, 3, 4, 5)),
        *(f"res{stage}b_branch2b_relu_temporal_Time" for stage in (2, 5)),
    ]
    assert inputs_of(net, "res3b1_branch2c_temporal", "res5b_branch2c_temporal") == [
        ["res3b1_branch2bxxx_temporal"],
        ["res5b_branch2b_relu_temporal_Time"],
    ]


@pytest.mark.parametrize(("switch", "taps"), [(8, [1 / 3, 1 / 3, 1 / 3]), (9, [0, 1, 0]), (10, [-1, 3, -1])])
def test_filters_over_time_start_with_their_taps(switch: Any, taps: list[float]) -> None:
    filters = st_mulnet(*pair(), add_conv3d=switch).param("res3b_branch2b_relu_spatial_Time_f").value
    np.testing.assert_allclose(filters[0, :, 2, 2], taps, rtol=1e-6)
    assert not filters[0, :, 2, 3].any()


def test_basic_units_have_the_filter_where_the_anchor_says() -> None:
    script = st_mulnet(*pair(block="basic"))
    assert inputs_of(script, "res3b_spatial_Time", "res3b_relu_spatial") == [["res3b_spatial"], ["res3b_spatial_Time"]]
    inside = st_mulnet(*pair(block="basic"), time_anchor="b_branch2a")
    assert inputs_of(inside, "res3b_branch2b_spatial") == [["res3b_branch2a_relu_spatial_Time"]]


def test_stage_1_turns_pointwise_convolutions_into_filters_over_time() -> None:
    spatial, temporal = pair()
    net = st_resnet_stage1(spatial, temporal)
    times = [layer.name for layer in net.layers if layer.type == "dagnn.ConvTime"]
    assert times == [
        f"res{stage}b_branch2{branch}_{stream}" for stream in STREAMS for stage in (2, 3, 4, 5) for branch in "ac"
    ]
    before = spatial.param("res4b_branch2c_filter").value
    after = net.param("res4b_branch2c_filter_spatial").value
    np.testing.assert_array_equal(after, np.concatenate([before / 3] * 3, 1))
    assert net.layer("res4b_branch2c_spatial").block["pad"] == (0, 0, 1, 1)
    assert net.layer("res3a_relu_spatial_sum").type == "dagnn.Sum"
    assert not [layer for layer in net.layers if layer.type in ("dagnn.PoolTime", "dagnn.DropOut")]
    assert inputs_of(net, "prediction_spatial", "fc1000_temporal") == [["pool5_spatial"], ["pool5_temporal"]]


def test_stage_2_pools_right_behind_the_last_relu() -> None:
    stage1 = st_resnet_stage1(*pair(units=(2, 2, 2, 3)))
    net = st_resnet_stage2(stage1)
    position = net.index("res5c_relu_temporal") + 1
    pool = net.layers[position]
    assert (pool.name, pool.inputs) == ("res5c_relu_pool_temporal", ["res5cx_temporal"])
    assert (pool.block["poolSize"], pool.block["stride"], pool.block["method"]) == ((1, 5), (1, 2), "max")
    assert inputs_of(net, "pool5_temporal") == [["res5c_relu_pool_temporal"]]
    assert [layer.name for layer in net.layers if "err" in layer.name] == ["err1__spatial", "err1_temporal"]


@pytest.mark.parametrize(
    ("layout", "prediction", "order"),
    [
        ("appended", "dagnn.DropOut", ["fc1000_temporal", "prediction_temporal"]),
        ("before", "dagnn.Conv", ["drop_pool5_temporal", "prediction_temporal"]),
    ],
)
def test_the_layer_before_the_loss_is_called_prediction(layout: Any, prediction: str, order: list[str]) -> None:
    net = st_mulnet(small("img"), small("flow", dropout_layout=layout), dropout=0.9)
    position = net.index("loss_fc1000_temporal")
    assert [layer.name for layer in net.layers[position - 2 : position]] == order
    assert net.layer("prediction_temporal").type == prediction
    assert [layer.block["rate"] for layer in net.layers if layer.type == "dagnn.DropOut"] == [0.9]


def test_missing_losses_are_added() -> None:
    spatial, temporal = pair(with_losses=False)
    net = st_mulnet(spatial, temporal)
    # The script counts the first net's layers in the second, which has one more: its classifier is the last but one.
    losses = [layer.name for layer in net.layers if layer.type == "dagnn.Loss"]
    assert losses == ["loss_prediction_spatial", "loss_prediction_temporal", "err1__spatial", "err1_temporal"]
    assert net.layers[len(spatial.layers) + 4 + len(temporal.layers) - 2].name == "prediction_temporal"


def test_without_losses_a_pair_of_different_depth_gets_an_odd_name_or_none() -> None:
    spatial, temporal = small("img", with_losses=False), small("flow", units=(2, 2, 4, 2), with_losses=False)
    net = st_mulnet(spatial, temporal)
    assert net.layer("prediction_temporal").outputs == [
        temporal.layers[len(spatial.layers) - 1].outputs[0] + "_temporal"
    ]
    with pytest.raises(ValueError, match="broken"):
        st_mulnet(small("img", units=(2, 2, 4, 2), with_losses=False), small("flow", with_losses=False))


def test_geometries_differ_in_stride_padding_and_projection() -> None:
    caffe, torch = (small("img", geometry=geometry, block="bottleneck") for geometry in ("caffe", "torch"))
    names = ("res4a_branch2a", "res4a_branch2b", "res4a_branch1", "res2a_branch1")
    assert [caffe.layer(name).block["stride"][0] for name in names] == [2, 1, 2, 1]
    assert [torch.layer(name).block["stride"][0] for name in names] == [1, 2, 2, 1]
    assert [net.layer("pool1").block["pad"] for net in (caffe, torch)] == [(0, 1, 0, 1), (1, 1, 1, 1)]
    basic = small("img", geometry="torch", block="basic")
    assert inputs_of(basic, "res2a", "res3a") == [
        ["pool1", "res2a_branch2bx"],
        ["res3a_branch1x", "res3a_branch2bx"],
    ]


def test_unit_names() -> None:
    assert unit_names(4, 3, numbered=False) == ["res4a", "res4b", "res4c"]
    assert unit_names(4, 4, numbered=True) == ["res4a", "res4b1", "res4b2", "res4b3"]


VARIANTS: dict[str, dict[str, Any]] = {
    "multiplied": {},
    "added into the temporal stream": {"do_mul": False, "do_sum": True, "fuse_into": "temporal", "add_pool3d": 1},
    "both, scaled": {"do_bidirectional": True, "do_scale": True, "stages": (3, 5), "window": math.inf},
    "pointwise": {"add_conv3d": 1, "add_pool3d": 0, "dropout": None},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_evaluate_at_ordinary_scale(variant: str, tmp_path: Path) -> None:
    net = st_mulnet(small("img"), small("flow", units=(2, 4, 3, 2), numbered_stages=(3, 4)), **VARIANTS[variant])
    perturb_temporal(net, 1)
    rng = np.random.default_rng(3)
    inputs = network_inputs(net, *(rng.integers(0, 256, (5, 224, 224, channels)) for channels in (3, 20)))
    calibrate(net, 2, inputs=inputs, frames_per_video=5)
    write(net, tmp_path / "net.mat")
    net = read(tmp_path / "net.mat")
    values = evaluate(net, inputs, 5, dtype=np.float32, keep=["fc1000_spatial", "fc1000_temporal"])
    for logits in values.values():
        assert logits.shape == (1, 1, 5, 5 if VARIANTS[variant].get("add_pool3d") == 0 else 1)
        assert 0.1 < np.abs(logits).max() < 100


# ---- files ----


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"wrapped": False, "compress": False},
        {"training_run": True, "dtype": "double"},
        {"vector_shape": "1xC", "average_image": "double"},
        {"vector_shape": "1x1xC", "drop_optional_fields": ("vars", "precious", "learningRate", "meta.classes")},
        {"drop_optional_fields": ("dilate", "opts", "leak", "hasBias", "pickTemporalCentre", "weightDecay")},
    ],
    ids=str,
)
def test_what_is_written_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    net = st_mulnet(*pair(), do_scale=True)
    write(net, tmp_path / "net.mat", **options)
    again = read(tmp_path / "net.mat")
    dropped = set(options.get("drop_optional_fields", ()))
    for ours, theirs in zip(net.layers, again.layers, strict=True):
        block = {name: value for name, value in ours.block.items() if name not in dropped}
        assert replace(ours, block=block) == theirs
    for param, other in zip(net.params, again.params, strict=True):
        assert param.name == other.name
        assert other.value.dtype == (np.float64 if options.get("dtype") == "double" else np.float32)
        np.testing.assert_array_equal(param.value.ravel(), other.value.ravel())
    assert ("classes" in again.meta) == ("meta.classes" not in dropped)


def test_files_have_the_variables_and_shapes_asked_for(tmp_path: Path) -> None:
    net = small("img", mean_image=False)
    write(net, tmp_path / "a.mat", vector_shape="1xC", training_run=True, drop_optional_fields=["vars"])
    content = loadmat(tmp_path / "a.mat", struct_as_record=False)
    assert {"net", "state", "stats", "opts"} <= set(content)
    assert content["net"][0, 0]._fieldnames == ["params", "layers", "meta"]
    shapes = {str(param.name[0]): param.value.shape for param in content["net"][0, 0].params[0]}
    assert (shapes["conv1_bias"], shapes["bn_conv1_moments"]) == ((1, 2), (2, 2))
    write(net, tmp_path / "b.mat", wrapped=False)
    assert {"vars", "params", "layers", "meta"} <= set(loadmat(tmp_path / "b.mat"))


def test_block_sizes_say_nothing_about_the_classifier_and_the_flow_input() -> None:
    net = small("flow")
    assert net.layer("conv1").block["size"] == (7, 7, 3, 2)
    assert net.layer("fc1000").block["size"] == (1, 1, 64, 1000)
    assert net.param("fc1000_filter").value.shape == (1, 1, 64, 5)
