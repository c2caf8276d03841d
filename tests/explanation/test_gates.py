"""Gate maps against an independent evaluation of the layers that the connection reads."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.explanation.small import network, video

from stmulnet.errors import ConfigError
from stmulnet.explanation.gates import connection_in_words, gate_maps, receiving_streams
from stmulnet.models.config import FusionConfig
from stmulnet.models.multiplier import Network
from stmulnet.predictor import PreparedVideo


def layers(model: Network, prepared: PreparedVideo, *names: str) -> list[NDArray[np.float64]]:
    """Outputs of layers (T, C, h, w)."""
    assert prepared.rgb is not None
    assert prepared.flow is not None
    with torch.no_grad():
        found = model.activations(prepared.rgb[None], prepared.flow[None], list(names))
    return [found[name][0].double().numpy() for name in names]


def share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """One place after the other, written out."""
    out = np.empty((part.shape[0], *part.shape[2:]))
    for t, y, x in np.ndindex(*out.shape):
        out[t, y, x] = sum(map(abs, part[t, :, y, x])) / sum(map(abs, whole[t, :, y, x]))
    return out


@pytest.mark.parametrize("stage", [2, 3, 4, 5])
def test_product_in_relation_to_what_it_multiplies(stage: int) -> None:
    model, prepared = network(), video()
    own, motion = layers(model, prepared, f"res{stage}a_spatial", f"res{stage}a_relu_temporal")
    assert own.min() < 0 <= motion.min()  # before its ReLU, and after it
    maps = gate_maps(model, prepared)
    assert list(maps) == ["res2", "res3", "res4", "res5"]
    assert maps[f"res{stage}"].dtype == np.float32
    np.testing.assert_allclose(maps[f"res{stage}"], share(own * motion, own), rtol=2e-4)


def test_sum_in_relation_to_what_it_is_added_to() -> None:
    model, prepared = network(fusion={"operation": "add", "stages": (3, 5)}), video()
    maps = gate_maps(model, prepared)
    assert list(maps) == ["res3", "res5"]
    for stage in (3, 5):
        own, motion = layers(model, prepared, f"res{stage}a_spatial", f"res{stage}a_relu_temporal")
        np.testing.assert_allclose(maps[f"res{stage}"], share(motion, own), rtol=2e-4)


@pytest.mark.parametrize("operation", ["multiply", "add"])
def test_scaled_motion(operation: str) -> None:
    model, prepared = network(fusion={"operation": operation, "scale": True, "stages": (4,)}), video()
    own, scaled = layers(model, prepared, "res4a_spatial", "res4a_relu_spatial_scale")
    assert scaled.min() < 0
    expected = share(own * scaled if operation == "multiply" else scaled, own)
    np.testing.assert_allclose(gate_maps(model, prepared)["res4"], expected, rtol=2e-4)


def test_into_the_motion_stream_and_both_ways() -> None:
    prepared = video()
    model = network(fusion={"direction": "appearance_to_motion", "stages": (2, 3)})
    own, appearance = layers(model, prepared, "res3a_temporal", "res3a_relu_spatial")
    np.testing.assert_allclose(gate_maps(model, prepared)["res3"], share(own * appearance, own), rtol=2e-4)

    model = network(fusion={"direction": "both", "stages": (3,)})
    assert receiving_streams(model) == ["appearance", "motion"]
    own, motion = layers(model, prepared, "res3a_spatial", "res3a_relu_temporal")  # the motion state is a gated one
    np.testing.assert_allclose(gate_maps(model, prepared)["res3"], share(own * motion, own), rtol=2e-4)
    own, appearance = layers(model, prepared, "res3a_temporal", "res3a_relu_spatial")
    into_motion = gate_maps(model, prepared, into="motion")
    np.testing.assert_allclose(into_motion["res3"], share(own * appearance, own), rtol=2e-4)


def test_a_place_without_features_lets_nothing_through() -> None:
    model, prepared = network(fusion={"stages": (2,)}), video()
    assert isinstance(model.appearance, torch.nn.Module)
    for name, parameter in model.appearance.named_parameters():
        if name.startswith("res2.a.branch1.1.") or name.startswith("res2.a.branch2c.1."):
            torch.nn.init.zeros_(parameter)
    assert not gate_maps(model, prepared)["res2"].any()


def test_the_network_is_left_as_it_was() -> None:
    model, prepared = network().train(), video()
    model.get_submodule("appearance.bn_conv1").eval()  # a frozen one
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    gate_maps(model, prepared)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_networks_without_a_gate_say_so() -> None:
    prepared = video()
    for name in ("two_stream_resnet50", "appearance_resnet50"):
        model = network(name)
        assert receiving_streams(model) == []
        with pytest.raises(ConfigError, match="not connected, so there is no gate"):
            gate_maps(model, prepared)
    with pytest.raises(ConfigError, match="nothing enters the motion stream of this network, only the appearance"):
        gate_maps(network(), prepared, into="motion")
    with pytest.raises(ConfigError, match="prepared for another one; prepare it with this network's VideoPredictor"):
        gate_maps(network(), PreparedVideo([6], prepared.rgb, None, 30))


def test_words_for_every_connection() -> None:
    assert "motion multiplies the appearance features" in connection_in_words(FusionConfig(), "appearance")
    adds = connection_in_words(FusionConfig(operation="add", direction="both"), "motion")
    assert "appearance adds to the motion features" in adds


def test_what_moves_opens_a_gate_of_motion_features() -> None:
    """Features that are silent where nothing moves keep the gate shut there."""
    model, prepared = network(fusion={"stages": (2,)}), video()
    assert prepared.flow is not None
    flow = torch.full_like(prepared.flow, 128)
    flow[:, :, 24:40, 40:60] = 255
    moving = PreparedVideo(prepared.times, prepared.rgb, flow, 30)
    for name, tensor in model.state_dict().items():
        if name.startswith("motion.") and name.endswith((".bias", ".running_mean")):
            tensor.zero_()  # silent where nothing moves
    opened = gate_maps(model, moving)["res2"]
    inside, outside = opened[:, 7:9, 11:14], opened[:, :3, :6]
    assert inside.min() > 10 * outside.max()
