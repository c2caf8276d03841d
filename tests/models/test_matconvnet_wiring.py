"""Networks in the authors' layout that are wired like none of this package: refused."""

import copy

import pytest
from tests.models.refusing import Change, added, all_of, assert_refused, becomes, reads, says, without
from tests.oracle.files import Layer

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


@pytest.mark.parametrize("case", WIRING)
def test_a_changed_network_is_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(*WIRING[case], monkeypatch)
