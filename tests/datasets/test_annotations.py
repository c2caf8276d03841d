"""Split lists and annotation files: what is read, and what is refused with which words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stmulnet.datasets.annotations import (
    Annotation,
    VideoRecord,
    find_splits,
    load_annotation,
    read_class_names,
    read_split,
    to_json,
)
from stmulnet.errors import AnnotationError

CLASSES = "1 Diving\n2 Biking\n"
TRAIN = "Diving/v_Diving_g02_c01.avi 1\nBiking/v_Biking_g02_c01.avi 2\n"
TEST = "Diving/v_Diving_g01_c01.avi\n"
FRAMES = {"v_Diving_g02_c01": 40, "v_Biking_g02_c01": 11, "v_Diving_g01_c01": 99}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a folder of lists; every file can be replaced or, with None, left out."""

    def write_lists(classes: str | None = CLASSES, train: str | None = TRAIN, test: str | None = TEST) -> Path:
        for name, text in (("classInd.txt", classes), ("trainlist01.txt", train), ("testlist01.txt", test)):
            if text is not None:
                (tmp_path / name).write_bytes(text.encode())
        return tmp_path

    return write_lists


def test_lists_are_read(write: Write) -> None:
    lists = read_split(write(), 1)
    assert lists.class_names == ["Diving", "Biking"]
    assert lists.training == {"v_Diving_g02_c01": 0, "v_Biking_g02_c01": 1}
    assert lists.validation == {"v_Diving_g01_c01": 0}


def test_line_ends_and_blank_lines_do_not_matter(write: Write) -> None:
    odd = read_split(write("\ufeff1 Diving\r\n\r\n2 Biking\r\n", TRAIN.replace("\n", "\r\n\r\n"), TEST.strip()), 1)
    assert odd == read_split(write(), 1)


def test_round_trip_through_the_file(write: Write, tmp_path: Path) -> None:
    content = to_json(read_split(write(), 1), FRAMES)
    assert content["labels"] == {"1": "Diving", "2": "Biking"}
    assert content["training"]["v_Biking_g02_c01"] == {"set": "training", "label": 2, "nframes": 11}
    assert content["validation"]["v_Diving_g01_c01"] == {"set": "validation", "label": 1, "nframes": 99}
    path = tmp_path / "annot01.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert load_annotation(path) == Annotation(
        class_names=["Diving", "Biking"],
        training=[VideoRecord("v_Diving_g02_c01", 0, 40), VideoRecord("v_Biking_g02_c01", 1, 11)],
        validation=[VideoRecord("v_Diving_g01_c01", 0, 99)],
    )


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"classes": "1 Diving\n3 Biking\n"}, r"classInd.txt:2: class number 3 where 2 should follow"),
        ({"classes": "2 Diving\n"}, r"classInd.txt:1: class number 2 where 1"),
        ({"classes": "1 Diving\n2 Diving\n"}, r"classInd.txt:2: class Diving is there already"),
        ({"classes": "Diving\n"}, r"classInd.txt:1: 'Diving' is not 'NUMBER CLASS'"),
        ({"classes": ""}, r"classInd.txt: the file is empty"),
        ({"classes": None}, r"classInd.txt: cannot be read"),
        ({"test": None}, r"testlist01.txt: cannot be read"),
        ({"train": "Diving/v_a.avi\n"}, r"trainlist01.txt:1: 'Diving/v_a.avi' is not 'CLASS/VIDEO.avi LABEL'"),
        ({"test": "v_a.avi\n"}, r"testlist01.txt:1: 'v_a.avi' is not 'CLASS/VIDEO.avi'"),
        ({"train": TRAIN + "Jumping/v_a.avi 3\n"}, r"trainlist01.txt:3: class Jumping is not in classInd.txt"),
        ({"train": "Biking/v_a.avi 1\n"}, r"trainlist01.txt:1: label 1, but classInd.txt gives Biking the number 2"),
        ({"train": TRAIN + TRAIN}, r"trainlist01.txt:3: v_Diving_g02_c01 is in the list already"),
        ({"test": "Diving/v_Diving_g02_c01.avi\n"}, r"1 video \(v_Diving_g02_c01\) in the training and the test list"),
    ],
)
def test_bad_lists_are_refused(write: Write, replaced: dict[str, str | None], message: str) -> None:
    lists = write(**replaced)
    with pytest.raises(AnnotationError, match=message):
        read_split(lists, 1)


def test_a_list_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classInd.txt").write_bytes(b"1 \xff\xfe\n")
    with pytest.raises(AnnotationError, match="not a text file in UTF-8"):
        read_class_names(tmp_path / "classInd.txt")


def test_splits_are_found(write: Write) -> None:
    lists = write()
    (lists / "trainlist03.txt").write_text(TRAIN)
    assert find_splits(lists) == [1, 3]


def test_missing_folder_and_folder_without_lists(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="nowhere: no such folder"):
        find_splits(tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match="holds no trainlist01"):
        find_splits(tmp_path)


def test_videos_without_frames_are_named_and_counted(write: Write) -> None:
    lines = "".join(f"Diving/v_Diving_g{i:02d}_c01.avi 1\n" for i in range(10, 17))
    lists = read_split(write(train=TRAIN + lines), 1)
    with pytest.raises(AnnotationError, match=r"7 videos \(v_Diving_g10_c01, .*v_Diving_g14_c01, \.\.\.\) with no"):
        to_json(lists, FRAMES)


def test_short_videos_are_named(write: Write) -> None:
    with pytest.raises(AnnotationError, match=r"1 video \(v_Biking_g02_c01\) .* fewer than 11"):
        to_json(read_split(write(), 1), FRAMES | {"v_Biking_g02_c01": 10})


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
        ({"training": {"x": 5}}, "x: 'label' must be"),
        ({"validation": {"x": {"label": 1, "nframes": 20}}}, r"1 video \(x\) in training and in validation"),
    ],
)
def test_bad_annotation_files_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "annot01.json"
    path.write_text(json.dumps(_good() | change), encoding="utf-8")
    with pytest.raises(AnnotationError, match=message):
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


@pytest.mark.parametrize(("split", "sizes"), [(1, (9537, 3783)), (2, (9586, 3734)), (3, (9624, 3696))])
def test_the_official_ucf101_lists(shared_dir: Path, split: int, sizes: tuple[int, int]) -> None:
    lists = read_split(shared_dir / "splits" / "ucf101", split)
    assert len(lists.class_names) == 101
    assert (len(lists.training), len(lists.validation)) == sizes
