"""The training loop: epochs, updates and sub-batches as in cnn_train_dag.m."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from stmulnet.console import Advance, notice, progress
from stmulnet.datasets.base import ClipSample, TwoStreamDataset
from stmulnet.datasets.loading import ClipLoader, loader_errors
from stmulnet.datasets.resize import resize_crops
from stmulnet.datasets.transforms import antialiases
from stmulnet.errors import StmulnetError
from stmulnet.memory import keep_freed_memory
from stmulnet.models.multiplier import Network, TwoStreamOutput
from stmulnet.training.batchnorm import SigmaAverage, freeze
from stmulnet.training.checkpoints import Checkpoints, State, saving
from stmulnet.training.config import TrainConfig
from stmulnet.training.history import History, Row, in_words
from stmulnet.training.losses import Mix, total_loss
from stmulnet.training.optim import WeightAverage, cosine_rates, listed_rates, make_optimizer, set_rate
from stmulnet.training.plan import SubBatch, Update, plan_epoch, share
from stmulnet.training.processes import StopRequest, sum_gradients, sum_over_processes
from stmulnet.training.run_folder import BEST_FILE, CHECKPOINTS_FOLDER, TENSORBOARD_FOLDER
from stmulnet.training.validation import save_weights, validate

_LOSS, _CORRECT, _VIDEOS = range(3)  # what is summed over the sub-batches of an update


@dataclass
class Position:
    """How far a run is.

    Attributes:
        updates: Updates done in all.
        epochs: Epochs ended, with their validation.
        sums: Of loss, right answers and clips of the epoch at hand.
        best: The best validation accuracy so far, 0..1.
    """

    updates: int = 0
    epochs: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best: float = -1.0


class Loop:
    """One run, from its start or from a checkpoint to its last epoch.

    Args:
        fabric: Where to compute.
        config: What was asked for.
        model: The network; trained in place.
        training: Clips to train on.
        validation: Videos to validate on; None trains without.
        run: The run folder.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        model: Network,
        training: TwoStreamDataset,
        validation: TwoStreamDataset | None,
        run: Path,
    ) -> None:
        keep_freed_memory()
        self.fabric, self.config, self.run_folder = fabric, config, run
        self.training, self.validation = training, validation
        self.model: Network = fabric.to_device(model)  # type: ignore[assignment]
        self.statistics = self._batchnorm()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(model, config.weight_decay, config.momentum, kind=config.optimizer)
        # Fabric's view of it, which knows the scale of fp16's loss.
        self.stepper: Any = fabric.setup_optimizers(self.optimizer)
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.model.recompute_stages = config.gradient_checkpointing
        if config.compile:
            self.model.compile()
        self.history = History(run)
        self.checkpoints = Checkpoints(run / CHECKPOINTS_FOLDER, config.keep_checkpoints)
        self.position = Position()
        self.updates_per_epoch = len(self._plan(range(len(training))))
        self.rates = self._rates()
        self.stop = StopRequest()

    def _batchnorm(self) -> SigmaAverage | None:
        if self.config.batchnorm == "frozen":
            freeze(self.model)
            return None
        if self.config.batchnorm == "sync":
            self.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        return SigmaAverage(self.model, self.config.batchnorm_rate)

    def _rates(self) -> Any:
        config, per_epoch = self.config, self.updates_per_epoch
        warmup = round(config.warmup_epochs * per_epoch)
        if config.schedule == "cosine":
            return cosine_rates(config.learning_rates[0], updates=config.num_epochs * per_epoch, warmup_updates=warmup)
        return listed_rates(config.learning_rates, updates_per_rate=per_epoch, warmup_updates=warmup)

    def progress_in_words(self) -> str:
        """Where a resumed run goes on."""
        done, all_of_them = self.position.updates, self.updates_per_epoch * self.config.num_epochs
        if self.position.epochs == self.config.num_epochs:
            return f"{self.run_folder}: was trained to its end already"
        if done == self.updates_per_epoch * (self.position.epochs + 1):
            return f"{self.run_folder}: goes on with the validation of epoch {self.position.epochs + 1}"
        return f"{self.run_folder}: goes on after update {done} of {all_of_them}"

    def run(self) -> None:
        """Train to the end.

        Raises:
            KeyboardInterrupt: It was asked to stop; a checkpoint is saved.
            StmulnetError: The loss is not finite, or a file cannot be written.
        """
        last_good = self.checkpoints.latest_path
        with (
            saving(self.run_folder, last_good),
            loader_errors(),
            self._shown() as advance,
            self.stop.watched(),
            self._board() as board,
        ):
            # A resumed run is in the middle of this epoch, or before its validation.
            for number in range(self.position.epochs, self.config.num_epochs):
                seconds = -time.monotonic()
                clips = self._train_epoch(number, advance, board)
                self._end_epoch(number, clips, seconds + time.monotonic(), board)

    def _plan(self, order: Any) -> list[Update]:
        return plan_epoch(
            order,
            batch_size=self.config.batch_size,
            sub_batch_size=self.config.sub_batch_size,
            processes=self.fabric.world_size,
            dealing="even" if self.config.batchnorm == "sync" else "whole",
        )

    def _train_epoch(self, number: int, advance: Advance, board: SummaryWriter | None) -> int:
        """Train to the end of the epoch; the number of clips, fewer where a checkpoint is in the middle of it."""
        self.training.set_epoch(number)
        first = self.position.updates - number * self.updates_per_epoch
        updates = self._plan(self.training.epoch_order())[first:]
        if not updates:  # only its validation is left
            return 0
        batches = iter(self._loader(updates))
        saved = time.monotonic()
        self.model.train()
        if self.config.batchnorm == "frozen":
            freeze(self.model)
        for update in updates:
            sums = self._update(number, update, batches, advance)
            if board:
                board.add_scalar("update/loss", sums[_LOSS] / sums[_VIDEOS], self.position.updates)
                board.add_scalar("update/learning_rate", self.rates(self.position.updates - 1), self.position.updates)
            if update is updates[-1] and not self._validates(number):
                break  # saved at the end of the epoch
            stop = self._is_asked_to_stop()
            if stop or update is updates[-1] or (time.monotonic() - saved) / 60 >= self.config.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
            if stop:
                self._stop()
        return sum(len(part.clips) for update in updates for part in update)

    def _loader(self, updates: list[Update]) -> ClipLoader:
        rank, processes = self.fabric.global_rank, self.fabric.world_size
        return ClipLoader(
            self.training,
            batches=[part.clips for update in updates for part in share(update, rank, processes)],
            workers=self.config.workers,
            pin_memory=self.fabric.device.type == "cuda",
        )

    def _update(self, epoch: int, update: Update, batches: Iterator[ClipSample], advance: Advance) -> tuple[float, ...]:
        """One step of the optimiser; the sums of loss, right answers and clips over all processes."""
        set_rate(self.optimizer, self.rates(self.position.updates))
        self.stepper.zero_grad()
        sums = torch.zeros(3, dtype=torch.float64, device=self.fabric.device)
        for part in share(update, self.fabric.global_rank, self.fabric.world_size):
            sums += self._sub_batch(epoch, part, next(batches))
            advance(part.round_videos)
        totals = tuple(sum_over_processes(self.fabric, sums).tolist())
        self._check_finite(totals[_LOSS])
        self._step()
        self.position.updates += 1
        self.position.sums = [old + new for old, new in zip(self.position.sums, totals, strict=True)]
        return totals

    def _sub_batch(self, epoch: int, part: SubBatch, batch: ClipSample) -> Tensor:
        """Forward and backward pass of a few clips; (3,) sums of loss, right answers and clips."""
        # Dropout and mixing depend on this alone: neither on the process nor on what was computed before.
        seed = np.random.SeedSequence([self.config.seed, epoch, part.number]).generate_state(2, np.uint64)
        torch.manual_seed(int(seed[0] >> 1))
        clips = {"appearance": batch.rgb, "motion": batch.flow}
        given = [self._on_device(clips[stream]) for stream in self.model.config.streams]
        labels = torch.as_tensor(batch.label).to(self.fabric.device, non_blocking=True)
        videos = len(part.clips)
        mix = None
        if self.config.mixup and videos > 1:
            mix = Mix.draw(videos, self.config.mixup, torch.Generator().manual_seed(int(seed[1] >> 1)))
            given = [mix.clips(clips) for clips in given]
        with self.fabric.autocast():
            output: TwoStreamOutput = self.model(*given)
        loss_of = mix.loss if mix else total_loss
        loss = loss_of(output, labels, label_smoothing=self.config.label_smoothing)
        # The gradients of an update are divided by the number of its videos, which is smaller in the last update of an
        # epoch (cnn_train_dag.m:332, 530, 538).
        self.fabric.backward(loss * (videos / part.update_videos))
        if self.statistics:
            sync = self.config.batchnorm == "sync"
            self.statistics.add(videos, part.round_videos if sync else None)
        correct = (output.fused.argmax(1) == labels).sum()
        return torch.stack([loss.detach() * videos, correct, torch.full_like(correct, videos)])

    def _on_device(self, clips: Tensor | list[Tensor]) -> Tensor:
        """(N, T, C, S, S) uint8, ready for the network."""
        if not self.config.resize_on_device:
            assert isinstance(clips, Tensor), "crops of different sizes"
            return clips.to(self.fabric.device, non_blocking=True)
        moved = [clip.to(self.fabric.device, non_blocking=True) for clip in clips]
        antialias = antialiases(self.config.augmentation)
        return resize_crops(moved, self.model.config.input_size, antialias=antialias)

    def _check_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            self._diverged(f"the loss is {loss}", self.position.updates + 1)

    def _check_weights(self) -> None:
        """Gradients can overflow where the loss does not; such weights must not take the place of good ones."""
        state = self.model.state_dict().values()
        if not all(bool(value.isfinite().all()) for value in state if value.is_floating_point()):
            self._diverged("weights are not finite", self.position.updates)

    def _diverged(self, what: str, update: int) -> NoReturn:
        # A checkpoint of as many updates as are done has the weights that this loss comes from.
        kept = self.checkpoints.latest_path(before=self.position.updates)
        raise StmulnetError(
            f"{what} in epoch {(update - 1) // self.updates_per_epoch + 1}, update {update}: start again with smaller "
            "learning rates or clip_gradients; "
            + (f"the last good checkpoint is {kept}" if kept else "there is no good checkpoint")
        )

    def _step(self) -> None:
        sum_gradients(self.fabric, self.parameters)
        if self.config.clip_gradients:
            self.fabric.clip_gradients(
                self.model, self.stepper, max_norm=self.config.clip_gradients, error_if_nonfinite=False
            )
        self.stepper.step()
        if self.statistics:
            self.statistics.finish_update(lambda tensor: sum_over_processes(self.fabric, tensor))
        if self.average:
            self.average.update()

    def _end_epoch(self, number: int, clips: int, seconds: float, board: SummaryWriter | None) -> None:
        loss, correct, videos = self.position.sums
        row: Row = {
            "epoch": number + 1,
            "updates": self.position.updates,
            "learning_rate": self.rates(self.position.updates - 1),
            "train_loss": loss / videos,
            "train_top1": correct / videos,
        }
        if clips:
            row["clips_per_second"] = clips / max(seconds, 1e-9)
        if self._validates(number):
            row |= self._validate(number + 1)
        self.position.epochs = number + 1
        self.position.sums = [0.0, 0.0, 0.0]
        if self.fabric.is_global_zero:
            self.history.add(row)
            notice(f"{self.run_folder.name}: epoch {number + 1}/{self.config.num_epochs}  {in_words(row)}")
            for name in row.keys() - {"epoch", "updates"} if board else ():
                board.add_scalar(f"epoch/{name}", row[name], number + 1)  # type: ignore[union-attr]
        self._save()
        if number + 1 < self.config.num_epochs and self._is_asked_to_stop():
            self._stop()

    def _validates(self, number: int) -> bool:
        every = self.config.validate_every
        return self.validation is not None and every > 0 and (number + 1) % every == 0

    def _validate(self, epochs: int) -> Row:
        assert self.validation is not None
        with self.averaged_weights():
            row = validate(
                self.fabric,
                self.model,
                self.validation,
                workers=self.config.workers,
                is_stopping=lambda: self.stop.received,
            )
            if self._is_asked_to_stop():  # the checkpoint before it is there; it will be made again
                self._stop()
            if row["val_top1"] > self.position.best:
                self.position.best = row["val_top1"]
                if self.fabric.is_global_zero:
                    save_weights(self.model, self.run_folder / BEST_FILE, self.config, epochs, row["val_top1"])
        return row

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The moving average in place of the weights, where there is one."""
        if self.average is None:
            yield
            return
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.take_average()
        try:
            yield
        finally:
            self.model.load_state_dict(weights)

    def take_average(self) -> None:
        """Put the moving average, where there is one, in place of the weights."""
        if self.average:
            self.model.load_state_dict(self.average.state)

    def _save(self) -> None:
        self._check_weights()
        if self.fabric.is_global_zero:
            self.checkpoints.save(self.position.updates, self.state())

    def _is_asked_to_stop(self) -> bool:
        """Whether any process is; the answer is the same in all."""
        asked = torch.tensor([float(self.stop.received)], device=self.fabric.device)
        return bool(sum_over_processes(self.fabric, asked) > 0)

    def _stop(self) -> None:
        if self.fabric.is_global_zero:
            notice("saved; the same command with --resume goes on from there")
        raise KeyboardInterrupt

    def state(self) -> State:
        """What a checkpoint holds."""
        return {
            "updates": self.position.updates,
            "epochs": self.position.epochs,
            "sums": self.position.sums,
            "best": self.position.best,
            "network": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # of fp16: the scale of the loss
            "statistics": self.statistics.state() if self.statistics else None,
            "average": self.average.state if self.average else None,
        }

    def restore(self, state: State) -> None:
        """Go on from a checkpoint."""
        self.position = Position(state["updates"], state["epochs"], state["sums"], state["best"])
        self.model.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.statistics:
            self.statistics.restore(state["statistics"])
        if self.average:
            self.average.state = {name: value.to(self.fabric.device) for name, value in state["average"].items()}

    @contextlib.contextmanager
    def _shown(self) -> Iterator[Advance]:
        if not self.fabric.is_global_zero:
            yield lambda count: None
            return
        done = self.position.updates // self.updates_per_epoch * len(self.training)
        done += self.position.updates % self.updates_per_epoch * self.config.batch_size
        with progress(
            self.config.num_epochs * len(self.training) - done, f"train {self.run_folder.name}", "clips"
        ) as advance:
            yield advance

    @contextlib.contextmanager
    def _board(self) -> Iterator[SummaryWriter | None]:
        if not self.fabric.is_global_zero:
            yield None
            return
        with SummaryWriter(self.run_folder / TENSORBOARD_FOLDER, purge_step=self.position.updates + 1) as board:
            yield board
