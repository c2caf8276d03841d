"""Weight files on the Hugging Face Hub: ``hf://user/name[@revision][/file]``."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

from stmulnet.console import notice
from stmulnet.errors import HubError, MissingExtraError

WEIGHTS_FILE = "model.safetensors"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
REPOSITORY = r"[\w.-]+/[\w.-]+"
TIMEOUT_SEC = 10.0
_ADDRESS = re.compile(rf"hf:/{{1,2}}({REPOSITORY})(?:@([^/@]+))?(?:/(.+))?")  # a Path drops one slash of two


@dataclass(frozen=True)
class HubAddress:
    """A weight file on the hub.

    Attributes:
        repository: ``user/name``.
        revision: Branch, tag or commit; None is the main branch.
        file: Path in the repository.
    """

    repository: str
    revision: str | None = None
    file: str = WEIGHTS_FILE

    @classmethod
    def parse(cls, text: str | Path) -> "HubAddress":
        """Read ``hf://user/name[@revision][/file]``; a slash within the revision is written %2F.

        Raises:
            HubError: It has another form, or names a file that is not read from the hub.
        """
        match = _ADDRESS.fullmatch(str(text))
        if match is None:
            raise HubError(f"{text}: addresses on the hub have the form hf://user/name[@revision][/file]")
        repository, revision, file = match.groups()
        if file is not None and not file.endswith(".safetensors"):
            raise HubError(
                f"{text}: only .safetensors files are read from the hub; name one, or none for {WEIGHTS_FILE}"
            )
        return cls(repository, revision and unquote(revision), file or WEIGHTS_FILE)

    def __str__(self) -> str:
        return f"hf://{self.repository}{f'@{self.revision}' if self.revision else ''}/{self.file}"


def is_hub_address(text: str | Path) -> bool:
    """Whether a weight file is named by an address on the hub; as a path, ``hf://`` has become ``hf:/``."""
    return str(text).startswith("hf:/")


def fetch_from_hub(text: str | Path) -> Path:
    """Download a weight file into the cache of huggingface_hub, or find it there.

    Returns:
        The file. What is in it, only loading shows.

    Raises:
        HubError: No such repository, revision or file, no permission, or no network and no earlier download.
        MissingExtraError: huggingface_hub is not installed.
    """
    address, library = HubAddress.parse(text), hub_library()
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined] # of httpx, re-exported

    where = {"repo_id": address.repository, "filename": address.file, "revision": address.revision}
    endpoint = os.environ.get(ENDPOINT_VARIABLE) or None
    with hub_errors(str(address)):
        try:  # downloading alone would take an earlier version without a word where there is no network
            library.get_hf_file_metadata(library.hf_hub_url(**where, endpoint=endpoint), timeout=TIMEOUT_SEC)
        except HfHubHTTPError:
            raise
        except (HTTPError, ConnectionError) as error:
            cached = library.try_to_load_from_cache(**where)
            if not isinstance(cached, str):
                raise
            commit = Path(cached).relative_to(Path(cached).parents[address.file.count("/") + 1]).parts[0]
            notice(f"note: {address}: the hub cannot be reached ({error}); taking commit {commit}, fetched before")
            return Path(cached)
        return Path(library.hf_hub_download(**where, endpoint=endpoint))


def hub_library() -> ModuleType:
    """The package huggingface_hub, which is optional.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("the Hugging Face Hub", "hub") from error
    return huggingface_hub


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Say in one line what the hub answered, or that it did not; addresses and ids of requests are left out.

    Args:
        what: Address or repository, for the message.

    Raises:
        HubError: In place of the errors of huggingface_hub.
    """
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is httpx's, re-exported
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        reason = "access must be asked for on the page of the repository; then log in with `hf auth login`"
        raise HubError(f"{what}: {reason}") from error
    except RepositoryNotFoundError as error:
        reason = "no such repository, or a private one that your login (`hf auth login`, or $HF_TOKEN) may not see"
        raise HubError(f"{what}: {reason}") from error
    except RevisionNotFoundError as error:
        raise HubError(f"{what}: the repository has no such branch, tag or commit; leave @... out for main") from error
    except EntryNotFoundError as error:
        raise HubError(f"{what}: the repository has no such file; name one with hf://user/name/FILE") from error
    except HFValidationError as error:
        raise HubError(f"{what}: {error}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = "log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403) else "try again later"
        reason = error.server_message or error.response.reason_phrase
        raise HubError(f"{what}: the hub answered {status} ({reason}); {advice}") from error
    except (HTTPError, ConnectionError) as error:
        raise HubError(
            f"{what}: the hub cannot be reached ({error}); check the network, or ${ENDPOINT_VARIABLE}"
        ) from error
