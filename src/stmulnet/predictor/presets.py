"""The settings that decide about scores and speed, in sets that have names."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from stmulnet.constants import TEST_FRAMES
from stmulnet.errors import ConfigError
from stmulnet.evaluation.clip_views import Clip, ViewMaker, official_views
from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import computed_in, fast_dtype, optimize
from stmulnet.values import in_words

Preset = Literal["paper", "fast"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Settings:
    """What decides about the scores, besides the network and the video.

    Attributes:
        num_frames: Frames sampled per video.
        flow_backend: Implementation of the flow, see `stmulnet.flow.estimate.estimate_flow`.
        precision: Numbers of the network: float32 or bf16.
        mirrored: Whether the scores are averaged with those of the mirrored clip.
    """

    num_frames: int
    flow_backend: str
    precision: Precision
    mirrored: bool

    @property
    def views(self) -> ViewMaker:
        """What makes the clips whose scores are averaged."""
        return official_views if self.mirrored else _as_it_is

    def replaced(self, **given: Any) -> "Settings":
        """The same with what is given and not None."""
        return dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})


_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}

PRESETS: dict[str, Settings] = {
    "paper": Settings(num_frames=TEST_FRAMES, flow_backend="tvl1", precision="float32", mirrored=True),
    "fast": Settings(num_frames=10, flow_backend="dis", precision="bf16", mirrored=False),
}


def preset_settings(preset: str) -> Settings:
    """The settings of a preset.

    Raises:
        ConfigError: There is no such preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}; choose one of: {', '.join(PRESETS)}")
    return PRESETS[preset]


def choose_settings(preset: str, device: torch.device, **given: Any) -> Settings:
    """The settings of a preset with what is given, and not None, in place of its own.

    The preset's bf16 becomes float32 where the device does not compute with bf16, which would be slower there.

    Raises:
        ConfigError: There is no such preset or precision.
    """
    settings = preset_settings(preset)
    if given.get("precision") not in (None, "float32", "bf16"):
        raise ConfigError(f"precision must be {in_words(Precision)}, got {given['precision']!r}")
    if settings.precision == "bf16" and fast_dtype(device) != torch.bfloat16:
        settings = settings.replaced(precision="float32")
    return settings.replaced(**given)


def prepare_network(
    model: Network, settings: Settings, device: torch.device, precision: str | None = None, *, inplace: bool = False
) -> tuple[Network, Settings]:
    """The network that computes the scores, a copy made fast for inference, and the settings that it then has.

    Args:
        model: Perhaps optimised already; then it is taken as it is.
        settings: What is wanted.
        device: Where it computes.
        precision: What was explicitly asked for; None if nothing.
        inplace: Whether ``model`` itself is made fast, for callers that need it no longer.

    Raises:
        ConfigError: An optimised network of another precision than explicitly asked for.
    """
    if not model.fused:
        return optimize(model, device=device, dtype=_DTYPES[settings.precision], inplace=inplace), settings
    found: Precision = "bf16" if computed_in(model) == torch.bfloat16 else "float32"
    if precision not in (None, found):
        raise ConfigError(f"the network was optimised for {found}, not for {precision}; give the one it was made from")
    return model.to(device), settings.replaced(precision=found)


def _as_it_is(rgb: Tensor | None, flow: Tensor | None) -> Iterator[Clip]:
    return iter([(rgb, flow)])


def check_positive(**numbers: float | None) -> None:
    """Refuse numbers that are given and not 1 or more; seconds need only be above 0."""
    for name, number in numbers.items():
        at_least = 0 if name.endswith("seconds") else 1
        if number is not None and (number < 1 if at_least else not number > 0):
            raise ConfigError(f"{name} must be {'1 or more' if at_least else 'above 0'}, got {number}")
