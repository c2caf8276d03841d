"""How time and memory of the network made fast grow with its input and its depth, beside the number of operations.

``python -m benchmarks growth --json docs/results/growth.json`` measures, ``python docs/images/growth.py`` draws.
"""

import gc
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from benchmarks.peak import count_every_block, own_peak, reset_own_peak

from stmulnet.commands.bench import full_network, score
from stmulnet.commands.contests import Contest, clips, forward_flop
from stmulnet.models.config import DEPTHS
from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import fast_dtype, optimize


@dataclass(frozen=True)
class Case:
    """One size of clip or network.

    Attributes:
        name: What differs from the others.
        frames: Per clip.
        side: Pixels of the square frames.
        clips: At once.
        options: Of the network; the average over positions is over all, so that frames may be small.
    """

    name: str
    frames: int = 5
    side: int = 224
    clips: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def network(self) -> Network:
        """Made fast."""
        return optimize(full_network(**{"head_pool": "global", **self.options}), dtype=fast_dtype())

    def batch(self, network: Network) -> list[torch.Tensor]:
        """Clips of noise."""
        return clips(network.config, self.clips, self.frames, self.side, self.side)

    def flop(self, network: Network) -> float:
        """Operations of all clips."""
        return forward_flop(network.config, self.clips, self.frames, self.side, self.side)


SIDES = (112, 160, 224, 256, 320)
GROWTH = {
    "frames": [Case(f"{count} frames", frames=count) for count in (5, 10, 15, 25)],
    "resolution": [Case(f"{side}x{side} pixels", side=side) for side in SIDES],
    "depth": [Case(f"ResNet-{depth} twice", options={"depth": depth}) for depth in DEPTHS],
    "clips": [Case(f"{count} clip{'s' if count > 1 else ''}", clips=count) for count in (1, 2, 4)],
}


def growth_contests(growth: Mapping[str, Sequence[Case]] = GROWTH) -> Iterator[Contest]:
    """One contest per quantity that grows; the smallest case is the yardstick."""
    for quantity, cases in growth.items():
        peaks = peaks_of(cases)  # before this process is at work, and large
        networks = {case.name: case.network() for case in cases}  # each keeps its weights in the order for one size
        batches = {case.name: case.batch(networks[case.name]) for case in cases}
        numbers = "bf16" if fast_dtype() == torch.bfloat16 else "float32"
        yield Contest(
            f"growth with {quantity}",
            {name: partial(score, network, batches[name]) for name, network in networks.items()},
            dict.fromkeys(networks, numbers),
            {case.name: case.flop(networks[case.name]) for case in cases},
            peaks_gb=peaks,
        )


def peaks_of(cases: Sequence[Case]) -> dict[str, float]:
    """Memory that a pass takes at most beyond the network that is ready for it, in GB; measured in another process.

    Nothing where the system does not tell (it takes Linux).
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        peaks = {case.name: process.submit(_peak, case).result() for case in cases}
    return {name: peak for name, peak in peaks.items() if peak is not None}


def _peak(case: Case) -> float | None:
    count_every_block()
    network = case.network()
    batch = case.batch(network)
    score(network, batch)  # puts the weights in order
    gc.collect()
    if not reset_own_peak():
        return None
    before = own_peak()
    score(network, batch)
    return own_peak() - before
