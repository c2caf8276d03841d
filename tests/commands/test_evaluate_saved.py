"""Saved scores measured again, without data set and network."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.commands.evaluating import save_network
from tests.conftest import TinyProject

from stmulnet import cli
from stmulnet.commands.evaluate import PARTIAL, evaluate
from stmulnet.errors import ConfigError
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.evaluation.scores import SavedScores, ScoresRecord, save_scores


@pytest.fixture(scope="module")
def run(tiny_project: TinyProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of an evaluation with another method's scores."""
    folder = tmp_path_factory.mktemp("saved")
    rng = np.random.default_rng(7)
    videos = evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, frames=5, workers=0).scores.videos
    with (folder / "idt.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", *tiny_project.class_names])
        writer.writerows([video, *rng.normal(size=6)] for video in videos)
    evaluate(
        dataset=tiny_project.dataset,
        weights=tiny_project.weights,
        frames=5,
        workers=0,
        external_scores=folder / "idt.csv",
        out=folder / "run",
        examples=1,
    )
    return folder / "run"


def printed_table(text: str) -> list[str]:
    return text.splitlines()[:9]


def test_what_a_stopped_evaluation_goes_on_from_is_left_alone(run: Path, tmp_path: Path) -> None:
    journal = tmp_path / PARTIAL / "split1-appearance-0.jsonl"
    journal.parent.mkdir()
    journal.touch()
    evaluate(scores=run / "scores.npz", out=tmp_path)
    assert journal.exists()


def test_the_same_table_and_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "again"
    assert cli.main(["evaluate", "--scores", str(run / "scores.npz"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "combined" in printed_table(printed)[8]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in run.iterdir())
    for name in ("metrics.json", "classes.csv", "confusion.csv"):
        assert (out / name).read_text() == (run / name).read_text()
    with np.load(out / "scores.npz") as again, np.load(run / "scores.npz") as before:
        assert set(again.files) == set(before.files)
        for name in before.files:
            np.testing.assert_array_equal(again[name], before[name])
    assert "<article>" not in (out / "report.html").read_text()
    assert cli.main(["evaluate", "--scores", str(out / "scores.npz")]) == 0
    assert printed_table(capsys.readouterr().out) == printed_table(printed)


def test_other_weights_of_the_streams(run: Path) -> None:
    summary = evaluate(scores=run / "scores.npz", fusion_weights=[1, 3])
    with np.load(run / "scores.npz") as file:
        fused = (file["appearance"] + 3 * file["motion"]) / 4
        external = file["external"]
    np.testing.assert_allclose(summary.scores.fused, fused)
    units = [scores / np.linalg.norm(scores, axis=1)[:, None] for scores in (fused, external)]
    np.testing.assert_allclose(summary.scores.combined, sum(units) / 2)  # type: ignore[arg-type]
    assert summary.splits[0].to_dict()["fusion_weights"] == [1, 3]


def test_another_method_is_added_later(run: Path, tmp_path: Path) -> None:
    before = evaluate(scores=run / "scores.npz")
    summary = evaluate(scores=run / "scores.npz", external_scores=run.parent / "idt.csv", external_weight=3.0)
    np.testing.assert_allclose(summary.scores.external, before.scores.external)  # type: ignore[arg-type]
    assert not np.allclose(summary.scores.combined, before.scores.combined)  # type: ignore[arg-type]
    assert summary.rows[-1].note.endswith("the other method weighted 3")


def test_several_files_are_fused(
    run: Path, tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, stream in enumerate(("appearance", "motion")):
        path = save_network(tmp_path / f"{stream}.safetensors", f"{stream}_resnet50", tiny_project, seed=seed)
        evaluate(dataset=tiny_project.dataset, weights=path, frames=5, workers=0, out=tmp_path / stream, examples=0)
    files = [tmp_path / stream / "scores.npz" for stream in ("appearance", "motion")]
    arguments = ["--scores", f"[{files[1]}, {files[0]}]", "--fusion-weights", "[2, 1]", "--out", str(tmp_path / "out")]
    assert cli.main(["evaluate", *arguments]) == 0
    with np.load(tmp_path / "out" / "scores.npz") as file, np.load(files[0]) as first, np.load(files[1]) as second:
        np.testing.assert_allclose(file["fused"], (first["appearance"] + 2 * second["motion"]) / 3)
        record = json.loads(str(file["record"]))
    assert record["fusion_weights"] == [1, 2]  # appearance, motion
    names = [f"{tmp_path.name}/{stream}.safetensors" for stream in ("motion", "appearance")]
    assert [entry["file"] for entry in record["weights"]] == names

    capsys.readouterr()
    summary = evaluate(scores=[run / "scores.npz", files[1]])
    assert "is fused without its external scores" in capsys.readouterr().err
    with np.load(run / "scores.npz") as first, np.load(files[1]) as second:
        np.testing.assert_allclose(summary.scores.fused, (first["fused"] + second["motion"]) / 2)
        np.testing.assert_allclose(summary.scores.motion, (first["motion"] + second["motion"]) / 2)  # type: ignore[arg-type]


def test_clips_of_one_recording_are_drawn_together(tmp_path: Path, rng: np.random.Generator) -> None:
    videos = [f"v_Walk_g{group:02d}_c{clip:02d}" for group in range(1, 9) for clip in range(1, 5)]
    labels = rng.integers(0, 3, size=32)
    scores = rng.normal(size=(32, 3)) + np.eye(3)[labels]
    table = ScoreTable(videos, labels, scores, None, scores)
    save_scores(tmp_path / "scores.npz", SavedScores(table, ["a", "b", "c"], ScoresRecord()))
    evaluate(scores=tmp_path / "scores.npz", out=tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["bootstrap"]["groups"] == 8
    top1 = metrics["streams"]["appearance"]["top1"]
    assert top1["bootstrap"] != top1["bootstrap_by_group"]
    assert metrics["streams"]["appearance"]["top5"] is None


def test_python_block_of_the_page(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "runs" / "test").mkdir(parents=True)
    shutil.copy(run / "scores.npz", tmp_path / "runs" / "test")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "evaluation.md", "exec"), {})
    assert "(6, 6)" in capsys.readouterr().out


def test_what_does_not_go_with_scores(run: Path, tiny_project: TinyProject, tmp_path: Path) -> None:
    path = run / "scores.npz"
    with pytest.raises(
        ConfigError, match="measured as they were saved: leave out --dataset, --weights, --views, --frames"
    ):
        evaluate(scores=path, dataset=tiny_project.dataset, weights=tiny_project.weights, views="center", frames=5)
    with pytest.raises(ConfigError, match=r"has scores of split 1, not of split 2"):
        evaluate(scores=path, split=2)
    with pytest.raises(ConfigError, match="fusion_weights of the scores files: they need 2 weights of 0 or more"):
        evaluate(scores=[path, path], fusion_weights=[1, 1, 1])
    with pytest.raises(ConfigError, match="give one or more scores"):
        evaluate(scores=[])
    other = SavedScores(
        ScoreTable(["a"], np.array([0]), np.ones((1, 2)), None, np.ones((1, 2))), ["x", "y"], ScoresRecord()
    )
    save_scores(tmp_path / "other.npz", other)
    with pytest.raises(ConfigError, match="have different classes; fuse scores of one data set"):
        evaluate(scores=[path, tmp_path / "other.npz"])
