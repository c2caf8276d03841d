"""The annotate command: what it writes, and that it writes nothing when it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stmulnet.cli import main
from stmulnet.commands.annotate import annotate
from stmulnet.datasets.annotations import VideoRecord, load_annotation
from stmulnet.datasets.sampling import flow_numbers
from stmulnet.datasets.sampling import test_frames as frames_of_test
from stmulnet.errors import AnnotationError, ConfigError, DatasetError
from stmulnet.video.manifest import ONLY_FOR_TEST_FRAMES, Manifest
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
    written = sorted(path.name for path in (dataset / "annotations").iterdir())
    assert written == ["annot01.json", "annot02.json", "report.json"]
    annotation = load_annotation(dataset / "annotations" / "annot02.json")
    assert annotation.training == [VideoRecord("v_A_g02_c01", 0, 14), VideoRecord("v_B_g02_c01", 1, 13)]
    printed = capsys.readouterr().out
    assert "annot01.json: 2 classes, 2 training and 1 validation video\n" in printed
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


def test_one_may_go_on_without_what_is_missing(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lists / "testlist02.txt").write_text("A/v_A_g77_c01.avi\nA/v_A_g01_c01.avi\nB/v_B_g09_c01.avi\n")
    _write_video(dataset, "v_B_g09_c01", 11, 9)
    (dataset / "flows" / "u" / "v_B_g09_c01" / "frame000010.jpg").unlink()
    (dataset / "flows" / "v" / "v_B_g09_c01" / "frame000010.jpg").unlink()
    (dataset / "images" / "v_A_g02_c01" / "frame000003.jpg").unlink()
    summary = annotate(lists, dataset, allow_missing=True)
    assert summary.exit_code == 1
    assert summary.stock.unusable == ["v_A_g02_c01", "v_A_g77_c01", "v_B_g09_c01"]
    content = json.loads(summary.files[2].read_text())
    assert list(content["training"]) == ["v_B_g02_c01"]
    assert list(content["validation"]) == ["v_A_g01_c01"]
    assert content["left_out"] == {"training": ["v_A_g02_c01"], "validation": ["v_A_g77_c01", "v_B_g09_c01"]}
    report = json.loads((dataset / "annotations" / "report.json").read_text())
    assert report["absent"] == ["v_A_g77_c01"]
    assert report["short"] == {"v_B_g09_c01": 10}
    assert "frame000003.jpg" in report["damaged"]["v_A_g02_c01"]
    printed = capsys.readouterr().out
    assert "LEFT OUT: 1 video (v_A_g77_c01) with no frames on disk; 1 video (v_B_g09_c01) with fewer than 11" in printed
    assert "no training videos in 1 of the classes: A" in printed


def test_short_and_damaged_videos_are_refused(lists: Path, dataset: Path) -> None:
    _write_video(dataset, "short", 10, 9)
    (lists / "testlist01.txt").write_text("A/short.avi\n")
    with pytest.raises(
        AnnotationError, match=r"1 video \(short\) with fewer than 11 .* leave them out with --allow-missing"
    ):
        annotate(lists, dataset)
    (dataset / "flows" / "v" / "v_B_g02_c01" / "frame000012.jpg").unlink()
    with pytest.raises(AnnotationError, match=r"1 video \(v_B_g02_c01\) with incomplete .* 12 images of u and 11 of v"):
        annotate(lists, dataset)


def test_lists_of_other_data_are_refused_even_then(lists: Path, dataset: Path) -> None:
    for split in (1, 2):
        (lists / f"trainlist0{split}.txt").write_text("A/v_A_g77_c01.avi 1\n")
        (lists / f"testlist0{split}.txt").write_text("A/v_A_g78_c01.avi\n")
    with pytest.raises(AnnotationError, match=r"not one of its videos can be used \(on disk: 4 videos .*are these the"):
        annotate(lists, dataset, allow_missing=True)


def test_a_group_on_both_sides_is_noted(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_video(dataset, "v_A_g02_c02", 12, 11)
    (lists / "testlist02.txt").write_text("A/v_A_g02_c02.avi\n")
    assert annotate(lists, dataset).shared_groups == {1: [], 2: ["v_A_g02"]}
    assert "training and validation share 1 of the groups: v_A_g02; an easy test" in capsys.readouterr().out


def test_other_spellings_on_disk(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lists / "testlist01.txt").write_text("A/V_a g01-c01!.avi\n")
    summary = annotate(lists, dataset, splits=[1])
    assert load_annotation(summary.files[1]).validation == [VideoRecord("v_A_g01_c01", 0, 12)]
    assert "spelt otherwise on disk: 1 video (V_a g01-c01!)" in capsys.readouterr().out
    report = json.loads((dataset / "annotations" / "report.json").read_text())
    assert report["renamed"] == {"V_a g01-c01!": "v_A_g01_c01"}


def test_names_on_disk_that_are_no_text(lists: Path, dataset: Path) -> None:
    try:
        _write_video(dataset, "v_\udcff", 12, 11)
    except OSError:
        pytest.skip("this file system takes text only")
    annotate(lists, dataset)
    report = json.loads((dataset / "annotations" / "report.json").read_text())
    assert report["unlisted"] == ["v_B_g09_c01", "v_\\udcff"]


def test_files_of_an_earlier_run_are_named(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(lists, dataset)
    assert "anew" not in capsys.readouterr().out
    annotate(lists, dataset, splits=[1])
    assert "not written anew: annot02.json" in capsys.readouterr().out


def test_flow_of_test_frames_alone(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_video(dataset, "v_A_g01_c01", 400, 399)
    needed = {field for time in frames_of_test(400) for field in flow_numbers(time)}
    for path in (dataset / "flows").glob("*/v_A_g01_c01/*.jpg"):
        if int(path.stem.removeprefix("frame")) not in needed:
            path.unlink()
    with pytest.raises(AnnotationError, match="incomplete frames or flow"):
        annotate(lists, dataset)
    Manifest({"flow": {ONLY_FOR_TEST_FRAMES: 25}}).save(dataset / "manifest.json")
    summary = annotate(lists, dataset)
    assert load_annotation(summary.files[1]).validation[0].num_frames == 400
    assert "only the flow of 25 test frames per video is there" in capsys.readouterr().err
    (dataset / "flows" / "v" / "v_A_g01_c01" / f"frame{min(needed):06d}.jpg").unlink()
    with pytest.raises(AnnotationError, match=f"frame{min(needed):06d}.jpg: missing; extract the video again"):
        annotate(lists, dataset)


def test_class_folders_are_split_at_random(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for video in VIDEOS:
        (tmp_path / "videos" / video.split("_")[1]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / video.split("_")[1] / f"{video}.mp4").touch()
    summary = annotate(tmp_path / "videos", dataset, splits=[1, 2], seed=7, test_fraction=0.5)
    content = json.loads(summary.files[2].read_text())
    assert content["source"] == {"kind": "folder", "split": 2, "seed": 7, "test_fraction": 0.5}
    assert len(content["training"]) == len(content["validation"]) == 2
    with pytest.raises(ConfigError, match="test_fraction must be above 0 and below 1, got 1"):
        annotate(tmp_path / "videos", dataset, test_fraction=1)


def test_class_folders_of_frames_can_be_annotated_again(dataset: Path, tmp_path: Path) -> None:
    """The data set is its own list: its annotations lie beside the classes."""
    for video in VIDEOS:
        target = tmp_path / "own" / video.split("_")[1] / video
        target.mkdir(parents=True)
        for name, source in (("img", "images"), ("flow_x", "flows/u"), ("flow_y", "flows/v")):
            for number, image in enumerate(sorted((dataset / source / video).iterdir()), start=1):
                shutil.copy(image, target / f"{name}_{number:05d}.jpg")
    first = annotate(tmp_path / "own", tmp_path / "own").files[1].read_bytes()
    assert annotate(tmp_path / "own", tmp_path / "own").files[1].read_bytes() == first


def test_nothing_wanted_and_nowhere_to_write(lists: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"splits must be numbers from 1, as in \[1, 2, 3\], got \[\]"):
        annotate(lists, dataset, splits=[])
    (dataset / "annotations").touch()
    with pytest.raises(ConfigError, match="annotations: is a file"):
        annotate(lists, dataset)


def test_frames_or_flow_alone(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "flows").rename(dataset / "elsewhere")
    assert load_annotation(annotate(lists, dataset).files[1]).validation[0].num_frames == 12
    assert "flow: none" in capsys.readouterr().err
    (dataset / "elsewhere").rename(dataset / "flows")
    shutil.rmtree(dataset / "images")
    assert load_annotation(annotate(lists, dataset).files[1]).validation[0].num_frames == 12
    shutil.rmtree(dataset / "flows")
    with pytest.raises(DatasetError, match="neither frames nor flow are in this folder"):
        annotate(lists, dataset)


def test_command_line(lists: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", str(lists), str(dataset), "--splits", "[1]"]) == 0
    content = json.loads((dataset / "annotations" / "annot01.json").read_text())
    assert content["labels"] == {"1": "A", "2": "B"}
    (lists / "testlist02.txt").write_text("A/gone.avi\nA/v_A_g01_c01.avi\n")
    assert main(["annotate", str(lists), str(dataset), "--allow-missing"]) == 1
    assert main(["annotate", str(lists / "none"), str(dataset)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("stmulnet annotate: error:")
    assert "no such file or folder" in error
