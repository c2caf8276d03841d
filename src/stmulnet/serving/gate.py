"""What every request passes: who asks, for what, how much is sent. Written for a page that strangers may reach.

Gradio has far more routes than the page needs (a proxy, files by address, editing by language models), and reads files
from any path named to it while it is mounted in another application. What is not on the list here does not exist.
"""

import asyncio
import base64
import binascii
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stmulnet.serving.limits import FORM_BYTES, TEXT_BYTES
from stmulnet.serving.service import Service, ServiceError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PREDICT = "/api/predict"
UPLOADS = (PREDICT, "/gradio_api/upload")
JOIN = "/gradio_api/queue/join"
FILE = "/gradio_api/file="
_KNOWN = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/assets/[^/]+|/static/.+|/api/(predict|models|health)|/clips/[^/]+"
    r"|/gradio_api/(upload|upload_progress|queue/join|queue/data|heartbeat/[^/]+|startup-events|reset/?|cancel"
    r"|app_id/?|theme\.css|file=.+)"
)
METHODS = ("GET", "HEAD", "POST")
WRONG_PASSWORD_SEC = 1.0  # what a guess costs

# The page is made to need nothing from elsewhere; this keeps it so, and other pages from showing it inside of them.
_CONTENT = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's page has scripts in it
        "style-src 'self' 'unsafe-inline'",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    )
)
HEADERS = [
    (b"content-security-policy", _CONTENT.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


@dataclass(frozen=True)
class Login:
    """User and password that every request needs (HTTP basic authentication)."""

    user: str
    password: str

    def admits(self, header: str | None) -> bool:
        """Whether an Authorization header has them; takes the same time for every wrong one."""
        scheme, _, coded = (header or "").partition(" ")
        try:
            given = base64.b64decode(coded, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        return secrets.compare_digest(given, f"{self.user}:{self.password}".encode())


class Gate:
    """ASGI middleware; see the module.

    Args:
        app: Who gets the requests that pass.
        service: Limits and temporary files.
        login: Who may ask; None is everybody.
        hosts: Names by which the server may be addressed; None is any. With a list, a page elsewhere cannot reach the
            server by giving it a name of its own (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, *, service: Service, login: Login | None = None, hosts: Collection[str] | None = None
    ) -> None:
        self._app, self._service, self._login, self._hosts = app, service, login, hosts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, _with_headers(send))

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            await self._admit(headers)
            self._check_target(scope, headers)
            if scope["method"] == "POST":
                self._check_length(scope["path"], headers)
                if scope["path"] == JOIN:
                    receive = await self._checked_files(receive)
        except ServiceError as refusal:
            await send_error(send, refusal)
            return
        body = _Body(receive, send, self._most_bytes(scope["path"]), self._service.limits.too_large())
        await self._app(scope, body.receive, body.send)

    async def _admit(self, headers: dict[str, str]) -> None:
        host = _name(headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            raise ServiceError("this name is not served here; use the address that the server printed", 421)
        if self._login is not None and not self._login.admits(headers.get("authorization")):
            if "authorization" in headers:
                await asyncio.sleep(WRONG_PASSWORD_SEC)
            raise ServiceError("user and password needed", 401)

    def _check_target(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> None:
        path, method = scope["path"], scope["method"]
        if not _KNOWN.fullmatch(path):
            raise ServiceError("there is nothing here by that name", 404)
        if method not in (("POST",) if path == PREDICT else METHODS):
            raise ServiceError(f"{method} is not answered here", 405)
        if path.startswith(FILE) and not self._service.uploads.holds(path.removeprefix(FILE)):
            raise ServiceError("there is no file here by that name", 403)
        # A form on another page can send a request here without its user's knowledge.
        origin = headers.get("origin")
        if method == "POST" and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise ServiceError("requests from other pages are not answered", 403)

    def _check_length(self, path: str, headers: dict[str, str]) -> None:
        """By the announced length; what comes without one is counted as it comes."""
        announced = headers.get("content-length", "")
        length = int(announced) if announced.isdecimal() else 0
        if length > self._most_bytes(path):
            raise ServiceError(self._service.limits.too_large(), 413)
        if path in UPLOADS and self._service.uploads.full(length or self._service.limits.upload_bytes):
            raise ServiceError("there is no room for further videos at the moment; try again later", 503)

    def _most_bytes(self, path: str) -> int:
        return self._service.limits.upload_bytes + FORM_BYTES if path in UPLOADS else TEXT_BYTES

    async def _checked_files(self, receive: Receive) -> Receive:
        """Read what the page sends for an event, and refuse files that are not its uploads: paths, addresses."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > TEXT_BYTES:
                raise ServiceError("the request is too large", 413)
        try:
            values = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ServiceError("the request is not JSON", 400) from error
        for file in _files(values):
            if not self._service.uploads.holds(file):
                raise ServiceError("only uploaded files are read here, no paths and no addresses", 403)
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await receive()  # tells when the client leaves
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again


class _Body:
    """Counts the bytes of a request; at the limit the client is answered, and the application told that it left."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int, problem: str) -> None:
        self._receive, self._send, self._left, self._problem = receive, send, most_bytes, problem
        self._answered = self._started = False

    async def receive(self) -> Message:
        if self._answered:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self._answered = True
            if not self._started:
                await send_error(self._send, ServiceError(self._problem, 413))
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        self._started = True
        if not self._answered:
            await self._send(message)


async def send_error(send: Send, error: ServiceError) -> None:
    """Answer with the error as JSON, ``{"error": "..."}``."""
    body = json.dumps({"error": str(error)}, ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what the client still sends is not read
        *error_headers(error.status),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_headers(status: int) -> list[tuple[bytes, bytes]]:
    """What goes with some statuses."""
    if status == 401:
        return [(b"www-authenticate", b'Basic realm="stmulnet", charset="UTF-8"')]
    return [(b"retry-after", b"5")] if status == 503 else []


def _files(values: Any) -> Iterator[str]:
    """Whatever a value of an event names as a file: its path, or an address."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "path" in value:
                yield str(value["path"])
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _name(host: str) -> str:
    """Host without port."""
    return host.rpartition(":")[0].strip("[]") if re.search(r":\d+$", host) else host.strip("[]")


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return send_with_headers
