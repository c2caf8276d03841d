"""The Lightning side of a network: losses, optimiser, validation. Everything else lives elsewhere."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from stmulnet.errors import StmulnetError
from stmulnet.models.multiplier import Network, TwoStreamOutput
from stmulnet.training.optim import make_optimizer, make_schedule

SEED_STEP = 100_003  # more epochs than any run has, so that (seed, epoch) gives distinct generators

Scorer = Callable[[Network, Tensor, Tensor], Tensor]


def stream_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax log loss of one stream: summed over windows and positions, averaged over videos (cnn_train_dag.m).

    Args:
        logits: (N, K, W, h, w), raw.
        labels: (N,) class numbers from 0.
    """
    target = labels[:, None, None, None].expand(-1, *logits.shape[2:])
    return F.cross_entropy(logits, target, reduction="sum") / len(labels)


def total_loss(output: TwoStreamOutput, labels: Tensor) -> Tensor:
    """The losses of the streams, added with weight 1 each; none on the averaged prediction (STMulNet.m)."""
    maps = [logits for logits in (output.appearance_map, output.motion_map) if logits is not None]
    return torch.stack([stream_loss(logits, labels) for logits in maps]).sum()


def videos_in_update(position: int, batch_size: int, clips: int) -> int:
    """Videos of the update that the clip at a position (from 0) of a pass belongs to; the last update has the rest."""
    return min(batch_size, clips - position // batch_size * batch_size)


def network_inputs(model: Network, rgb: Tensor, flow: Tensor) -> list[Tensor]:
    """The tensors ``model`` takes, in its order."""
    given = {"appearance": rgb, "motion": flow}
    return [given[stream] for stream in model.config.streams]


class TwoStreamModule(LightningModule):
    """Trains a network of one or two streams.

    Args:
        model: The network; trained in place.
        learning_rates: One per ``passes_per_rate`` passes over the training list.
        passes_per_rate: Passes over the list at each rate (official: epochFactor).
        batch_size: Videos per update; a whole number of sub-batches.
        clips_per_pass: Length of the training list.
        weight_decay: Factor of the official multipliers.
        momentum: Of SGD.
        scorer: Scores (K,) of one validation video from its clip: the test protocol.
        seed: Of the dropout.
    """

    def __init__(
        self,
        model: Network,
        *,
        learning_rates: list[float],
        passes_per_rate: int,
        batch_size: int,
        clips_per_pass: int,
        weight_decay: float,
        momentum: float,
        scorer: Scorer,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.learning_rates = learning_rates
        self.passes_per_rate = passes_per_rate
        self.batch_size = batch_size
        self.clips_per_pass = clips_per_pass
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.scorer = scorer
        self.seed = seed

    def configure_optimizers(self) -> Any:
        """SGD in the official groups; the rate changes after whole passes."""
        optimizer = make_optimizer(self.model, self.weight_decay, self.momentum)
        return [optimizer], [make_schedule(optimizer, self.learning_rates, self.passes_per_rate)]

    def on_train_epoch_start(self) -> None:
        """Dropout depends on seed and epoch alone: a resumed run draws what an uninterrupted one draws."""
        torch.manual_seed(self.seed * SEED_STEP + self.current_epoch)

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Loss of one sub-batch (N clips), as Lightning needs it to accumulate."""
        output: TwoStreamOutput = self.model(*network_inputs(self.model, batch.rgb, batch.flow))
        loss = total_loss(output, batch.label)
        if not torch.isfinite(loss):
            raise StmulnetError(
                f"the loss is {loss.item()} in epoch {self.current_epoch + 1}: use smaller learning rates; "
                "the last finished epoch is saved"
            )
        correct = (output.fused.argmax(1) == batch.label).float().mean()
        size = len(batch.label)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_top1", correct, on_step=False, on_epoch=True, batch_size=size)
        # The gradients of an update are divided by the number of its videos, which is smaller in the last one of a pass
        # (cnn_train_dag.m:332, 530, 538); Lightning divides by the number of sub-batches of a full one.
        sub_batches = self.trainer.accumulate_grad_batches
        position = index * self.batch_size // sub_batches
        share = size / videos_in_update(position, self.batch_size, self.clips_per_pass)
        return loss * (share * sub_batches)

    def validation_step(self, batch: Any, _index: int) -> None:
        """Top-1 of one video by the test protocol (videos differ in size, so the batch is 1)."""
        scores = self.scorer(self.model, batch.rgb[0], batch.flow[0])
        correct = float(int(scores.argmax()) == int(batch.label[0]))
        self.log("val_top1", correct, on_step=False, on_epoch=True, batch_size=1)
