"""An input that a class would like best: gradient ascent on noise (Simonyan et al., ICLR workshop 2014).

Feichtenhofer et al. (CVPR 2018, "What have we learned from deep representations for action recognition?") look at
two-stream networks in this way.
"""

# T frames, C channels, S x S pixels

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stmulnet.console import progress
from stmulnet.constants import TRAIN_FRAMES
from stmulnet.errors import ConfigError
from stmulnet.explanation.clips import at_rest, scored_class
from stmulnet.models.multiplier import Network

STEPS = 128
RATE = 2.0  # levels per step, root mean square
START = 8.0  # levels, standard deviation of the noise at the start
JITTER = 1 / 16  # of the side: how far the image is shifted, at random, before each step
SMOOTHNESS = 0.3  # weight of the total variation against the score; both gradients have unit size
BLUR_EVERY = 8  # steps
BLUR_TAPS = (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class Maximised:
    """An input made for a class.

    Attributes:
        levels: RGB image (3, S, S) or flow stack (20, S, S; u v u v ...), float32, 0..255 as networks read it.
        start: Raw score of the class by the stream for the noise it began with.
        score: The same for ``levels``.
    """

    levels: NDArray[np.float32]
    start: float
    score: float


def maximise(model: Network, target: int, stream: str, *, steps: int = STEPS, seed: int = 0) -> Maximised:
    """Look for the still image, or the stack of flow fields, that gives a class the highest raw score in one stream.

    The image (or stack) is the same in all frames of a short clip; the other stream sees its mean, grey or standstill.
    It starts as noise and is changed along the gradient of the score, always by the same amount. Three things keep it
    from becoming noise that only this network reads: it is shifted at random before each step, blurred every few
    steps, and its total variation is kept low.

    Args:
        model: Network.
        target: The class, 0-based.
        stream: "appearance" or "motion": whose score, and whose input.
        steps: Steps of the ascent.
        seed: Of the noise and the shifts; the same seed gives the same image on the same machine.

    Returns:
        The input with its scores.

    Raises:
        ConfigError: No such class or stream, or no steps.
    """
    scored_class(model, target)
    if stream not in model.config.streams:
        raise ConfigError(f"this network has no {stream} stream; it has {', '.join(model.config.streams)}")
    if steps < 1:
        raise ConfigError(f"steps must be 1 or more, got {steps}")
    with at_rest(model), torch.enable_grad():
        return _Ascent(model, target, stream, seed).climb(steps)


def maximise_streams(model: Network, target: int, *, steps: int = STEPS, seed: int = 0) -> dict[str, Maximised]:
    """`maximise` for each stream of the network, by its name."""
    return {stream: maximise(model, target, stream, steps=steps, seed=seed) for stream in model.config.streams}


class _Ascent:
    """The ascent for one class and stream."""

    def __init__(self, model: Network, target: int, stream: str, seed: int) -> None:
        self.model, self.target, self.stream = model, target, stream
        self.mean = (model.rgb_mean if stream == "appearance" else model.flow_mean)[:, None, None]
        self.side = model.config.input_size
        self.draw = torch.Generator().manual_seed(seed)

    def climb(self, steps: int) -> Maximised:
        noise = torch.randn((len(self.mean), self.side, self.side), generator=self.draw)
        levels = self._limited(self.mean + START * noise.to(self.mean))
        start = self._score(levels)
        with progress(steps, f"maximise {self.stream}", "steps") as advance:
            for step in range(1, steps + 1):
                levels = self._limited(levels + RATE * self._direction(levels))
                if step % BLUR_EVERY == 0 and step < steps:
                    levels = _blurred(levels)
                advance(1)
        return Maximised(levels.float().cpu().numpy(), start, self._score(levels))

    def _direction(self, levels: Tensor) -> Tensor:
        """Where the score rises and the image stays smooth, of unit size (root mean square)."""
        reach = max(1, round(JITTER * self.side))
        shift = torch.randint(-reach, reach + 1, (2,), generator=self.draw).tolist()
        image = levels.clone().requires_grad_()
        (up,) = torch.autograd.grad(self._class_score(image.roll(shift, (1, 2))), image)
        (rough,) = torch.autograd.grad(_total_variation(image), image)
        return _unit_size(_unit_size(up) - SMOOTHNESS * _unit_size(rough))

    def _class_score(self, image: Tensor) -> Tensor:
        frames = max(TRAIN_FRAMES, self.model.config.min_frames)
        inputs = {"appearance": self.model.rgb_mean, "motion": self.model.flow_mean}
        clips = []
        for name in self.model.config.streams:
            still = inputs[name][:, None, None].expand(-1, self.side, self.side)
            clips.append((image if name == self.stream else still).expand(1, frames, -1, -1, -1))
        score: Tensor = getattr(self.model(*clips), self.stream)[0, self.target]
        return score

    @torch.no_grad()
    def _score(self, levels: Tensor) -> float:
        return float(self._class_score(levels))

    def _limited(self, levels: Tensor) -> Tensor:
        return levels.clamp(0, 255)


def _unit_size(gradient: Tensor) -> Tensor:
    return gradient / gradient.square().mean().sqrt().clamp_min(1e-12)


def _total_variation(image: Tensor) -> Tensor:
    return image.diff(dim=1).abs().mean() + image.diff(dim=2).abs().mean()


def _blurred(image: Tensor) -> Tensor:
    """(C, S, S) with each pixel averaged with its neighbours, edges repeated."""
    taps = image.new_tensor(BLUR_TAPS)
    padded = F.pad(image[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(taps, taps)[None, None])[:, 0]
