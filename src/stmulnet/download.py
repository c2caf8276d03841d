"""Files from HTTP servers: taken up again where they stopped, and complete or not there at all."""

import contextlib
import http.client
import json
import math
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stmulnet import __version__
from stmulnet.console import notice, progress
from stmulnet.errors import DownloadError, StmulnetError
from stmulnet.files import locked, write_json

TIMEOUT_SEC = 30.0  # to connect, and for each next piece
RETRIES = 3  # in a row, without a new byte
WAIT_SEC = 1.0  # before the first of them; doubled every time
HEAD_BYTES = 1024
MEGABYTE = 10**6
_CHUNK_BYTES = 1 << 18
_TEMPORARY_STATUS = {408, 416, 429, 500, 502, 503, 504}  # 416: what we have is longer than the file is now


class _CutError(Exception):
    """An answer that may be another one the next time."""


def download(
    address: str,
    out: Path,
    *,
    check_head: Callable[[bytes], None],
    check: Callable[[Path], None],
    max_bytes: int | None = None,
) -> None:
    """Fetch a file into an existing folder.

    What has arrived waits in ``<out>.part``, beside it ``<out>.part.json`` with the server's word for this version of
    the file (ETag or Last-Modified). Later calls ask for the rest of that version only; without such a word, or from a
    server that cannot send parts, they start again. Cut connections are tried again.

    Args:
        address: http or https.
        out: The file; there in one step once it is complete and checked.
        check_head: Refuses, by an error of this package, what does not start as it should (1024 bytes, or the file).
        check: Refuses a complete file. What is refused is removed.
        max_bytes: Largest file that is accepted; None for any.

    Raises:
        DownloadError: The host cannot be reached, has no such file, or keeps breaking off; or the file is too large.
        StmulnetError: From ``check_head`` or ``check``.
    """
    path = out.with_name(f"{out.name}.part")
    path.touch()
    with locked(path, DownloadError(f"{path}: another process is fetching this file; wait for its end")):
        part = _Part(path, address, max_bytes)
        try:
            _receive(part, check_head)
            check(path)
            os.replace(path, out)
        except DownloadError as error:
            raise DownloadError(f"{error}{part.kept()}") from error
        except StmulnetError:
            part.clear()
            raise
        except KeyboardInterrupt:
            notice(f"{address}: interrupted{part.kept() or '; nothing is kept'}")
            raise
        finally:
            part.tidy()


class _Part:
    """What of a file has arrived, and which version of it that is."""

    def __init__(self, path: Path, address: str, max_bytes: int | None) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.address = address
        self._record_path = path.with_name(f"{path.name}.json")
        try:
            record = json.loads(self._record_path.read_text(encoding="utf-8"))
            self.version, self.total = str(record["version"]), record["bytes"]
            known = record["address"] == address and self.version != "" and self.size <= (self.total or math.inf)
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            self.clear()

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> None:
        """Forget what has arrived."""
        self.begin("", None)

    def begin(self, version: str, total: int | None) -> None:
        """Start with no bytes of a version that will have ``total``."""
        self._record_path.unlink(missing_ok=True)  # first: a record must never stand beside bytes of another version
        self.path.write_bytes(b"")
        self.version, self.total = version, total
        if version:
            write_json(self._record_path, {"address": self.address, "version": version, "bytes": total})

    def check_size(self, size: int) -> None:
        """Refuse what is larger than allowed."""
        if self.max_bytes is not None and size > self.max_bytes:
            self.clear()
            raise DownloadError(
                f"{self.address}: larger than the {self.max_bytes / MEGABYTE:.0f} MB allowed for one file"
            )

    def kept(self) -> str:
        """For the end of a message: what the next call goes on from."""
        if not (self.version and self.size):
            return ""
        return f"; the first {self.size / MEGABYTE:.1f} MB are kept in {self.path}, the same command fetches the rest"

    def tidy(self) -> None:
        """Leave nothing that no later call could use."""
        if not (self.version and self.size):
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            self._record_path.unlink(missing_ok=True)


