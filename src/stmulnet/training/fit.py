"""One training run: from an annotated data set to a weight file in a run folder."""

import json
import logging
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from stmulnet.console import notice
from stmulnet.datasets.annotations import Annotation, load_annotation
from stmulnet.datasets.base import FrameSampling, TwoStreamDataset
from stmulnet.datasets.resize import prepare_resize
from stmulnet.datasets.sampling import RandomStrideFrames, UniformFrames
from stmulnet.datasets.transforms import Augmentation, TestTransform, TrainTransform, Transform
from stmulnet.device import choose_device
from stmulnet.errors import ConfigError
from stmulnet.evaluation.protocol import video_scores
from stmulnet.files import check_output, write_json
from stmulnet.models.checkpoint import save_model
from stmulnet.models.config import ModelConfig
from stmulnet.models.multiplier import Network, build_network
from stmulnet.models.sources import check_unseen
from stmulnet.models.zoo import check_overrides, create_model
from stmulnet.training.callbacks import EpochReport, History
from stmulnet.training.datamodule import TwoStreamDataModule
from stmulnet.training.module import TwoStreamModule

# Lightning's remarks on choices we make on purpose, or on its own code.
LIGHTNING_WARNINGS = (
    ".*does not have many workers",  # a cached data set is quicker in the main process
    ".*LeafSpec.* is deprecated",  # Lightning 2.6 uses a torch name that torch 2.13 has deprecated
    ".*Checkpoint directory .* exists and is not empty",  # the run folder holds the configuration already
    ".*was configured so validation will run",  # check_val_every_n_epoch without a validation list
)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no tips and device lists

