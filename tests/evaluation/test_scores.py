"""Saved scores: what is written is read, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stmulnet.errors import ConfigError
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.evaluation.scores import SavedScores, ScoresRecord, load_scores, save_scores

NAMES = ["Walk", "Run", "Sit & stand", "Wäve"]


@pytest.fixture
def saved(rng: np.random.Generator) -> SavedScores:
    appearance, motion = rng.normal(size=(2, 3, 4))
    views = rng.normal(size=(3, 2, 4)).astype(np.float32).astype(np.float64)
    table = ScoreTable(["v_1", "v_2", "v_ü"], np.array([3, 0, 1]), appearance, motion, appearance + motion, views)
    record = ScoresRecord(
        dataset="ucf101",
        split=2,
        views="ten_crop",
        frames=25,
        left_out=1,
        weights=[{"file": "x.mat", "sha256": "0" * 64, "streams": ["appearance", "motion"]}],
        fusion_weights=[1.0, 1.5],
        external={"file": "idt.csv", "sha256": "1" * 64, "weight": 2.0},
    )
    return SavedScores(table, NAMES, record)


def rewritten(path: Path, **changes: Any) -> Path:
    """The file with other arrays; None leaves one out."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    other = path.with_name("other.npz")
    np.savez(other, **arrays)
    return other


def test_everything_comes_back(saved: SavedScores, tmp_path: Path) -> None:
    save_scores(tmp_path / "scores.npz", saved)
    loaded = load_scores(tmp_path / "scores.npz")
    assert (loaded.class_names, loaded.record) == (saved.class_names, saved.record)
    assert loaded.table.videos == saved.table.videos
    for name in ("labels", "appearance", "motion", "fused", "appearance_views"):
        np.testing.assert_array_equal(getattr(loaded.table, name), getattr(saved.table, name))
    assert loaded.table.motion_views is loaded.table.external is loaded.table.combined is None
    assert loaded.record.protocol == "25 frames, four corners and centre, original and mirrored, raw scores averaged"


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_a_single_stream(saved: SavedScores, tmp_path: Path, stream: str) -> None:
    scores = getattr(saved.table, stream)
    streams = {"appearance": None, "motion": None, stream: scores}
    save_scores(
        tmp_path / "scores.npz",
        SavedScores(ScoreTable(saved.table.videos, saved.table.labels, fused=scores, **streams), NAMES, ScoresRecord()),
    )
    loaded = load_scores(tmp_path / "scores.npz")
    assert list(loaded.table.streams()) == [stream]
    np.testing.assert_array_equal(loaded.table.fused, scores)
    assert loaded.record.protocol == "protocol not recorded"


def test_files_without_a_record_are_read(saved: SavedScores, tmp_path: Path) -> None:
    save_scores(tmp_path / "scores.npz", saved)
    path = rewritten(tmp_path / "scores.npz", record=None, appearance_views=None)
    assert load_scores(path).record == ScoresRecord()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"videos": None}, "no array 'videos'; give the scores.npz of an evaluation"),
        ({"surprise": np.zeros(3)}, "unknown arrays surprise; there are videos"),
        ({"videos": np.array(["a", "b", "a"])}, "videos has 'a' more than once"),
        ({"videos": np.array([1, 2, 3])}, "videos must be a list of texts, got int64"),
        ({"videos": np.array([["a", "b", "c"]])}, r"videos must be a list of texts, got <U1 \(1, 3\)"),
        ({"class_names": np.array(["a", "b", "c", "c"])}, "class_names has 'c' more than once"),
        ({"labels": np.array([0, 1])}, "labels must be 3 whole numbers"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "labels must be 3 whole numbers, got float64"),
        ({"labels": np.array([0, 1, 4])}, r"labels must lie in 0\.\.3, got 0\.\.4"),
        ({"labels": np.array([-1, 1, 2])}, r"labels must lie in 0\.\.3, got -1\.\.2"),
        ({"fused": np.zeros((3, 5))}, r"fused must be numbers of shape \(3, 4\), got float64 \(3, 5\)"),
        ({"motion": np.full((3, 4), np.nan)}, "motion holds values that are not finite"),
        ({"motion": np.zeros((3, 4), dtype=complex)}, "motion must be numbers"),
        ({"appearance_views": np.zeros((3, 4))}, r"appearance_views must be numbers of shape \(3, views, 4\)"),
        ({"fused": None}, "needs the scores of a stream, and 'fused' where there are two"),
        ({"appearance": None, "motion": None}, "needs the scores of a stream"),
        ({"record": np.array("{")}, "the record is no JSON"),
        ({"record": np.array("[]")}, "a record of format 1 is needed"),
        ({"record": np.array('{"format": 2}')}, "of a newer stmulnet"),
        ({"record": np.array('{"format": 1}')}, "the record is not one of an evaluation"),
    ],
)
def test_every_array_is_checked(saved: SavedScores, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    save_scores(tmp_path / "scores.npz", saved)
    with pytest.raises(ConfigError, match=message):
        load_scores(rewritten(tmp_path / "scores.npz", **changes))


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": 1},
        {"split": "1"},
        {"split": True},
        {"views": "many"},
        {"weights": {}},
        {"weights": ["x.mat"]},
        {"weights": [{"file": 1}]},
        {"fusion_weights": ["a", "b"]},
        {"external": {"file": "x"}},
        {"external": []},
        {"more": 1},
    ],
)
def test_any_json_can_stand_in_the_record(saved: SavedScores, tmp_path: Path, change: dict[str, Any]) -> None:
    save_scores(tmp_path / "scores.npz", saved)
    with np.load(tmp_path / "scores.npz") as file:
        record = json.loads(str(file["record"])) | change
    with pytest.raises(ConfigError, match="the record is not one of an evaluation; the file is damaged"):
        load_scores(rewritten(tmp_path / "scores.npz", record=np.array(json.dumps(record))))


def test_objects_are_not_unpickled(saved: SavedScores, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    save_scores(tmp_path / "scores.npz", saved)
    path = rewritten(tmp_path / "scores.npz", videos=np.array([Trap(), 1, 2], dtype=object))
    with pytest.raises(ConfigError, match=r"not a scores file, or damaged \(it holds Python objects\)"):
        load_scores(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("cut", [0, 10, 500, -30])
def test_damaged_files(saved: SavedScores, tmp_path: Path, cut: int) -> None:
    save_scores(tmp_path / "scores.npz", saved)
    path = tmp_path / "cut.npz"
    path.write_bytes((tmp_path / "scores.npz").read_bytes()[:cut])
    with pytest.raises(ConfigError, match="not a scores file, or damaged"):
        load_scores(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        load_scores(tmp_path / "nowhere.npz")
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ConfigError, match=r"not a scores file, or damaged; give the scores\.npz"):
        load_scores(tmp_path / "x.npy")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scores(tmp_path)