def _receive(part: _Part, check_head: Callable[[bytes], None]) -> None:
    """Ask again and again until the part is complete, or nothing new comes."""
    retries, most = 0, part.size
    while part.total is None or part.size < part.total:
        try:
            with contextlib.closing(_ask(part)) as response:
                if _read_answer(part, response, check_head):
                    return
            problem = "the connection was cut"
        except _CutError as error:
            problem = str(error)
        if part.size > most:
            retries, most = 0, part.size
        if retries == RETRIES:
            raise DownloadError(f"{part.address}: {problem}, {retries + 1} times")
        wait_sec = WAIT_SEC * 2**retries
        notice(f"{part.address}: {problem} after {part.size / MEGABYTE:.1f} MB; trying again in {wait_sec:.0f} s")
        time.sleep(wait_sec)
        retries += 1


def _ask(part: _Part) -> Any:
    """Send the request; the answer's status is 200, or 206 if a rest was asked for."""
    headers = {"User-Agent": f"stmulnet/{__version__}", "Accept-Encoding": "identity"}
    if part.size and part.version:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.version}
    try:
        return _opener().open(urllib.request.Request(part.address, headers=headers), timeout=TIMEOUT_SEC)
    except urllib.error.HTTPError as error:
        error.close()
        problem = f"the server answers {error.code} {' '.join(error.reason.split())}"
        if error.code == 416:
            part.clear()
        if error.code in _TEMPORARY_STATUS:
            raise _CutError(problem) from error
        raise DownloadError(f"{part.address}: {problem}") from error
    except urllib.error.URLError as error:  # no connection: an answer at once, unless it worked a moment ago
        problem = f"cannot be reached ({_words(error.reason)})"
        if part.size:
            raise _CutError(problem) from error
        raise DownloadError(f"{part.address}: {problem}") from error
    except (http.client.InvalidURL, ValueError) as error:
        raise DownloadError(f"{part.address}: not an address ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_words(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only (urllib would go to ftp as well)."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(newurl, code, f"{msg}: to {newurl}, which is not http or https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Http and https alone, through the proxy of the environment if there is one; no files, no ftp, no cookies."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _read_answer(part: _Part, response: Any, check_head: Callable[[bytes], None]) -> bool:
    """Add an answer's bytes to the part; whether it is complete then."""
    if response.status == 206:
        _check_rest(part, response)
    else:
        if part.size:
            notice(f"{part.address}: the server sends no rest, or has another file now; starting again")
        length = response.headers.get("Content-Length")
        part.begin(_version(response), int(length) if length and length.isdecimal() else None)
        part.check_size(part.total or 0)
        head = _pull(response.read, HEAD_BYTES)
        if part.total is not None and len(head) < min(HEAD_BYTES, part.total):
            return False
        check_head(head)
        part.path.write_bytes(head)
    _append(part, response)
    return part.total is None or part.size == part.total  # without a length, a cut chunked answer has raised


def _check_rest(part: _Part, response: Any) -> None:
    """Refuse a rest that belongs to another file: some servers send one whatever If-Range says."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    fits = match and int(match[1]) == part.size and match[2] in ("*", str(part.total))
    if not (fits and part.size and _version(response) in ("", part.version)):
        part.clear()
        raise _CutError("the server has another file now, or sends another part than asked for: starting again")


def _version(response: Any) -> str:
    """The server's word for this version of the file, as If-Range takes it; empty if there is none."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(response.headers.get("Last-Modified", ""))  # W/"..." is for pages


def _append(part: _Part, response: Any) -> None:
    start = part.size
    name = part.path.name.removesuffix(".part")
    shown = f"{name} after {start / MEGABYTE:.0f} MB" if start > HEAD_BYTES else name
    whole = math.ceil((part.total - start) / MEGABYTE) if part.total else 0
    done = 0
    with progress(whole, shown, "MB") as advance, part.path.open("ab") as file:
        while chunk := _pull(response.read1, _CHUNK_BYTES):
            file.write(chunk)
            before, done = done, done + len(chunk)
            part.check_size(start + done)
            if whole_megabytes := done // MEGABYTE - before // MEGABYTE:
                advance(whole_megabytes)
        if done + start == part.total and done % MEGABYTE:
            advance(1)


def _pull(read: Callable[[int], bytes], count: int) -> bytes:
    """Read from the network; the disk's errors stay what they are."""
    try:
        return read(count)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_words(error)) from error


def _words(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SEC:g} s"
    if isinstance(error, (http.client.IncompleteRead, http.client.RemoteDisconnected)):
        return "the connection was cut"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