WEIGHTS_FILE = "model.safetensors"
CHECKPOINT_FILE = "last.ckpt"
CONFIG_FILE = "config.json"
NETWORK_FILE = "network.json"
HISTORY_FILE = "history.json"
Quirk = Literal["first_run", "stride", "crop"]  # of the official loader, which training can repair
MAX_SEED = 2**32 - 1  # of NumPy's global generator, which Lightning seeds too


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run; written to the run folder. `stmulnet.train` explains the fields."""

    dataset: Path
    network: str
    split: int
    network_options: dict[str, Any]
    learning_rates: list[float]
    passes_per_rate: int
    batch_size: int
    sub_batch_size: int
    momentum: float
    weight_decay: float
    frames: int
    strides: tuple[int, int]
    validate_every: int
    validation_frames: int
    seed: int
    workers: int
    cache: bool
    appearance_weights: Path | None = None
    motion_weights: Path | None = None
    allow_mismatch: bool = False
    augmentation: Augmentation = "f25noCtr"
    repair: tuple[Quirk, ...] = ()

    def __post_init__(self) -> None:
        for name in ("passes_per_rate", "batch_size", "sub_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("validate_every", "workers", "seed", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.seed > MAX_SEED:
            raise ConfigError(f"seed must be at most {MAX_SEED}, got {self.seed}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not self.learning_rates or not all(0 < rate < math.inf for rate in self.learning_rates):
            raise ConfigError(f"learning_rates must be positive numbers, at least one, got {self.learning_rates}")
        if self.batch_size % self.sub_batch_size:
            raise ConfigError(
                f"batch_size {self.batch_size} must be a multiple of sub_batch_size {self.sub_batch_size}"
            )
        if self.cache and self.workers:
            raise ConfigError("cache keeps frames in the main process: use it with workers 0")
        unknown = sorted(set(self.repair) - set(get_args(Quirk)))
        if unknown:
            raise ConfigError(f"repair takes {', '.join(get_args(Quirk))}, got {', '.join(unknown)}")
        check_overrides(self.network_options)

    @property
    def epochs(self) -> int:
        """Passes over the training list in all."""
        return len(self.learning_rates) * self.passes_per_rate

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    def to_header(self) -> dict[str, Any]:
        """What is passed on with the weights: names of data set and files, not where they lie on this machine."""
        paths = {name: value for name, value in asdict(self).items() if isinstance(value, Path)}
        return {**self.to_dict(), **{name: path.resolve().name for name, path in paths.items()}}


def fit(
    config: TrainConfig,
    run: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    metadata: dict[str, Any] | None = None,
) -> Network:
    """Train a network; write weights, history, metrics and checkpoints to ``run``.

    Args:
        config: What to train on what.
        run: The run folder. With ``resume`` it holds a started run of the same configuration.
        resume: Go on from the last finished epoch.
        device: "auto", "cpu" or "cuda".
        metadata: Facts saved with the weights beside the training configuration, e.g. how the flow was made.

    Returns:
        The trained network, in evaluation mode.
    """
    checkpoint = _check_run(config, run, resume)
    lightning.seed_everything(config.seed, verbose=False)
    annotation = load_annotation(config.dataset / "annotations" / f"annot{config.split:02d}.json")
    model = _started_network(run, annotation) if resume else _new_network(config, annotation)
    training, validation = _datasets(config, model, annotation)
    notice(f"{config.dataset}: {training.tree.kind}")
    choose_device(device)  # Lightning says less clearly what is wrong with one
    write_json(run / CONFIG_FILE, config.to_dict())
    write_json(run / NETWORK_FILE, {"config": model.config.to_dict(), "metadata": model.metadata})
    module = TwoStreamModule(
        model,
        learning_rates=config.learning_rates,
        passes_per_rate=config.passes_per_rate,
        batch_size=config.batch_size,
        clips_per_pass=len(training),
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        scorer=_fused_scores,
        seed=config.seed,
    )
    data = TwoStreamDataModule(training, validation, batch_size=config.sub_batch_size, workers=config.workers)
    _run(_trainer(config, run, device, len(training)), module, data, checkpoint)
    model.metadata |= {**(metadata or {}), "training": config.to_header(), **_metric(config, run)}
    save_model(model.cpu().eval(), run / WEIGHTS_FILE)
    return model


def _metric(config: TrainConfig, run: Path) -> dict[str, Any]:
    """How good the weights are, for their header, where the last epoch was validated."""
    if not config.validate_every or config.epochs % config.validate_every:
        return {}
    top1 = History(run / HISTORY_FILE).rows()[-1]["val_top1"]
    protocol = f"test protocol, {config.validation_frames} frames, original and mirrored"
    return {"metric": {"top1": top1, "list": f"validation list of split {config.split}", "protocol": protocol}}


def _trainer(config: TrainConfig, run: Path, device: str, clips_per_epoch: int) -> Trainer:
    checkpoints = ModelCheckpoint(
        run, filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
    )
    return Trainer(
        default_root_dir=run,
        accelerator=device,
        devices=1,
        max_epochs=config.epochs,
        accumulate_grad_batches=config.batch_size // config.sub_batch_size,
        callbacks=[checkpoints, EpochReport(run.name, History(run / HISTORY_FILE), clips_per_epoch)],
        logger=TensorBoardLogger(run, name="", version="tensorboard"),
        reload_dataloaders_every_n_epochs=1,
        check_val_every_n_epoch=config.validate_every or None,
        limit_val_batches=1.0 if config.validate_every else 0,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def _run(trainer: Trainer, module: TwoStreamModule, data: TwoStreamDataModule, checkpoint: Path | None) -> None:
    with warnings.catch_warnings():
        for message in LIGHTNING_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        try:
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as stop:  # Lightning's answer to Ctrl-C
            if (Path(trainer.default_root_dir) / CHECKPOINT_FILE).is_file():
                notice("the last finished epoch is saved; the same command with --resume goes on from there")
            else:
                notice("no epoch is saved yet; the same command starts again")
            raise KeyboardInterrupt from stop


def _check_run(config: TrainConfig, run: Path, resume: bool) -> Path | None:
    """The checkpoint to resume from, None for a new run."""
    checkpoint, record = run / CHECKPOINT_FILE, run / CONFIG_FILE
    check_output(run)
    if resume:
        for path in (checkpoint, run / NETWORK_FILE):
            if not path.is_file():
                raise ConfigError(f"{run} holds no {path.name} to resume from; start without --resume")
        _check_same(config, json.loads(record.read_text(encoding="utf-8")), run)
        return checkpoint
    if checkpoint.exists() or (run / WEIGHTS_FILE).exists():
        raise ConfigError(f"{run} holds a training run already; go on with --resume or choose another folder")
    # A run that was stopped in its first epoch has its configuration and nothing worth keeping.
    if run.is_dir() and not record.is_file() and any(run.iterdir()):
        raise ConfigError(f"{run} holds other files; the run folder must be a new or empty folder")
    return None


def _check_same(config: TrainConfig, recorded: dict[str, Any], run: Path) -> None:
    asked = json.loads(json.dumps(config.to_dict()))
    different = [f"{k} ({recorded.get(k)!r}, now {v!r})" for k, v in asked.items() if recorded.get(k) != v]
    if different:
        raise ConfigError(f"{run} was started with other values of {', '.join(different)}; resume with the same ones")


def _new_network(config: TrainConfig, annotation: Annotation) -> Network:
    model = create_model(
        config.network,
        len(annotation.class_names),
        class_names=annotation.class_names,
        appearance_weights=config.appearance_weights,
        motion_weights=config.motion_weights,
        allow_mismatch=config.allow_mismatch,
        **config.network_options,
    )
    check_unseen(
        model.metadata.get("provenance", {}),
        config.dataset.resolve().name,
        config.split,
        allow_mismatch=config.allow_mismatch,
    )
    return model


def _started_network(run: Path, annotation: Annotation) -> Network:
    """The network of a run that is resumed; its weights are in the checkpoint, base files are not needed again."""
    record = json.loads((run / NETWORK_FILE).read_text(encoding="utf-8"))
    model = build_network(ModelConfig.from_dict(record["config"]), annotation.class_names)
    model.metadata = record["metadata"]
    return model


def _datasets(
    config: TrainConfig, model: Network, annotation: Annotation
) -> tuple[TwoStreamDataset, TwoStreamDataset | None]:
    for count in (config.frames, *([config.validation_frames] if config.validate_every else [])):
        model.config.check_frames(count)
    size = model.config.input_size
    frames = RandomStrideFrames(
        config.frames, config.strides, shared="stride" not in config.repair, first_run="first_run" in config.repair
    )
    prepare_resize()  # here, once: loader workers are forked from this process, new ones every epoch
    crop = TrainTransform(size, config.augmentation, repaired="crop" in config.repair)
    training = _dataset(config, model, annotation, "training", frames, crop)
    if not config.validate_every:
        return training, None
    frames_to_score = UniformFrames(config.validation_frames)
    return training, _dataset(config, model, annotation, "validation", frames_to_score, TestTransform(size))


def _dataset(
    config: TrainConfig,
    model: Network,
    annotation: Annotation,
    subset: str,
    sampling: FrameSampling,
    transform: Transform,
) -> TwoStreamDataset:
    return TwoStreamDataset.in_folder(
        annotation,
        config.dataset,
        subset=subset,
        sampling=sampling,
        transform=transform,
        seed=config.seed,
        streams=model.config.streams,
        call_videos=config.sub_batch_size,
        cache=config.cache,
    )


def _fused_scores(model: Network, rgb: Tensor, flow: Tensor) -> Tensor:
    given = (clip if clip.numel() else None for clip in (rgb, flow))
    return torch.as_tensor(video_scores(model, *given).fused)
