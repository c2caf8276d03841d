"""Options in a table of their own are options like others: in signatures, help and calls."""

import inspect
from typing import Annotated, Any, TypedDict, Unpack, get_args, get_type_hints

import pytest

from stmulnet.commands.predict import predict
from stmulnet.commands.predictor_options import PredictorOptions
from stmulnet.commands.shared_options import Default, takes
from stmulnet.commands.train import train
from stmulnet.commands.train_options import TrainOptions
from stmulnet.values import fits


class Table(TypedDict, total=False):
    """Two options.

    Attributes:
        size: How large,
            in pixels.
        name: How it is called.
    """

    size: Annotated[int, Default(7)]
    name: Annotated[str | None, Default(None)]


@takes(Table)
def verb(video: str, *, top: int = 5, **options: Unpack[Table]) -> dict[str, Any]:
    """Do something.

    Args:
        video: Which.
        top: How many.
        **options: Those of `Table`.

    Returns:
        What came.
    """
    return {"video": video, "top": top, **options}


def test_a_function_gets_all_options_with_their_defaults() -> None:
    assert verb("a") == {"video": "a", "top": 5, "size": 7, "name": None}
    assert verb("a", name="b", top=1, size=2) == {"video": "a", "top": 1, "size": 2, "name": "b"}


def test_other_names_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'sise'"):
        verb("a", sise=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'options'"):
        verb("a", options={})  # type: ignore[call-arg]


def test_signature_hints_and_docstring_have_the_options_one_by_one() -> None:
    assert str(inspect.signature(verb)) == (
        "(video: str, *, top: int = 5, size: int = 7, name: str | None = None) -> dict[str, typing.Any]"
    )
    assert get_type_hints(verb)["name"] == str | None
    assert "options" not in get_type_hints(verb)
    rows = "    top: How many.\n    size: How large,\n        in pixels.\n    name: How it is called.\n\nReturns:"
    assert rows in (inspect.getdoc(verb) or "")


@pytest.mark.parametrize(("function", "table"), [(predict, PredictorOptions), (train, TrainOptions)])
def test_every_option_is_explained_and_its_default_is_of_its_type(function: Any, table: type[Any]) -> None:
    parameters = inspect.signature(function).parameters
    for name, hint in get_type_hints(table).items():
        assert f"\n    {name}: " in (function.__doc__ or "")
        default = parameters[name].default
        assert type(None) in get_args(hint) if default is None else fits(default, hint)
