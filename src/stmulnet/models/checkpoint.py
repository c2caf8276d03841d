"""Weights on disk: safetensors with a JSON header that says which network they belong to."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.files import atomic_path
from stmulnet.models.catalog import locate
from stmulnet.models.config import ModelConfig
from stmulnet.models.matconvnet import import_mat
from stmulnet.models.multiplier import Network, build_empty, fill
from stmulnet.models.optimize import optimize as optimized
from stmulnet.models.resnet import BN_EPS

FORMAT_VERSION = 2
HEADER_KEY = "stmulnet"
PICKLES = (".pth", ".pt")  # of torch.save
HEADER_FIELDS = {"format", "config", "class_names", "metadata"}


def save_model(model: Network, path: str | Path, *, metadata: dict[str, Any] | None = None) -> None:
    """Write a network as safetensors; the header rebuilds it without any other file.

    Args:
        model: A network of this package.
        path: Ends in ``.safetensors``; an existing file is replaced in one step.
        metadata: JSON-able facts added to ``model.metadata`` (training split, protocol, flow record ...).

    Raises:
        CheckpointError: A different suffix, a weight that is not finite, or a network whose BatchNorm is folded.
    """
    path = Path(path)
    model.check_savable(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: weights are saved as .safetensors; give the file that suffix")
    header = {
        "format": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "class_names": model.class_names,
        "metadata": {**model.metadata, **(metadata or {})},
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    check_finite(path, tensors)
    with atomic_path(path) as temporary:
        # Not save_file: it makes files that only their owner may read.
        temporary.write_bytes(save(tensors, metadata={HEADER_KEY: json.dumps(header)}))


def load_model(path: str | Path, *, dtype: torch.dtype = torch.float32, optimize: bool = False) -> Network:
    """Rebuild a network from its file, in evaluation mode, on the CPU.

    Args:
        path: A ``.safetensors`` file of this package, a MatConvNet file (``.mat``) of the authors, the name of one
            that `stmulnet weights fetch` has fetched, or ``hf://user/name[@revision][/file]`` on the Hugging Face Hub.
        dtype: Of the weights.
        optimize: Make it several times as fast on this CPU, for inference alone and with scores that differ by
            rounding: `stmulnet.models.optimize.optimize`, which also knows other devices and types.

    Raises:
        CheckpointError: No such file, damaged, of a newer format, or tensors that do not fit the header's network.
    """
    model = _load(locate(path), dtype)
    return optimized(model, inplace=True) if optimize else model


def _load(path: Path, dtype: torch.dtype) -> Network:
    if path.suffix.lower() == ".mat":
        return import_mat(path, dtype=dtype)
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"{path}: weights in torchvision's form are no whole network but start one: give them to create_model or "
            "train as appearance_weights or motion_weights (--appearance-weights)"
        )
    header, tensors = _read(path)
    try:
        config = ModelConfig.from_dict(header["config"])
        model = build_empty(config, header["class_names"])  # one that does not fit the file is never given memory
    except (ConfigError, KeyError, TypeError, AttributeError) as error:  # any JSON can stand in a header
        raise CheckpointError(f"{path}: the header does not describe a network: {error}") from error
    check_finite(path, tensors)
    _check_fit(path, {name: tensor.shape for name, tensor in model.state_dict().items()}, tensors)
    model.metadata = header["metadata"]
    return fill(model, {name: _in_memory(tensor, dtype) for name, tensor in tensors.items()})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a safetensors file, or damaged ({error}); {_advice(path)}") from error
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{path}: has no stmulnet header, so the network it belongs to is unknown; weights in torchvision's form "
            "go into create_model or train as appearance_weights or motion_weights"
        )
    _upgrade(path, header, tensors)
    if unknown := sorted(header.keys() - HEADER_FIELDS):
        raise CheckpointError(f"{path}: unknown header fields {', '.join(unknown)}; there are {sorted(HEADER_FIELDS)}")
    names, metadata = header.get("class_names"), header.get("metadata")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise CheckpointError(f"{path}: the header needs a list of class_names, or null; the file is damaged")
    if not _is_metadata(metadata):
        raise CheckpointError(f"{path}: the header needs an object metadata that fits; the file is damaged")
    return header, tensors


def _in_memory(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy of a tensor that safetensors has mapped, with which a file written anew would change the network."""
    order = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True, memory_format=order)


def _advice(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(6) == b"MATLAB":
            return "it is a MATLAB file: give it the suffix .mat"
    return "give the model.safetensors of a run folder (.ckpt is not read), or get the file again"


def _upgrade(path: Path, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Bring what older versions have written to the present format."""
    if header.get("format") == 1:  # these networks divided by no standard deviation
        header["format"] = FORMAT_VERSION
        for name in ("rgb", "flow"):
            if f"{name}_mean" in tensors:
                tensors[f"{name}_std"] = torch.ones_like(tensors[f"{name}_mean"])
    if header.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format {header.get('format')!r}, this version reads 1 to {FORMAT_VERSION}: update stmulnet"
        )


def _is_metadata(metadata: Any) -> bool:
    """Whether the parts that `evaluate` and `predict` read are what they take them for."""
    record = metadata.get("preprocessing", {}) if isinstance(metadata, dict) else None
    if not isinstance(record, dict) or not all(isinstance(part, dict) for part in record.values()):
        return False
    frames = record.get("frames", {})
    sizes = frames.get("short_side", 1), frames.get("jpeg_quality", 1)
    return all(type(size) is int and size >= 1 for size in sizes) and sizes[1] <= 100


def check_finite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Refuse values that are not finite; names the tensor."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name} holds values that are not finite")
        if name.endswith("running_var") and bool((tensor <= -BN_EPS).any()):
            raise CheckpointError(f"{path}: tensor {name} holds variances that are negative, {tensor.min():g} at worst")


def _check_fit(path: Path, wanted: dict[str, torch.Size], given: dict[str, torch.Tensor]) -> None:
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{path}: no value for {missing[:5]} ({len(missing)} in all), unknown {unknown[:5]} ({len(unknown)} in all)"
        )
    for name, shape in wanted.items():
        if given[name].shape != shape:
            raise CheckpointError(f"{path}: tensor {name} has shape {tuple(given[name].shape)}, needs {tuple(shape)}")
