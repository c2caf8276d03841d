"""Damaged, odd and hostile files sent to a server in a process of its own: all are answered, nothing is left behind."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.conftest import TinyProject
from tests.video.damaged import Case, make_corpus

CALM_SEC = 5.0
STATUS = {"recognised": 200, "refused": 422}

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc, of Linux only")


@dataclass(frozen=True)
class Server:
    """A running `stmulnet serve`."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path

    def held(self) -> Counter[str]:
        """Kinds and numbers of what the process holds."""
        place = Path(f"/proc/{self.process.pid}")
        tasks = [task for task in (place / "task").iterdir() if (task / "children").exists()]
        children = [child for task in tasks for child in (task / "children").read_text().split()]
        files = [path for path in self.temporary.rglob("*") if path.is_file()]
        numbers = {"open file": len(os.listdir(place / "fd")), "thread": len(tasks)}
        return Counter({**numbers, "child process": len(children), "temporary file": len(files)})

    def leaks(self, before: Counter[str]) -> Counter[str]:
        """What it holds more than before, once it is calm."""
        end = time.monotonic() + CALM_SEC
        while (more := self.held() - before) and time.monotonic() < end:
            time.sleep(0.05)
        return more


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Those of the damaged videos that can be sent: files."""
    cases = make_corpus(tmp_path_factory.mktemp("corpus"), np.random.default_rng(20170726))
    return [case for case in cases if case.path.is_file()]


@pytest.fixture(scope="module")
def server(tiny_project: TinyProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    temporary = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "stmulnet", "serve", "--weights", str(tiny_project.weights), "--port", "0"]
    command += ["--no-examples", "--preset", "fast", "--frames", "5", "--threads", "2", "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r" at (http://\S+)", process.stdout.readline())
        assert match, process.communicate()
        yield Server(process, match[1], temporary)
        assert process.poll() is None, "it lives on"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def send(client: httpx.Client, path: Path) -> httpx.Response:
    return client.post("/api/predict", files={"video": (path.name, path.read_bytes())})


def wrong_with(case: Case, response: httpx.Response, server: Server) -> str | None:
    if response.status_code not in STATUS.values():
        return f"status {response.status_code}: {response.text}"
    if case.expected != "either" and response.status_code != STATUS[case.expected]:
        return f"{response.status_code}, to be {case.expected}: {response.text}"
    if ("label" if response.status_code == 200 else "error") not in response.json():
        return response.text
    if any(place in response.text for place in (str(server.temporary), str(case.path.parent), "/tmp", "Traceback")):
        return f"speaks of the machine: {response.text}"
    return None


def check(cases: list[Case], server: Server) -> Counter[int]:
    """Send all; name everything that is wrong at once."""
    problems: list[str] = []
    codes: Counter[int] = Counter()
    with httpx.Client(base_url=server.address, timeout=120) as client:
        for case in cases[:3]:  # after which all of its threads are there
            send(client, case.path)
        before = server.held()
        for case in cases:
            response = send(client, case.path)
            codes[response.status_code] += 1
            if problem := wrong_with(case, response, server):
                problems.append(f"{case.path.parent.name}/{case.path.name}: {problem}")
        if leaks := server.leaks(before):
            problems.append(f"left behind: {dict(leaks)}")
    assert not problems, "\n".join(problems)
    return codes


def test_some_damaged_uploads(server: Server, corpus: list[Case]) -> None:
    check(corpus[:3] + corpus[5::12], server)


@pytest.mark.slow
def test_all_damaged_uploads(server: Server, corpus: list[Case]) -> None:
    codes = check(corpus, server)
    assert min(codes[200], codes[422]) > 50
