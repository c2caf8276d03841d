"""ImageNet weights, and what was trained further from them, in the naming of torchvision and timm.

The names are conv1, bn1, layer1.0.conv1, ..., fc.

What the network is follows from the tensors alone. The naming and the order of operations are those of torchvision's
resnet.py (its ResNet-50 is "v1.5": stride on the 3x3 convolution), which timm's ResNets share.
"""

import dataclasses
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stmulnet.constants import FLOW_CHANNELS, FLOW_ZERO_LEVEL
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.checkpoint import check_finite
from stmulnet.models.config import ModelConfig, StreamConfig
from stmulnet.models.multiplier import Network, build_empty, fill, with_weights
from stmulnet.models.provenance import read_provenance
from stmulnet.models.sources import IMAGENET, IMAGENET_CLASSES

RGB_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1: what torchvision's and timm's ResNets are trained with
RGB_STD = (0.229, 0.224, 0.225)
WRAPPINGS = ("state_dict", "model")  # of training checkpoints
PREFIX = "module."  # of networks saved from DataParallel
PLAIN = (
    "what can be read are plain ResNets (18, 34, 50, 101, 152, all channels by one factor), not those with a deep stem "
    "(resnet50d), groups (ResNeXt), wider units (wide_resnet) or attention (SE)"
)
_UNIT = re.compile(r"res(\d)\.(\w+)\.branch(1|2[abc])\.([01])\.(\w+)")
_STEM = {"conv1": "conv1", "bn_conv1": "bn1", "head.fc": "fc"}


def load_imagenet(path: str | Path) -> Network:
    """Read weights in torchvision's form as an appearance stream that scores single frames, in evaluation mode.

    Those with 1000 classes are ImageNet's; others were trained further, on what the name of the file says, if it says.
    Images are still given in 0..255: the buffers hold 255 times ImageNet's mean and standard deviation.

    Args:
        path: ``.safetensors``, or a pickle (``.pth``, ``.pt``), of which tensors alone are unpickled; a state dict, or
            a checkpoint that holds one as ``state_dict`` or ``model``.

    Raises:
        CheckpointError: Damaged, would need code from the pickle, or no plain ResNet; names the first tensor that does
            not fit.
    """
    path = Path(path)
    is_pickle = path.suffix.lower() != ".safetensors"
    tensors = _state_dict(path, _read_pickle(path)) if is_pickle else _read_safetensors(path)
    try:
        config = _infer(tensors)
        empty = build_empty(config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: describes no network that can be built: {error}") from error
    assert config.appearance is not None
    wanted = empty.state_dict()
    names = {ours: _torchvision_name(ours, config.appearance) for ours in wanted if ours.startswith("appearance.")}
    _check_fit(path, {name: wanted[ours].shape for ours, name in names.items()}, tensors)
    check_finite(path, tensors)
    state = {ours: _take(tensors.get(name), wanted[ours]) for ours, name in names.items()}
    buffers = {
        "rgb_mean": 255 * torch.tensor(RGB_MEAN),
        "rgb_std": 255 * torch.tensor(RGB_STD),
        "flow_mean": torch.full((FLOW_CHANNELS,), float(FLOW_ZERO_LEVEL)),
        "flow_std": torch.ones(FLOW_CHANNELS),
    }
    model = fill(empty, state | buffers)
    record = {"dataset": IMAGENET, "split": None} if config.num_classes == IMAGENET_CLASSES else {}
    model.metadata = {"provenance": read_provenance(path) | record}
    return model


def to_motion(model: Network) -> Network:
    """An ImageNet stream for stacks of flow fields: its first filters averaged over R, G, B and repeated 20 times.

    So start the authors' motion streams (cnn_ucf101_temporal.m). The classifier is kept, and is of no use.
    """
    motion = dataclasses.replace(model.config, appearance=None, motion=model.config.appearance)
    state = {name.replace("appearance.", "motion."): tensor.clone() for name, tensor in model.state_dict().items()}
    state["motion.conv1.weight"] = state["motion.conv1.weight"].mean(1, keepdim=True).repeat(1, FLOW_CHANNELS, 1, 1)
    state["flow_mean"] = torch.full((FLOW_CHANNELS,), float(FLOW_ZERO_LEVEL))
    # Deviation D12: officially flow is divided by nothing, as the RGB images of Caffe's ResNets are. Filters that are
    # made for images with a standard deviation of 1 get flow of that order: divided by what RGB is, on average.
    state["flow_std"] = model.rgb_std.mean().repeat(FLOW_CHANNELS)
    again = with_weights(motion, state, model.class_names)
    again.metadata = model.metadata
    return again


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file, or damaged ({error}); get it again") from error


def _read_pickle(path: Path) -> Any:
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual files, which are judged below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch answers damage with whatever its unpickler runs into
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path}: holds more than tensors ({refused[1]}), and what would run code is not unpickled. Where you "
                "trust the file, load it in PyTorch and save its state dict alone"
            ) from error
        raise CheckpointError(
            f"{path}: {'empty' if not path.stat().st_size else 'not a file of torch.save with tensors, or damaged'} "
            f"({type(error).__name__}); get it again from where it came"
        ) from error


