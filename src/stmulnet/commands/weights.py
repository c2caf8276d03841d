"""`stmulnet weights`: the authors' weight files, listed, fetched and verified."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stmulnet.console import notice
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.catalog import (
    BASE_ADDRESS,
    HAND_FOLDER,
    LICENCE_NOTE,
    WeightFile,
    cache_folder,
    entries,
    fetch,
    find,
    local_path,
    locate,
    recorded_sha256,
)

if TYPE_CHECKING:
    from stmulnet.models.verify import Verification

POSITIONAL = ("action", "names")
PIPE_WIDTH = 140  # columns, where there is no terminal to ask


@dataclass
class WeightsSummary:
    """What `weights` did.

    Attributes:
        listed: Files of the list.
        fetched: Where each fetched file lies, by name.
        verified: What was found out about each file.
        errors: Message for each file that could not be fetched, or was not there to be verified, by name.
    """

    listed: list[WeightFile] = field(default_factory=list)
    fetched: dict[str, Path] = field(default_factory=dict)
    verified: "dict[Path, Verification]" = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when everything was fetched and every check passed, 1 otherwise."""
        return 1 if self.errors or any(found.problems for found in self.verified.values()) else 0


def weights(
    action: Literal["list", "fetch", "verify"],
    names: list[str] | None = None,
    *,
    dataset: Literal["ucf101", "hmdb51"] | None = None,
    mirror: str | None = None,
    out: Path | None = None,
) -> WeightsSummary:
    """List the weight files that the authors published, fetch them, or verify any weight file.

    Args:
        action: list, fetch or verify.
        names: For fetch: names as list shows them. For verify: files (.safetensors, .mat), or names of published
            files that are here.
        dataset: For list: files of one data set only.
        mirror: For fetch: base address (http, https, file) or folder instead of the authors'; $STMULNET_MIRROR by
            default.
        out: For fetch: folder for the files, which are copied there where they are in the cache already; the cache
            ($STMULNET_CACHE, or a folder in the user's cache) by default.

    Returns:
        The files listed, fetched or verified.
    """
    _check_arguments(action, names, {"dataset": dataset, "mirror": mirror, "out": out})
    if action == "list":
        return _list(dataset)
    if action == "fetch":
        return _fetch([find(name) for name in names or ()], mirror, out)
    return _verify(names or [])


def _check_arguments(action: str, names: list[str] | None, options: dict[str, object]) -> None:
    allowed = {"list": ["dataset"], "fetch": ["mirror", "out"], "verify": []}
    if action not in allowed:
        raise ConfigError(f"weights can {', '.join(allowed)}, not {action!r}")
    if action == "list" and names:
        raise ConfigError(f"list takes no names, got {' '.join(names)}; --dataset lists the files of one data set")
    if action != "list" and not names:
        raise ConfigError(f"nothing to {action}: name one or more files (`stmulnet weights list` shows the published)")
    for option, value in options.items():
        if value is not None and option not in allowed[action]:
            user = next(other for other, its in allowed.items() if option in its)
            raise ConfigError(f"--{option} is for {user}, not for {action}; leave it out")


def _list(dataset: str | None) -> WeightsSummary:
    listed = [entry for entry in entries() if dataset in (None, entry.dataset)]
    table = Table("name", "data set", "split", "what", "here", title="Published weight files", title_justify="left")
    for entry in listed:
        what = entry.what + (" (name inferred)" if entry.inferred else "")
        table.add_row(entry.name, entry.dataset, str(entry.split), what, "yes" if local_path(entry.name) else "")
    table.columns[0].overflow = "fold"
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)
    print(f"published below {BASE_ADDRESS}\nhere: in {cache_folder()} or {HAND_FOLDER}\n{LICENCE_NOTE}")
    return WeightsSummary(listed=listed)


def _fetch(wanted: Iterable[WeightFile], mirror: str | None, out: Path | None) -> WeightsSummary:
    wanted = list(dict.fromkeys(wanted))
    summary = WeightsSummary()
    for entry in wanted:
        try:
            path = fetch(entry.name, mirror=mirror, out=out)
        except CheckpointError as error:
            if len(wanted) == 1:
                raise
            notice(f"stmulnet weights: {error}")
            summary.errors[entry.name] = str(error)
            continue
        if not summary.fetched:
            notice(LICENCE_NOTE)
        summary.fetched[entry.name] = path
        notice(f"{entry.name}: SHA-256 {recorded_sha256(path) or 'not recorded, the file was put there by hand'}")
        print(path)
    return summary


def _verify(names: list[str]) -> WeightsSummary:
    from stmulnet.models.verify import verify_file  # here: torch takes seconds, which list and fetch need not spend

    summary = WeightsSummary()
    for name in dict.fromkeys(names):
        try:
            path = locate(name)
        except CheckpointError as error:
            if len(names) == 1:
                raise
            notice(f"stmulnet weights: {error}")
            summary.errors[name] = str(error)
            continue
        if path not in summary.verified:
            summary.verified[path] = verify_file(path)
            _print_verification(path, summary.verified[path])
    return summary


def _print_verification(path: Path, found: "Verification") -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{escape(str(path))}[/bold]", soft_wrap=True)
    width = max(len(heading) for heading in found.facts)
    for heading, fact in found.facts.items():
        console.print(f"  [dim]{heading.ljust(width)}[/dim]  {escape(fact)}", soft_wrap=True)
    for problem in found.problems:
        console.print(f"  [red]{'PROBLEM'.ljust(width)}[/red]  {escape(problem)}", soft_wrap=True)
    if not found.problems:
        console.print(f"  [green]{'good'.ljust(width)}[/green]  every check passed", soft_wrap=True)
