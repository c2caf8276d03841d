"""Train a network on an annotated data set."""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Unpack

from stmulnet.commands.shared_options import takes
from stmulnet.commands.train_options import TrainOptions
from stmulnet.console import notice
from stmulnet.constants import CROP_SIDES, INPUT_SIZE, STORED_SHORT_SIDE
from stmulnet.errors import DatasetError, MissingExtraError
from stmulnet.video.manifest import load_manifests

if TYPE_CHECKING:
    from stmulnet.training.config import TrainConfig

MAX_FRAME_TO_INPUT = 1.5  # officially 256 / 224 = 1.14
OFFICIAL_RATES = [1e-3, 1e-3, 1e-4, 1e-5, 1e-6]  # STMulNet.m


@dataclass(frozen=True)
class TrainSummary:
    """What a run leaves."""

    weights: Path
    exit_code: int = 0


@takes(TrainOptions)
def train(
    dataset: Path,
    network: str,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    **options: Unpack[TrainOptions],
) -> TrainSummary:
    """Train a network; the run folder gets weights, metrics, learning curves and checkpoints to resume from.

    The defaults are the official ones of STMulNet.m; configs/ holds a file per experiment. Started by torchrun, the
    processes share the work of every update (docs/cluster.md).

    Args:
        dataset: Folder with frames and flow, in any known tree, and annotations/ (from extract or import-archive, and
            annotate).
        network: Name of the network, e.g. st_mulnet_resnet50.
        out: Run folder, new or empty; with --resume that of the started run.
        resume: Go on from the last checkpoint.
        device: Where to train: auto, cpu, cuda or cuda:N.
        **options: Those of `TrainOptions`.
    """
    training = training_package()
    run = Path(out)
    if options["holdout"] and not options["validate_every"]:
        notice("note: --holdout sets videos apart, but nothing is validated on them without --validate-every")
    config = config_of({"dataset": dataset, "network": network, **options})
    training.fit(config, run, resume=resume, device=device, metadata=metadata_of(config))
    path = run / training.WEIGHTS_FILE
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"weights: {path}")
    return TrainSummary(path)


def config_of(options: dict[str, Any]) -> "TrainConfig":
    """The configuration that arguments of `train` stand for; all of them are needed.

    Raises:
        ConfigError: Values out of range, or that contradict each other.
    """
    values = {name: value for name, value in options.items() if name not in ("out", "resume", "device")}
    values["network_options"] = options["network_options"] or {}
    values["repair"] = tuple(options["repair"] or ())
    values["strides"] = tuple(options["strides"])
    values["learning_rates"] = OFFICIAL_RATES if options["learning_rates"] is None else options["learning_rates"]
    config: TrainConfig = training_package().TrainConfig(**values)
    return config


def metadata_of(config: "TrainConfig") -> dict[str, Any]:
    """What the header of the weights says of the data set; where the network will see little of its frames, says so.

    Raises:
        DatasetError: The data set is for evaluation only.
    """
    metadata = _preprocessing(config.dataset)
    _warn_of_small_crops(metadata, config.network_options.get("input_size", INPUT_SIZE))
    return metadata


def _preprocessing(dataset: Path) -> dict[str, Any]:
    """How frames and flow were made, for the header of the weights; empty for a data set without our manifest."""
    manifest = load_manifests(dataset)
    if manifest and manifest.only_for_test_frames:
        raise DatasetError(
            f"{dataset}: has only the flow that {manifest.only_for_test_frames} test frames per video need (extract "
            "--flow-only-needed) and is for evaluation only; training draws any frames: extract into another folder "
            "without that option"
        )
    return {"preprocessing": manifest.settings} if manifest else {}


def _warn_of_small_crops(metadata: dict[str, Any], input_size: int) -> None:
    """Crops follow the input size, not the frames: small inputs on large frames never see the whole scene."""
    short_side = metadata.get("preprocessing", {}).get("frames", {}).get("short_side", 0)
    if short_side > MAX_FRAME_TO_INPUT * input_size:
        low, high = (round(side * input_size) for side in CROP_SIDES)
        fitting = round(STORED_SHORT_SIDE / INPUT_SIZE * input_size)
        notice(
            f"note: crops are {low} to {high} pixels, frames have a short side of {short_side}: the network sees small "
            f"parts of the picture; for input_size {input_size} extract with --short-side {fitting}"
        )


def training_package() -> ModuleType:
    """The training package, or the line that installs what it needs."""
    try:
        return importlib.import_module("stmulnet.training.fit")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("lightning", "tensorboard"):
            raise
        raise MissingExtraError("training", "train") from error
