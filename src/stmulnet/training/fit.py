"""One training run: from an annotated data set to a weight file in a run folder."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stmulnet.console import notice
from stmulnet.datasets.annotations import Annotation, annotation_path, load_annotation
from stmulnet.datasets.base import FrameSampling, TwoStreamDataset
from stmulnet.datasets.folder import hold_out
from stmulnet.datasets.resize import prepare_resize
from stmulnet.datasets.sampling import RandomFrame, RandomStrideFrames, UniformFrames
from stmulnet.datasets.transforms import TestTransform, TrainTransform, Transform
from stmulnet.errors import AnnotationError, ConfigError
from stmulnet.files import locked
from stmulnet.models.checkpoint import save_model
from stmulnet.models.config import ModelConfig
from stmulnet.models.multiplier import Network
from stmulnet.models.sources import check_unseen
from stmulnet.models.start import start_from
from stmulnet.models.zoo import create_model
from stmulnet.training.checkpoints import checksum, saving
from stmulnet.training.config import TrainConfig
from stmulnet.training.loop import Loop
from stmulnet.training.processes import check_alike, check_device, start_fabric
from stmulnet.training.run_folder import (
    WEIGHTS_FILE,
    check_data,
    check_run,
    fingerprint,
    started_network,
    write_records,
)
from stmulnet.training.validation import metric

# Lightning's remarks on choices we make on purpose, or on its own code.
_LIGHTNING_WARNINGS = (".*LeafSpec.* is deprecated",)  # Lightning 2.6 uses a torch name that torch 2.13 has deprecated


def fit(
    config: TrainConfig,
    run: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    metadata: dict[str, Any] | None = None,
) -> Network:
    """Train a network; write weights, metrics, checkpoints and records to ``run`` (see `run_folder`).

    Started by torchrun, all processes call this; the first one writes.

    Args:
        config: What to train on what.
        run: The run folder. With ``resume`` it holds a started run of the same configuration.
        resume: Go on from the last checkpoint.
        device: auto, cpu, cuda or cuda:N.
        metadata: Facts saved with the weights beside the training configuration, e.g. how the flow was made.

    Returns:
        The trained network, in evaluation mode on the CPU.

    Raises:
        StmulnetError: Bad input, a loss that is not finite, or a file that cannot be written.
    """
    check_run(config, run, resume=resume)
    annotation_path, annotation = lists(config)
    model = started_network(run, annotation.class_names) if resume else _new_network(config, annotation)
    training, validation = _datasets(config, model, annotation)
    data = fingerprint(annotation_path, config.split, annotation.training, validation.records if validation else [])
    data |= {"tree": training.tree.kind, "held_out_videos": len(annotation.validation) if config.holdout else 0}
    data |= metadata or {}
    with warnings.catch_warnings():
        for message in _LIGHTNING_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        fabric = start_fabric(device, config.precision, config.batchnorm)
    loop = Loop(fabric, config, model, training, validation, run)
    if resume:
        check_data(run, data)
        loop.restore(loop.checkpoints.load())
    if fabric.world_size > 1:
        check_alike(checksum(loop.state()), "weights, or checkpoints,")
    model.metadata |= {**(metadata or {}), "training": config.to_header() | {"data": data}}
    with _alone(run) if fabric.is_global_zero else contextlib.nullcontext():
        if fabric.is_global_zero:
            notice(f"{config.dataset}: {training.reads}")
            _say_held_out(config, annotation)
            if resume:
                notice(loop.progress_in_words())
            else:
                with saving(run, loop.checkpoints.latest_path):
                    write_records(run, config, model, data)
        loop.run()
        loop.take_average()
        if fabric.is_global_zero:
            _save_final(loop, config, run)
    return model.cpu().eval()


@contextlib.contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Keep other trainings out of the run folder."""
    run.mkdir(parents=True, exist_ok=True)
    with locked(run, ConfigError(f"{run}: another training is writing there; wait for its end, or stop it")):
        yield


def _say_held_out(config: TrainConfig, annotation: Annotation) -> None:
    """Groups are held out whole, and at least one per class: the share may be far from the one asked for."""
    if config.holdout:
        held, all_of_them = len(annotation.validation), len(annotation.validation) + len(annotation.training)
        notice(f"held out: {held} of the {all_of_them} training videos ({held / all_of_them:.0%}), by whole groups")