def _check_archive(path: Path) -> None:
    """Compare the checksums of the present file format, which torch does not; the one before has none."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise CheckpointError(f"{path}: damaged (the checksum of {damaged} is another one); get it again")
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be read, or damaged ({error}); get it again") from error


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors by name, without wrapping and prefix."""
    for key in WRAPPINGS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: holds no state dict, but a {type(content).__name__}; {PLAIN}")
    for name, value in content.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not (isinstance(name, str) and dense):
            raise CheckpointError(
                f"{path}: {name!r} is no tensor but a {type(value).__name__}; wanted is a state dict, alone or as "
                f"{' or '.join(WRAPPINGS)}"
            )
    prefix = PREFIX if all(name.startswith(PREFIX) for name in content) else ""
    return {name.removeprefix(prefix): value.detach() for name, value in content.items()}


def _infer(tensors: dict[str, Tensor]) -> ModelConfig:
    """The network whose tensors these could be; whether they are is checked afterwards."""
    units = tuple(
        len({match[1] for name in tensors if (match := re.match(rf"layer{layer}\.(\d+)\.", name))})
        for layer in (1, 2, 3, 4)
    )
    stream = StreamConfig(
        units=tuple(max(1, count) for count in units),  # type: ignore[arg-type] # there are four
        width_mult=_outputs(tensors, "bn1.weight", 64) / 64,
        block="bottleneck" if "layer1.0.conv3.weight" in tensors else "basic",
        geometry="torch",
        conv1_bias=False,
    )
    classes = _outputs(tensors, "fc.weight", 1000)
    return ModelConfig(classes, appearance=stream, motion=None, fusion=None, temporal_conv=None, temporal_pool=None)


def _outputs(tensors: dict[str, Tensor], name: str, otherwise: int) -> int:
    return tensors[name].shape[0] if name in tensors and tensors[name].ndim else otherwise


def _torchvision_name(ours: str, stream: StreamConfig) -> str:
    """``appearance.res2.a.branch2b.1.bias`` is ``layer1.0.bn2.bias``."""
    name = ours.removeprefix("appearance.")
    match = _UNIT.fullmatch(name)
    if match is None:
        layer, _, value = name.rpartition(".")
        return f"{_STEM[layer]}.{value}"
    stage, unit, branch, part, value = match.groups()
    place = f"layer{int(stage) - 1}.{stream.unit_names(int(stage)).index(unit)}"
    if branch == "1":
        return f"{place}.downsample.{part}.{value}"
    return f"{place}.{('conv', 'bn')[int(part)]}{'abc'.index(branch[1]) + 1}.{value}"


def _check_fit(path: Path, wanted: dict[str, torch.Size], given: dict[str, Tensor]) -> None:
    """Account for every tensor on both sides."""
    needs = {name: tuple(shape[:2] if name == "fc.weight" else shape) for name, shape in wanted.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    counts = {name for name in needs if name.endswith("num_batches_tracked")}  # old files have none
    unknown = [f"tensor {name} of shape {shapes[name]} is unknown" for name in shapes if name not in needs]
    absent = [name for name in needs if name not in shapes and name not in counts]
    missing = [f"tensor {name} of shape {needs[name]} is missing" for name in absent]
    problems = unknown[:1] + missing[:1] or [
        f"tensor {name} has shape {shapes[name]}, needs {needs[name]}"
        if shapes[name] != needs[name]
        else f"tensor {name} holds {tensor.dtype}"
        for name, tensor in given.items()
        if shapes[name] != needs[name] or tensor.is_floating_point() == (name in counts)
    ]
    if problems:
        raise CheckpointError(f"{path}: {', '.join(problems[:2])}; {PLAIN}")


def _take(tensor: Tensor | None, like: Tensor) -> Tensor:
    """A copy in the shape and type of ours; zero for the count of batches that old files do not have."""
    if tensor is None:
        return torch.zeros(like.shape, dtype=like.dtype)
    return tensor.to(like.dtype, copy=True).reshape(like.shape).contiguous()
