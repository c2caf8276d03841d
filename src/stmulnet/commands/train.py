"""Train a network on an annotated data set."""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

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


def train(
    dataset: Path,
    network: str,
    out: Path,
    *,
    split: int = 1,
    network_options: dict[str, Any] | None = None,
    weights: Path | None = None,
    appearance_weights: Path | None = None,
    motion_weights: Path | None = None,
    allow_mismatch: bool = False,
    learning_rates: list[float] | None = None,
    passes_per_epoch: int = 5,
    epochs: int | None = None,
    schedule: Literal["list", "cosine"] = "list",
    warmup_epochs: float = 0,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    clip_gradients: float = 0,
    batch_size: int = 128,
    sub_batch_size: int = 4,
    batchnorm: Literal["official", "frozen", "sync"] = "official",
    batchnorm_rate: float = 0.05,
    frames: int = 5,
    strides: tuple[int, int] = (5, 35),
    augmentation: Literal["f25noCtr", "borders25", "multiScaleRegular"] = "f25noCtr",
    repair: list[Literal["first_run", "stride", "crop"]] | None = None,
    label_smoothing: float = 0,
    mixup: float = 0,
    ema: float = 0,
    holdout: float = 0,
    holdout_seed: int = 0,
    validate_every: int = 0,
    validation_frames: int = 25,
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    compile: bool = False,
    gradient_checkpointing: bool = False,
    seed: int = 0,
    workers: int = 0,
    cache: bool = False,
    checkpoint_minutes: float = 10,
    keep_checkpoints: int = 2,
    resume: bool = False,
    device: str = "auto",
) -> TrainSummary:
    """Train a network; the run folder gets weights, metrics, learning curves and checkpoints to resume from.

    The defaults are the official ones of STMulNet.m; configs/ holds a file per experiment. Started by torchrun, the
    processes share the work of every update (docs/cluster.md).

    Args:
        dataset: Folder with frames and flow, in any known tree, and annotations/ (from extract or import-archive, and
            annotate).
        network: Name of the network, e.g. st_mulnet_resnet50.
        out: Run folder, new or empty; with --resume that of the started run.
        split: Split to train on; annotations/annot0N.json.
        network_options: What to change in the network, e.g. units, width_mult, input_size, head_pool; docs/networks.md
            lists all with values and defaults. A table takes the place of the configuration file's; single entries are
            set with --network-options.NAME VALUE.
        weights: File of a whole network to start from, with the same layers: for a second stage of training, or to go
            on from another data set.
        appearance_weights: File that the appearance stream starts from: a base stream of the authors (.mat), a
            single-stream network of this package (.safetensors), or ImageNet weights of torchvision or timm (.pth,
            .pt, .safetensors); random weights otherwise.
        motion_weights: The same for the motion stream.
        allow_mismatch: Take files of another depth, width or class count, or trained on another data set or split;
            what does not agree is said.
        learning_rates: One per epoch; by default the official 1e-3, 1e-3, 1e-4, 1e-5, 1e-6.
        passes_per_epoch: How often an epoch has each video; they are shuffled together.
        epochs: Number of epochs; by default one per learning rate, of more the last rate stays.
        schedule: list, or cosine: from one learning rate to 0.
        warmup_epochs: Epochs in which the learning rate rises from 0; officially none.
        optimizer: sgd without Nesterov momentum, or adamw.
        momentum: Of sgd; the first beta of adamw.
        weight_decay: On the filters.
        clip_gradients: Largest norm of the gradient of an update; 0 leaves it as it is.
        batch_size: Videos per update.
        sub_batch_size: Videos per forward and backward pass; divides batch_size. BatchNorm sees one at a time.
        batchnorm: official: running averages of mean and sigma, moved once per update. frozen: statistics, gamma and
            beta stay as they are in the start weights. sync: statistics of the sub-batches of all GPUs together.
        batchnorm_rate: Share of an update in the running averages.
        frames: Frames per training clip; 1 takes any frame.
        strides: Smallest and largest distance of these frames.
        augmentation: Crops, by their official names: f25noCtr (two streams), borders25 (appearance base stream),
            multiScaleRegular (motion base stream); see docs/REPRODUCTION.md.
        repair: Oddities of the official loader to do without. first_run: the first run of frames of a video is never
            drawn. stride: one for all videos of a sub-batch, which a short video changes for the rest of it. crop:
            positions that the videos of a sub-batch do not have twice (f25noCtr) or share (borders25), and crops of
            exactly the input size at the top left. All are left as they are by default.
        label_smoothing: Share of the target that is spread over all classes; officially 0.
        mixup: Alpha of the distribution by which clips of a sub-batch are mixed; 0 mixes none.
        ema: Share of the old average in a moving average of the weights, e.g. 0.999, which is then validated and
            saved; 0 makes none.
        holdout: Share of the training list to set apart and validate on in place of the validation list: whole groups
            of videos, at least one per class.
        holdout_seed: Decides which; the same for every seed, so that runs can be compared.
        validate_every: Score the validation list after every so many epochs; 0 never. Without a holdout it is the
            *test* list of the split: watch it, but choose nothing by it. The best weights so far are kept.
        validation_frames: Frames per validation video.
        precision: float32, or bf16 or fp16 where torch deems them safe.
        compile: Compile the network (torch.compile): minutes at the start, quicker afterwards; needs a C++ compiler.
        gradient_checkpointing: Compute stages twice instead of keeping their features: less memory, more time.
        seed: Fixes the random start, the order of the clips and everything drawn.
        workers: Loader processes; 0 loads in the main process.
        cache: Keep decoded frames in memory (small data sets).
        checkpoint_minutes: Save a checkpoint after so many minutes, and after every epoch; 0 after every update.
        keep_checkpoints: How many checkpoints are kept.
        resume: Go on from the last checkpoint.
        device: Where to train: auto, cpu, cuda or cuda:N.
    """
    options = dict(locals())
    training = training_package()
    run = Path(out)
    if holdout and not validate_every:
        notice("note: holdout sets videos apart, but nothing is validated on them without validate_every")
    config = config_of(options)
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
