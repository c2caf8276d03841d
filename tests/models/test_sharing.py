"""Overlapping clips, whose common work is done once, against the network on each clip by itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tests.models.test_optimize import WIRINGS, difference, make

from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import optimize
from stmulnet.models.sharing import SharedFrames

MORE_WIRINGS = {
    **WIRINGS,
    "no temporal layers": ("st_mulnet_resnet50", {"temporal_conv": None, "temporal_pool": None}),
    "single units": ("two_stream_resnet50", {"units": (1, 1, 2, 1)}),
    "temporal layers in one stream's res4": ("st_mulnet_resnet50", {"motion": {"temporal_stages": (2,)}}),
    "temporal layers late": ("st_mulnet_resnet50", {"temporal_stages": (4, 5)}),
}
EVEN = [[first + 3 * place for place in range(12)] for first in (1, 10, 19, 28, 37)]  # 9 of 12 frames in common
ODD = [
    [4, 9, 13, 18, 22, 27, 31, 36],
    [9, 14, 18, 23, 27, 32, 36, 41],  # every other frame, never two in a row
    [13, 18, 22, 27, 31, 36, 40, 45],
    [13, 18, 22, 27, 31, 36, 40, 45],  # the same clip
    [40, 45, 13, 18, 22, 60, 22, 18],  # repeated frames, in any order
    [2, 3, 5, 7, 11, 17, 19, 23],  # none in common
]


def stream_of(network: Network, rng: np.random.Generator) -> list[torch.Tensor]:
    """Seventy-five frames and their stacks, noise."""
    levels = {"appearance": (3, 0, 256), "motion": (20, 108, 149)}
    drawn = [levels[name] for name in network.config.streams]
    return [torch.from_numpy(rng.integers(low, high, (1, 75, ch, 64, 80), dtype=np.uint8)) for ch, low, high in drawn]


def clip_of(stream: list[torch.Tensor], times: Sequence[int]) -> list[torch.Tensor]:
    return [frames[:, list(times)] for frames in stream]


@contextmanager
def frames_seen(network: Network, layer: str) -> Iterator[list[int]]:
    """Frames that a layer gets, call by call."""
    seen: list[int] = []
    handle = network.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    yield seen
    handle.remove()


@pytest.mark.parametrize("wiring", MORE_WIRINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-5), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_scores_are_those_of_each_clip_by_itself(
    wiring: str, dtype: torch.dtype | None, tolerance: float, rng: np.random.Generator
) -> None:
    name, options = MORE_WIRINGS[wiring]
    network = make(name, **options)
    network = network if dtype is None else optimize(network, dtype=dtype)
    stream = stream_of(network, rng)
    for clips in (EVEN, ODD):
        shared = SharedFrames()
        for index, times in enumerate(clips):
            with torch.inference_mode():
                found = shared.score(network, times, clip_of(stream, times), clips[index + 1 :])
                wanted = network(*clip_of(stream, times))
            for field in ("appearance_map", "motion_map", "fused"):
                assert (getattr(found, field) is None) == (getattr(wanted, field) is None)
                if getattr(wanted, field) is not None:
                    assert getattr(found, field).shape == getattr(wanted, field).shape
                    assert difference(getattr(found, field), getattr(wanted, field)) < tolerance


@pytest.mark.parametrize(
    ("wiring", "layer", "expected"),
    [
        # Of 12 frames 9 are in the clip before. Each convolution over time takes one from both ends of what is shared.
        ("ST-MulNet", "motion.conv1", [12, 3, 3, 3, 3]),
        ("ST-MulNet", "appearance.res2.c.branch2a", [12, 5, 5, 5, 5]),  # behind one
        ("ST-MulNet", "appearance.res4.c.branch2a", [12, 9, 9, 9, 9]),  # behind three
        ("ST-MulNet", "appearance.res2.b.branch2a", [12, 7, 7, 7, 7]),  # and a neighbour at each end
        ("ST-ResNet", "motion.res2.c.branch2a", [12, 7, 7, 7, 7]),  # two in every unit b
        ("late fusion", "motion.res5.b.branch2a", [12, 3, 3, 3, 3]),  # there is none
    ],
)
def test_only_what_is_not_shared_is_computed(
    wiring: str, layer: str, expected: list[int], rng: np.random.Generator
) -> None:
    name, options = WIRINGS[wiring]
    network = make(name, **options, **({"units": (3, 3, 3, 3)}))
    stream, shared = stream_of(network, rng), SharedFrames()
    with frames_seen(network, layer) as seen, torch.inference_mode():
        for index, times in enumerate(EVEN):
            shared.score(network, times, clip_of(stream, times), EVEN[index + 1 :])
    assert seen == expected


def test_nothing_is_kept_that_no_clip_reads(rng: np.random.Generator) -> None:
    network = make("st_mulnet_resnet50")
    stream = stream_of(network, rng)
    shared = SharedFrames()
    with torch.inference_mode():
        shared.score(network, EVEN[0], clip_of(stream, EVEN[0]))
        assert not shared._kept
        shared.score(network, EVEN[0], clip_of(stream, EVEN[0]), [EVEN[4]])  # no frame in common
        assert not shared._kept
        shared.score(network, EVEN[0], clip_of(stream, EVEN[0]), EVEN[1:])
        assert 0 < len(shared._kept) <= 9 * 5
        assert all(len(x) == 1 for states in shared._kept.values() for x in states if x is not None)
        for index in range(1, 5):
            shared.score(network, EVEN[index], clip_of(stream, EVEN[index]), EVEN[index + 1 :])
    assert not shared._kept


def test_what_is_kept_stays_as_it_was(rng: np.random.Generator) -> None:
    """Fused layers write where their input lay; what is kept must not lie there."""
    network = optimize(make("st_mulnet_resnet50"), dtype=torch.float32)
    stream, shared = stream_of(network, rng), SharedFrames()
    with torch.inference_mode():
        shared.score(network, EVEN[0], clip_of(stream, EVEN[0]), EVEN[1:])
        before = {key: [x.clone() for x in states if x is not None] for key, states in shared._kept.items()}
        kept = dict(shared._kept)
        shared.score(network, EVEN[1], clip_of(stream, EVEN[1]), EVEN[2:])
    for key, states in before.items():
        for was, now in zip(states, (x for x in kept[key] if x is not None), strict=True):
            assert torch.equal(was, now)
