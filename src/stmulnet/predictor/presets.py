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


_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")

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


def choose_precision(preset: Precision, given: str | None, device: torch.device) -> Precision:
    """The precision to use: the given one, or else the preset's; its bf16 only where the device computes with it.

    Elsewhere bf16 is made from float32, which takes longer.

    Raises:
        ConfigError: No precision that is offered.
    """
    if given not in (None, "float32", "bf16"):
        raise ConfigError(f"precision must be {in_words(Precision)}, got {given!r}")
    if given is not None:
        return "bf16" if given == "bf16" else "float32"
    return preset if _has_bf16(device) else "float32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older releases of torch
    return device.type == "cpu" and any(capabilities.get(name, False) for name in _BF16_INSTRUCTIONS)


def _as_it_is(rgb: Tensor | None, flow: Tensor | None) -> Iterator[Clip]:
    return iter([(rgb, flow)])
