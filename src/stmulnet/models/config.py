"""The description of a network: plain, immutable, JSON-able, complete enough to build it again."""

import dataclasses
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from stmulnet.errors import ConfigError
from stmulnet.values import fits, in_words

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
        block: 1x1, 3x3, 1x1 ("bottleneck": ResNet-50 and deeper) or 3x3, 3x3 ("basic": ResNet-18 and 34, for which
            there are no official files).
        geometry: Where strides and padding are. "caffe", the official one: stride on a stage's first convolution and
            on its shortcut, which always has a convolution; pool1 padded at bottom and right only. "torch", for weights
            in torchvision's form: stride on the first 3x3 convolution, a convolution in shortcuts that change shape
            only, pool1 padded on all sides.
        numbered_stages: Stages whose units are called a, b1, b2, ... instead of a, b, c, ...; None: as official, res3
            and res4 of ResNet-101 and 152.
        temporal_stages: Stages whose second unit sees time, if the network has temporal convolutions; None: as
            official, those whose second unit is called b (STMulNet.m:351 looks for "b_branch2b", which res3b1 and
            res4b1 do not contain).
    """

    units: Units = (3, 4, 6, 3)
    width_mult: float = 1.0
    dropout: float = 0.0
    conv1_bias: bool = True
    block: Literal["bottleneck", "basic"] = "bottleneck"
    geometry: Literal["caffe", "torch"] = "caffe"
    numbered_stages: tuple[int, ...] | None = None
    temporal_stages: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.units) != len(STAGES) or not all(1 <= count <= MAX_UNITS for count in self.units):
            raise ConfigError(
                f"units must be four numbers of 1 to {MAX_UNITS}, for res2 to res5, got {list(self.units)}"
            )
        if not 1 / 64 <= self.width_mult <= 4:
            raise ConfigError(f"width_mult must lie between 1/64 and 4, got {self.width_mult}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.block not in ("bottleneck", "basic"):
            raise ConfigError(f"block must be 'bottleneck' or 'basic', got {self.block!r}")
        if self.geometry not in ("caffe", "torch"):
            raise ConfigError(f"geometry must be 'caffe' or 'torch', got {self.geometry!r}")
        for name in ("numbered_stages", "temporal_stages"):
            if getattr(self, name) is not None:
                _check_stages(name, getattr(self, name))

    def unit_names(self, stage: int) -> list[str]:
        """Official names of a stage's units: a, b, c, ... or a, b1, b2, ..."""
        count = self.units[stage - 2]
        numbered = self.numbered_stages
        if numbered is None:
            numbered = (3, 4) if self.units[2] > 6 and self.block == "bottleneck" else ()
        if stage in numbered or count > len(string.ascii_lowercase):
            return ["a", *(f"b{index}" for index in range(1, count))]
        return list(string.ascii_lowercase[:count])

    def sees_time(self, stage: int) -> bool:
        """Whether the second unit of ``stage`` has a temporal convolution, in a network that has any."""
        names = self.unit_names(stage)
        if self.temporal_stages is None:
            return "b" in names
        return stage in self.temporal_stages and len(names) > 1

    def min_side(self, positions: int) -> int:
        """Pixels that a side of an image must have for so many positions on the last map.

        Every layer with a stride of 2 rounds half a side up, but pool1 of "caffe", which rounds it down.
        """
        return STRIDE * (positions - 1) + (3 if self.geometry == "caffe" else 1)

    def map_size(self, height: int, width: int, stage: int) -> tuple[int, int]:
        """Positions on the map of ``stage`` (2 to 5) for an image of so many pixels, down and across."""
        return self._positions(height, stage), self._positions(width, stage)

    def _positions(self, side: int, stage: int) -> int:
        count = (side + 1) // 2  # conv1
        count = count // 2 if self.geometry == "caffe" else (count + 1) // 2  # pool1
        for _ in range(2, stage):
            count = (count + 1) // 2
        return count

    @property
    def expansion(self) -> int:
        """Channels of the state per channel inside a unit."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def depth(self) -> int:
        """Layers with weights, as in the name ResNet-50: conv1, the convolutions of the units, the classifier."""
        return sum(self.units) * (3 if self.block == "bottleneck" else 2) + 2

    @property
    def stem_channels(self) -> int:
        """Channels after conv1."""
        return self._scaled(64)

    def mid_channels(self, stage: int) -> int:
        """Channels inside the units of ``stage`` (2 to 5)."""
        return self._scaled(64 * 2 ** (stage - 2))

    def out_channels(self, stage: int) -> int:
        """Channels of the state after ``stage`` (2 to 5)."""
        return self.expansion * self.mid_channels(stage)

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.width_mult))


def _resnet(depth: int, units: Units) -> StreamConfig:
    return StreamConfig(units, conv1_bias=depth == 50, block="bottleneck" if depth >= 50 else "basic")


DEPTHS = {  # the streams by the depth in their name
    18: _resnet(18, (2, 2, 2, 2)),
    34: _resnet(34, (3, 4, 6, 3)),
    50: _resnet(50, (3, 4, 6, 3)),
    101: _resnet(101, (3, 4, 23, 3)),
    152: _resnet(152, (3, 8, 36, 3)),
}


@dataclass(frozen=True)
class FusionConfig:
    """The connection between the streams after the first unit of a stage.

    The two directions are not mirror images (STMulNet.m:239-305): what enters the motion stream becomes its whole
    state, what enters the appearance stream is read by the next residual branch only.

    Attributes:
        operation: Product (STMulNet.m: doMul) or sum (doSum, as in ST-ResNet).
        stages: Stages that are connected (fusionLayer).
        direction: fuseFrom and fuseInto; "both" is doBiDirectional.
        scale: Whether the incoming features are first scaled and shifted per channel (doScale).
        target: What motion reaches in the appearance stream: the "residual" branch of the next unit, as official, or
            the whole "state", its shortcut too.
    """

    operation: Literal["multiply", "add"] = "multiply"
    stages: tuple[int, ...] = STAGES
    direction: Literal["motion_to_appearance", "appearance_to_motion", "both"] = "motion_to_appearance"
    scale: bool = False
    target: Literal["residual", "state"] = "residual"

    def __post_init__(self) -> None:
        if self.operation not in ("multiply", "add"):
            raise ConfigError(f"fusion operation must be 'multiply' or 'add', got {self.operation!r}")
        if not self.stages:
            raise ConfigError("fusion needs at least one stage; without a connection set fusion to None")
        _check_stages("fusion stages", self.stages)
        if self.direction not in ("motion_to_appearance", "appearance_to_motion", "both"):
            raise ConfigError(
                "fusion direction must be 'motion_to_appearance', 'appearance_to_motion' or 'both', "
                f"got {self.direction!r}"
            )
        if self.target not in ("residual", "state"):
            raise ConfigError(f"fusion target must be 'residual' or 'state', got {self.target!r}")
        if self.target == "state" and self.direction != "motion_to_appearance":
            raise ConfigError(
                "fusion target 'state' is for direction 'motion_to_appearance' alone: the motion stream's whole state "
                "is always gated, and with both directions each state would wait for the other"
            )

    @property
    def into_appearance(self) -> bool:
        """Whether motion features enter the appearance stream."""
        return self.direction != "appearance_to_motion"

    @property
    def into_motion(self) -> bool:
        """Whether appearance features enter the motion stream."""
        return self.direction != "motion_to_appearance"


def _check_stages(what: str, stages: tuple[int, ...]) -> None:
    if not set(stages) <= set(STAGES) or len(set(stages)) < len(stages):
        raise ConfigError(f"{what} must be some of {list(STAGES)}, each once, got {list(stages)}")


@dataclass(frozen=True)
class TemporalPoolConfig:
    """Pooling over frames before the spatial average (STMulNet.m: addPool3D).

    Attributes:
        kind: Maximum or average.
        window: Frames per window, or "all".
        stride: Frames from window to window (ST-ResNet: 2).
    """

    kind: Literal["max", "avg"] = "max"
    window: int | Literal["all"] = 5
    stride: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("max", "avg"):
            raise ConfigError(f"temporal pooling must be 'max' or 'avg', got {self.kind!r}")
        window_fits = self.window == "all" or (isinstance(self.window, int) and self.window >= 1)
        if not window_fits or self.stride < 1:
            raise ConfigError(
                "temporal pooling needs a window of at least 1 or 'all', and a stride of at least 1, "
                f"got {self.window!r}, {self.stride}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """A network of one or two streams.

    Attributes:
        num_classes: Size of the classifiers.
        appearance: The stream that sees RGB frames, or None.
        motion: The stream that sees stacks of flow fields, or None.
        fusion: How the streams are connected; None leaves them apart (late fusion).
        temporal_conv: Temporal convolutions in the second units: one more layer before the last convolution, which
            starts with the taps of "center" (the identity), "average" or "difference" (STMulNet.m: addConv3D 9, 8, 10);
            or, with "pointwise", the 1x1 convolutions themselves reach over three frames (1, ST-ResNet); None: none.
        temporal_pool: Pooling over frames before the classifier; None scores every frame.
        input_size: Side of the training crops in pixels.
        head_pool: Side of the spatial average window (official: 7, stride 1), or "global".
    """

    num_classes: int
    appearance: StreamConfig | None = StreamConfig()
    motion: StreamConfig | None = StreamConfig(dropout=0.8)
    fusion: FusionConfig | None = FusionConfig()
    temporal_conv: Literal["center", "average", "difference", "pointwise"] | None = "center"
    temporal_pool: TemporalPoolConfig | None = TemporalPoolConfig()
    input_size: int = 224
    head_pool: int | Literal["global"] = 7

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ConfigError(f"num_classes must be at least 2, got {self.num_classes}")
        if self.appearance is None and self.motion is None:
            raise ConfigError("a network needs an appearance stream, a motion stream or both")
        if self.temporal_conv not in (None, "center", "average", "difference", "pointwise"):
            raise ConfigError(
                "temporal_conv must be 'center', 'average', 'difference', 'pointwise' or None, "
                f"got {self.temporal_conv!r}"
            )
        for name in self.streams:
            if self.temporal_conv == "pointwise" and getattr(self, name).block == "basic":
                raise ConfigError(f"temporal_conv 'pointwise' needs 1x1 convolutions; basic units ({name}) have none")
        self._check_head()
        self._check_fusion()
        self.check_size(self.input_size, self.input_size)

    def _check_head(self) -> None:
        if self.input_size < STRIDE:
            raise ConfigError(f"input_size must be at least {STRIDE} pixels, got {self.input_size}")
        if self.head_pool == "global":
            return
        if not isinstance(self.head_pool, int) or self.head_pool < 1:
            raise ConfigError(f"head_pool must be a number of positions or 'global', got {self.head_pool!r}")
        if self.input_size < self.min_side(self.head_pool):
            raise ConfigError(
                f"input_size {self.input_size} leaves fewer positions on the last map than head_pool "
                f"{self.head_pool} needs: use input_size {self.min_side(self.head_pool)} or more, or head_pool 'global'"
            )

    def _check_fusion(self) -> None:
        if self.fusion is None:
            return
        if self.appearance is None or self.motion is None:
            raise ConfigError("fusion needs both streams; for a single stream set fusion to None")
        for stage in self.fusion.stages:
            if self.fusion.into_appearance and self.appearance.units[stage - 2] < 2:
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
        window = self.temporal_pool.window if self.temporal_pool else 1
        return 1 if window == "all" else window

    def min_side(self, positions: int) -> int:
        """Pixels that a side of an image must have for so many positions on the last map of every stream."""
        return max(stream.min_side(positions) for stream in (self.appearance, self.motion) if stream)

    def check_frames(self, count: int) -> None:
        """Refuse a number of frames per clip that the network cannot take, or that no memory can hold.

        Raises:
            ConfigError: Says what is allowed.
        """
        if not self.min_frames <= count <= MAX_CLIP_FRAMES:
            raise ConfigError(f"frames must be {self.min_frames} to {MAX_CLIP_FRAMES} for this network, got {count}")

    def check_size(self, height: int, width: int) -> None:
        """Refuse a size of images, in pixels, that the network cannot take.

        Raises:
            ConfigError: Says what is allowed.
        """
        if min(height, width) < (least := self.min_side(1)):
            raise ConfigError(f"images of {width}x{height} pixels are too small: each side needs {least} or more")
        if not self.joins_geometries:
            return
        assert self.fusion is not None
        assert self.appearance is not None
        assert self.motion is not None
        stage = min(self.fusion.stages)  # maps of one size stay so
        ours, theirs = (stream.map_size(height, width, stage) for stream in (self.appearance, self.motion))
        if ours != theirs:
            raise ConfigError(
                f"the streams cannot be connected for images of {width}x{height} pixels: at res{stage} appearance has "
                f"{ours[1]}x{ours[0]} positions ({self.appearance.geometry} geometry), motion {theirs[1]}x{theirs[0]} "
                f"({self.motion.geometry}); sides that are multiples of 4 fit, such as "
                f"{width // 4 * 4}x{height // 4 * 4}, and so do streams of one geometry"
            )

    @property
    def joins_geometries(self) -> bool:
        """Whether streams of different geometries are connected: their maps are of one size for some images only."""
        if self.fusion is None or self.appearance is None or self.motion is None:
            return False
        return self.appearance.geometry != self.motion.geometry

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
