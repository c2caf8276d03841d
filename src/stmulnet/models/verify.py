"""What a weight file holds, in words, and whether it works."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmulnet.constants import FLOW_CHANNELS, FLOW_ZERO_LEVEL, TRAIN_FRAMES
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.files import sha256_of
from stmulnet.models.catalog import recorded_sha256
from stmulnet.models.checkpoint import load_model
from stmulnet.models.config import DEPTHS, STAGES, ModelConfig, StreamConfig
from stmulnet.models.multiplier import RGB_CHANNELS, Network, TwoStreamOutput

SHOWN_CLASSES = 3  # more are shown as the first and the last


@dataclass
class Verification:
    """What is known about a weight file after the checks.

    Attributes:
        facts: What the file holds and what the checks gave, in words, by heading.
        problems: Checks that failed; empty for a good file.
    """

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def verify_file(path: Path) -> Verification:
    """Load a weight file (which checks names, shapes and that all values are finite) and score one random clip.

    Args:
        path: A file that `load_model` reads.

    Returns:
        The network inferred from the file; sums and times; what is wrong.
    """
    found = Verification()
    _check_sum(found, path)
    start = time.perf_counter()
    try:
        network = load_model(path)
    except (CheckpointError, ConfigError) as error:
        found.problems.append(f"cannot be loaded: {error}")
        return found
    found.facts |= {"loaded": f"in {time.perf_counter() - start:.2f} s, all values finite", **describe(network)}
    _check_scores(found, network)
    return found


def describe(network: Network) -> dict[str, str]:
    """A network's configuration in words, by heading."""
    config = network.config
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        **{f"{name} stream": _stream(getattr(config, name)) for name in config.streams},
        "connection": _connection(config),
        "temporal convolutions": _temporal_convolutions(config),
        "temporal pooling": _temporal_pooling(config),
        "spatial average": "global"
        if config.head_pool == "global"
        else f"{config.head_pool}x{config.head_pool}, stride 1",
        "classes": _classes(network),
        "parameters": f"{parameters:,}",
        "provenance": _provenance(network.metadata),
    }


def random_clip(config: ModelConfig, *, seed: int = 0) -> list[Tensor]:
    """Noise for one clip: a tensor (1, T, C, H, W) uint8 per stream, of as many frames as training takes, or more."""
    frames, side = max(TRAIN_FRAMES, config.min_frames), config.input_size
    return random_clips(config, (1, frames, side, side), seed=seed)


def random_clips(config: ModelConfig, sizes: tuple[int, int, int, int], *, seed: int) -> list[Tensor]:
    """Noise: a tensor (N, T, C, H, W) uint8 per stream, for ``sizes`` N, T, H, W.

    Flow stays within 1.6 px, so that products with it stay of ordinary size.
    """
    generator = torch.Generator().manual_seed(seed)
    clips, frames, height, width = sizes
    channels = {"appearance": RGB_CHANNELS, "motion": FLOW_CHANNELS}
    levels = {"appearance": (0, 256), "motion": (FLOW_ZERO_LEVEL - 10, FLOW_ZERO_LEVEL + 11)}
    return [
        torch.randint(
            *levels[name], (clips, frames, channels[name], height, width), dtype=torch.uint8, generator=generator
        )
        for name in config.streams
    ]


def _check_sum(found: Verification, path: Path) -> None:
    digest, recorded = sha256_of(path), recorded_sha256(path)
    if recorded is None:
        found.facts["SHA-256"] = f"{digest} (none recorded to compare with)"
    elif recorded == digest:
        found.facts["SHA-256"] = f"{digest} (as at the first fetch)"
    else:
        found.facts["SHA-256"] = digest
        found.problems.append(f"SHA-256 was {recorded} at the first fetch: damaged, or another file of that name")


def _check_scores(found: Verification, network: Network) -> None:
    clips = random_clip(network.config)
    start = time.perf_counter()
    with torch.inference_mode():
        output: TwoStreamOutput = network(*clips)
    seconds = time.perf_counter() - start
    _, frames, _, height, width = clips[0].shape
    found.facts["one clip"] = f"{frames} frames of noise, {width}x{height}: {seconds:.2f} s"
    for name in (*network.config.streams, "fused")[: 3 if len(clips) == 2 else 1]:
        scores = getattr(output, name)
        if bool(torch.isfinite(scores).all()):
            found.facts[f"{name} scores"] = f"finite, {float(scores.min()):.3f} to {float(scores.max()):.3f}"
        else:
            found.problems.append(f"{name} scores of a clip are not finite")


def _stream(config: StreamConfig) -> str:
    units = ", ".join(map(str, config.units))
    known = [depth for depth, other in DEPTHS.items() if (other.units, other.block) == (config.units, config.block)]
    name = f"ResNet-{known[0]}" if known else f"ResNet of {config.depth} layers"
    return (
        f"{name}, units {units} ({config.block}), width {config.width_mult:g}, {config.geometry} geometry, "
        f"dropout {config.dropout:g}"
    )


def _connection(config: ModelConfig) -> str:
    fusion = config.fusion
    if fusion is None:
        return "none" if len(config.streams) == 1 else "none (late fusion)"
    stages = ", ".join(f"res{stage}" for stage in fusion.stages)
    scale = ", scaled per channel" if fusion.scale else ""
    target = ", the whole state" if fusion.target == "state" else ""
    return f"{fusion.operation}, {fusion.direction.replace('_', ' ')}{target}, at {stages}{scale}"


def _temporal_convolutions(config: ModelConfig) -> str:
    if config.temporal_conv is None:
        return "none"
    kind = "the 1x1 convolutions of" if config.temporal_conv == "pointwise" else "inserted in"
    places = {
        name: [f"res{stage}{stream.unit_names(stage)[1]}" for stage in STAGES if stream.sees_time(stage)]
        for name in config.streams
        if (stream := getattr(config, name))
    }
    return f"{kind} " + "; ".join(f"{name} {', '.join(units) or 'nothing'}" for name, units in places.items())


def _temporal_pooling(config: ModelConfig) -> str:
    pool = config.temporal_pool
    if pool is None:
        return "none"
    window = "all frames" if pool.window == "all" else f"windows of {pool.window} frames, stride {pool.stride}"
    return f"{pool.kind} over {window}"


def _classes(network: Network) -> str:
    names = network.class_names
    if names is None:
        return f"{network.config.num_classes}, without names"
    return f"{len(names)}: " + (", ".join(names) if len(names) <= SHOWN_CLASSES else f"{names[0]} ... {names[-1]}")


def _provenance(metadata: dict[str, Any]) -> str:
    """What the file says about where it comes from; the other facts in it by name only."""
    others = sorted(set(metadata) - {"provenance"})
    stated = _words(metadata.get("provenance")) or "not stated"
    return stated + (f"; further facts: {', '.join(others)}" if others else "")


def _words(value: Any) -> str:
    """``{"file": "x.mat", "split": 1}`` as "file x.mat, split 1", without what is empty."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    inner = ((key, f"({_words(part)})" if isinstance(part, dict) else _words(part)) for key, part in value.items())
    return ", ".join(f"{key} {words}" for key, words in inner if words)
