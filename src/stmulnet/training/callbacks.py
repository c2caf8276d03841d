"""What a run shows and remembers after every epoch."""

import contextlib
import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from stmulnet.console import Advance, notice, progress
from stmulnet.files import write_json

Row = dict[str, float]


class History:
    """Metrics per epoch, on disk after each: the learning curves."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[Row]:
        """Rows so far, oldest first."""
        if not self.path.is_file():
            return []
        rows: list[Row] = json.loads(self.path.read_text(encoding="utf-8"))
        return rows

    def add(self, row: Row) -> None:
        """Append a row; rows of the same or a later epoch (a run that was resumed) give way."""
        kept = [old for old in self.rows() if old["epoch"] < row["epoch"]]
        write_json(self.path, [*kept, row])


class EpochReport(Callback):
    """Shows progress over the whole run, prints a line per epoch and keeps the history."""

    def __init__(self, name: str, history: History, clips_per_epoch: int) -> None:
        self.name = name
        self.history = history
        self.clips_per_epoch = clips_per_epoch
        self._bar = contextlib.ExitStack()
        self._advance: Advance = lambda count: None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar."""
        epochs = (trainer.max_epochs or 0) - trainer.current_epoch
        bar = progress(epochs * self.clips_per_epoch, f"train {self.name}", "clips")
        self._advance = self._bar.enter_context(bar)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar."""
        self._advance(len(batch.label))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record and print the epoch's metrics."""
        row: Row = {"epoch": float(trainer.current_epoch + 1)}
        row |= {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.history.add(row)
        metrics = "  ".join(f"{key} {value:.3f}" for key, value in sorted(row.items()) if key != "epoch")
        notice(f"{self.name}: epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {metrics}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the bar away, also after an interruption."""
        self._bar.close()
