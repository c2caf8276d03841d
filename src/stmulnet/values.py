"""Values that people write (options, configuration files, headers) against type hints, in words."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")

_WORDS: dict[Any, tuple[str, str]] = {  # one, several
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false each"),
    Path: ("a path", "paths"),
}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value, as read from JSON or YAML with tuples for lists, is of the hinted type.

    Of a literal only the type is compared, of a dataclass whether it could be a table of its fields: whoever takes
    the value knows better what to say about its content.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in inner)
    if origin is Literal:
        return type(value) in {type(allowed) for allowed in inner}
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, inner[0]) for item in value)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, (Mapping, hint))  # type: ignore[arg-type]
    if isinstance(value, bool):  # which is an int to Python
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def with_paths(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take text where its hints say `Path`, and one path or text where they say a list of them."""
    hints, signature = get_type_hints(function), inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _as_path(value, hints[name])
        return function(*bound.args, **bound.kwargs)

    return call


def _as_path(value: Any, hint: Any) -> Any:
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if list[str] in allowed:  # what is written as text may be more than a path: an address
        return [value] if isinstance(value, str | Path) else value
    if isinstance(value, str | Path) and (Path in allowed or list[Path] in allowed):
        return Path(value) if Path in allowed else [Path(value)]
    if isinstance(value, list | tuple) and list[Path] in allowed:
        return [Path(item) if isinstance(item, str) else item for item in value]
    return value


def in_words(hint: Any) -> str:
    """What a type hint allows: ``"a whole number or null"``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(in_words(part) for part in inner)
    if origin is Literal:
        return "one of " * (len(inner) > 1) + ", ".join(map(str, inner))
    if origin is list and get_origin(inner[0]) is Literal:
        allowed = get_args(inner[0])
        return f"a list such as [{allowed[0]}] of {', '.join(map(str, allowed))}"
    if origin is list:
        return f"a list of {_WORDS[inner[0]][1]} such as [1, 2]"
    if origin is tuple:
        return f"a list of {'' if Ellipsis in inner else f'{len(inner)} '}{_WORDS[inner[0]][1]}"
    if dataclasses.is_dataclass(hint):
        return f"a table of {', '.join(field.name for field in dataclasses.fields(hint))}"
    if origin is dict:
        return "a table such as {name: value}"
    return "null" if hint in (None, NoneType) else _WORDS[hint][0]
