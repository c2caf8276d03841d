"""Loaders over the training and the validation list."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.training.module import SEED_STEP


class EpochOrder(Sampler[int]):
    """A permutation that stays the same however often it is asked for (Lightning may ask twice)."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.count, generator=torch.Generator().manual_seed(self.seed)).tolist())


class TwoStreamDataModule(LightningDataModule):
    """Gives a fresh training loader per epoch: order and crops depend on seed and epoch alone.

    Args:
        training: Clips to train on.
        validation: Videos to validate on, one per batch; None trains without.
        batch_size: Clips per forward pass.
        workers: Loader processes; 0 loads in this one.
        seed: Of the order of the clips.
    """

    def __init__(
        self,
        training: TwoStreamDataset,
        validation: TwoStreamDataset | None,
        *,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Called at the start of every epoch (reload_dataloaders_every_n_epochs=1), also of a resumed one.

        Deviation D4: the list is shuffled anew for every pass, from seed and pass; officially once per five passes,
        from their number.
        """
        epoch = self.trainer.current_epoch if self.trainer else 0
        self.training.set_epoch(epoch)
        return DataLoader(
            self.training,
            batch_size=self.batch_size,
            sampler=EpochOrder(len(self.training), self.seed * SEED_STEP + epoch),
            generator=torch.Generator(),  # its own: the loader must not advance the generator of the dropout
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> Any:
        """One video per batch, in the list's order."""
        if self.validation is None:
            return []
        return DataLoader(self.validation, batch_size=1, num_workers=self.workers)
