"""Networks assembled from streams that were trained before, as STMulNet.m does, or from ImageNet weights.

A base file holds one stream that scores frame by frame: a base stream of the authors (.mat), a single-stream network of
this package (.safetensors), or ImageNet weights in the form of torchvision (.pth, .pt, .safetensors) or MatConvNet
(.mat).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models import imagenet
from stmulnet.models.catalog import locate
from stmulnet.models.checkpoint import HEADER_KEY, PICKLES, load_model
from stmulnet.models.config import STAGES, ModelConfig, StreamConfig
from stmulnet.models.multiplier import Network, build_network
from stmulnet.models.sources import IMAGENET, IMAGENET_CLASSES, Record, check_common, disagree, plain, read_record
from stmulnet.models.temporal import PointwiseTemporalConv

BUFFERS = {"appearance": ("rgb_mean", "rgb_std"), "motion": ("flow_mean", "flow_std")}
ARCHITECTURE = ("units", "block", "width_mult")  # the file's must be those of the named network
FOLLOWING = ("geometry", "conv1_bias", "numbered_stages")  # taken from the file, unless options say otherwise


@dataclass(frozen=True)
class Base:
    """A stream from a file.

    Attributes:
        path: The file.
        stream: ``"appearance"`` or ``"motion"``.
        network: A network of that stream alone.
        is_imagenet: Whether its classes are ImageNet's, which nobody wants in a network for videos.
        record: Where it comes from: ``file``, ``dataset``, ``split`` (None where unknown) and, where these were the
            start of a further training, their record as ``from``.
    """

    path: Path
    stream: str
    network: Network
    is_imagenet: bool
    record: Record

    @property
    def config(self) -> StreamConfig:
        """The stream's configuration."""
        config: StreamConfig = getattr(self.network.config, self.stream)
        return config

    def fits_classes(self, num_classes: int) -> bool:
        """Whether its classifier can stay; that of ImageNet means nothing to flow."""
        return self.network.config.num_classes == num_classes and not (self.is_imagenet and self.stream == "motion")


def assemble(
    config: ModelConfig,
    weights: Mapping[str, str | Path],
    *,
    fixed: Mapping[str, set[str]],
    class_names: list[str] | None = None,
    allow_mismatch: bool = False,
) -> Network:
    """Build a network whose streams come from files.

    Temporal convolutions and connections have their own start; 1x1 convolutions that become temporal spread the file's
    filter over their taps. A classifier for other classes is a new one. Means and standard deviations are the files'.

    Args:
        config: The network; dropout and everything temporal are as it says.
        weights: Base files by stream.
        fixed: Fields of each `StreamConfig` that a file must not change.
        class_names: Names of the classes; by default those of the files.
        allow_mismatch: Say what does not agree instead of refusing it; architectures are then the files'.

    Raises:
        CheckpointError: No such file, or a damaged or unknown one.
        ConfigError: A file that does not fit the network or the other file; names both sides.
    """
    bases = {stream: load_base(path, stream) for stream, path in weights.items()}
    check_common([base.record for base in bases.values()], allow_mismatch=allow_mismatch)
    for stream, base in bases.items():
        _check_architecture(base, getattr(config, stream), fixed[stream], allow_mismatch)
        _check_classes(base, config.num_classes, allow_mismatch)
    streams: dict[str, Any] = {stream: _stream_config(base, getattr(config, stream)) for stream, base in bases.items()}
    try:
        config = dataclasses.replace(config, **streams)
    except ConfigError as error:
        files = " and ".join(f"the {stream} stream as in {base.path}" for stream, base in bases.items())
        raise ConfigError(
            f"with {files}: {error}. Set units and width_mult of the streams (network_options) to fit the file, or "
            "give files that fit each other"
        ) from error
    model = build_network(config, _class_names(config, bases, class_names, allow_mismatch))
    for base in bases.values():
        _take_over(model, base)
    model.metadata["provenance"] = {stream: base.record for stream, base in bases.items()}
    return model


