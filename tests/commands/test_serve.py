"""`stmulnet serve`: start, address, errors in one line, and a clean end."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.conftest import TinyProject

from stmulnet import cli
from stmulnet.commands.serve import login_of, network_names
from stmulnet.errors import ConfigError
from stmulnet.serving.gate import Login


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str], list[str]]]:
    """The command in a process of its own: address, process and, at the end, what it wrote to stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stmulnet", "serve", "--port", "0", "--threads", "1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or []))
    reader.start()
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, (line, said)
        yield address[0], process, said
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_also_during_a_prediction(
    tiny_project: TinyProject, tmp_path: Path, number: signal.Signals
) -> None:
    video = min(tiny_project.videos.rglob("*.avi"))
    with serving("--weights", str(tiny_project.weights), TMPDIR=str(tmp_path)) as (address, process, said):
        assert any(tmp_path.glob("stmulnet-serve-*"))
        with video.open("rb") as file:
            assert httpx.post(f"{address}/api/predict", files={"video": file}, timeout=60).status_code == 200
        content = video.read_bytes()
        other = threading.Thread(target=lambda: _post(address, content))
        other.start()
        process.send_signal(number)
        assert process.wait(30) == 0
        other.join()
    assert said == ["stmulnet serve: stopping, after the prediction that is running, if there is one\n"]
    assert [path for path in tmp_path.iterdir() if path.name != "numba"] == []


def _post(address: str, content: bytes) -> None:
    try:
        httpx.post(f"{address}/api/predict", files={"video": content}, timeout=60)
    except httpx.HTTPError:  # the server went away
        return


@pytest.mark.slow
def test_a_password_is_asked_for(tiny_project: TinyProject, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\r\n")
    options = ("--no-examples", "--user", "me", "--password-file", str(tmp_path / "password"))
    with serving("--weights", str(tiny_project.weights), *options) as (address, _, _):
        assert httpx.get(address, timeout=20).status_code == 401
        assert httpx.get(address, auth=("me", "secret"), timeout=20).status_code == 200


def test_a_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STMULNET_PASSWORD", "of the environment")
    (tmp_path / "password").write_text("of the file\nanother line\n")
    assert login_of("me", None) == Login("me", "of the environment")
    assert login_of("me", tmp_path / "password") == Login("me", "of the file")
    assert login_of(None, None) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "--port must be 0 (any free one) to 65535, got 99999"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1 port 7860"),
        (["--host", "no such host"], "cannot listen on no such host"),
        (["--jobs", "0", "--port", "0"], "--jobs must be 1 or more, got 0"),
        (["--max-seconds", "0"], "--max-seconds must be 1 or more, got 0"),
        (["--user", "me"], "--user needs a password: set the variable STMULNET_PASSWORD, or give --password-file"),
        (["--user", "a:b"], "--user must be a name without colon"),
        (["--password-file", "x"], "--password-file needs a --user"),
        (["--user", "me", "--password-file", "nowhere"], "--password-file nowhere cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    tiny_project: TinyProject,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("STMULNET_PASSWORD", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the common one has folders of tests that run beside it
    assert cli.main(["serve", "--weights", str(tiny_project.weights), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stmulnet serve: error: {message}")
    assert error.count("\n") == 1
    assert not any(tmp_path.glob("stmulnet-serve-*"))


def test_a_port_that_is_taken(tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert cli.main(["serve", "--weights", str(tiny_project.weights), "--port", port]) == 2
    assert "Address already in use; give another --host or --port" in capsys.readouterr().err


def test_weights_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--weights", "nowhere.safetensors", "--port", "0"]) == 2
    assert "nowhere.safetensors" in capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["serve", "--weights", "x.safetensors"]) == 2
    assert capsys.readouterr().err == (
        "stmulnet serve: error: serving needs an optional dependency: pip install 'stmulnet[serve]'\n"
    )


def test_names_of_networks() -> None:
    files = [Path("runs/one/model.safetensors"), Path("ucf101.mat"), Path("hmdb.safetensors")]
    assert network_names(files) == {"one": files[0], "ucf101": files[1], "hmdb": files[2]}
    with pytest.raises(ConfigError, match="would both be called ucf101"):
        network_names([Path("a/ucf101.mat"), Path("b/ucf101.mat")])
