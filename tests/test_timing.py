"""Contenders in turns, and their ratios."""

from collections.abc import Callable

import pytest

from stmulnet.timing import Ratio, take_turns, timed


def test_contenders_take_turns_and_warm_up_first() -> None:
    order: list[str] = []
    advanced: list[int] = []

    def contender(name: str) -> Callable[[], float]:
        def measure() -> float:
            order.append(name)
            return float(len(order))

        return measure

    times = take_turns({"a": contender("a"), "b": contender("b")}, rounds=2, warm_up=1, advance=advanced.append)
    assert order == ["a", "b"] * 3
    assert times == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert sum(advanced) == 6


def test_ratios_are_of_the_same_turn() -> None:
    ratio = Ratio.of([10.0, 30.0, 8.0], [2.0, 10.0, 4.0])
    assert (ratio.median, ratio.low, ratio.high) == (3.0, 2.0, 5.0)
    assert str(ratio) == "3 (2 to 5)"
    assert Ratio.of([0.8], [1.0]).percent() == "80 % (80 to 80)"
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Ratio.of([1.0, 2.0], [1.0])


def test_the_clock_is_read_before_and_after() -> None:
    readings = iter([5.0, 7.5])
    ran: list[int] = []
    assert timed(lambda: ran.append(1), clock=lambda: next(readings))() == 2.5
    assert ran == [1]
