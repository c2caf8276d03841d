"""Runs the predictor over files in a process of its own, so that a crash of a decoder is caught, and counts leaks.

``python -m tests.video.running WEIGHTS FILES.json`` prints a line of JSON before and after each file.
"""

import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LIMIT_SEC = 60  # for one file; beyond it the process says where it hangs, and ends
CALM_SEC = 3.0  # what threads that were told to end may take for it
WARM_UP = 3  # first files, after which every pool of threads is there


@dataclass(frozen=True)
class Result:
    """What came of a file: recognised, refused (with the message), failed (another error), or crashed (with stderr)."""

    outcome: str
    message: str = ""
    leaks: Sequence[str] = ()
    memory_mb: int = 0
    seconds: float = 0.0


def run(weights: Path, paths: Sequence[Path], folder: Path) -> dict[Path, Result]:
    """Predict every file; after a crash the next process goes on with the file after it."""
    results: dict[Path, Result] = {}
    while rest := [path for path in paths if path not in results]:
        (folder / "files.json").write_text(json.dumps([str(path) for path in rest]))
        command = [sys.executable, "-m", "tests.video.running", str(weights), str(folder / "files.json")]
        (folder / "temporary").mkdir(exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "temporary")}
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        for entry in said:
            if "outcome" in entry:
                path = Path(entry.pop("path"))
                results[path] = Result(**entry)
        if done.returncode:
            culprit = Path(said[-1]["path"]) if said else rest[0]
            results[culprit] = Result("crashed", f"exit code {done.returncode}: {done.stderr[-3000:]}")
    return results


def _main(weights: str, files: str) -> None:
    import torch

    from stmulnet.errors import StmulnetError
    from stmulnet.predictor import VideoPredictor

    torch.set_num_threads(1)
    predict = VideoPredictor(weights, preset="fast", num_frames=5, threads=2)
    paths = json.loads(Path(files).read_text())
    for path in paths[:WARM_UP]:
        predict(path)
    for path in paths:
        print(json.dumps({"path": path}), flush=True)
        faulthandler.dump_traceback_later(LIMIT_SEC, exit=True)
        before, start = _held(), time.monotonic()
        try:
            outcome, message = "recognised", predict(path).label
        except StmulnetError as error:
            outcome, message = "refused", str(error)
        except Exception as error:
            outcome, message = "failed", f"{type(error).__name__}: {error}"
        entry = {"path": path, "outcome": outcome, "message": message, "seconds": time.monotonic() - start}
        entry["leaks"] = _leaks(before)
        entry["memory_mb"] = _peak_mb()
        print(json.dumps(entry), flush=True)
    faulthandler.cancel_dump_traceback_later()


def _peak_mb() -> int:
    """Most memory since this program began; getrusage counts that of the process that started it too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) // 1000


def _held() -> set[str]:
    """What the process holds: open files, threads, child processes, temporary files."""
    held = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            held.add(f"file {number}: {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:  # the one that listed the folder
            continue
    tasks = os.listdir("/proc/self/task")
    held |= {f"thread {number}" for number in tasks} | {f"thread {thread.name}" for thread in threading.enumerate()}
    for number in tasks:
        try:
            held |= {f"process {child}" for child in Path(f"/proc/self/task/{number}/children").read_text().split()}
        except FileNotFoundError:  # a thread that has just ended
            continue
    return held | {f"temporary file {name}" for name in os.listdir(tempfile.gettempdir())}


def _leaks(before: set[str]) -> list[str]:
    """What is held and was not before, once it is calm."""
    end = time.monotonic() + CALM_SEC
    while (more := _held() - before) and time.monotonic() < end:
        time.sleep(0.02)
    return sorted(more)


if __name__ == "__main__":
    _main(*sys.argv[1:])
