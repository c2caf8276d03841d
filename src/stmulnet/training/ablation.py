"""The file of an ablation: variants of a network that are trained alike and compared.

::

    question: Does multiplicative residual gating win?
    dataset: data/mine                     # or on the command line
    base: ../small.yaml                    # options of `stmulnet train` for all variants; seen from this file's folder
    train: {epochs: 10}                    # more of them, which go before those of base
    seeds: [0, 1, 2]
    variants:                              # names, and options of `stmulnet train` in which each differs
      multiply: {network: st_mulnet_resnet50}
      add: {network: st_mulnet_resnet50, network_options: {fusion: {operation: add}}}
    reference: multiply                    # the first one by default
    groups: {moving: [Run, Walk]}          # classes whose accuracy is of interest as well
    evaluate: {holdout: 0.3, seed: 0, frames: 25}    # or {list: test, frames: 25}

In place of variants, a grid has all combinations of some values::

    grid: {network_options.fusion.operation: [multiply, add], network_options.temporal_conv: [center, null]}

Tables in the options of a variant (network_options and what is in it) are merged into those of base and train; other
values take their place.
"""

import copy
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # the stubs are a package of their own
from jsonargparse import get_loader

from stmulnet.constants import TEST_FRAMES
from stmulnet.errors import ConfigError
from stmulnet.values import fits, in_words

Options = dict[str, Any]

_NEEDED = {"question": str, "seeds": list, "evaluate": dict}
_OPTIONAL = {
    **dict.fromkeys(("dataset", "base", "reference"), str),
    **dict.fromkeys(("train", "variants", "grid", "groups"), dict),
}
_SCORED = {"holdout": float, "seed": int, "list": str, "frames": int}  # keys of evaluate
_ELSEWHERE = {  # options of `train` that are not for variants to set
    "dataset": "dataset, or --dataset",
    "out": "--out",
    "device": "--device",
    "resume": "the command, which goes on where it was stopped",
    "seed": "seeds",
    "holdout": "evaluate",
    "holdout_seed": "evaluate",
}


