"""Splits from CSV files: what is read, and what is refused with which words."""

from pathlib import Path

import pytest

from stmulnet.datasets.table import read_table
from stmulnet.errors import AnnotationError

HEADER = "video,class,subset\n"


def _read(tmp_path: Path, text: str) -> dict[int, dict[str, dict[str, int]]]:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return {
        split: {"training": lists.training, "validation": lists.validation} for split, lists in read_table(path).items()
    }


def test_one_split(tmp_path: Path) -> None:
    found = _read(tmp_path, HEADER + "x/a.avi,Wave,train\nb.MP4,Jump,test\n c , Jump ,Training\nd,Wave,val\n\n")
    assert found == {1: {"training": {"a": 1, "c": 0}, "validation": {"b": 0, "d": 1}}}


def test_several_splits_have_the_same_labels(tmp_path: Path) -> None:
    text = "note,Split,SUBSET,class,video\n,2,test,B,x\n,1,train,C,y\n,2,training,A,z\n,1,unused,A,x\n"
    (tmp_path / "t.csv").write_text(text)
    splits = read_table(tmp_path / "t.csv")
    assert list(splits) == [1, 2]
    assert splits[1].class_names == splits[2].class_names == ["A", "B", "C"]
    assert splits[1].training == {"y": 2}
    assert splits[1].unused == {"x"}
    assert (splits[2].training, splits[2].validation) == ({"z": 0}, {"x": 1})
    assert splits[2].source == {"kind": "csv"}


def test_words_may_be_in_the_column_split(tmp_path: Path) -> None:
    found = _read(tmp_path, "video,class,split\na,Wave,train\nb,Wave,test\n")
    assert found == {1: {"training": {"a": 0}, "validation": {"b": 0}}}


def test_names_with_dots_commas_and_quotes(tmp_path: Path) -> None:
    found = _read(tmp_path, HEADER + '"one, ""two"".x",Wave,train\n')
    assert list(found[1]["training"]) == ['one, "two".x']


def test_byte_order_mark_and_line_ends_of_windows(tmp_path: Path) -> None:
    found = _read(tmp_path, "\ufeffvideo,class,subset\r\na.avi,Wave,train\r\n")
    assert found == {1: {"training": {"a": 0}, "validation": {}}}


def test_known_classes_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + "a,kick,train\nb,kick_ball,train\n")
    assert read_table(tmp_path / "t.csv")[1].class_names == ["kick_ball", "kick"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEADER, "it needs a header and a line per video"),
        (
            "a.avi,Wave,train\nb.avi,Wave,test\n",
            r"the first line must name the columns video, class .* got a.avi, Wave",
        ),
        ("Video;Class;subset\na;b;train\n", "with commas between; got Video;Class;subset"),
        ("video,class\na,b\n", "the first line must name the columns"),
        ("video,class,subset,video\na,b,train,a\n", "each once"),
        (HEADER + "a,Wave\n", r"mine.csv:2: 2 cells, but the header has 3"),
        (HEADER + "\na,Wave,both\n", r"mine.csv:3: 'both' is no subset; one of: train, training, test"),
        (HEADER + ",Wave,train\n", "mine.csv:2: the video is empty"),
        (HEADER + "a,,train\n", "mine.csv:2: the class is empty"),
        (HEADER + "x/a.avi,Wave,train\na.mp4,Wave,train\n", "a is there twice in split 1, for training; leave one"),
        (
            HEADER + "a,Wave,train\na,Jump,train\n",
            "a is there twice in split 1, for training, of class Jump and of class Wave; leave one",
        ),
        (HEADER + "a,Wave,train\na,Wave,test\n", r"split 1 has 1 video \(a\) for training and for testing"),
        (HEADER + "a,Wave,train\na,Wave,unused\n", "a is unused and used"),
        ("video,class,subset,split\na,Wave,train,0\n", "'0' is no number of a split, 1 ... 99"),
        ("video,class,subset,split\na,Wave,train,\n", "'' is no number of a split"),
        (HEADER + 'a,"Wave\n', r"mine.csv:2: not CSV \(unexpected end of data\)"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        _read(tmp_path, text)
