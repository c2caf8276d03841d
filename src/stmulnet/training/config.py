"""Everything that decides a training run."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from stmulnet.datasets.transforms import Augmentation
from stmulnet.errors import ConfigError
from stmulnet.models.zoo import check_overrides

Quirk = Literal["first_run", "stride", "crop"]  # of the official loader, which training can repair
Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["list", "cosine"]
BatchNorm = Literal["official", "frozen", "sync"]
Precision = Literal["float32", "bf16", "fp16"]

MAX_SEED = 2**32 - 1  # of NumPy's global generator
_AT_LEAST_ONE = ("passes_per_epoch", "batch_size", "sub_batch_size", "keep_checkpoints")
_NOT_NEGATIVE = (
    *("validate_every", "workers", "seed", "weight_decay", "warmup_epochs", "mixup", "clip_gradients"),
    *("checkpoint_minutes", "holdout_seed"),
)
_SHARES = ("momentum", "label_smoothing", "ema", "holdout")
_CHOICES = {"optimizer": Optimizer, "schedule": Schedule, "batchnorm": BatchNorm, "precision": Precision}
_NO_INFLUENCE = {"workers", "cache", "checkpoint_minutes", "keep_checkpoints"}  # on the result


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run; written to the run folder. `stmulnet.train` explains the fields."""

    dataset: Path
    network: str
    split: int
    network_options: dict[str, Any]
    weights: Path | None
    appearance_weights: Path | None
    motion_weights: Path | None
    allow_mismatch: bool
    learning_rates: list[float]
    passes_per_epoch: int
    epochs: int | None
    schedule: Schedule
    warmup_epochs: float
    optimizer: Optimizer
    momentum: float
    weight_decay: float
    clip_gradients: float
    batch_size: int
    sub_batch_size: int
    batchnorm: BatchNorm
    batchnorm_rate: float
    frames: int
    strides: tuple[int, int]
    augmentation: Augmentation
    repair: tuple[Quirk, ...]
    resize_on_device: bool
    label_smoothing: float
    mixup: float
    ema: float
    holdout: float
    holdout_seed: int
    validate_every: int
    validation_frames: int
    precision: Precision
    compile: bool
    gradient_checkpointing: bool
    seed: int
    workers: int
    cache: bool
    checkpoint_minutes: float
    keep_checkpoints: int

    def __post_init__(self) -> None:
        if not self.learning_rates or not all(0 < rate < math.inf for rate in self.learning_rates):
            raise ConfigError(f"learning_rates must be positive numbers, at least one, got {self.learning_rates}")
        self._check_numbers()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ConfigError(f"{name} is one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}")
        if self.seed > MAX_SEED:
            raise ConfigError(f"seed must be at most {MAX_SEED}, got {self.seed}")
        if self.schedule == "cosine" and (len(self.learning_rates) != 1 or self.epochs is None):
            raise ConfigError(
                "schedule cosine falls from one learning rate to 0 in the number of epochs given, got learning_rates "
                f"{self.learning_rates} and epochs {self.epochs}"
            )
        if self.batch_size % self.sub_batch_size:
            raise ConfigError(
                f"batch_size {self.batch_size} must be a multiple of sub_batch_size {self.sub_batch_size}"
            )
        if self.mixup and self.sub_batch_size < 2:
            raise ConfigError("mixup mixes the videos of a sub-batch: it needs a sub_batch_size of 2 or more")
        if self.cache and self.workers:
            raise ConfigError("cache keeps frames in the main process: use it with workers 0")
        if self.weights and (self.appearance_weights or self.motion_weights):
            raise ConfigError("give weights of the whole network, or of its streams, not both")
        unknown = sorted(set(self.repair) - set(get_args(Quirk)))
        if unknown:
            raise ConfigError(f"repair takes {', '.join(get_args(Quirk))}, got {', '.join(unknown)}")
        check_overrides(self.network_options)

    def _check_numbers(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 < self.batchnorm_rate <= 1:
            raise ConfigError(f"batchnorm_rate must be above 0 and at most 1, got {self.batchnorm_rate}")
        if self.num_epochs < 1:
            raise ConfigError(f"epochs must be at least 1, or null for one per learning rate, got {self.epochs}")
        if self.validate_every > self.num_epochs:
            raise ConfigError(
                f"validate_every must be at most the {self.num_epochs} epochs, got {self.validate_every}: nothing "
                "would be validated; 0 says so"
            )
        if self.warmup_epochs >= self.num_epochs:
            raise ConfigError(f"warmup_epochs must be less than the {self.num_epochs} epochs, got {self.warmup_epochs}")

    @property
    def num_epochs(self) -> int:
        """Epochs in all."""
        return len(self.learning_rates) if self.epochs is None else self.epochs

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which `stmulnet train --config` reads."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return values

    def to_header(self) -> dict[str, Any]:
        """What is passed on with the weights: names of data set and files, not where they lie on this machine."""
        paths = {name: value for name, value in asdict(self).items() if isinstance(value, Path)}
        return {**self.to_dict(), **{name: path.resolve().name for name, path in paths.items()}}

    def differences(self, recorded: dict[str, Any]) -> list[str]:
        """What of a recorded run is not as it is here, in words; what cannot change the result does not count."""
        here = self.to_dict()
        names = [field.name for field in fields(self) if field.name not in _NO_INFLUENCE]
        different = [name for name in names if not self._is_same(name, recorded.get(name), here[name])]
        return [f"{name} ({recorded.get(name)!r}, now {here[name]!r})" for name in different]

    def _is_same(self, name: str, one: Any, other: Any) -> bool:
        if isinstance(getattr(self, name), Path) and isinstance(one, str):  # relative or absolute, by any link
            return Path(one).resolve() == Path(other).resolve()
        return bool(one == other)
