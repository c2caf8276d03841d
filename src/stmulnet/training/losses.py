"""The losses of the two streams."""

# N videos, K classes, W windows, h x w positions

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stmulnet.models.multiplier import TwoStreamOutput


def stream_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Softmax log loss of one stream: summed over windows and positions, averaged over videos (cnn_train_dag.m).

    Args:
        logits: (N, K, W, h, w), raw.
        labels: (N,) class numbers from 0.
        label_smoothing: Share of the target that is spread over all classes; officially 0.
    """
    target = labels[:, None, None, None].expand(-1, *logits.shape[2:])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # of 16 bits under mixed precision
    summed = F.cross_entropy(logits, target, reduction="sum", label_smoothing=label_smoothing)
    return summed / len(labels)


def total_loss(output: TwoStreamOutput, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """The losses of the streams, added with weight 1 each; none on the averaged prediction (STMulNet.m)."""
    maps = [logits for logits in (output.appearance_map, output.motion_map) if logits is not None]
    return torch.stack([stream_loss(logits, labels, label_smoothing=label_smoothing) for logits in maps]).sum()


@dataclass(frozen=True)
class Mix:
    """How the clips of a sub-batch are mixed (mixup, Zhang et al. 2018): ``share`` of each with the rest of another.

    Attributes:
        share: Of the clip itself, 0..1.
        others: (N,) which clip the rest comes from.
    """

    share: float
    others: Tensor

    @classmethod
    def draw(cls, clips: int, alpha: float, generator: torch.Generator) -> "Mix":
        """Draw the share from the distribution Beta(alpha, alpha) and the partners from all permutations."""
        # Beta from two Gammas; torch's distributions take no generator.
        gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
        return cls(float(gammas[0] / gammas.sum()), torch.randperm(clips, generator=generator))

    def clips(self, clips: Tensor) -> Tensor:
        """(N, ...) 0..255 to the same, float."""
        mixed = clips.float()
        return torch.lerp(mixed[self.others.to(clips.device)], mixed, self.share)

    def loss(self, output: TwoStreamOutput, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """The losses against both labels, weighted like the clips."""
        losses = [
            total_loss(output, target, label_smoothing=label_smoothing)
            for target in (labels, labels[self.others.to(labels.device)])
        ]
        return self.share * losses[0] + (1 - self.share) * losses[1]
