"""The parts of `python -m benchmarks` at toy size; the figures themselves are no matter for tests."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import __main__ as suite
from benchmarks import extraction, growth, loader
from benchmarks.agreement import calibrate, in_words, score_clips
from benchmarks.apart import Apart
from benchmarks.extraction import alike, extraction_contest
from benchmarks.growth import Case, growth_contests, peaks_of
from benchmarks.loader import long_clips, make_loaders
from matplotlib.image import imread

from stmulnet.commands import contests
from stmulnet.commands.contests import Contest, Missing, Row, as_json, attempt, markdown
from stmulnet.commands.sample_video import write_sample
from stmulnet.models.optimize import optimize
from stmulnet.models.zoo import create_model
from stmulnet.predictor import VideoPredictor
from stmulnet.timing import Ratio

TINY: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}


def refuse() -> Callable[..., object]:
    raise ImportError("No module named 'elsewhere'\nmore of it")


def test_an_alternative_that_cannot_run_keeps_its_row() -> None:
    reason = "ImportError: No module named 'elsewhere'"
    missing = attempt(refuse)
    assert missing == Missing(reason)
    contest = Contest("w", {"other": missing, "ours": lambda: None}, {"other": "float32"})
    other, ours = contest.run(2)
    assert other == Row("w", "other", missing=reason)
    assert ours.times_as_fast == Ratio(1, 1, 1)  # the first that can run is the yardstick
    assert f"| w | other | cannot run: {reason} |" in markdown([other, ours])
    assert as_json([other], 2)["rows"][0]["missing"] == reason


def test_all_alternatives_may_be_missing() -> None:
    assert Contest("w", {"other": Missing("no")}).run(1) == [Row("w", "other", missing="no")]


def test_a_process_that_cannot_be_made_says_why() -> None:
    assert attempt(lambda: Apart(refuse)) == Missing("RuntimeError: ImportError: No module named 'elsewhere'")


def test_rows_of_processes_and_amounts() -> None:
    now = [0.0]

    def run(seconds: float) -> None:
        now[0] += seconds

    runs = {"1": lambda: run(6.0), "2": lambda: run(4.0)}
    processes = {"1": 1, "2": 2}
    rows = Contest("w", runs, amount=12, unit="frames", processes=processes, clock=lambda: now[0]).run(1)
    assert [row.scaling for row in rows] == [Ratio(1, 1, 1), Ratio(0.75, 0.75, 0.75)]
    assert markdown(rows).splitlines()[0] == "| work | how | s (median) | per second | times as fast | per process |"
    assert markdown(rows).splitlines()[3] == "| w | 2 | 4 | 3 frames | 1.5 (1.5 to 1.5) | 75 % (75 to 75) |"


CASES = [Case(f"{count} clips", side=64, clips=count, options=TINY) for count in (1, 3)]


def test_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "PRODUCTS", {"cpu": ((64, 64, 64),)})
    monkeypatch.setattr(growth, "peaks_of", lambda cases: {case.name: 0.25 for case in cases})
    (contest,) = growth_contests({"clips": CASES})
    one, three = contest.run(1)
    assert (one.work, one.contender, one.times_as_fast) == ("growth with clips", "1 clips", Ratio(1, 1, 1))
    assert one.flop
    assert three.flop == 3 * one.flop
    assert all(row.roofline and row.peak_gb == 0.25 for row in (one, three))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell peaks anew")
def test_memory_of_a_pass_grows_with_the_clips() -> None:
    cases = [dataclasses.replace(CASES[0], clips=count, side=224) for count in (2, 8)]
    peaks = peaks_of([dataclasses.replace(case, name=str(case.clips)) for case in cases])
    assert 0 < 2 * peaks["2"] < peaks["8"] < 1


@pytest.mark.slow
def test_extraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "PER_PROCESS", 1)
    monkeypatch.setattr(extraction, "SECONDS", 1.0)
    rows = extraction_contest([], tmp_path, most=2).run(1)
    assert [(row.contender, row.amount, row.unit) for row in rows] == [
        ("1 process", 60, "frames"),
        ("2 processes", 60, "frames"),
    ]
    assert rows[1].scaling == rows[1].times_as_fast.over(2)  # type: ignore[union-attr]
    assert not (tmp_path / "extracted").exists()


def test_clips_of_like_length_are_chosen(tmp_path: Path) -> None:
    videos = [write_sample(tmp_path / f"{seconds}.mp4", seconds=seconds) for seconds in (1, 2, 4)]
    assert [path.stem for path in alike(videos, 2)] == ["2", "1"]
    assert alike(videos, 4) == []
    assert long_clips(videos) == []


def test_loaders_give_the_stride_that_is_set(tiny_project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def sample(rule: loader.OneStride, frames: int, rng: np.random.Generator) -> list[int]:
        seen.append(rule.stride)
        return [6]

    monkeypatch.setattr(loader.OneStride, "__call__", sample)
    loaders = make_loaders(tiny_project.dataset, tiny_project.dataset)
    assert list(loaders) == ["Pillow", "folder", "packed", "packed, resized on the device"]
    for one in loaders.values():
        one.load((5, 35))
    assert seen == ([5] * loader.BATCH + [35] * loader.BATCH) * len(loaders)


def test_rows_are_written_after_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("a", "x", 1.0, Ratio(1, 1, 1)), Row("memory", "y", peak_gb=0.5)]
    parts = {"one": lambda bench: iter([rows[:1]]), "two": lambda bench: iter([rows[1:]])}
    monkeypatch.setattr(suite, "PARTS", parts)
    monkeypatch.setattr(suite, "write_sample", lambda path: path)
    suite.main(["--clips", str(tmp_path / "none"), "--rounds", "1", "--json", str(tmp_path / "rows.json")])
    saved = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["work"], row["peak_gb"]) for row in saved["rows"]] == [("a", None), ("memory", 0.5)]
    assert saved["rounds"] == 1


def test_agreement_in_words() -> None:
    plain = np.array([[4.0, 2.0, 1.0, 0.0, -1.0, -2.0], [0.0, 1.0, 3.0, -1.0, -2.0, -3.0]])
    fast = plain.copy()
    fast[0, 0] += 0.5  # 1/4 of the margin of 2
    assert in_words(plain, fast).startswith("2 of 2 | 100.0% | 1.00000, least 1.00000 | 1.2e-01 of the largest score")
    assert in_words(plain, fast).endswith("1.2e-01 (median), 2.5e-01 (largest)")
    fast[1, 1] = 4.0
    assert in_words(plain, fast).startswith("1 of 2 | 100.0% | 0.97")


def test_agreement_on_clips(tmp_path: Path) -> None:
    network = create_model("st_mulnet_resnet50", 6, class_names=list("abcdef"), **TINY)
    predictor = VideoPredictor(network, flow_backend="dis", num_frames=5)
    path = write_sample(tmp_path / "x.mp4", seconds=1)
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert norm.running_var is not None
    before = norm.running_var.clone()
    calibrate(network, [predictor.prepare(path)])
    assert not torch.equal(norm.running_var, before)
    assert not network.training
    plain, (fast,) = score_clips(predictor, [network.eval(), optimize(network, dtype=torch.float32)], [path])
    assert plain.shape == (1, 6)
    np.testing.assert_allclose(fast, plain, atol=1e-4 * np.abs(plain).max())


def test_growth_is_drawn(tmp_path: Path) -> None:
    from docs.images import growth as picture

    rows = [
        Row(work, f"{size} units", 1.0 * size, Ratio(1 / size, 1 / size, 1 / size), flop=size, peak_gb=size)
        for work in picture.TITLES
        for size in (1, 2)
    ]
    (tmp_path / "growth.json").write_text(json.dumps(as_json(rows, 1)))
    picture.main(tmp_path / "growth.json", tmp_path / "growth.png")
    assert imread(tmp_path / "growth.png").shape[1] == 7.6 * 150
