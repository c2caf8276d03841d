"""Grad-CAM against gradients taken by hand in float64."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.explanation.small import network, video

from stmulnet.errors import ConfigError, MissingExtraError
from stmulnet.explanation.cam import Stage, grad_cam
from stmulnet.models.multiplier import Network
from stmulnet.predictor import PreparedVideo


def by_hand(model: Network, prepared: PreparedVideo, target: int, path: str) -> NDArray[np.float64]:
    """The definition: the features kept by a hook, their gradient by one backward pass, sums written out."""
    kept: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    hook = model.get_submodule(path).register_forward_hook(keep)
    clips = [clip[None].double().requires_grad_() for clip in (prepared.rgb, prepared.flow) if clip is not None]
    output = model(*clips)
    hook.remove()
    present = [scores for scores in (output.appearance, output.motion) if scores is not None]
    (sum(scores[0, target] for scores in present) / len(present)).backward()
    assert kept[0].grad is not None
    features, gradient = kept[0].detach().numpy(), kept[0].grad.numpy()
    frames, channels, height, width = features.shape
    maps = np.zeros((frames, height, width))
    for t in range(frames):
        for c in range(channels):
            maps[t] += gradient[t, c].mean() * features[t, c]
    return np.maximum(maps, 0)


@pytest.mark.parametrize("stage", ["res3", "res4", "res5"])
def test_both_streams(stage: Stage) -> None:
    model, prepared = network().double(), video()
    maps = grad_cam(model, prepared, 3, stage=stage)
    assert list(maps) == ["appearance", "motion"]
    for stream, found in maps.items():
        expected = by_hand(model, prepared, 3, f"{stream}.{stage}.b.relu")
        assert found.dtype == np.float32
        assert expected.max() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected.max())


@pytest.mark.parametrize("name", ["appearance_resnet50", "motion_resnet50"])
def test_a_single_stream(name: str) -> None:
    model = network(name, units=(1, 1, 1, 2)).double()
    prepared = video(model)
    ((stream, found),) = grad_cam(model, prepared, 0).items()
    expected = by_hand(model, prepared, 0, f"{stream}.res5.b.relu")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_motion_reaches_the_appearance_score_through_the_gates() -> None:
    """At res4 the motion features count for both streams' scores, at res5's last unit for their own alone."""
    model, prepared = network().double(), video()
    with torch.no_grad():
        model.motion.head.fc.weight.zero_()  # type: ignore[union-attr, operator]
    assert not grad_cam(model, prepared, 1)["motion"].any()
    assert grad_cam(model, prepared, 1, stage="res4")["motion"].any()


def test_the_network_is_left_as_it_was() -> None:
    model = network(dropout=0.5).train()
    grad_cam(model, video(), 1)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_classes_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="class numbers of this network are 0 to 4, got 5"):
        grad_cam(network(), video(), 5)


def test_missing_captum_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stmulnet\[explain\]'"):
        grad_cam(network(), video(), 1)
