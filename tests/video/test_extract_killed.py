"""Extractions that are killed or interrupted, as real processes: they end at once and can be taken up again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stmulnet.video.extract import extract_videos
from stmulnet.video.state import dataset_state

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
NUM_VIDEOS = 8
SHORT_SIDE = 64
LIMIT_SEC = 60.0


@pytest.fixture
def videos(tmp_path: Path, encode: Callable[..., Path]) -> Path:
    for index in range(NUM_VIDEOS):
        encode(f"videos/v{index}.mp4", 16)
    return tmp_path / "videos"


@pytest.fixture
def start(videos: Path, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start ``stmulnet extract`` with two workers in a process group of its own, as a terminal does."""
    started: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        options = ["--short_side", str(SHORT_SIDE), "--workers", "2"]
        command = [sys.executable, "-m", "stmulnet", "extract", str(videos), str(tmp_path / "out"), *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_SEC
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def finished(out: Path) -> list[str]:
    journal = out / ".partial" / "finished.jsonl"
    return journal.read_text().splitlines() if journal.exists() else []


def working(out: Path) -> list[int]:
    """Process numbers of the workers that are in the middle of a video."""
    work = out / ".partial" / "work"
    return [int(p.name.rpartition("-")[2]) for p in work.iterdir() if p.is_dir()] if work.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def check_resumed(videos: Path, out: Path, *, at_least: int) -> None:
    summary = extract_videos(videos, out, short_side=SHORT_SIDE, workers=1)
    assert summary.skipped >= at_least
    assert summary.done == NUM_VIDEOS - summary.skipped
    extract_videos(videos, out.with_name("fresh"), short_side=SHORT_SIDE, workers=1)
    assert contents(out) == contents(out.with_name("fresh"))


@pytest.mark.slow
def test_killed_run_is_taken_up(start: Callable[[], subprocess.Popen[str]], videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start()
    wait_until(lambda: len(finished(out)) >= 2)
    process.kill()
    process.communicate(
        timeout=LIMIT_SEC
    )  # ends when the last worker, too, has let go of stderr: none outlives its parent
    done = len(finished(out))
    check_resumed(videos, out, at_least=done)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    start: Callable[[], subprocess.Popen[str]], videos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, and the end signal of a job scheduler."""
    out = tmp_path / "out"
    process = start()
    wait_until(lambda: len(finished(out)) >= 2)
    os.killpg(process.pid, number)  # a terminal, and many a scheduler, sends it to the workers as well
    _, errors = process.communicate(timeout=LIMIT_SEC)
    assert process.returncode == 130
    done = len(json.loads((out / "manifest.json").read_text())["videos"])
    assert done >= 2
    *shown, last = errors.splitlines()
    assert all(line.startswith("extract: ") for line in shown)  # progress, where it takes long
    assert last == (
        f"stmulnet extract: interrupted: {done} of {NUM_VIDEOS} videos done, which are kept; the same command again "
        "goes on from there"
    )
    assert list((out / ".partial").iterdir()) == []
    assert len(dataset_state(out).unfinished) == 1
    check_resumed(videos, out, at_least=done)
    assert dataset_state(out).unfinished == ()


@pytest.mark.slow
def test_killed_worker_is_an_error(start: Callable[[], subprocess.Popen[str]], videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start()
    wait_until(lambda: len(finished(out)) >= 2 and working(out))
    os.kill(working(out)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=LIMIT_SEC)
    assert process.returncode == 2
    assert "a worker process died (killed, or out of memory)" in errors
    assert "Traceback" not in errors
    check_resumed(videos, out, at_least=2)


def changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_twenty_times_at_random_moments(
    encode: Callable[..., Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    """Nobody waits for the workers of a killed run either: the next one starts while they may still be writing."""
    for index in range(60):
        encode(f"videos/v{index}.mp4", 12)
    videos, out = tmp_path / "videos", tmp_path / "out"
    start = time.monotonic()
    extract_videos(videos, tmp_path / "fresh", short_side=SHORT_SIDE, workers=1)
    per_video_sec = (time.monotonic() - start) / 60
    options = ["--short_side", str(SHORT_SIDE), "--workers", "2"]
    command = [sys.executable, "-m", "stmulnet", "extract", str(videos), str(out), *options]
    for _ in range(20):
        before = changed(out / "manifest.json")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            moments = [  # from the first write to the moment that some videos are finished
                lambda: changed(out / "manifest.json") != before,  # noqa: B023
                lambda: working(out),
                lambda: changed(out / "manifest.json") != before and finished(out),  # noqa: B023
            ]
            wait_until(moments[rng.integers(3)])
            time.sleep(rng.uniform(0, 1.5 * per_video_sec))
            process.kill()
            assert process.wait() == -signal.SIGKILL
    summary = extract_videos(videos, out, short_side=SHORT_SIDE, workers=1)
    assert summary.skipped > 0
    assert summary.done + summary.skipped == 60
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.slow
def test_shards_at_the_same_time_one_of_them_killed(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--short_side", str(SHORT_SIDE), "--workers", "1"]
    command = [sys.executable, "-m", "stmulnet", "extract", str(videos), str(out), *options, "--shard"]
    quiet: Any = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    processes = [subprocess.Popen([*command, f"{index}/3"], **quiet) for index in (1, 2, 3)]
    wait_until(lambda: list(out.glob(".partial/shard-2-of-3/work/*")) or processes[1].poll() is not None)
    processes[1].kill()
    assert [process.wait(LIMIT_SEC) for process in processes] == [0, -signal.SIGKILL, 0]
    assert subprocess.run([*command, "2/3"], check=False, **quiet).returncode == 0
    assert not (out / ".partial").exists()
    check_resumed(videos, out, at_least=NUM_VIDEOS)
