"""The annotate command: what it writes, and that it writes nothing when it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from stmulnet.cli import main
from stmulnet.commands.annotate import annotate
from stmulnet.datasets.annotations import VideoRecord, load_annotation
from stmulnet.errors import AnnotationError, ConfigError, DatasetError
from stmulnet.video.store import write_flow, write_frames

VIDEOS = {"v_A_g01_c01": 12, "v_A_g02_c01": 14, "v_B_g02_c01": 13, "v_B_g09_c01": 11}


def _write_video(dataset: Path, video: str, num_frames: int, num_fields: int) -> None:
    rng = np.random.default_rng(num_frames)
    write_frames(dataset / "images" / video, rng.integers(0, 256, (num_frames, 16, 16, 3), dtype=np.uint8))
    folders = (dataset / "flows" / "u" / video, dataset / "flows" / "v" / video)
    write_flow(folders, rng.integers(0, 256, (num_fields, 2, 16, 16), dtype=np.uint8))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for video, num_frames in VIDEOS.items():
        _write_video(tmp_path / "data", video, num_frames, num_frames - 1)
    return tmp_path / "data"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "classInd.txt").write_text("1 A\n2 B\n")
    for split in (1, 2):
        (folder / f"trainlist0{split}.txt").write_text("A/v_A_g02_c01.avi 1\nB/v_B_g02_c01.avi 2\n")
        (folder / f"testlist0{split}.txt").write_text("A/v_A_g01_c01.avi\n")
    return folder


def test_every_split_is_written(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = annotate(lists, dataset)
    assert summary.exit_code == 0
    assert summary.unlisted == ["v_B_g09_c01"]
    assert sorted(path.name for path in (dataset / "annotations").iterdir()) == ["annot01.json", "annot02.json"]
    annotation = load_annotation(dataset / "annotations" / "annot02.json")
    assert annotation.training == [VideoRecord("v_A_g02_c01", 0, 14), VideoRecord("v_B_g02_c01", 1, 13)]
    printed = capsys.readouterr().out
    assert "annot01.json: 2 classes, 2 training and 1 validation videos" in printed
    assert "on disk but in no list: 1 video (v_B_g09_c01)" in printed


def test_chosen_splits_only(lists: Path, dataset: Path) -> None:
    assert list(annotate(lists, dataset, splits=[2]).files) == [2]
    with pytest.raises(AnnotationError, match=r"no lists of split 3; there are lists of \[1, 2\]"):
        annotate(lists, dataset, splits=[3])


def test_usable_frames_end_with_the_flow(lists: Path, dataset: Path) -> None:
    _write_video(dataset, "v_A_g01_c01", 20, 15)
    summary = annotate(lists, dataset, splits=[1])
    assert summary.short_of_flow == ["v_A_g01_c01"]
    assert load_annotation(summary.files[1]).validation[0].num_frames == 16


def test_one_bad_split_leaves_nothing_written(lists: Path, dataset: Path) -> None:
    (lists / "testlist02.txt").write_text("A/v_A_g77_c01.avi\n")
    with pytest.raises(AnnotationError, match=r"1 video \(v_A_g77_c01\) with no frames on disk"):
        annotate(lists, dataset)
    assert not (dataset / "annotations").exists()


def test_nothing_wanted_and_nowhere_to_write(lists: Path, dataset: Path) -> None:
    with pytest.raises(AnnotationError, match="splits names none"):
        annotate(lists, dataset, splits=[])
    (dataset / "annotations").touch()
    with pytest.raises(ConfigError, match="annotations: is a file"):
        annotate(lists, dataset)


def test_missing_flow_folder(lists: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "rgb" / "images" / "v_A_g01_c01", np.zeros((12, 16, 16, 3), np.uint8))
    with pytest.raises(DatasetError, match="flows: no such folder"):
        annotate(lists, tmp_path / "rgb")


def test_command_line(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", str(lists), str(dataset), "--splits", "[1]"]) == 0
    content = json.loads((dataset / "annotations" / "annot01.json").read_text())
    assert content["labels"] == {"1": "A", "2": "B"}
    assert main(["annotate", str(lists / "none"), str(dataset)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stmulnet annotate: error:")
    assert "no such folder" in error
