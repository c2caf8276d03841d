"""The HTTP interface of a real server."""

import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from tests.serving.conftest import Running

from stmulnet.predictor import PreparedVideo, VideoPredictor
from stmulnet.serving.app import create_app, running
from stmulnet.serving.gate import Login
from stmulnet.serving.service import Service
from stmulnet.video.io import write_video

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


def post(server: Running, content: bytes, name: str = "clip.avi", **fields: str) -> httpx.Response:
    with server.client() as client:
        return client.post("/api/predict", files={"video": (name, content)}, data=fields)


def error_of(response: httpx.Response, server: Running) -> str:
    """The message, which must not speak of this machine."""
    assert set(response.json()) == {"error"}
    assert str(server.service.uploads.folder) not in response.text
    assert "/tmp" not in response.text
    return str(response.json()["error"])


def left_over(server: Running) -> list[Path]:
    return [path for path in server.service.uploads.own.rglob("*") if path.is_file()]


def test_the_answer_is_that_of_the_predictor(server: Running, predictor: VideoPredictor) -> None:
    response = post(server, server.video.read_bytes())
    assert response.status_code == 200
    expected = json.loads(json.dumps(predictor(server.video).to_dict()))
    got = response.json()
    assert got.pop("seconds").keys() == expected.pop("seconds").keys()
    assert got == expected
    assert left_over(server) == []


def test_a_network_can_be_chosen(server: Running) -> None:
    content = server.video.read_bytes()
    assert post(server, content, network="odd").json()["label"].startswith("<b onclick")
    response = post(server, content, network="other")
    assert response.status_code == 400
    assert error_of(response, server) == "no network 'other' here; there are tiny, odd"


def test_what_there_is(server: Running) -> None:
    with server.client() as client:
        assert client.get("/api/health").json() == {"status": "ok"}
        networks = client.get("/api/models").json()["networks"]
    assert [network["name"] for network in networks] == ["tiny", "odd"]
    assert networks[0]["classes"] == 6
    assert networks[0]["streams"] == ["appearance", "motion"]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"hello", "notes.txt", "notes.txt: not a video file"),
        (b"", "empty.mp4", "empty.mp4: the file is empty"),
        (PLAYLIST, "clip.mp4", "clip.mp4: this file format is refused|clip.mp4: not a video file"),
        (
            b"ffconcat version 1.0\nfile /etc/passwd\n",
            "clip.mp4",
            "clip.mp4: (this file format is refused|not a video)",
        ),
        (b"hello", "../../etc/x.mp4", "x.mp4: not a video file"),
    ],
)
def test_no_videos(server: Running, content: bytes, name: str, message: str) -> None:
    response = post(server, content, name)
    assert response.status_code == 422
    assert re.match(message, error_of(response, server))
    assert left_over(server) == []


def test_videos_beyond_a_limit(server: Running, tmp_path: Path) -> None:
    flat = np.zeros((64, 64, 3), np.uint8)
    for frames, fps, size, message in (
        (201, 100, 64, "more than the 200 frames allowed"),
        (22, 2, 64, "11 s are longer than the 10 s allowed"),
        (12, 25, 400, "frames of 400x400 are larger than the 0.1 million pixels allowed"),
        (10, 25, 64, "the video has 10 frames, at least 11 are needed"),
    ):
        write_video(tmp_path / "a.mp4", [np.resize(flat, (size, size, 3))] * frames, fps=fps)
        response = post(server, (tmp_path / "a.mp4").read_bytes(), "a.mp4")
        assert response.status_code == 422
        assert message in error_of(response, server)


