"""Contests: several ways of doing the same work, measured in turns, and what comes out as rows of a table."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stmulnet.console import progress
from stmulnet.constants import FLOW_CHANNELS
from stmulnet.models.config import ModelConfig
from stmulnet.models.multiplier import RGB_CHANNELS, Network, build_empty
from stmulnet.timing import Clock, Measure, Ratio, Times, take_turns, timed
from stmulnet.training.losses import total_loss

PRODUCTS = ((2048, 2048, 2048), (4096, 1024, 1024), (1024, 1024, 4096))  # M, N, K
NUMBERS = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Row:
    """One contender of a contest.

    Attributes:
        work: What was done.
        contender: How.
        seconds: Median.
        times_as_fast: Than the contest's yardstick.
        roofline: Share of the rate of large matrix products in the same numbers; None where that says nothing.
    """

    work: str
    contender: str
    seconds: float
    times_as_fast: Ratio
    roofline: Ratio | None = None


@dataclass(frozen=True)
class Contest:
    """Ways of doing the same work.

    Attributes:
        work: What is done, in words.
        contenders: What does it once, by name; the first is the yardstick.
        numbers: Keys of `NUMBERS`: what a contender computes in, where it is held against the roofline.
        flop: Floating-point operations of the work, a product and a sum counted apart.
        warm_up: Rounds that are not measured.
    """

    work: str
    contenders: Mapping[str, Callable[[], object]]
    numbers: Mapping[str, str] = field(default_factory=dict)
    flop: float = 0.0
    warm_up: int = 1

    def run(self, rounds: int, clock: Clock = time.perf_counter) -> list[Row]:
        """Measure every contender ``rounds`` times, in turns, with the rate of matrix products in every turn."""
        used = dict.fromkeys(self.numbers.values())
        rates = {_rate_of(numbers): seconds_per_flop(numbers, clock) for numbers in used}
        measures = {name: timed(run, clock) for name, run in self.contenders.items()} | rates
        with progress(len(measures) * (rounds + self.warm_up), self.work, "runs") as advance:
            times = take_turns(measures, rounds=rounds, warm_up=self.warm_up, advance=advance)
        yardstick = next(iter(self.contenders))
        return [self._row(name, times, yardstick) for name in self.contenders]

    def _row(self, name: str, times: Times, yardstick: str) -> Row:
        share = None
        if name in self.numbers:
            least = [self.flop * per_flop for per_flop in times[_rate_of(self.numbers[name])]]
            share = Ratio.of(least, times[name])
        return Row(self.work, name, statistics.median(times[name]), Ratio.of(times[yardstick], times[name]), share)


def _rate_of(numbers: str) -> str:
    return f"matrix products, {numbers}"


def seconds_per_flop(numbers: str, clock: Clock = time.perf_counter) -> Measure:
    """Measures what an operation takes in the best of several large matrix products."""
    dtype = NUMBERS[numbers]
    factors = [(torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)) for m, n, k in PRODUCTS]

    def measure() -> float:
        found = []
        for (m, n, k), (left, right) in zip(PRODUCTS, factors, strict=True):
            measure_one = timed(partial(F.linear, left, right), clock)
            found.append(min(measure_one() for _ in range(3)) / (2 * m * n * k))
        return min(found)

    return measure


def forward_flop(config: ModelConfig, frames: int, height: int, width: int) -> float:
    """Operations of one clip through the network, as its layers are defined."""
    with torch.device("meta"), torch.no_grad():
        return _count(lambda network: network(*clips(config, 1, frames, height, width)), build_empty(config))


def training_flop(config: ModelConfig, videos: int, frames: int, height: int, width: int) -> float:
    """Operations of the forward and the backward pass of a batch."""
    network = build_empty(config).train()

    def step(network: Network) -> None:
        output = network(*clips(config, videos, frames, height, width))
        total_loss(output, torch.zeros(videos, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]

    with torch.device("meta"):
        return _count(step, network)


def _count(run: Callable[[Network], object], network: Network) -> float:
    with FlopCounterMode(display=False) as counter:
        run(network)
    return float(counter.get_total_flops())


def clips(config: ModelConfig, videos: int, frames: int, height: int, width: int) -> list[torch.Tensor]:
    """Noise, uint8, for every stream; flow stays within 1.6 px."""
    levels = {"appearance": (RGB_CHANNELS, 0, 256), "motion": (FLOW_CHANNELS, 118, 139)}
    drawn = []
    for stream in config.streams:
        channels, low, high = levels[stream]
        drawn.append(torch.randint(low, high, (videos, frames, channels, height, width), dtype=torch.uint8))
    return drawn


def markdown(rows: Sequence[Row]) -> str:
    """The table: medians, and in brackets the smallest and the largest of the turns."""
    lines = ["| work | how | s (median) | times as fast | of the roofline |", "|---|---|---|---|---|"]
    for row in rows:
        share = row.roofline.percent() if row.roofline else ""
        lines.append(f"| {row.work} | {row.contender} | {row.seconds:.3g} | {row.times_as_fast} | {share} |")
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same as JSON-able values."""
    return [asdict(row) for row in rows]