def load_base(path: str | Path, stream: str) -> Base:
    """Read one stream; ImageNet weights serve as either.

    Raises:
        CheckpointError: No such file, or a damaged or unknown one.
        ConfigError: A file with both streams, with the other one, or with temporal convolutions.
    """
    found = locate(path)
    network = _read(found)
    held = network.config.streams
    if len(held) == 2:
        raise ConfigError(
            f"{found} holds both streams, {stream}_weights takes a file of one; load_model reads it whole"
        )
    if network.config.temporal_conv and any(getattr(network.config, held[0]).sees_time(stage) for stage in STAGES):
        raise ConfigError(f"{found} holds a stream with temporal convolutions, {stream}_weights takes one without")
    record = read_record(found, network.metadata, held[0])
    of_imagenet = plain(record["dataset"] or "") == IMAGENET
    unnamed = record["dataset"] is None and network.config.num_classes == IMAGENET_CLASSES
    is_imagenet = held == ("appearance",) and (of_imagenet or unnamed)
    if is_imagenet and stream == "motion":
        network = imagenet.to_motion(network)
    elif held != (stream,):
        raise ConfigError(
            f"{found} holds {_a(held[0])} stream, {stream}_weights takes {_a(stream)} stream or ImageNet weights"
            f" (of {IMAGENET_CLASSES} classes)"
        )
    return Base(found, stream, network, is_imagenet, record)


def _read(path: Path) -> Network:
    suffix = path.suffix.lower()
    if suffix in PICKLES or (suffix == ".safetensors" and not _is_ours(path)):
        return imagenet.load_imagenet(path)
    if suffix in (".mat", ".safetensors"):
        return load_model(path)
    raise CheckpointError(f"{path}: weights of a stream are files .mat, .safetensors, {' or '.join(PICKLES)}")


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True  # load_model says what is wrong with it


def _check_architecture(base: Base, wanted: StreamConfig, fixed: set[str], allow_mismatch: bool) -> None:
    fields = [*ARCHITECTURE, *(field for field in FOLLOWING if field in fixed)]
    different = [field for field in fields if getattr(base.config, field) != getattr(wanted, field)]
    if different:
        file, network = (
            f"ResNet-{config.depth}, " + ", ".join(f"{field} {getattr(config, field)}" for field in different)
            for config in (base.config, wanted)
        )
        disagree(
            f"{base.path} does not fit the {base.stream} stream: the file has {file}; the network has {network}",
            "the network's stream is then as in the file",
            allow_mismatch,
        )


def _check_classes(base: Base, num_classes: int, allow_mismatch: bool) -> None:
    held = base.network.config.num_classes
    if held != num_classes and not base.is_imagenet:
        disagree(
            f"{base.path} has {held} classes, the network {num_classes}",
            f"the classifier of the {base.stream} stream is then a new one",
            allow_mismatch,
        )


def _stream_config(base: Base, wanted: StreamConfig) -> StreamConfig:
    """As in the file; what the file's weights do not depend on stays (dropout: STMulNet.m:557)."""
    return dataclasses.replace(base.config, dropout=wanted.dropout, temporal_stages=wanted.temporal_stages)


def _class_names(
    config: ModelConfig, bases: Mapping[str, Base], class_names: list[str] | None, allow_mismatch: bool
) -> list[str] | None:
    """The names given, or those of the files whose classifiers stay; all of them must be the same."""
    named = [("the names given", class_names)] if class_names is not None else []
    for base in bases.values():
        if base.network.class_names is not None and base.fits_classes(config.num_classes):
            named.append((str(base.path), base.network.class_names))
    for where, names in named[1:]:
        for number, (first, other) in enumerate(zip(named[0][1] or [], names, strict=False), 1):
            if plain(first) != plain(other):
                disagree(
                    f"class {number} is {other!r} in {where} and {first!r} in {named[0][0]}",
                    f"classifiers stay as they are, and {first!r} counts",
                    allow_mismatch,
                )
                break
    return named[0][1] if named else None


@torch.no_grad()
def _take_over(model: Network, base: Base) -> None:
    """Copy a base's tensors into its stream; what stays is the network's own start."""
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(f"{base.stream}.")}
    given = {name: tensor for name, tensor in base.network.state_dict().items() if name.startswith(f"{base.stream}.")}
    if not base.fits_classes(model.config.num_classes):
        for name in ("weight", "bias"):  # the new classifier: 0.01 * randn and 0, as every network starts
            del own[f"{base.stream}.head.fc.{name}"], given[f"{base.stream}.head.fc.{name}"]
    assert given.keys() == {name for name in own if ".time." not in name}
    for name, tensor in given.items():
        module = model.get_submodule(name.rpartition(".")[0])
        if isinstance(module, PointwiseTemporalConv):
            module.spread(tensor)
        else:
            own[name].copy_(tensor)
    for name in BUFFERS[base.stream]:
        model.get_buffer(name).copy_(base.network.get_buffer(name))


def _a(stream: str) -> str:
    return f"{'an' if stream == 'appearance' else 'a'} {stream}"