def check(config: TrainConfig, *, device: str = "auto") -> ModelConfig:
    """Refuse what `fit` would refuse before its first update, but for the run folder; makes nothing.

    Returns:
        The network that would be trained.

    Raises:
        StmulnetError: Says what is wrong.
    """
    check_device(device, config.precision, config.batchnorm)
    _, annotation = lists(config)
    model = _new_network(config, annotation)
    _datasets(config, model, annotation)
    return model.config


def lists(config: TrainConfig) -> tuple[Path, Annotation]:
    """The annotation file of a run, and the videos it trains and validates on: a hold-out in place of the test list."""
    path = annotation_path(config.dataset, config.split)
    annotation = load_annotation(path)
    if config.holdout:
        annotation = hold_out(annotation, config.holdout, seed=config.holdout_seed)
    return path, annotation


def _save_final(loop: Loop, config: TrainConfig, run: Path) -> None:
    model = loop.model
    if config.validate_every and config.num_epochs % config.validate_every == 0:
        (last,) = [row for row in loop.history.rows() if row["epoch"] == config.num_epochs] or [{}]
        if "val_top1" in last:  # unless somebody has deleted the table of a finished run
            model.metadata["metric"] = metric(config, config.num_epochs, last["val_top1"])
    with saving(run / WEIGHTS_FILE, loop.checkpoints.latest_path):
        save_model(model, run / WEIGHTS_FILE)


def _new_network(config: TrainConfig, annotation: Annotation) -> Network:
    torch.manual_seed(config.seed)  # of the random start; what is drawn later has seeds of its own
    model = create_model(
        config.network,
        len(annotation.class_names),
        class_names=annotation.class_names,
        appearance_weights=config.appearance_weights,
        motion_weights=config.motion_weights,
        allow_mismatch=config.allow_mismatch,
        **config.network_options,
    )
    if config.weights:
        start_from(model, config.weights, allow_mismatch=config.allow_mismatch)
    _check_frozen(config, model)
    check_unseen(
        model.metadata.get("provenance", {}),
        config.dataset.resolve().name,
        config.split,
        allow_mismatch=config.allow_mismatch,
    )
    return model


def _check_frozen(config: TrainConfig, model: Network) -> None:
    """A random start has no statistics, and gammas of 0 at the end of each unit, which would stay so."""
    given = {
        "appearance": config.weights or config.appearance_weights,
        "motion": config.weights or config.motion_weights,
    }
    random = [stream for stream in model.config.streams if given[stream] is None]
    if config.batchnorm == "frozen" and random:
        raise ConfigError(
            f"batchnorm frozen keeps statistics, gamma and beta of start weights, and there are none for "
            f"{' and '.join(random)}: give weights, or use batchnorm official"
        )


def _datasets(
    config: TrainConfig, model: Network, annotation: Annotation
) -> tuple[TwoStreamDataset, TwoStreamDataset | None]:
    for count in (config.frames, *([config.validation_frames] if config.validate_every else [])):
        model.config.check_frames(count)
    size = model.config.input_size
    prepare_resize()  # here, once: loader workers find the compiled code
    crop = TrainTransform(
        size, config.augmentation, repaired="crop" in config.repair, resized=not config.resize_on_device
    )
    # All passes of an epoch are shuffled together (opts.train.train = repmat(..., epochFactor)).
    epoch = replace(annotation, training=annotation.training * config.passes_per_epoch)
    if not epoch.training:
        raise AnnotationError(f"{config.dataset}: split {config.split} has no training videos; make its lists anew")
    training = _dataset(config, model, epoch, "training", _frames(config, model), crop)
    if not config.validate_every:
        return training, None
    if not annotation.validation:
        raise AnnotationError(
            f"{config.dataset}: split {config.split} has no validation videos; give a holdout, or validate_every 0"
        )
    frames_to_score = UniformFrames(config.validation_frames)
    return training, _dataset(config, model, annotation, "validation", frames_to_score, TestTransform(size))


def _frames(config: TrainConfig, model: Network) -> FrameSampling:
    if config.frames == 1:
        return RandomFrame(with_flow="motion" in model.config.streams)
    repaired = {"shared": "stride" not in config.repair, "first_run": "first_run" in config.repair}
    return RandomStrideFrames(config.frames, config.strides, **repaired)


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
