from pathlib import Path
from typing import Any, Literal

import pytest

import stmulnet
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.config import FusionConfig
from stmulnet.values import fits, in_words, with_paths


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
        (FusionConfig | None, "a table of operation, stages, direction, scale, target or null"),
        (int | Literal["all"], "a whole number or all"),
    ],
)
def test_in_words(hint: Any, words: str) -> None:
    assert in_words(hint) == words


def test_text_where_paths_are_meant() -> None:
    @with_paths
    def verb(
        source: Path, others: list[Path], *, either: Path | list[Path], out: Path | None = None, name: str = "x"
    ) -> Any:
        return source, others, either, out, name

    assert verb("a", "b", either="c") == (Path("a"), [Path("b")], Path("c"), None, "x")  # type: ignore[arg-type]
    assert verb("a", ["b", Path("d")], either=["c"], out="o", name="n") == (  # type: ignore[arg-type, list-item]
        Path("a"),
        [Path("b"), Path("d")],
        [Path("c")],
        Path("o"),
        "n",
    )
    assert verb.__name__ == "verb"


def test_verbs_take_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights are written as"):
        stmulnet.convert(str(tmp_path / "a.mat"), str(tmp_path / "b.pth"))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="no such weight file"):
        stmulnet.predict("nowhere.avi", weights="nowhere.safetensors")  # type: ignore[arg-type]
