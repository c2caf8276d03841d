"""Named networks: each a short function, the list of them a plain dict."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from stmulnet.errors import ConfigError
from stmulnet.models.config import DEPTHS, ModelConfig, StreamConfig
from stmulnet.models.multiplier import Network, build_network

MOTION_DROPOUT = 0.8  # STMulNet.m:557; reaches the motion stream only


def _stream(depth: int, dropout: float = 0.0) -> StreamConfig:
    return StreamConfig(units=DEPTHS[depth], dropout=dropout, conv1_bias=depth == 50)


def _st_mulnet(appearance_depth: int, motion_depth: int) -> Callable[[int], ModelConfig]:
    def config(num_classes: int) -> ModelConfig:
        motion = _stream(motion_depth, MOTION_DROPOUT)
        return ModelConfig(num_classes, appearance=_stream(appearance_depth), motion=motion)

    return config


def _two_stream_resnet50(num_classes: int) -> ModelConfig:
    motion = _stream(50, MOTION_DROPOUT)
    plain: dict[str, Any] = {"fusion": None, "temporal_conv": None, "temporal_pool": None}
    return ModelConfig(num_classes, appearance=_stream(50), motion=motion, **plain)


def _appearance_resnet50(num_classes: int) -> ModelConfig:
    return dataclasses.replace(_two_stream_resnet50(num_classes), motion=None)


def _motion_resnet50(num_classes: int) -> ModelConfig:
    return dataclasses.replace(_two_stream_resnet50(num_classes), appearance=None)


MODELS: dict[str, Callable[[int], ModelConfig]] = {
    "st_mulnet_resnet50": _st_mulnet(50, 50),
    "st_mulnet_resnet152": _st_mulnet(152, 152),
    "st_mulnet_resnet50_resnet152": _st_mulnet(50, 152),
    "two_stream_resnet50": _two_stream_resnet50,  # no connection: late fusion
    "appearance_resnet50": _appearance_resnet50,
    "motion_resnet50": _motion_resnet50,
}
STREAM_FIELDS = tuple(field.name for field in dataclasses.fields(StreamConfig))

OVERRIDES = tuple(  # what `create_model` takes beside its own arguments
    sorted({*(field.name for field in dataclasses.fields(ModelConfig)), *STREAM_FIELDS} - {"num_classes"})
)


def list_models() -> list[str]:
    """Names `create_model` knows."""
    return sorted(MODELS)


def model_config(name: str, num_classes: int, **overrides: Any) -> ModelConfig:
    """The configuration `create_model` builds; the same arguments."""
    if name not in MODELS:
        raise ConfigError(f"no network {name!r}; one of: {', '.join(list_models())}")
    check_overrides(overrides)
    values = MODELS[name](num_classes).to_dict()
    for field, value in overrides.items():
        if field in STREAM_FIELDS:  # units, width_mult, ... without a stream's name: both streams
            for stream in ("appearance", "motion"):
                if values[stream] is not None:
                    values[stream][field] = tuple(value) if isinstance(value, list) else value
        else:
            values[field] = value
    return ModelConfig.from_dict(values)


def check_overrides(overrides: Mapping[Any, Any]) -> None:
    """Refuse names that are no override of `create_model`.

    Raises:
        ConfigError: Says which, and which there are.
    """
    unknown = [repr(name) for name in overrides if name not in OVERRIDES]
    if unknown:
        raise ConfigError(f"a network has no option {', '.join(unknown)}; it has {', '.join(OVERRIDES)}")


def create_model(
    name: str, num_classes: int = 101, *, class_names: list[str] | None = None, **overrides: Any
) -> Network:
    """Build a named network with random weights.

    Args:
        name: One of `list_models`.
        num_classes: Size of the classifiers.
        class_names: Names of the classes in label order, saved with the weights.
        **overrides: Fields of `ModelConfig`; fields of `StreamConfig` (units, width_mult, dropout) set both streams.

    Raises:
        ConfigError: An unknown name or field, or values that contradict each other.

    Example:
        >>> tiny = create_model("st_mulnet_resnet50", 6, units=(2, 2, 2, 2), width_mult=0.125, input_size=96,
        ...                     head_pool="global")
    """
    return build_network(model_config(name, num_classes, **overrides), class_names)