def test_forms_that_are_none(server: Running) -> None:
    with server.client() as client:
        json_body = client.post("/api/predict", json={"video": "/etc/passwd"})
        text = client.post("/api/predict", data={"video": "/etc/passwd"}, files={"other": b""})
        address = client.post("/api/predict", files={"video": (None, "http://127.0.0.1/clip.mp4")})
        nothing = client.post("/api/predict", files={"film": ("clip.mp4", b"x")})
        two = client.post("/api/predict", files=[("video", ("a", b"x")), ("video", ("b", b"x"))])
        get = client.get("/api/predict")
    assert json_body.status_code == 415
    assert "multipart/form-data" in error_of(json_body, server)
    for response in (text, address):
        assert response.status_code == 400
        assert "addresses and paths are not read" in error_of(response, server)
    assert nothing.status_code == 400
    assert "no field 'video'" in error_of(nothing, server)
    assert two.status_code == 400
    assert "Too many files" in error_of(two, server)
    assert get.status_code == 405
    error_of(get, server)


def connected(server: Running) -> socket.socket:
    address = urlsplit(server.address)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def head(path: str, length: str) -> bytes:
    """The beginning of a request that uploads a form."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: multipart/form-data; boundary=b",
        length,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("path", ["/api/predict", "/gradio_api/upload"])
def test_a_large_upload_is_refused_before_it_is_sent(server: Running, path: str) -> None:
    with connected(server) as connection:
        connection.sendall(head(path, f"Content-Length: {2**31}"))
        answer = b""
        while part := connection.recv(65536):  # to the end of the connection, which is closed
            answer += part
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"error": "the file is larger than the 1 MB allowed here' in answer


@pytest.mark.parametrize(("path", "field"), [("/api/predict", "video"), ("/gradio_api/upload", "files")])
def test_a_large_upload_without_length_is_refused_where_it_gets_too_large(
    server: Running, path: str, field: str
) -> None:
    start = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="a.mp4"\r\n\r\n'.encode()
    chunk = b"%x\r\n%s\r\n" % (len(start), start) + b"10000\r\n" + bytes(2**16) + b"\r\n"
    with connected(server) as connection:
        connection.sendall(head(path, "Transfer-Encoding: chunked") + chunk)
        for _ in range(40):  # 2.5 MB of any number to come
            try:
                connection.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
            except OSError:
                break
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_too_many_at_once_are_sent_away(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """One works, two wait; the fourth gets 503 before its file is looked at."""
    go_on = threading.Event()
    predictor = server.service.predictors["tiny"]
    really = predictor.prepare

    def slowly(path: Path, **options: Any) -> PreparedVideo:
        assert go_on.wait(20)
        return really(path, **options)

    monkeypatch.setattr(predictor, "prepare", slowly)
    content, answers = server.video.read_bytes(), list[httpx.Response]()
    threads = [threading.Thread(target=lambda: answers.append(post(server, content))) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(server.service.turns._queue) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    refused = post(server, content)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert "2 videos are waiting already" in error_of(refused, server)
    go_on.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert left_over(server) == []


def test_our_own_mistakes_are_not_explained_to_strangers(
    server: Running, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path, **options: Any) -> PreparedVideo:
        raise RuntimeError(f"secret of {path}")

    monkeypatch.setattr(server.service.predictors["tiny"], "prepare", broken)
    response = post(server, server.video.read_bytes())
    assert response.status_code == 500
    assert error_of(response, server) == "clip.avi: something went wrong here, which the log of the server describes"
    assert "secret of" in capfd.readouterr().err
    assert left_over(server) == []


def test_with_a_password_nothing_is_there_without_it(predictor: VideoPredictor, a_video: Path) -> None:
    with (
        Service({"tiny": predictor}) as service,
        running(create_app(service, login=Login("me", "pässword:1"), examples=False)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        for path in (
            "/",
            "/config",
            "/api/health",
            "/api/models",
            "/assets/x.js",
            "/gradio_api/queue/data",
            "/nothing",
        ):
            answer = client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Basic ")
        for path in ("/api/predict", "/gradio_api/upload", "/gradio_api/queue/join"):
            assert client.post(path, files={"video": b"x"}).status_code == 401
        start = time.monotonic()
        assert client.get("/", auth=("me", "password")).status_code == 401
        assert time.monotonic() - start >= 0.9
        right = ("me", "pässword:1")
        assert client.get("/", auth=right).status_code == 200
        with a_video.open("rb") as file:
            assert client.post("/api/predict", files={"video": file}, auth=right).json()["label"]
