"""BatchNorm's running statistics, averaged as the official code does it.

Per update, not per forward pass, and of sigma = sqrt(variance + eps), not of the variance (BatchNorm.m:36-56,
cnn_train_dag.m:525-530): m = (1 - rate) m + rate * mean of [mu, sigma] over the sub-batches, weighted by their videos.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

OFFICIAL_RATE = 0.05  # setLrWd.m:30

Reduce = Callable[[Tensor], Tensor]  # sum over processes


class SigmaAverage:
    """Averages the statistics of the sub-batches of an update.

    During an update the layers' buffers hold the statistics of the last sub-batch; between updates the averages.

    Args:
        network: Its BatchNorm layers are followed from here on.
        rate: Share of an update in the averages.
    """

    def __init__(self, network: nn.Module, rate: float = OFFICIAL_RATE) -> None:
        self._layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]
        self._values = [1] * len(self._layers)  # per channel in the last sub-batch
        self._rate = rate
        self._pending = torch.zeros(0)
        self._videos = 0.0
        for index, layer in enumerate(self._layers):
            layer.momentum = 1.0  # the buffers become what the sub-batch has
            layer.register_forward_pre_hook(self._counter(index))
        self._average = self._read([1.0] * len(self._layers))

    def _counter(self, index: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def count(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._values[index] = inputs[0].numel() // inputs[0].shape[1]

        return count

    def _read(self, unbiased_to_biased: list[float]) -> Tensor:
        """Means and sigmas of all layers, one after the other, from the buffers."""
        if not self._layers:
            return torch.zeros(0)
        buffers = [layer.running_var for layer in self._layers if layer.running_var is not None]
        variances = torch._foreach_mul(buffers, unbiased_to_biased)
        torch._foreach_add_(variances, [layer.eps for layer in self._layers])
        torch._foreach_sqrt_(variances)
        means = [layer.running_mean for layer in self._layers if layer.running_mean is not None]
        return torch.cat([*means, *variances])

    @torch.no_grad()
    def add(self, videos: int, round_videos: int | None = None) -> None:
        """Take the statistics of the sub-batch that has gone through the network.

        Args:
            videos: Clips of the sub-batch.
            round_videos: Clips whose statistics these are, where several processes have shared them.
        """
        scale = (round_videos or videos) / videos
        counts = [count * scale for count in self._values]
        # torch's running variance is the unbiased one.
        statistics = self._read([(count - 1) / count for count in counts])
        self._pending = videos * statistics if not self._videos else self._pending + videos * statistics
        self._videos += videos

    @torch.no_grad()
    def finish_update(self, reduce: Reduce) -> None:
        """Move the averages by the mean of what was added since, and put them into the layers.

        Args:
            reduce: Sum over the processes of an update; the identity for one.
        """
        pending = self._pending if self._videos else torch.zeros_like(self._average)
        videos = torch.full((1,), self._videos, dtype=pending.dtype, device=pending.device)
        summed = reduce(torch.cat([pending, videos]))
        self._average = torch.lerp(self._average, summed[:-1] / summed[-1], self._rate)
        self._videos = 0.0
        self._write()

    def _write(self) -> None:
        sizes = [layer.num_features for layer in self._layers] * 2
        parts = torch.split(self._average, sizes)
        means, sigmas = parts[: len(self._layers)], parts[len(self._layers) :]
        for layer, mean, sigma in zip(self._layers, means, sigmas, strict=True):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_(mean)
            # Rounding may leave a tiny negative variance where a channel is constant.
            layer.running_var.copy_((sigma.square() - layer.eps).clamp_(min=0))
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.zero_()  # without a meaning here, and different in every process

    def state(self) -> Tensor:
        """The averages between two updates, which the layers' variances hold only up to rounding."""
        return self._average.clone()

    @torch.no_grad()
    def restore(self, state: Tensor) -> None:
        """Go on from the averages of `state`."""
        self._average = state.to(self._average)
        self._write()


def freeze(network: nn.Module) -> None:
    """Keep the statistics of all BatchNorm layers, and their gamma and beta, as they are; again after `train()`."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            layer.requires_grad_(False)
