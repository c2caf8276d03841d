"""A stand-in for the Hugging Face Hub on the loopback: the few routes that huggingface_hub calls, and its refusals."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import answering

USER, TOKEN = "ada", "hf_secret"


@dataclass
class Repository:
    """Versions of the files of one repository; the last one is main."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a version and return its name."""
        before = list(self.commits.values())[-1] if self.commits else {}
        name = hashlib.sha1(repr([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[name] = before | files
        return name

    def version(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Name and files of a version."""
        name = list(self.commits)[-1] if revision == "main" and self.commits else revision
        return (name, self.commits[name]) if name in self.commits else None


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large_files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.resolve(with_body=False)

    def do_GET(self) -> None:
        if match := re.fullmatch(r"/api/models/([^/]+/[^/?]+)", self.path):
            repository = self.hub.repositories.get(match[1])
            self.hub.requests.append(("GET", self.path))
            if repository is None:
                self.refuse(404, "RepoNotFound")
            else:
                self.answer({"id": match[1], "modelId": match[1], "private": repository.private, "siblings": []})
        else:
            self.resolve(with_body=True)

    def do_PUT(self) -> None:
        self.hub.requests.append(("PUT", self.path))
        self.hub.large_files[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_POST(self) -> None:
        self.hub.requests.append(("POST", self.path))
        body = self.body()
        if self.path == "/api/validate-yaml":
            self.answer({"warnings": [], "errors": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "", "Invalid username or password.")
        elif self.path == "/api/repos/create":
            self.create(json.loads(body))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            files = json.loads(body)["files"]
            modes = [(file["path"], "regular" if file["path"].endswith(".md") else "lfs") for file in files]
            self.answer({"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.answer({"transfer": "basic", "objects": [self.upload(item) for item in json.loads(body)["objects"]]})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            self.commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.refuse(404, "")

    def create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or USER
        if owner != USER:
            self.refuse(403, "", f"You don't have the rights to create a model under the namespace {owner!r}")
            return
        name = f"{owner}/{wanted['name']}"
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repositories[name] = Repository(private)
        self.hub.repositories[name].commit({".gitattributes": b""})
        self.answer({"url": f"{self.hub.address}/{name}", "name": name, "id": name})

    def upload(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "actions": {"upload": {"href": f"{self.hub.address}/large/{item['oid']}", "header": {}}}}

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
        oid = self.hub.repositories[name].commit(files)
        url = f"{self.hub.address}/{name}/commit/{oid}"
        self.answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def resolve(self, *, with_body: bool) -> None:
        self.hub.requests.append((self.command, self.path))
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        repository = self.hub.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            self.refuse(*((404, "RepoNotFound") if known else (401, "", "Invalid username or password.")))
            return
        found = repository.version(match[2])
        if repository.gated:
            self.refuse(403, "GatedRepo", "Access to model is restricted")
        elif found is None:
            self.refuse(404, "RevisionNotFound")
        elif match[3] not in found[1]:
            self.refuse(404, "EntryNotFound")
        else:
            content = found[1][match[3]]
            headers = {"X-Repo-Commit": found[0], "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            self.send(200, content, headers, with_body=with_body)

    def refuse(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self.send(status, b"", headers | ({"X-Error-Message": message} if message else {}), with_body=True)

    def answer(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, with_body=True)

    def send(self, status: int, content: bytes, headers: dict[str, str], *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub in a thread until the end of the block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub, "protocol_version": "HTTP/1.1"})
    with answering(handler) as hub.address:
        yield hub
