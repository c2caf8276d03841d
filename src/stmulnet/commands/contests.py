"""Contests: several ways of doing the same work, measured in turns, and what comes out as rows of a table."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stmulnet.console import progress
from stmulnet.constants import FLOW_CHANNELS
from stmulnet.models.config import ModelConfig
from stmulnet.models.multiplier import RGB_CHANNELS, Network, build_empty
from stmulnet.timing import Clock, Measure, Ratio, Times, take_turns, timed
from stmulnet.training.losses import total_loss

PRODUCTS = {  # M, N, K: large enough for the best rate
    "cpu": ((2048, 2048, 2048), (4096, 1024, 1024), (1024, 1024, 4096)),
    "cuda": ((8192, 8192, 8192), (16384, 4096, 4096)),
}
NUMBERS = {"float32": torch.float32, "bf16": torch.bfloat16}

CPU = torch.device("cpu")

Made = TypeVar("Made")


@dataclass(frozen=True)
class Row:
    """One contender of a contest.

    Attributes:
        work: What was done.
        contender: How.
        seconds: Median; None where there was nothing to time.
        times_as_fast: Than the contest's yardstick.
        roofline: Share of the rate of large matrix products in the same numbers; None where that says nothing.
        scaling: How many times as fast as one process, per process; None where that says nothing.
        amount: How much was done, in ``unit``; 0 where one run is one of what the work says.
        unit: Such as frames.
        flop: Operations, where contenders differ in them.
        peak_gb: Largest memory, where it was measured.
        missing: Why the contender cannot run here; empty where it ran.
    """

    work: str
    contender: str
    seconds: float | None = None
    times_as_fast: Ratio | None = None
    roofline: Ratio | None = None
    scaling: Ratio | None = None
    amount: float = 0.0
    unit: str = ""
    flop: float | None = None
    peak_gb: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Missing:
    """A contender that cannot run here.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


def attempt(make: Callable[[], Made]) -> Made | Missing:
    """What ``make`` makes, or why it cannot: an alternative that is not there keeps its row in the table."""
    try:
        return make()
    except Exception as error:  # whatever a foreign library raises
        lines = str(error).strip().splitlines() or ["no reason given"]
        return Missing(f"{type(error).__name__}: {lines[0]}")


@dataclass(frozen=True)
class Contest:
    """Ways of doing the same work.

    Attributes:
        work: What is done, in words.
        contenders: What does it once, by name; the first that can run is the yardstick.
        numbers: Keys of `NUMBERS`: what a contender computes in, where it is held against the roofline.
        flop: Floating-point operations of the work, a product and a sum counted apart; by name where they differ.
        warm_up: Rounds that are not measured.
        amount: How much one run does, in ``unit``.
        unit: Such as frames.
        processes: How many a contender uses, by name, where that is what is looked at.
        peaks_gb: Largest memory by name, measured elsewhere.
        clock: What time is meant, where it is not that of the run.
        device: Where the contenders compute.
    """

    work: str
    contenders: Mapping[str, Callable[[], object] | Missing]
    numbers: Mapping[str, str] = field(default_factory=dict)
    flop: float | Mapping[str, float] = 0.0
    warm_up: int = 1
    amount: float = 0.0
    unit: str = ""
    processes: Mapping[str, int] = field(default_factory=dict)
    peaks_gb: Mapping[str, float] = field(default_factory=dict)
    clock: Clock | None = None
    device: torch.device = CPU

    def run(self, rounds: int, clock: Clock = time.perf_counter) -> list[Row]:
        """Measure every contender ``rounds`` times, in turns, with the rate of matrix products in every turn."""
        clock = _after_the_device(self.clock or clock, self.device)
        runs = {name: run for name, run in self.contenders.items() if not isinstance(run, Missing)}
        used = dict.fromkeys(numbers for name, numbers in self.numbers.items() if name in runs)
        rates = {_rate_of(numbers): seconds_per_flop(numbers, clock, self.device) for numbers in used}
        measures = {name: timed(run, clock) for name, run in runs.items()} | rates
        with progress(len(measures) * (rounds + self.warm_up), self.work, "runs") as advance:
            times = take_turns(measures, rounds=rounds, warm_up=self.warm_up, advance=advance)
        yardstick = next(iter(runs), "")
        return [
            Row(self.work, name, missing=run.reason) if isinstance(run, Missing) else self._row(name, times, yardstick)
            for name, run in self.contenders.items()
        ]

    def _row(self, name: str, times: Times, yardstick: str) -> Row:
        faster = Ratio.of(times[yardstick], times[name])
        roofline = scaling = None
        flop = self.flop if isinstance(self.flop, float) else self.flop[name]
        if name in self.numbers:
            least = [flop * per_flop for per_flop in times[_rate_of(self.numbers[name])]]
            roofline = Ratio.of(least, times[name])
        if name in self.processes:
            scaling = faster.over(self.processes[name])
        return Row(
            self.work,
            name,
            statistics.median(times[name]),
            faster,
            roofline,
            scaling,
            self.amount,
            self.unit,
            None if isinstance(self.flop, float) else flop,
            self.peaks_gb.get(name),
        )


