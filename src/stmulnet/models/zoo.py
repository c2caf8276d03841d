"""Named networks: each a short function, the list of them a plain dict."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stmulnet.constants import STREAMS
from stmulnet.errors import ConfigError
from stmulnet.models.bases import assemble
from stmulnet.models.config import DEPTHS, FusionConfig, ModelConfig, StreamConfig, TemporalPoolConfig
from stmulnet.models.multiplier import Network, build_network
from stmulnet.values import fits

MOTION_DROPOUT = 0.8  # STMulNet.m:557; reaches the motion stream only
NO_TIME: dict[str, Any] = {"temporal_conv": None, "temporal_pool": None}


def st_mulnet(appearance: int, motion: int) -> Callable[[int], ModelConfig]:
    """The network of the paper, streams by depth."""
    return lambda num_classes: ModelConfig(
        num_classes, DEPTHS[appearance], dataclasses.replace(DEPTHS[motion], dropout=MOTION_DROPOUT)
    )


def two_stream(depth: int) -> Callable[[int], ModelConfig]:
    """Two streams without connection: late fusion of what they score frame by frame."""
    return lambda num_classes: dataclasses.replace(st_mulnet(depth, depth)(num_classes), fusion=None, **NO_TIME)


def appearance(depth: int) -> Callable[[int], ModelConfig]:
    """The appearance stream alone, frame by frame."""
    return lambda num_classes: dataclasses.replace(two_stream(depth)(num_classes), motion=None)


def motion(depth: int) -> Callable[[int], ModelConfig]:
    """The motion stream alone, stack by stack."""
    return lambda num_classes: dataclasses.replace(two_stream(depth)(num_classes), appearance=None)


def st_resnet(depth: int) -> Callable[[int], ModelConfig]:
    """Spatiotemporal residual network (Feichtenhofer, Pinz, Wildes, NIPS 2016): STResNet_stage1.m and stage2.m."""
    return lambda num_classes: ModelConfig(
        num_classes,
        DEPTHS[depth],
        DEPTHS[depth],
        fusion=FusionConfig(operation="add"),
        temporal_conv="pointwise",
        temporal_pool=TemporalPoolConfig(stride=2),
    )


MODELS: dict[str, Callable[[int], ModelConfig]] = {
    **{f"st_mulnet_resnet{depth}": st_mulnet(depth, depth) for depth in DEPTHS},
    "st_mulnet_resnet50_resnet152": st_mulnet(50, 152),
    "st_resnet50": st_resnet(50),
    **{f"two_stream_resnet{depth}": two_stream(depth) for depth in DEPTHS},
    **{f"appearance_resnet{depth}": appearance(depth) for depth in DEPTHS},
    **{f"motion_resnet{depth}": motion(depth) for depth in DEPTHS},
}
STREAM_FIELDS = ("depth", *(field.name for field in dataclasses.fields(StreamConfig)))

OVERRIDES = tuple(  # what `create_model` takes beside its own arguments
    sorted({*(field.name for field in dataclasses.fields(ModelConfig)), *STREAM_FIELDS} - {"num_classes"})
)


def list_models() -> list[str]:
    """Names `create_model` knows."""
    return sorted(MODELS)


def model_config(name: str, num_classes: int, **overrides: Any) -> ModelConfig:
    """The configuration `create_model` builds; the same arguments."""
    if name not in list_models():
        raise ConfigError(f"no network {name!r}; one of: {', '.join(list_models())}")
    if not fits(num_classes, int):
        raise ConfigError(f"num_classes must be a whole number, got {num_classes!r}")
    check_overrides(overrides)
    values = MODELS[name](num_classes).to_dict()
    shared = {field: value for field, value in overrides.items() if field in STREAM_FIELDS}
    for stream in STREAMS:
        if values[stream] is not None:
            values[stream] = _override_stream(_override_stream(values[stream], shared), overrides.get(stream, {}))
        elif isinstance(overrides.get(stream), Mapping):
            raise ConfigError(f"{name} has no {stream} stream, so it takes no options of one")
        elif overrides.get(stream) is not None:
            values[stream] = overrides[stream]
    others = {field: value for field, value in overrides.items() if field not in (*shared, *STREAMS)}
    return ModelConfig.from_dict({**values, **others})


def _override_stream(values: dict[str, Any], changes: Any) -> Any:
    """A stream's fields changed; anything but a table (None, a `StreamConfig`) takes their place."""
    if not isinstance(changes, Mapping):
        return changes
    changes = dict(changes)
    depth = changes.pop("depth", None)
    if depth is not None:
        if depth not in DEPTHS:
            raise ConfigError(f"depth must be one of {', '.join(map(str, DEPTHS))}, got {depth!r}")
        official = DEPTHS[depth]
        values = {**values, "units": official.units, "block": official.block, "conv1_bias": official.conv1_bias}
    return {**values, **changes}


