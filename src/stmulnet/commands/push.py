"""`stmulnet push`: weights and a page about them onto the Hugging Face Hub."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stmulnet.commands.model_card import make_card, read_metrics
from stmulnet.console import notice
from stmulnet.errors import CheckpointError, ConfigError, HubError
from stmulnet.models.catalog import LICENCE_NOTE
from stmulnet.models.checkpoint import load_model
from stmulnet.models.hub import ENDPOINT_VARIABLE, REPOSITORY, WEIGHTS_FILE, hub_errors, hub_library, is_hub_address
from stmulnet.models.multiplier import Network
from stmulnet.models.sources import IMAGENET, Record, plain, read_record

POSITIONAL = ("weights", "repository")
CARD_FILE = "README.md"
LICENCES = (  # the hub's identifiers of common ones
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
    *("gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "openrail", "other"),
)


@dataclass(frozen=True)
class PushSummary:
    """What `push` did, or would do.

    Attributes:
        repository: ``user/name``.
        card: The page.
        files: Size in bytes by name in the repository.
        address: The commit; None after ``dry_run``.
    """

    repository: str
    card: str
    files: dict[str, int]
    address: str | None
    exit_code: int = 0


def push(
    weights: Path,
    repository: str,
    *,
    licence: str | None = None,
    metrics: Path | None = None,
    card: Path | None = None,
    private: bool = False,
    dry_run: bool = False,
    i_have_the_rights: bool = False,
) -> PushSummary:
    """Put a weight file and a page about it onto the Hugging Face Hub.

    Args:
        weights: Weight file of a trained network (.safetensors).
        repository: Where to, as user/name; it is made if it is not there. What it holds gets a new version.
        licence: Licence of the weights by the hub's identifier (mit, cc-by-4.0, ..., or other); without one the page
            says that none is stated.
        metrics: File metrics.json that evaluate wrote for these weights: its figures go onto the page.
        card: Page of your own (Markdown) in place of the one that is made.
        private: Make a repository that only you can see.
        dry_run: Send nothing; print the page on stdout, and on stderr what would be sent.
        i_have_the_rights: Publish weights that come from files of the authors, for which they state no licence.

    Returns:
        Page, files and address of the commit.
    """
    _check_arguments(weights, repository, licence, metrics, card)
    network = load_model(weights)
    records = {stream: read_record(weights, network.metadata, stream) for stream in network.config.streams}
    _check_rights(weights, records, i_have_the_rights)
    page = _page(card, network, repository, records, licence, read_metrics(metrics, weights) if metrics else None)
    files = {WEIGHTS_FILE: weights.stat().st_size, CARD_FILE: len(page.encode())}
    access = "private" if private else "public"
    sizes = ", ".join(f"{name} ({size:,} bytes)" for name, size in files.items())
    if dry_run:
        sys.stdout.write(page)
        notice(f"nothing sent; without --dry-run: {sizes} to the {access} repository {repository}")
        return PushSummary(repository, page, files, None)
    notice(f"sending {sizes} to {repository}")
    with hub_errors(repository):
        address = _send(weights, page, repository, private=private)
    print(address)
    return PushSummary(repository, page, files, address)


def _check_arguments(
    weights: Path, repository: str, licence: str | None, metrics: Path | None, card: Path | None
) -> None:
    if not re.fullmatch(REPOSITORY, repository):
        raise ConfigError(f"the repository has the form user/name, got {repository!r}")
    if licence not in (None, *LICENCES):
        raise ConfigError(
            f"licence must be one of {', '.join(LICENCES)}, got {licence!r}; others that the hub knows stand on a card "
            "of your own (--card)"
        )
    if is_hub_address(weights):
        raise ConfigError(f"{weights}: is on the hub already; give a file")
    if weights.suffix.lower() != ".safetensors":
        raise ConfigError(f"{weights}: .safetensors files are published; `stmulnet convert` makes one of other weights")
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; give the model.safetensors of a run folder")
    if card is not None and metrics is not None:
        raise ConfigError("metrics go onto the page that is made; leave them out with a card of your own")


def _page(
    card: Path | None,
    network: Network,
    repository: str,
    records: Mapping[str, Record],
    licence: str | None,
    metrics: dict[str, object] | None,
) -> str:
    if card is None:
        return make_card(network, repository, records, licence=licence, metrics=metrics)
    if licence is not None:
        raise ConfigError(f"the licence stands on your own card; write it there, in {card}, and leave --licence out")
    try:
        return card.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{card}: the card cannot be read ({error}); give a text file in UTF-8") from error


def _check_rights(weights: Path, records: Mapping[str, Record], i_have_the_rights: bool) -> None:
    """Refuse files of the authors in another form, and what was trained further from them."""
    origins = sorted({file for record in records.values() for file in _official_files(record)})
    if not origins:
        return
    if not i_have_the_rights:
        raise ConfigError(
            f"{weights}: comes from {', '.join(origins)}. {LICENCE_NOTE} If you may publish it nevertheless, say so "
            "with --i-have-the-rights"
        )
    notice(f"note: {weights} comes from {', '.join(origins)}; you say that you have the rights to publish it")


def _official_files(record: Record | None) -> Iterator[str]:
    """MatConvNet files that a stream was or began as, ImageNet's apart: their names are all that is known of them."""
    while record is not None:
        if record["file"].lower().endswith(".mat") and plain(record["dataset"] or "") != IMAGENET:
            yield record["file"]
        record = record.get("from")


def _send(weights: Path, page: str, repository: str, *, private: bool) -> str:
    """One commit with both files; its address."""
    hub = hub_library()
    if hub.get_token() is None:
        raise HubError("the hub wants to know who you are: log in with `hf auth login`, or set HF_TOKEN")
    api = hub.HfApi(endpoint=os.environ.get(ENDPOINT_VARIABLE) or None)
    if api.repo_exists(repository):
        if private and not api.model_info(repository).private:
            raise ConfigError(f"{repository} is public already; choose another name, or make it private on its page")
    else:
        api.create_repo(repository, private=private, exist_ok=True)
    operations = [
        hub.CommitOperationAdd(CARD_FILE, page.encode()),
        hub.CommitOperationAdd(WEIGHTS_FILE, str(weights)),
    ]
    try:
        commit = api.create_commit(repository, operations, commit_message=f"Add {WEIGHTS_FILE} with stmulnet")
    except (RuntimeError, ValueError) as error:  # of its upload and of its check of the page
        reason = error.__cause__ or error
        raise HubError(f"{repository}: not sent, the repository is as it was: {reason}; try again") from error
    return str(commit.commit_url)
