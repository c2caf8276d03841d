"""Weights on disk: safetensors with a JSON header that says which network they belong to."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.files import atomic_path
from stmulnet.models.config import ModelConfig
from stmulnet.models.multiplier import Network, build_network

FORMAT_VERSION = 1
HEADER_KEY = "stmulnet"


def save_model(model: Network, path: str | Path, *, metadata: dict[str, Any] | None = None) -> None:
    """Write a network as safetensors; the header rebuilds it without any other file.

    Args:
        model: A network of this package.
        path: Ends in ``.safetensors``; an existing file is replaced in one step.
        metadata: JSON-able facts added to ``model.metadata`` (training split, protocol, flow record ...).

    Raises:
        CheckpointError: A different suffix, or a weight that is not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: weights are saved as .safetensors; give the file that suffix")
    header = {
        "format": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "class_names": model.class_names,
        "metadata": {**model.metadata, **(metadata or {})},
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _check_finite(path, tensors)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(header)})


def load_model(path: str | Path) -> Network:
    """Rebuild a network from its file, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: No such file, damaged, of a newer format, or tensors that do not fit the header's network.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file; give a .safetensors file written by stmulnet train")
    header, tensors = _read(path)
    try:
        model = build_network(ModelConfig.from_dict(header["config"]), header["class_names"])
    except (ConfigError, KeyError, TypeError, AttributeError) as error:  # any JSON can stand in a header
        raise CheckpointError(f"{path}: the header does not describe a network: {error}") from error
    _check_finite(path, tensors)
    _check_fit(path, {name: tensor.shape for name, tensor in model.state_dict().items()}, tensors)
    model.load_state_dict(tensors)
    model.metadata = header["metadata"]
    return model.eval()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a safetensors file, or damaged: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: has no stmulnet header, so the network it belongs to is unknown")
    if header.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format {header.get('format')!r}, this version reads {FORMAT_VERSION}: update stmulnet"
        )
    names, metadata = header.get("class_names"), header.get("metadata")
    if not isinstance(metadata, dict) or not (names is None or isinstance(names, list)):
        raise CheckpointError(f"{path}: the header needs a list of class_names, or null, and an object metadata")
    return header, tensors


def _check_finite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name} holds values that are not finite")


def _check_fit(path: Path, wanted: dict[str, torch.Size], given: dict[str, torch.Tensor]) -> None:
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{path}: no value for {missing[:5]} ({len(missing)} in all), unknown {unknown[:5]} ({len(unknown)} in all)"
        )
    for name, shape in wanted.items():
        if given[name].shape != shape:
            raise CheckpointError(f"{path}: tensor {name} has shape {tuple(given[name].shape)}, needs {tuple(shape)}")
