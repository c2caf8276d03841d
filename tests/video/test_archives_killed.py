"""Imports that are killed or interrupted, as real processes: they can be taken up again and end with the same files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.video.archive_making import Files, contents, cut, some_files, write_tar, write_zip

from stmulnet.video.archives import import_archives
from stmulnet.video.state import dataset_state

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
LIMIT_SEC = 60.0

Start = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def files(rng: np.random.Generator) -> Files:
    return some_files(rng, videos=100, frames=6)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an import in a process group of its own, as a terminal does."""
    started: list[subprocess.Popen[str]] = []

    def run(archive: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stmulnet", "import-archive", str(archive), "--out", str(tmp_path / "out")]
        command += ["--workers", "2"]
        started.append(
            subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(out: Path) -> int:
    """Folders in the journal."""
    return sum(len(path.read_text().splitlines()) for path in out.glob(".importing/*.jsonl"))


def wait_for(process: subprocess.Popen[str], out: Path, count: int) -> None:
    end = time.monotonic() + LIMIT_SEC
    while finished(out) < count and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


def check_resumed(archive: Path, out: Path, files: Files, *, at_least: int) -> None:
    before = finished(out)
    assert before >= at_least
    for name, content in contents(out).items():
        assert name.startswith(".importing/") or files[name] == content  # never half a file
    summary = import_archives([archive], out, workers=1)
    assert not summary.failures
    assert summary.skipped >= before  # what was in the journal is not done again; every folder has files
    assert summary.files + summary.skipped == len(files)
    assert contents(out) == files
    assert not (out / ".importing").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_killed_import_is_taken_up(start: Start, tmp_path: Path, files: Files, kind: str) -> None:
    if kind == "zip":
        archive = cut(write_zip(tmp_path / "x.zip", files), 50_000)[0]
    else:
        archive = write_tar(tmp_path / "x.tar", files)
    process = start(archive)
    wait_for(process, tmp_path / "out", 40)
    process.kill()
    process.communicate(timeout=LIMIT_SEC)  # ends when the last worker, too, has let go of stderr
    check_resumed(archive, tmp_path / "out", files, at_least=40 if process.returncode < 0 else 0)


@pytest.mark.slow
def test_killed_twenty_times(start: Start, tmp_path: Path, files: Files, rng: np.random.Generator) -> None:
    archive, out = write_zip(tmp_path / "x.zip", files), tmp_path / "out"
    for _ in range(20):
        process = start(archive)
        wait_for(process, out, finished(out) + 1)
        time.sleep(float(rng.uniform(0, 0.02)))
        os.killpg(process.pid, signal.SIGKILL)  # the workers as well
        process.communicate(timeout=LIMIT_SEC)
    check_resumed(archive, out, files, at_least=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(start: Start, tmp_path: Path, files: Files, number: signal.Signals) -> None:
    """Ctrl-C, and the end signal of a job scheduler."""
    archive, out = write_zip(tmp_path / "x.zip", files), tmp_path / "out"
    process = start(archive)
    wait_for(process, out, 10)
    os.killpg(process.pid, number)  # a terminal, and many a scheduler, sends it to the workers as well
    _, errors = process.communicate(timeout=LIMIT_SEC)
    assert process.returncode == 130
    assert "stmulnet import-archive: interrupted: x.zip: " in errors
    assert errors.endswith(" folders done, which are kept; the same command again goes on from there\n")
    assert "Traceback" not in errors
    assert dataset_state(out).unfinished
    check_resumed(archive, out, files, at_least=10)
