"""HMDB-51's lists: what is read, and what is refused with which words."""

from pathlib import Path

import pytest
from tests.datasets.writing import write_hmdb51

from stmulnet.class_names import CLASS_NAMES
from stmulnet.datasets.hmdb51 import find_splits, read_split
from stmulnet.errors import AnnotationError

ODD = "Golf_Tips_-_Hit_The_Driver_300+_Yards!!!_golf_f_nm_np1_fr_med_0"
BRACKETS = "#2_Brushing_[_NEW AUDIO_](Part2);-)&~@_golf_f_cm_np1_ri_goo_0"
GOLF = {ODD: "training", BRACKETS: "validation", "idle_golf_0": "unused"}
KICK = {"a_kick_0": "validation", "b_kick_0": "training"}
KICK_BALL = {"a_kick_ball_0": "training"}


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return write_hmdb51(tmp_path, {1: {"kick": KICK, "golf": GOLF, "kick_ball": KICK_BALL}})


def test_lists_are_read_in_the_order_of_the_official_labels(lists: Path) -> None:
    content = read_split(lists, 1)
    assert content.class_names == ["golf", "kick_ball", "kick"]
    assert content.training == {ODD: 0, "a_kick_ball_0": 1, "b_kick_0": 2}
    assert content.validation == {BRACKETS: 0, "a_kick_0": 2}
    assert content.unused == {"idle_golf_0"}
    assert content.source == {"kind": "hmdb51"}


def test_other_classes_follow_the_alphabet(lists: Path) -> None:
    write_hmdb51(lists, {1: {"Zumba": {"z": "training"}}})
    assert read_split(lists, 1).class_names == ["Zumba", "golf", "kick", "kick_ball"]


def test_splits_are_found(lists: Path) -> None:
    write_hmdb51(lists, {3: {"golf": GOLF}})
    (lists / "README.txt").touch()
    assert find_splits(lists) == [1, 3]
    with pytest.raises(AnnotationError, match=r"kick_ball_test_split3.txt is missing; other splits have that class"):
        read_split(lists, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.avi 3\n", r"golf_test_split1.txt:1: 'a.avi 3' is not 'VIDEO.avi FLAG' with the flag 0, 1 or 2"),
        ("a.avi\n", "'a.avi' is not 'VIDEO.avi FLAG'"),
        ("golf/a.avi 1\n", "'golf/a.avi 1' is not"),
        ("a.avi 1\n\nb.avi 2\na.avi 2\n", "golf_test_split1.txt:4: a is in golf_test_split1.txt already"),
        ("a.avi 1\na_kick_0.avi 0\n", r"kick_test_split1.txt:1: a_kick_0 is in golf_test_split1.txt already"),
        ("", "the file is empty"),
    ],
)
def test_bad_lists_are_refused(lists: Path, text: str, message: str) -> None:
    (lists / "golf_test_split1.txt").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_split(lists, 1)


def test_lists_of_unused_videos_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="split 2 has no videos, neither for training nor for testing"):
        read_split(write_hmdb51(tmp_path, {2: {"golf": {"a": "unused"}}}), 2)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_the_official_lists(shared_dir: Path, split: int) -> None:
    content = read_split(shared_dir / "splits" / "hmdb51", split)
    assert content.class_names == list(CLASS_NAMES["hmdb51"])
    assert (len(content.training), len(content.validation), len(content.unused)) == (3570, 1530, 1666)
    assert list(content.training.values()) == sorted(content.training.values())  # 70 videos of each class in turn
    assert set(content.training.values()) == set(content.validation.values()) == set(range(51))


def test_names_of_real_clips_are_in_the_official_lists(shared_dir: Path) -> None:
    content = read_split(shared_dir / "splits" / "hmdb51", 1)
    clips = sorted((shared_dir / "data" / "clips" / "hmdb51").glob("*/*.avi"))
    assert len(clips) == 4
    for clip in clips:
        label = content.class_names.index(clip.parent.name)
        assert clip.stem in content.unused or content.videos()[clip.stem] == label
