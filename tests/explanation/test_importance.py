"""The partial computation against whole passes of clips with frames replaced."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.explanation.small import network, video

from stmulnet.errors import ConfigError
from stmulnet.explanation.clips import network_clips
from stmulnet.explanation.importance import frame_importance
from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import optimize
from stmulnet.predictor import PreparedVideo


def whole_passes(
    model: Network, prepared: PreparedVideo, target: int, hides: set[str], times: list[int]
) -> dict[str, NDArray[np.float64]]:
    """Fall of the scores without each of some frames, one whole pass per frame, from the definition."""
    clips = {"rgb": (prepared.rgb, model.rgb_mean), "flow": (prepared.flow, model.flow_mean)}

    def scores(frame: int | None) -> dict[str, float]:
        inputs = []
        for name, (clip, mean) in clips.items():
            if clip is None:
                continue
            levels = clip.to(mean.dtype)
            for place, time in enumerate(prepared.times):
                if time == frame and name in hides:
                    levels[place] = mean[:, None, None]
            inputs.append(levels[None])
        with torch.no_grad():
            output = model(*inputs)
        streams = {"appearance": output.appearance, "motion": output.motion}
        found = {name: float(score[0, target]) for name, score in streams.items() if score is not None}
        return {**found, "fused": sum(found.values()) / 2} if len(found) == 2 else found

    before = scores(None)
    after = [scores(time) for time in times]
    return {name: np.array([value - row[name] for row in after]) for name, value in before.items()}


STREAM = {"units": (2, 2, 2, 2), "width_mult": 0.125}
CONNECTIONS: dict[str, dict[str, Any]] = {
    "official": {},
    "pointwise": {"temporal_conv": "pointwise", "fusion": {"operation": "add"}},
    "both ways": {"fusion": {"direction": "both"}},
    "whole state": {"fusion": {"target": "state", "scale": True}},
    "into motion, no temporal layers": {
        "fusion": {"direction": "appearance_to_motion"},
        "temporal_conv": None,
        "temporal_pool": None,
    },
    "one stream sees time less often": {
        "motion": {"units": (2, 2, 2, 2), "width_mult": 0.125, "temporal_stages": (3,)}
    },
}


@pytest.mark.parametrize("options", CONNECTIONS.values(), ids=CONNECTIONS)
def test_falls_are_those_of_whole_passes(options: dict[str, Any]) -> None:
    model = network(**options).double()
    prepared = video(times=list(range(6, 19)), size=64)  # longer than what one frame reaches
    looked_at = [0, 1, 7, 12]
    falls = frame_importance(model, prepared, 2)
    assert list(falls) == ["rgb", "flow", "both"]
    for version, hides in (("rgb", {"rgb"}), ("flow", {"flow"}), ("both", {"rgb", "flow"})):
        expected = whole_passes(model, prepared, 2, hides, [prepared.times[place] for place in looked_at])
        assert list(falls[version]) == list(expected) == ["appearance", "motion", "fused"]
        for score, fall in expected.items():
            np.testing.assert_allclose(falls[version][score][looked_at], fall, rtol=1e-6, atol=1e-7)
    assert np.abs(falls["both"]["fused"]).max() > 1e-3


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("options", CONNECTIONS.values(), ids=CONNECTIONS)
def test_a_network_made_fast_gives_the_same(options: dict[str, Any], dtype: torch.dtype, rounding: float) -> None:
    model = network(**options)
    prepared = video(times=list(range(6, 15)), size=64)
    expected, found = (frame_importance(net, prepared, 2) for net in (model, optimize(model, dtype=dtype)))
    with torch.no_grad():
        largest = float(model(*network_clips(model, prepared)).fused.abs().max())
    for version, falls in expected.items():
        for score, fall in falls.items():
            np.testing.assert_allclose(found[version][score], fall, rtol=0, atol=rounding * largest)


def test_rgb_counts_for_the_appearance_score_alone() -> None:
    falls = frame_importance(network(), video(), 1)
    assert np.abs(falls["rgb"]["motion"]).max() < 1e-6
    assert np.abs(falls["flow"]["appearance"]).min() > 1e-5  # through the gate


@pytest.mark.parametrize(("name", "version"), [("appearance_resnet50", "rgb"), ("motion_resnet50", "flow")])
def test_a_single_stream(name: str, version: str) -> None:
    model = network(name).double()
    prepared = video(model)
    falls = frame_importance(model, prepared, 4)
    (score,) = model.config.streams
    assert {key: list(value) for key, value in falls.items()} == {version: [score]}
    expected = whole_passes(model, prepared, 4, {version}, prepared.times)[score]
    np.testing.assert_allclose(falls[version][score], expected, rtol=1e-6, atol=1e-7)


def test_all_copies_of_a_frame_are_hidden_together() -> None:
    model = network().double()
    prepared = video(times=[6, 7, 8, 6, 7, 8, 7])  # as the test protocol fills up short videos
    falls = frame_importance(model, prepared, 0)["both"]["fused"]
    expected = whole_passes(model, prepared, 0, {"rgb", "flow"}, prepared.times)["fused"]
    np.testing.assert_allclose(falls, expected, rtol=1e-6, atol=1e-7)
    assert falls[0] == falls[3] != falls[1]


def test_progress_and_bad_classes(capsys: pytest.CaptureFixture[str]) -> None:
    frame_importance(network(), video(), 0)
    assert "importance: 6/6 frames" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="class numbers"):
        frame_importance(network(), video(), -1)
