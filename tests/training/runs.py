"""Short trainings for the tests of this folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stmulnet.commands.train import train
from stmulnet.datasets.base import ClipSample
from stmulnet.models.checkpoint import load_model

OPTIONS: dict[str, Any] = {
    "units": [2, 1, 1, 1],
    "width_mult": 0.0625,
    "input_size": 64,
    "head_pool": "global",
    "fusion": {"stages": [2]},
}
SETTINGS: dict[str, Any] = {
    "network_options": OPTIONS,
    "learning_rates": [0.01, 0.001],
    "passes_per_epoch": 1,
    "batch_size": 4,
    "sub_batch_size": 2,
    "strides": (1, 2),
    "cache": True,
    "device": "cpu",
}


def run(project: Any, out: Path, network: str = "st_mulnet_resnet50", **changes: Any) -> Any:
    """Train a tiny network on the tiny data set; 6 videos, so 2 updates an epoch."""
    return train(project.dataset, network, out, **(SETTINGS | changes))


def state(run_folder: Path) -> dict[str, Tensor]:
    """The weights of a finished run."""
    return load_model(run_folder / "model.safetensors").state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all weights are the same, bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


class RandomClips:
    """Stands in for a data set: clips of random images, drawn from their index."""

    def __init__(self, clips: int, *, frames: int = 5, size: int = 64, classes: int = 3) -> None:
        self.clips, self.frames, self.size, self.classes = clips, frames, size, classes
        self.epoch = 0

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> ClipSample:
        rng = np.random.default_rng([self.epoch, index])
        shape = self.frames, 23, self.size, self.size
        images = torch.from_numpy(rng.integers(0, 256, shape, np.uint8))
        return ClipSample(images[:, :3], images[:, 3:], index % self.classes, f"v_{index}")

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_order(self) -> list[int]:
        return [int(clip) for clip in np.random.default_rng([self.epoch]).permutation(self.clips)]
