import numpy as np
import pytest
import torch
from tests.explanation.small import network

from stmulnet.errors import ConfigError
from stmulnet.explanation.maximisation import Maximised, _blurred, _total_variation, maximise
from stmulnet.models.multiplier import Network


@pytest.mark.parametrize(("stream", "channels"), [("appearance", 3), ("motion", 20)])
def test_the_score_rises(stream: str, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    found = maximise(model, 2, stream, steps=16)
    assert found.levels.shape == (channels, 64, 64)
    assert 0 <= found.levels.min() < found.levels.max() <= 255
    assert found.score > found.start
    assert found.score == pytest.approx(score_of(model, found, stream, 2), rel=1e-4)
    assert f"maximise {stream}: 16/16 steps" in capsys.readouterr().err


def score_of(model: Network, found: Maximised, stream: str, target: int) -> float:
    """The same input in five frames, the other stream at its mean."""
    rgb = model.rgb_mean[None, None, :, None, None].expand(1, 5, 3, 64, 64)
    flow = model.flow_mean[None, None, :, None, None].expand(1, 5, 20, 64, 64)
    made = torch.from_numpy(found.levels)[None, None].repeat(1, 5, 1, 1, 1)
    with torch.no_grad():
        output = model(made, flow) if stream == "appearance" else model(rgb, made)
    return float(getattr(output, stream)[0, target])


def test_each_class_gets_what_it_likes_best() -> None:
    model = network("motion_resnet50")
    made = [maximise(model, target, "motion", steps=12).levels for target in range(3)]
    with torch.no_grad():
        scores = torch.cat([model(torch.from_numpy(levels).expand(1, 5, -1, -1, -1)).motion for levels in made])
    assert scores[:, :3].argmax(dim=0).tolist() == [0, 1, 2]


def test_seeds() -> None:
    model = network("appearance_resnet50")
    first, again, other = (maximise(model, 0, "appearance", steps=3, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.levels, again.levels)
    assert not np.array_equal(first.levels, other.levels)


def test_blur_and_total_variation() -> None:
    image = np.random.default_rng(1).normal(size=(2, 6, 7))
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    columns = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
    expected = 0.25 * columns[..., :-2] + 0.5 * columns[..., 1:-1] + 0.25 * columns[..., 2:]
    np.testing.assert_allclose(_blurred(torch.from_numpy(image)), expected)
    variation = np.abs(np.diff(image, axis=1)).mean() + np.abs(np.diff(image, axis=2)).mean()
    assert float(_total_variation(torch.from_numpy(image))) == pytest.approx(variation)


def test_bad_arguments() -> None:
    model = network("appearance_resnet50")
    with pytest.raises(ConfigError, match="no motion stream; it has appearance"):
        maximise(model, 0, "motion")
    with pytest.raises(ConfigError, match="steps must be 1 or more, got 0"):
        maximise(model, 0, "appearance", steps=0)
    with pytest.raises(ConfigError, match="class numbers of this network are 0 to 4, got 9"):
        maximise(model, 9, "appearance")