@dataclass(frozen=True)
class Scored:
    """Which videos the table is about.

    Attributes:
        holdout: Share of the training list that is held out and scored; 0 scores the test list.
        seed: Decides which videos those are.
        frames: Frames per video of the test protocol.
    """

    holdout: float = 0
    seed: int = 0
    frames: int = TEST_FRAMES


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        name: As in the file.
        slug: The name as that of a folder.
        options: All options of `stmulnet train` that the file gives for it.
        changes: Those in which it differs from base and train.
    """

    name: str
    slug: str
    options: Options
    changes: Options


@dataclass(frozen=True)
class Ablation:
    """What a file says; `read_ablation` explains the fields."""

    path: Path
    question: str
    dataset: Path | None
    seeds: list[int]
    variants: list[Variant]
    reference: str
    groups: dict[str, list[str]]
    scored: Scored


def read_ablation(path: Path) -> Ablation:
    """Read and check the file of an ablation; values of options are for `stmulnet train` to check.

    Raises:
        ConfigError: It is not as the text above says; names the file and the key.
    """
    content = _checked(str(path), _read(path), _NEEDED | _OPTIONAL, _NEEDED)
    base = path.parent / content["base"] if "base" in content else None
    common = _options(str(base), _read(base)) if base else {}
    common = merged(common, _options(f"{path}, train", content.get("train", {})))
    changes = _changes(path, content)
    reference = content.get("reference", next(iter(changes)))
    if reference not in changes:
        raise ConfigError(f"{path}: reference {reference!r} is no variant; there are {', '.join(map(repr, changes))}")
    return Ablation(
        path,
        content["question"],
        Path(content["dataset"]) if "dataset" in content else None,
        _seeds(path, content["seeds"]),
        [Variant(name, _slug(name), merged(common, own), own) for name, own in changes.items()],
        reference,
        _groups(path, content.get("groups", {})),
        _scored(path, content["evaluate"]),
    )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Options:
    """A copy of ``base`` with ``changes``; tables in both are merged, of anything else the change counts."""
    result = dict(copy.deepcopy(base))
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else copy.deepcopy(value)
    return result


def _read(path: Path) -> Options:
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeats(path, yaml.compose(text))
        content = get_loader("yaml")(text)  # as `--config` is read: 1e-3 is a number
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: needs lines 'name: value'")
    return content


def _refuse_repeats(path: Path, node: yaml.Node | None) -> None:
    """YAML lets the last of two equal names win, without a word."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"{path}: {repeated!r} is there twice (line {node.start_mark.line + 1})")
        for _, value in node.value:
            _refuse_repeats(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(path, value)


def _checked(where: str, table: Options, kinds: Mapping[str, Any], needed: Mapping[str, Any]) -> Options:
    """A table without unknown and with all needed names, and values of the kinds; null is as if it were not there."""
    if unknown := [str(name) for name in table if name not in kinds]:
        raise ConfigError(f"{where}: no {', '.join(unknown)}; there are {', '.join(kinds)}")
    table = {name: value for name, value in table.items() if value is not None}
    if missing := [name for name in needed if name not in table]:
        raise ConfigError(f"{where}: {', '.join(missing)} missing; needed are {', '.join(needed)}")
    for name, value in table.items():
        if not fits(value, kinds[name]):
            words = {list: "a list", dict: "a table"}.get(kinds[name]) or in_words(kinds[name])
            raise ConfigError(f"{where}: {name} must be {words}, got {value!r}")
    return table


def _options(where: str, table: Any) -> Options:
    """Options of `stmulnet train`, without those that the ablation sets."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: needs a table of options of `stmulnet train`, got {table!r}")
    for name, place in _ELSEWHERE.items():
        if name in table:
            raise ConfigError(f"{where}: {name} is set for all variants alike, by {place}")
    return table


def _changes(path: Path, content: Options) -> dict[str, Options]:
    """Variant -> its own options, from the list or the grid."""
    if ("variants" in content) == ("grid" in content):
        raise ConfigError(f"{path}: give variants, or a grid")
    listed = content["variants"].items() if "variants" in content else _grid(path, content["grid"])
    changes = {str(name): _options(f"{path}, {name}", {} if own is None else own) for name, own in listed}
    if not changes:
        raise ConfigError(f"{path}: one variant or more is needed")
    names: dict[str, str] = {}
    for name in changes:
        if not _slug(name) or _slug(name) in names:
            raise ConfigError(
                f"{path}: the name of a variant becomes that of a folder of letters and digits: {name!r} gives "
                f"{_slug(name)!r}" + (f", as does {names[_slug(name)]!r}" if _slug(name) else "")
            )
        names[_slug(name)] = name
    return changes


def _grid(path: Path, grid: Options) -> Iterator[tuple[str, Options]]:
    """All combinations: the last option changes first."""
    for option, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{path}: grid: {option} needs a list of values, got {values!r}")
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        name = ", ".join(f"{option.rpartition('.')[2]} {_shown(value)}" for option, value in chosen.items())
        own: Options = {}
        for option, value in chosen.items():
            for part in reversed(option.split(".")):
                value = {part: value}
            own = merged(own, value)
        yield name, own


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _seeds(path: Path, seeds: list[Any]) -> list[int]:
    if not seeds or not all(fits(seed, int) and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path}: seeds must be different whole numbers, such as [0, 1, 2], got {seeds}")
    return seeds


def _groups(path: Path, groups: Options) -> dict[str, list[str]]:
    for name, classes in groups.items():
        if not isinstance(classes, list) or not classes or not all(isinstance(entry, str) for entry in classes):
            raise ConfigError(f"{path}: groups: {name} needs a list of classes, got {classes!r}")
    return {str(name): classes for name, classes in groups.items()}


def _scored(path: Path, table: Options) -> Scored:
    where = f"{path}, evaluate"
    given = _checked(where, table, _SCORED, {})
    if ("holdout" in given) == ("list" in given) or given.get("list", "test") != "test":
        raise ConfigError(
            f"{where}: give a holdout, the share of the training list to train without and to score, such as 0.3, or "
            f"list: test; got {table}"
        )
    if "seed" in given and "list" in given:
        raise ConfigError(f"{where}: seed is that of a holdout; the test list has none")
    if not 0 < given.get("holdout", 0.5) < 1:
        raise ConfigError(f"{where}: holdout must be above 0 and below 1, got {given['holdout']}")
    return Scored(given.get("holdout", 0), given.get("seed", 0), given.get("frames", TEST_FRAMES))
