"""The description of a network: plain, immutable, JSON-able, complete enough to build it again."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from stmulnet.errors import ConfigError
from stmulnet.values import fits, in_words

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # units of res2 ... res5
STAGES = (2, 3, 4, 5)
MAX_UNITS = 100  # per stage; a damaged header must not make us build until the memory is full
MAX_CLIP_FRAMES = 1000  # official: 25; their flow stacks at 341x256 are 1.7 GB
STRIDE = 32  # input pixels per position of the last map

Units = tuple[int, int, int, int]


@dataclass(frozen=True)
class StreamConfig:
    """One ResNet.

    Attributes:
        units: Residual units of res2, res3, res4, res5; 1 to 100 each.
        width_mult: Factor on every channel count; 1 is the official network.
        dropout: Rate on the pooled features before the classifier (official: 0.8, in the motion stream only).
        conv1_bias: The official ResNet-50 has one, 101 and 152 have none.
    """

    units: Units = DEPTHS[50]
    width_mult: float = 1.0
    dropout: float = 0.0
    conv1_bias: bool = True

    def __post_init__(self) -> None:
        if len(self.units) != len(STAGES) or not all(1 <= count <= MAX_UNITS for count in self.units):
            raise ConfigError(
                f"units must be four numbers of 1 to {MAX_UNITS}, for res2 to res5, got {list(self.units)}"
            )
        if not 1 / 64 <= self.width_mult <= 4:
            raise ConfigError(f"width_mult must lie between 1/64 and 4, got {self.width_mult}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def stem_channels(self) -> int:
        """Channels after conv1."""
        return self._scaled(64)

    def mid_channels(self, stage: int) -> int:
        """Channels inside the units of ``stage`` (2 to 5)."""
        return self._scaled(64 * 2 ** (stage - 2))

    def out_channels(self, stage: int) -> int:
        """Channels of the state after ``stage`` (2 to 5)."""
        return 4 * self.mid_channels(stage)

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.width_mult))


@dataclass(frozen=True)
class FusionConfig:
    """The connection from the motion stream into the appearance stream (STMulNet.m: doMul, doSum, fusionLayer)."""

    operation: Literal["multiply", "add"] = "multiply"
    stages: tuple[int, ...] = STAGES

    def __post_init__(self) -> None:
        if self.operation not in ("multiply", "add"):
            raise ConfigError(f"fusion operation must be 'multiply' or 'add', got {self.operation!r}")
        if not self.stages or not set(self.stages) <= set(STAGES):
            raise ConfigError(f"fusion stages must be some of {list(STAGES)}, got {list(self.stages)}")


@dataclass(frozen=True)
class TemporalPoolConfig:
    """Pooling over frames before the spatial average (STMulNet.m: addPool3D)."""

    kind: Literal["max", "avg"] = "max"
    window: int = 5
    stride: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("max", "avg"):
            raise ConfigError(f"temporal pooling must be 'max' or 'avg', got {self.kind!r}")
        if self.window < 1 or self.stride < 1:
            raise ConfigError(
                f"temporal pooling needs window and stride of at least 1, got {self.window}, {self.stride}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """A network of one or two streams.

    Attributes:
        num_classes: Size of the classifiers.
        appearance: The stream that sees RGB frames, or None.
        motion: The stream that sees stacks of flow fields, or None.
        fusion: How motion enters the appearance stream; None leaves the streams apart (late fusion).
        temporal_conv: Start of the temporal convolutions in the b units; None leaves them out.
        temporal_pool: Pooling over frames before the classifier; None scores every frame.
        input_size: Side of the training crops in pixels.
        head_pool: Side of the spatial average window (official: 7, stride 1), or "global".
    """

    num_classes: int
    appearance: StreamConfig | None = StreamConfig()
    motion: StreamConfig | None = StreamConfig(dropout=0.8)
    fusion: FusionConfig | None = FusionConfig()
    temporal_conv: Literal["center", "average", "difference"] | None = "center"
    temporal_pool: TemporalPoolConfig | None = TemporalPoolConfig()
    input_size: int = 224
    head_pool: int | Literal["global"] = 7

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ConfigError(f"num_classes must be at least 2, got {self.num_classes}")
        if self.appearance is None and self.motion is None:
            raise ConfigError("a network needs an appearance stream, a motion stream or both")
        if self.temporal_conv not in (None, "center", "average", "difference"):
            raise ConfigError(
                f"temporal_conv must be 'center', 'average', 'difference' or None, got {self.temporal_conv!r}"
            )
        self._check_head()
        self._check_fusion()

    def _check_head(self) -> None:
        if self.input_size < STRIDE:
            raise ConfigError(f"input_size must be at least {STRIDE} pixels, got {self.input_size}")
        if self.head_pool == "global":
            return
        if not isinstance(self.head_pool, int) or self.head_pool < 1:
            raise ConfigError(f"head_pool must be a number of positions or 'global', got {self.head_pool!r}")
        positions = -(-self.input_size // STRIDE)
        if positions < self.head_pool:
            raise ConfigError(
                f"input_size {self.input_size} leaves {positions}x{positions} positions, fewer than head_pool "
                f"{self.head_pool}: use input_size {STRIDE * (self.head_pool - 1) + 1} or more, or head_pool 'global'"
            )

    def _check_fusion(self) -> None:
        if self.fusion is None:
            return
        if self.appearance is None or self.motion is None:
            raise ConfigError("fusion needs both streams; for a single stream set fusion to None")
        for stage in self.fusion.stages:
            if self.appearance.units[stage - 2] < 2:
                raise ConfigError(f"fusion at res{stage} needs a second unit there, got units {self.appearance.units}")
            channels = self.appearance.out_channels(stage), self.motion.out_channels(stage)
            if channels[0] != channels[1]:
                raise ConfigError(
                    f"fusion at res{stage} joins {channels[0]} with {channels[1]} channels: use one width"
                )

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams the network has."""
        return tuple(name for name in ("appearance", "motion") if getattr(self, name) is not None)

    @property
    def min_frames(self) -> int:
        """Frames a clip must have."""
        return self.temporal_pool.window if self.temporal_pool else 1

    def check_frames(self, count: int) -> None:
        """Refuse a number of frames per clip that the network cannot take, or that no memory can hold.

        Raises:
            ConfigError: Says what is allowed.
        """
        if not self.min_frames <= count <= MAX_CLIP_FRAMES:
            raise ConfigError(f"frames must be {self.min_frames} to {MAX_CLIP_FRAMES} for this network, got {count}")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Build from `to_dict`'s output.

        Raises:
            ConfigError: An unknown field, or a value out of range.
        """
        parts = {"appearance": StreamConfig, "motion": StreamConfig, "fusion": FusionConfig}
        parts["temporal_pool"] = TemporalPoolConfig
        return cls(**{k: _build(parts[k], v) if k in parts else v for k, v in _known(cls, values).items()})


def _known(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ConfigError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(names))}")
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for name, value in known.items():
        if not fits(value, hints[name]):
            raise ConfigError(f"{name} must be {in_words(hints[name])}, got {values[name]!r}")
    return known


def _build(cls: type[Any], values: Any) -> Any:
    return cls(**_known(cls, values)) if isinstance(values, Mapping) else values
