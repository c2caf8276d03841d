"""Annotation files: what is written and read, and what is refused with which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from stmulnet.datasets.annotations import Annotation, VideoRecord, load_annotation, to_json
from stmulnet.datasets.lists import SplitLists
from stmulnet.errors import AnnotationError

LISTS = SplitLists(["Diving", "Biking"], {"v_D_g02": 0, "v_B_g02": 1}, {"v_D_g01": 0}, source={"kind": "ucf101"})
SAME_NAMES = {video: video for video in LISTS.videos()}
FRAMES = {"v_D_g02": 40, "v_B_g02": 11, "v_D_g01": 99}


def test_round_trip_through_the_file(tmp_path: Path) -> None:
    content = to_json(LISTS, FRAMES, SAME_NAMES)
    assert content == {
        "labels": {"1": "Diving", "2": "Biking"},
        "training": {
            "v_D_g02": {"set": "training", "label": 1, "nframes": 40},
            "v_B_g02": {"set": "training", "label": 2, "nframes": 11},
        },
        "validation": {"v_D_g01": {"set": "validation", "label": 1, "nframes": 99}},
        "source": {"kind": "ucf101"},
    }
    path = tmp_path / "annot01.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert load_annotation(path) == Annotation(
        class_names=["Diving", "Biking"],
        training=[VideoRecord("v_D_g02", 0, 40), VideoRecord("v_B_g02", 1, 11)],
        validation=[VideoRecord("v_D_g01", 0, 99)],
    )


def test_names_are_those_on_disk_and_missing_videos_are_named() -> None:
    content = to_json(LISTS, {"v_D_g02": 40, "v_B_g02": 11}, {**SAME_NAMES, "v_B_g02": "v-b-g02"})
    assert list(content["training"]) == ["v_D_g02", "v-b-g02"]
    assert content["validation"] == {}
    assert content["left_out"] == {"training": [], "validation": ["v_D_g01"]}


def test_files_of_the_earlier_port_are_read(tmp_path: Path) -> None:
    """They have the three objects only."""
    path = tmp_path / "annot01.json"
    path.write_text(json.dumps(_good()), encoding="utf-8")
    assert load_annotation(path).training == [VideoRecord("x", 0, 20)]


def _good() -> dict[str, Any]:
    return {
        "labels": {"1": "A", "2": "B"},
        "training": {"x": {"set": "training", "label": 1, "nframes": 20}},
        "validation": {"y": {"set": "validation", "label": 2, "nframes": 20}},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"1": "A", "3": "B"}}, "without a gap"),
        ({"labels": {}}, "without a gap"),
        ({"training": []}, "needs the objects"),
        ({"training": {"x": {"label": 3, "nframes": 20}}}, r"x: 'label' must be a class number 1 \.\.\. 2, got 3"),
        ({"training": {"x": {"label": 0, "nframes": 20}}}, "got 0"),
        ({"training": {"x": {"label": True, "nframes": 20}}}, "got True"),
        ({"training": {"x": {"label": 1, "nframes": "20"}}}, "'nframes' must be a number of frames, got '20'"),
        ({"left_out": {"training": "x"}}, "'left_out' must map"),
        ({"left_out": 3}, "'left_out' must map"),
        ({"training": {"x": 5}}, "x: 'label' must be"),
        ({"validation": {"x": {"label": 1, "nframes": 20}}}, r"1 video \(x\) in training and in validation"),
    ],
)
def test_bad_annotation_files_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "annot01.json"
    path.write_text(json.dumps(_good() | change), encoding="utf-8")
    with pytest.raises(AnnotationError, match=message):
        load_annotation(path)


def test_a_video_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "annot01.json"
    path.write_text('{"labels": {"1": "A"}, "training": {"x": {}, "y": {}, "x": {}}, "validation": {}}')
    with pytest.raises(AnnotationError, match=r"annot01.json: .*'x' is there twice"):
        load_annotation(path)


def test_damaged_and_missing_annotation_files(tmp_path: Path) -> None:
    path = tmp_path / "annot01.json"
    (tmp_path / "annot02.json").touch()
    with pytest.raises(
        AnnotationError, match=r"no such annotation file \(there: annot02.json\); make it with `stmulnet annotate`"
    ):
        load_annotation(path)
    path.write_text('{"labels": ')
    with pytest.raises(AnnotationError, match="not a JSON file"):
        load_annotation(path)


def test_unknown_subset() -> None:
    with pytest.raises(AnnotationError, match="'test'; one of: training, validation"):
        Annotation(["A"], [], []).records("test")
