"""Videos that nobody vouches for: each gives a prediction or an error that says what is wrong; nothing is left behind.

The whole corpus of `damaged` is slow; a tenth of it always runs.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TinyProject
from tests.video.damaged import Case, make_corpus
from tests.video.running import WARM_UP, Result, run

MAX_MEMORY_MB = 3000  # torch alone takes some hundred; no damaged header makes it gigabytes

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc, of Linux only")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return make_corpus(tmp_path_factory.mktemp("corpus"), np.random.default_rng(20170726))


def check(cases: list[Case], results: dict[Path, Result]) -> None:
    """Compare what came of each file with what was to come of it; name all that differ at once."""
    wrong = []
    for case in cases:
        found = results[case.path]
        problems = [*found.leaks]
        if found.outcome not in ("recognised", "refused") or case.expected not in ("either", found.outcome):
            problems.append(f"{found.outcome}, to be {case.expected}")
        if found.outcome == "refused" and str(case.path) not in found.message:
            problems.append("the message does not name the file")
        if found.memory_mb > MAX_MEMORY_MB:
            problems.append(f"{found.memory_mb} MB")
        if problems:
            wrong.append(f"{case.path.parent.name}/{case.path.name}: {'; '.join(problems)} ({found.message})")
    assert not wrong, "\n".join(wrong)


def test_corpus_is_large_and_the_same_every_time(corpus: list[Case]) -> None:
    assert len(corpus) >= 200
    assert len({case.path for case in corpus}) == len(corpus)
    expected = Counter(case.expected for case in corpus)
    assert expected["refused"] >= 40
    assert expected["recognised"] >= 30


def test_some_damaged_videos(tiny_project: TinyProject, corpus: list[Case], tmp_path: Path) -> None:
    chosen = corpus[:WARM_UP] + corpus[WARM_UP::10]
    check(chosen, run(tiny_project.weights, [case.path for case in chosen], tmp_path))


@pytest.mark.slow
def test_all_damaged_videos(tiny_project: TinyProject, corpus: list[Case], tmp_path: Path) -> None:
    results = run(tiny_project.weights, [case.path for case in corpus], tmp_path)
    check(corpus, results)
    outcomes = Counter(result.outcome for result in results.values())
    assert min(outcomes["recognised"], outcomes["refused"]) > 50  # neither takes all for granted
