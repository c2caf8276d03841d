"""The losses against their definitions, in float64."""

import numpy as np
import pytest
import torch

from stmulnet.models.multiplier import joint_output
from stmulnet.training.losses import Mix, stream_loss, total_loss


def by_hand(logits: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> float:
    """Summed over windows and positions with the label repeated, divided by the number of videos."""
    total, classes = 0.0, logits.shape[1]
    for n, w, h, x in np.ndindex(logits.shape[0], *logits.shape[2:]):
        scores = logits[n, :, w, h, x]
        log_probabilities = scores - np.log(np.exp(scores).sum())
        target = np.full(classes, smoothing / classes)
        target[labels[n]] += 1 - smoothing
        total -= float(target @ log_probabilities)
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_of_the_streams_are_added(smoothing: float, rng: np.random.Generator) -> None:
    maps = [rng.normal(size=(3, 4, 2, 2, 5)).astype(np.float32) for _ in range(2)]
    labels = np.array([2, 0, 3])
    want = [by_hand(logits.astype(np.float64), labels, smoothing) for logits in maps]
    tensors, targets = [torch.from_numpy(logits) for logits in maps], torch.from_numpy(labels)
    loss = stream_loss(tensors[0], targets, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(want[0], rel=1e-6)
    both = total_loss(joint_output(*tensors), targets, label_smoothing=smoothing)
    assert both.item() == pytest.approx(sum(want), rel=1e-6)
    alone = total_loss(joint_output(None, tensors[1]), targets, label_smoothing=smoothing)
    assert alone.item() == pytest.approx(want[1], rel=1e-6)


def test_mixed_clips_and_losses_have_the_same_shares(rng: np.random.Generator) -> None:
    mix = Mix.draw(4, 0.4, torch.Generator().manual_seed(3))
    assert 0 < mix.share < 1
    assert sorted(mix.others.tolist()) == [0, 1, 2, 3]
    clips = rng.integers(0, 256, (4, 2, 3, 5, 6), np.uint8)
    mixed = mix.clips(torch.from_numpy(clips)).numpy()
    np.testing.assert_allclose(mixed, mix.share * clips + (1 - mix.share) * clips[mix.others.numpy()], rtol=1e-5)
    logits, labels = torch.from_numpy(rng.normal(size=(4, 3, 1, 1, 1))).float(), torch.tensor([0, 1, 2, 1])
    output = joint_output(logits, None)
    want = mix.share * total_loss(output, labels) + (1 - mix.share) * total_loss(output, labels[mix.others])
    assert mix.loss(output, labels).item() == pytest.approx(want.item(), rel=1e-6)


def test_shares_have_the_distribution_asked_for() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))."""
    generator = torch.Generator().manual_seed(1)
    shares = np.array([Mix.draw(2, 0.2, generator).share for _ in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * 1.4), abs=0.01)
