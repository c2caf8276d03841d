"""Options of a verb that stand in a table of their own: several verbs have them, or there are very many."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Default:
    """What an option of a table is if it is not given: ``frames: Annotated[int, Default(5)]``."""

    value: Any


def takes(table: type[Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a function the options of a table in place of its ``**options: Unpack[table]``.

    To type checkers the table is in the function's type already. Here its signature, type hints and docstring get the
    options one by one, so that `help` and the command line show them, and the function gets those that were not given
    too, with their defaults.

    Args:
        table: A TypedDict with a `Default` in each field, and the fields as "Attributes" in its docstring.
    """
    hints = get_type_hints(table)
    defaults = {
        name: next(part.value for part in hint.__metadata__ if isinstance(part, Default))
        for name, hint in get_type_hints(table, include_extras=True).items()
    }
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hint)
        for name, hint in hints.items()
    ]

    def with_table(function: Callable[P, R]) -> Callable[P, R]:
        before = inspect.signature(function)
        own = [parameter for name, parameter in before.parameters.items() if name != "options"]
        signature = before.replace(parameters=[*own, *added])

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return function(*bound.args, **bound.kwargs)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: hint for name, hint in get_type_hints(function).items() if name != "options"}
        call.__annotations__ |= hints
        call.__doc__ = _with_rows(inspect.getdoc(function), inspect.getdoc(table))
        return call

    return with_table


def _with_rows(doc: str | None, table_doc: str | None) -> str:
    """A docstring with the rows of another one's Attributes in place of its line about ``**options``."""
    rows = (table_doc or "").partition("Attributes:\n")[2]
    return re.sub(r"^ *\*\*options: .*$", lambda _: rows, doc or "", flags=re.MULTILINE)
