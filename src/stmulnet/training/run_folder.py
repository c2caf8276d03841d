"""The folder of a run: what it is to do, on what and where, written before the first update.

::

    config.yaml          all options, resolved; `stmulnet train --config` reads it
    network.json         the network's configuration, and where its first weights come from
    data.json            which videos: split, numbers, check sums of the lists, how frames and flow were made
    environment.json     versions and machine
    metrics.csv curves.png tensorboard/
    checkpoints/         the last ones, to go on from
    best.safetensors     the weights that validated best, where there is validation
    model.safetensors    the weights after the last epoch
"""

import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped] # the stubs are a package of their own

from stmulnet import __version__
from stmulnet.datasets.annotations import VideoRecord, names_sha256
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.files import check_output, sha256_of, write_json, write_text
from stmulnet.models.config import ModelConfig
from stmulnet.models.multiplier import Network, build_network
from stmulnet.training.checkpoints import Checkpoints
from stmulnet.training.config import TrainConfig

CONFIG_FILE = "config.yaml"
NETWORK_FILE = "network.json"
DATA_FILE = "data.json"
ENVIRONMENT_FILE = "environment.json"
WEIGHTS_FILE = "model.safetensors"
BEST_FILE = "best.safetensors"
CHECKPOINTS_FOLDER = "checkpoints"
TENSORBOARD_FOLDER = "tensorboard"


def check_run(config: TrainConfig, run: Path, *, resume: bool) -> None:
    """Refuse a folder that this run cannot be written to, or resumed from.

    Raises:
        ConfigError: Says why.
    """
    check_output(run)
    if resume:
        if not is_started(config, run):
            raise ConfigError(f"{run} holds no checkpoint to resume from; start without --resume")
        check_options(config, run)
        return
    if _has_checkpoint(config, run) or (run / WEIGHTS_FILE).exists():
        raise ConfigError(f"{run} holds a training run already; go on with --resume or choose another folder")
    # A run that was stopped before its first checkpoint has its records and nothing worth keeping.
    if run.is_dir() and not (run / CONFIG_FILE).is_file() and any(run.iterdir()):
        raise ConfigError(f"{run} holds other files; the run folder must be a new or empty folder")


def is_started(config: TrainConfig, run: Path) -> bool:
    """Whether a folder holds a run that can be resumed."""
    return _has_checkpoint(config, run) and (run / NETWORK_FILE).is_file()


def _has_checkpoint(config: TrainConfig, run: Path) -> bool:
    return Checkpoints(run / CHECKPOINTS_FOLDER, config.keep_checkpoints).latest_path() is not None


def check_options(config: TrainConfig, run: Path) -> None:
    """Refuse other options than those that a run was started with.

    Raises:
        ConfigError: Names what differs.
    """
    different = config.differences(_read_yaml(run / CONFIG_FILE))
    if different:
        raise ConfigError(
            f"{run} was started with other values of {', '.join(different)}; go on with the same ones, or start in "
            "another folder"
        )


def write_records(run: Path, config: TrainConfig, model: Network, data: dict[str, Any]) -> None:
    """Write what is known before the first update; curves of a start that came to nothing go."""
    shutil.rmtree(run / TENSORBOARD_FOLDER, ignore_errors=True)
    write_text(run / CONFIG_FILE, yaml.safe_dump(config.to_dict(), sort_keys=False))
    write_json(run / NETWORK_FILE, {"config": model.config.to_dict(), "metadata": model.metadata})
    write_json(run / DATA_FILE, data)
    write_json(run / ENVIRONMENT_FILE, environment())


def check_data(run: Path, data: dict[str, Any]) -> None:
    """Refuse to go on with other videos than those a run was started with.

    Raises:
        ConfigError: Names what differs.
    """
    try:
        before = json.loads((run / DATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{run / DATA_FILE}: cannot be read ({error}); start again in another folder") from error
    different = [name for name, value in json.loads(json.dumps(data)).items() if before.get(name) != value]
    if different:
        raise ConfigError(
            f"the data set is not what {run} was started with, it differs in {', '.join(different)} "
            f"({DATA_FILE} has what it was); start again in another folder"
        )


def started_network(run: Path, class_names: list[str]) -> Network:
    """The network of a run that is resumed; its weights are in the checkpoint, base files are not needed again."""
    try:
        record = json.loads((run / NETWORK_FILE).read_text(encoding="utf-8"))
        model = build_network(ModelConfig.from_dict(record["config"]), class_names)
        model.metadata = record["metadata"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / NETWORK_FILE}: damaged ({error}); start again in another folder") from error
    return model


def fingerprint(
    annotation: Path, split: int, training: Sequence[VideoRecord], validation: Sequence[VideoRecord]
) -> dict[str, Any]:
    """Which videos a run sees, so that another state of the data set can be told from this one.

    Args:
        annotation: The annotation file.
        split: Its number.
        training: Videos trained on.
        validation: Videos validated on; may be none.
    """
    return {
        "split": split,
        "annotation_sha256": sha256_of(annotation),
        "training_videos": len(training),
        "training_videos_sha256": names_sha256(record.video for record in training),
        "training_frames": sum(record.num_frames for record in training),
        "validation_videos": len(validation),
    }


def environment() -> dict[str, Any]:
    """What may change the numbers from one machine to the next."""
    libraries = ("torch", "numpy", "opencv-contrib-python-headless", "simplejpeg", "lightning")
    return {
        "stmulnet": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "libraries": {name: _version(name) for name in libraries},
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:  # e.g. another of OpenCV's packages
        return None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); start again in another folder") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no options; start again in another folder")
    return content