def _rate_of(numbers: str) -> str:
    return f"matrix products, {numbers}"


def _after_the_device(clock: Clock, device: torch.device) -> Clock:
    """The clock, read when the device has done all it was told to: a GPU works on while Python goes on."""
    if device.type != "cuda":
        return clock

    def read() -> float:
        torch.cuda.synchronize(device)
        return clock()

    return read


def seconds_per_flop(numbers: str, clock: Clock = time.perf_counter, device: torch.device = CPU) -> Measure:
    """Measures what an operation takes in the best of several large matrix products."""
    kind: dict[str, Any] = {"dtype": NUMBERS[numbers], "device": device}
    products = PRODUCTS[device.type]
    factors = [(torch.randn(m, k, **kind), torch.randn(n, k, **kind)) for m, n, k in products]

    def measure() -> float:
        found = []
        for (m, n, k), (left, right) in zip(products, factors, strict=True):
            measure_one = timed(partial(F.linear, left, right), clock)
            found.append(min(measure_one() for _ in range(3)) / (2 * m * n * k))
        return min(found)

    return measure


def forward_flop(config: ModelConfig, videos: int, frames: int, height: int, width: int) -> float:
    """Operations of clips through the network, as its layers are defined."""
    with torch.device("meta"), torch.no_grad():
        return _count(lambda network: network(*clips(config, videos, frames, height, width)), build_empty(config))


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


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "work": lambda row: row.work,
    "how": lambda row: row.contender,
    "s (median)": lambda row: f"cannot run: {row.missing}" if row.missing else _number(row.seconds),
    "per second": lambda row: f"{row.amount / row.seconds:.3g} {row.unit}" if row.amount and row.seconds else "",
    "times as fast": lambda row: str(row.times_as_fast or ""),
    "of the roofline": lambda row: row.roofline.percent() if row.roofline else "",
    "per process": lambda row: row.scaling.percent() if row.scaling else "",
    "GFLOP": lambda row: _number(row.flop and row.flop / 1e9),
    "peak memory, GB": lambda row: _number(row.peak_gb),
}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def markdown(rows: Sequence[Row]) -> str:
    """The table: medians, and in brackets the smallest and the largest of the turns; no column without a value."""
    cells = {name: [cell(row).replace("|", "/") for row in rows] for name, cell in _COLUMNS.items()}
    used = {name: column for name, column in cells.items() if any(column)}
    lines = [f"| {' | '.join(used)} |", "|" + "---|" * len(used)]
    return "\n".join([*lines, *(f"| {' | '.join(line)} |" for line in zip(*used.values(), strict=True))])


def as_json(rows: Sequence[Row], rounds: int) -> dict[str, Any]:
    """The same as JSON-able values, with what they depend on."""
    versions = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rounds": rounds}
    return {**versions, "rows": [asdict(row) for row in rows]}
