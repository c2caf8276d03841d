"""Running an algorithm over the pairs of a clip, and compiling on a machine without a writable folder."""

import threading
from collections.abc import Callable
from typing import Any

import cv2
import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from stmulnet.flow import compiled
from stmulnet.flow.pairs import Flow, Gray, map_pairs


def numbered_frames(count: int) -> NDArray[np.uint8]:
    """(count, 16, 18): frame t is filled with t."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 16, 18))


def write_numbers(first: Gray, second: Gray, out: Flow) -> None:
    out[0], out[1] = first, second


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_pair_is_solved_once_and_every_frame_prepared_once(threads: int) -> None:
    prepared: list[int] = []
    solvers: list[int] = []

    def prepare(gray: Gray) -> Gray:
        prepared.append(int(gray[0, 0]))
        return gray

    def make_solver() -> Callable[[Gray, Gray, Flow], None]:
        solvers.append(threading.get_ident())
        return write_numbers

    flow = map_pairs(numbered_frames(40), prepare, make_solver, threads=threads)
    np.testing.assert_array_equal(flow[:, 0, 0, 0], np.arange(39))
    np.testing.assert_array_equal(flow[:, 1, 0, 0], np.arange(1, 40))
    assert sorted(prepared) == list(range(40))
    assert len(solvers) == len(set(solvers)) <= threads


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_one_pair_ends_the_run(threads: int) -> None:
    solved: list[int] = []

    def solve(first: Gray, second: Gray, out: Flow) -> None:
        if first[0, 0] == 2:
            raise ZeroDivisionError("in pair 2")
        solved.append(int(first[0, 0]))

    before = cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError, match="in pair 2"):
        map_pairs(numbered_frames(200), lambda gray: gray, lambda: solve, threads=threads)
    assert cv2.getNumThreads() == before
    assert threading.active_count() == 1 or not any(t.name.startswith("flow") for t in threading.enumerate())


def test_color_frames_are_prepared_as_contiguous_gray(rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (3, 16, 20, 6), np.uint8)[..., ::2]
    flow = map_pairs(frames, lambda gray: gray, lambda: write_numbers, threads=1)
    expected = cv2.cvtColor(np.ascontiguousarray(frames[1]), cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(flow[1, 0], expected)


def test_without_a_writable_folder_functions_are_compiled_in_every_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    njit = numba.njit

    def refusing(**options: Any) -> Any:
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", refusing)
    monkeypatch.setattr(compiled, "_can_be_kept", True)

    @compiled.compiled
    def double(x: float) -> float:
        return 2 * x

    compiled.load_or_compile([(double, "f8(f8)")], "the doubling", seconds=1)
    assert double(1.5) == 3.0
    assert (
        "compiling the doubling, about 1 s, in every process: set NUMBA_CACHE_DIR to a writable folder"
        in capsys.readouterr().err
    )
    compiled.load_or_compile([(double, "f8(f8)")], "the doubling", seconds=1)
    assert capsys.readouterr().err == ""