def check_overrides(overrides: Mapping[Any, Any]) -> None:
    """Refuse names that are no override of `create_model`.

    Raises:
        ConfigError: Says which, and which there are.
    """
    unknown = [repr(name) for name in overrides if name not in OVERRIDES]
    if unknown:
        raise ConfigError(f"a network has no option {', '.join(unknown)}; it has {', '.join(OVERRIDES)}")


def create_model(
    name: str,
    num_classes: int = 101,
    *,
    class_names: list[str] | None = None,
    appearance_weights: str | Path | None = None,
    motion_weights: str | Path | None = None,
    allow_mismatch: bool = False,
    **overrides: Any,
) -> Network:
    """Build a named network with random weights, or from streams that were trained before.

    Files of streams are base streams of the authors (``.mat``), single-stream networks of this package
    (``.safetensors``), or ImageNet weights in the naming of torchvision and timm (``.pth``, ``.pt``, ``.safetensors``)
    or of MatConvNet (``.mat``). They are looked up as given, in ``experiment/base_pretrained_nets``, and among the
    files fetched with `stmulnet weights`. Geometry and the bias of conv1 then follow the file; classifiers for
    ImageNet's classes are replaced by new ones. See `stmulnet.models.bases`.

    Args:
        name: One of `list_models`.
        num_classes: Size of the classifiers.
        class_names: Names of the classes in label order, saved with the weights; by default those of the files.
        appearance_weights: File of the appearance stream.
        motion_weights: File of the motion stream.
        allow_mismatch: Take files of another depth, width or class count, or from another data set or split than each
            other; what does not agree is said on stderr.
        **overrides: Fields of `ModelConfig`; fields of `StreamConfig` (units, width_mult, dropout, ...) and ``depth``
            set both streams, tables ``appearance`` and ``motion`` with such fields set one.

    Raises:
        CheckpointError: A file that is missing, damaged or of an unknown architecture.
        ConfigError: An unknown name or field, values that contradict each other, or files that do not fit.

    Example:
        >>> tiny = create_model("st_mulnet_resnet50", 6, units=(2, 2, 2, 2), width_mult=0.125, input_size=96,
        ...                     head_pool="global")
    """
    config = model_config(name, num_classes, **overrides)
    weights: dict[str, Any] = {"appearance": appearance_weights, "motion": motion_weights}
    _check_types(class_names, weights)
    given = {stream: path for stream, path in weights.items() if path is not None}
    if not given:
        return build_network(config, class_names)
    for stream in given:
        if stream not in config.streams:
            raise ConfigError(f"{name} has no {stream} stream, so it takes no {stream}_weights")
    fixed = {stream: _set_fields(overrides, stream) for stream in given}
    return assemble(config, given, fixed=fixed, class_names=class_names, allow_mismatch=allow_mismatch)


def _check_types(class_names: Any, weights: Mapping[str, Any]) -> None:
    """Python's users can give anything."""
    listed = isinstance(class_names, list | tuple) and all(isinstance(name, str) for name in class_names)
    if class_names is not None and not listed:
        raise ConfigError(f"class_names must be a list of texts, got {class_names!r}")
    for stream, path in weights.items():
        if path is not None and not isinstance(path, str | Path):
            raise ConfigError(f"{stream}_weights must be a path, got {path!r}")


def _set_fields(overrides: Mapping[str, Any], stream: str) -> set[str]:
    """Fields of a `StreamConfig` that the caller set; all of them where the whole was given."""
    own = overrides.get(stream, {})
    return {*overrides, *(own if isinstance(own, Mapping) else STREAM_FIELDS)} & set(STREAM_FIELDS)
