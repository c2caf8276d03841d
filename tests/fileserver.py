"""A real HTTP server on the loopback that serves bytes, and misbehaves on request."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback import answering

HANG_SEC = 5.0  # at most; the end of the test ends it earlier


@dataclass
class FileServer:
    """What the server does; tests change it between requests.

    Attributes:
        files: Content by path, without the leading slash.
        cuts: Bytes after which the next answers break off, None for a whole one; then whole ones.
        statuses: Status codes of the next answers, None for a normal one; then normal ones.
        headers: Sent with every file.
        ranges: Whether a rest is sent if asked for.
        if_range: Whether If-Range is heeded.
        length: Whether the length is said.
        chunked: Whether answers are sent in chunks instead.
        hang: Whether answers stop halfway and the connection stays open.
        redirect: Where every request is sent on to.
        requests: Path and headers of what was asked.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    chunked: bool = False
    hang: bool = False
    redirect: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def asked_for(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("Range") for _, headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    plan: FileServer

    def do_GET(self) -> None:
        plan = self.plan
        plan.requests.append((self.path.lstrip("/"), dict(self.headers.items())))
        status = plan.statuses.pop(0) if plan.statuses else None
        content = plan.files.get(self.path.lstrip("/"))
        if status or (content is None and not plan.redirect):
            self.send_error(status or 404)
        elif plan.redirect:
            self.send_response(302)
            self.send_header("Location", plan.redirect)
            self.end_headers()
        else:
            assert content is not None
            self.send_file(content)

    def send_file(self, content: bytes) -> None:
        plan, start = self.plan, self.wanted_start()
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        for name, value in plan.headers.items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if plan.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif plan.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.send_body(content[start:])

    def wanted_start(self) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        version = self.headers.get("If-Range")
        changed = version is not None and version not in self.plan.headers.values()
        if wanted is None or not self.plan.ranges or (changed and self.plan.if_range):
            return 0
        return int(wanted[1])

    def send_body(self, body: bytes) -> None:
        cut = self.plan.cuts.pop(0) if self.plan.cuts else None
        whole = cut is None and not self.plan.hang
        body = body[: len(body) // 2 if self.plan.hang else cut]
        if self.plan.chunked:
            body = b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if whole else b"")
        with suppress(ConnectionError):  # the reader has seen enough
            self.wfile.write(body)
            self.wfile.flush()
        if self.plan.hang:
            self.plan.closing.wait(HANG_SEC)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def serve() -> Iterator[FileServer]:
    """Run a server in a thread until the end of the block."""
    plan = FileServer()
    handler = type("Handler", (_Handler,), {"plan": plan, "protocol_version": "HTTP/1.1"})
    with answering(handler) as plan.address:
        try:
            yield plan
        finally:
            plan.closing.set()
