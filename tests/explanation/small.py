"""A small network with lively features, and a random video for it."""

from typing import Any

import numpy as np
import torch

from stmulnet import create_model
from stmulnet.models.multiplier import Network
from stmulnet.predictor import PreparedVideo

SMALL: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}
FRAMES, HEIGHT, WIDTH = 6, 66, 90  # sides that differ and are no multiples of 32


def network(name: str = "st_mulnet_resnet50", **options: Any) -> Network:
    torch.manual_seed(7)
    model = create_model(name, 5, **{**SMALL, **options})
    for path, parameter in model.named_parameters():
        if parameter.ndim == 1:  # fresh BatchNorm, scales and biases are all alike
            torch.nn.init.uniform_(parameter, -0.5, 1.0)
        elif ".time." in path or "branch2a.0" in path:  # temporal convolutions that do look at other frames
            with torch.no_grad():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return calibrated(model)


def calibrated(model: Network) -> Network:
    """With the statistics of one batch in every BatchNorm, so that features and scores have ordinary sizes."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    prepared = video(model)
    with torch.no_grad():
        model.train()(*(clip[None] for clip in (prepared.rgb, prepared.flow) if clip is not None))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def video(model: Network | None = None, seed: int = 3, times: list[int] | None = None, size: int = 0) -> PreparedVideo:
    """A video of noise for the streams of ``model``, or for both."""
    rng = np.random.default_rng(seed)
    times = times or list(range(6, 6 + FRAMES))
    streams = ("appearance", "motion") if model is None else model.config.streams
    levels = {
        name: torch.from_numpy(rng.integers(0, 256, (max(times), channels, size or HEIGHT, size or WIDTH), np.uint8))
        for name, channels in (("appearance", 3), ("motion", 20))
    }
    clips = [levels[name][[t - 1 for t in times]] if name in streams else None for name in levels]
    return PreparedVideo(times, clips[0], clips[1], 30)
