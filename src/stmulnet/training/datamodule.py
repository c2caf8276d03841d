"""Loaders over the training and the validation list."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.loading import ClipLoader


class TwoStreamDataModule(LightningDataModule):
    """Gives a fresh training loader per epoch: order and crops depend on seed and epoch alone.

    Args:
        training: Clips to train on.
        validation: Videos to validate on, one per batch; None trains without.
        batch_size: Clips per forward pass.
        workers: Loader processes; 0 loads in this one.
    """

    def __init__(
        self,
        training: TwoStreamDataset,
        validation: TwoStreamDataset | None,
        *,
        batch_size: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        self.workers = workers

    def train_dataloader(self) -> ClipLoader:
        """Called at the start of every epoch (reload_dataloaders_every_n_epochs=1), also of a resumed one.

        Deviation D4: the list is shuffled anew for every pass, from seed and pass; officially once per five passes,
        from their number.
        """
        epoch = self.trainer.current_epoch if self.trainer else 0
        self.training.set_epoch(epoch)
        return ClipLoader(
            self.training,
            batch_size=self.batch_size,
            order=self.training.epoch_order(),  # the same list, should Lightning ask twice
            workers=self.workers,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> Any:
        """One video per batch, in the list's order."""
        if self.validation is None:
            return []
        return ClipLoader(self.validation, batch_size=1, workers=self.workers)
