from typing import Any, Literal

import pytest

from stmulnet.models.config import FusionConfig
from stmulnet.values import fits, in_words


@pytest.mark.parametrize(
    ("value", "hint", "fitting"),
    [
        (3, int, True),
        (3.0, int, False),
        (True, int, False),
        (True, bool, True),
        (3, float, True),
        ("3", float, False),
        (None, int | None, True),
        ("x", int | None, False),
        ("any text", Literal["a", "b"], True),
        (1, Literal["a", "b"], False),
        ((1, 2), tuple[int, int], True),
        ((1, "2"), tuple[int, ...], False),
        (3, tuple[int, ...], False),
        ({"stages": 3}, FusionConfig | None, True),
        (3, FusionConfig | None, False),
    ],
)
def test_fits(value: Any, hint: Any, fitting: bool) -> None:
    assert fits(value, hint) is fitting


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "a whole number or null"),
        (Literal["a", "b"], "one of a, b"),
        (list[Literal["a", "b"]] | None, "a list such as [a] of a, b or null"),
        (tuple[int, int], "a list of 2 whole numbers"),
        (tuple[int, ...], "a list of whole numbers"),
        (FusionConfig | None, "a table such as {name: value} or null"),
    ],
)
def test_in_words(hint: Any, words: str) -> None:
    assert in_words(hint) == words
