"""What strangers must not reach."""

import json
from pathlib import Path

import httpx
import pytest
from tests.serving.conftest import Running

from stmulnet.serving.gate import Login


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=%2Fetc%2Fpasswd",
        "/gradio_api/file=..%2F..%2F..%2F..%2F..%2Fetc%2Fpasswd",
        "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/file=http://127.0.0.1:1/x",
        "/gradio_api/file=https://example.org/x",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/file=FOLDER/web/../../../etc/passwd",
        "/gradio_api/file=FOLDER",
        "/file=/etc/passwd",
        "/gradio_api/file//etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1:1/x",
        "/static/../../../../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/clips/..%2F..%2F..%2Fetc%2Fpasswd",
        "/clips/nothing.mp4",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/vibe-code",
        "/gradio_api/runs",
        "/gradio_api/deep_link",
        "/monitoring",
        "/login",
        "/docs",
        "/openapi.json",
        "/api/other",
    ],
)
def test_nothing_is_there(server: Running, path: str) -> None:
    path = path.replace("FOLDER", str(server.service.uploads.folder))
    with server.client() as client:
        answer = client.send(client.build_request("GET", httpx.URL(server.address + path)))
    assert answer.status_code in (403, 404), answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize("path", ["/gradio_api/vibe-edit/", "/gradio_api/process_recording", "/gradio_api/run/predict"])
def test_what_the_page_does_not_need_cannot_be_posted_to(server: Running, path: str) -> None:
    with server.client() as client:
        assert client.post(path, json={}).status_code == 404
        assert client.put("/", json={}).status_code == 405


def join(server: Running, data: object, **headers: str) -> httpx.Response:
    body = {"data": data, "fn_index": 0, "session_hash": "abcdefg", "event_data": None, "trigger_id": 1}
    with server.client() as client:
        return client.post("/gradio_api/queue/join", json=body, headers=headers)


@pytest.mark.parametrize(
    "named", ["/etc/passwd", "http://127.0.0.1:1/a.mp4", "../../etc/passwd", "FOLDER", "pyproject.toml"]
)
def test_the_page_reads_no_paths_and_no_addresses(server: Running, named: str) -> None:
    named = named.replace("FOLDER", str(server.service.uploads.folder))
    before = set(server.service.uploads.folder.rglob("*"))
    for value in ({"path": named, "meta": {"_type": "gradio.FileData"}}, {"a": [{"b": {"path": named}}]}):
        answer = join(server, [value])
        assert answer.status_code == 403
        assert answer.json() == {"error": "only uploaded files are read here, no paths and no addresses"}
    assert set(server.service.uploads.folder.rglob("*")) == before


def test_requests_of_other_pages_are_refused(server: Running) -> None:
    assert join(server, [], Origin="http://evil.example").status_code == 403
    assert join(server, [], Origin="null").status_code == 403
    assert join(server, [], Origin=server.address).status_code not in (403, 421)
    with server.client() as client:
        files = {"video": b"x"}
        assert client.post("/api/predict", files=files, headers={"Origin": "http://evil.example"}).status_code == 403


def test_other_names_of_the_server_are_refused(server: Running) -> None:
    with server.client() as client:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
            assert client.get("/", headers={"Host": host}).status_code == 421, host
        for host in ("localhost", "127.0.0.1:9", "[::1]:80"):
            assert client.get("/", headers={"Host": host}).status_code == 200, host


def test_bodies_that_are_too_large_or_no_json(server: Running) -> None:
    with server.client() as client:
        path = "/gradio_api/queue/join"
        assert client.post(path, content=bytes(2**20 + 1)).status_code == 413
        assert client.post(path, content=iter([bytes(2**19)] * 3)).status_code == 413
        assert client.post(path, content=b"{").status_code == 400
        assert client.post(path, content=b"[" * 200_000).status_code == 400


def test_every_answer_keeps_the_browser_at_home(server: Running) -> None:
    with server.client() as client:
        for path in ("/", "/api/health", "/nothing"):
            headers = client.get(path).headers
            assert "default-src 'self'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


def test_the_full_disk_sends_uploads_away(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.service.uploads, "full", lambda more: True)
    with server.client() as client:
        for path in ("/api/predict", "/gradio_api/upload"):
            answer = client.post(path, files={"video": b"x"})
            assert answer.status_code == 503
            assert answer.json() == {"error": "there is no room for further videos at the moment; try again later"}


@pytest.mark.parametrize("header", [None, "", "Basic", "Basic !!", "Bearer bWU6cHc=", "Basic bWU6cHcx", "Basic bWU="])
def test_wrong_passwords(header: str | None) -> None:
    assert not Login("me", "pw").admits(header)
    assert Login("me", "pw").admits("Basic bWU6cHc=")


def test_the_page_names_no_server_file(server: Running) -> None:
    """Its settings hold only the random folder of the uploads."""
    with server.client() as client:
        config = json.dumps(client.get("/config").json())
    for place in (str(Path.home()), str(Path(__file__).parents[2]), "site-packages"):
        assert place not in config.replace(str(server.service.uploads.folder), "")
