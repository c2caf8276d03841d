"""Times of what is to be compared, taken in turns so that other work on the machine slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stmulnet.console import Advance

Clock = Callable[[], float]
Measure = Callable[[], float]
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Ratio:
    """Ratios of the turns: median, smallest and largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numerators: Sequence[float], denominators: Sequence[float]) -> "Ratio":
        """Turn by turn."""
        ratios = [above / below for above, below in zip(numerators, denominators, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"

    def over(self, number: float) -> "Ratio":
        """All three divided by a number."""
        return Ratio(self.median / number, self.low / number, self.high / number)

    def percent(self) -> str:
        """Of a share."""
        return f"{100 * self.median:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


def timed(run: Callable[[], object], clock: Clock = time.perf_counter) -> Measure:
    """What runs once and returns the seconds that it took."""

    def measure() -> float:
        start = clock()
        run()
        return clock() - start

    return measure


def take_turns(contenders: Mapping[str, Measure], *, rounds: int, warm_up: int = 1, advance: Advance) -> Times:
    """Measure every contender once per round.

    Args:
        contenders: What is measured, by name.
        rounds: Measurements of each that count.
        warm_up: Rounds before them that do not.
        advance: Told of every measurement.

    Returns:
        The measurements of each contender, round by round.
    """
    times: Times = {name: [] for name in contenders}
    for turn in range(-warm_up, rounds):
        for name, measure in contenders.items():
            value = measure()
            advance(1)
            if turn >= 0:
                times[name].append(value)
    return times
