"""Freed memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

from stmulnet import memory

CODE = """
import resource, sys
import torch
from stmulnet.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = faults()
print(faults() - first)
"""


def page_faults(mode: str) -> int:
    return int(subprocess.run([sys.executable, "-c", CODE, mode], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the GNU C library")
def test_freed_memory_is_used_again_without_the_kernel() -> None:
    assert page_faults("keep") < 100  # ten blocks of 64 MB: 16,384 pages each
    assert page_faults("give back") > 1000


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert not memory.keep_freed_memory.__wrapped__()
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not memory.keep_freed_memory.__wrapped__()


RETURN = """
from pathlib import Path
import torch
from stmulnet.memory import return_freed_memory
def resident_mb():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) // 1000
blocks = [torch.ones(2**14) for _ in range(4000)]  # 260 MB, in blocks that are not given back one by one
kept = blocks[::100]
before = resident_mb()
del blocks
return_freed_memory()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the GNU C library")
def test_freed_memory_between_blocks_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", RETURN], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 200
