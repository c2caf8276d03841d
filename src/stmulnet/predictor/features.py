"""What the classifiers see: one vector per stream and video, for retrieval, clustering or another classifier."""

# C channels, W windows of the temporal pooling, h x w positions

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stmulnet.models.multiplier import Network

Features = dict[str, NDArray[np.float64]]


@contextmanager
def pooled_features(model: Network) -> Iterator[Features]:
    """Collect the inputs of the classifiers while single videos pass through the network, view by view.

    They are averaged over positions, then windows, then views, as the scores are, so that the scores of a stream are
    its classifier of these features.

    Yields:
        A table that has the features by stream, (C,) each, once the block is left.
    """
    views: dict[str, list[Tensor]] = {stream: [] for stream in model.config.streams}

    def keep(stream: str, pooled: Tensor) -> None:  # (W, C, h, w)
        views[stream].append(pooled.detach().float().cpu().double().mean(dim=(2, 3)).mean(dim=0))

    def hook(stream: str) -> "torch.utils.hooks.RemovableHandle":
        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            keep(stream, inputs[0])

        return model.get_submodule(f"{stream}.head.fc").register_forward_pre_hook(before)

    hooks = [hook(stream) for stream in views]
    features: Features = {}
    try:
        yield features
        features |= {stream: torch.stack(vectors).mean(dim=0).numpy() for stream, vectors in views.items()}
    finally:
        for handle in hooks:
            handle.remove()
