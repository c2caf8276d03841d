"""Lists, tables and class folders are told apart by their content."""

from pathlib import Path

import pytest
from tests.datasets.writing import write_hmdb51, write_ucf101

from stmulnet.datasets.lists import SplitLists, empty_classes, group_of
from stmulnet.datasets.sources import read_splits
from stmulnet.errors import AnnotationError, ConfigError

LISTS = SplitLists(["A", "B"], {"a": 0, "b": 1}, {"c": 0})


def test_every_kind_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "folder" / "A").mkdir(parents=True)
    (tmp_path / "folder" / "A" / "a.avi").touch()
    (tmp_path / "t.txt").write_text("video,class,subset\na,A,train\n")
    sources = {
        "ucf101": write_ucf101(tmp_path / "ucf", {1: LISTS, 3: LISTS}),
        "hmdb51": write_hmdb51(tmp_path / "hmdb", {2: {"A": {"a": "training"}}}),
        "csv": tmp_path / "t.txt",
        "folder": tmp_path / "folder",
    }
    for kind, source in sources.items():
        assert [lists.source["kind"] for lists in read_splits(source).values()] == [kind] * len(read_splits(source))
    assert list(read_splits(sources["ucf101"])) == [1, 3]
    assert list(read_splits(sources["ucf101"], splits=[3, 3])) == [3]
    assert list(read_splits(sources["hmdb51"])) == [2]
    assert list(read_splits(sources["folder"], splits=[2, 1])) == [1, 2]


@pytest.mark.parametrize("kind", ["hmdb51", "csv"])
def test_a_split_that_is_not_there(tmp_path: Path, kind: str) -> None:
    (tmp_path / "t.csv").write_text("video,class,subset\na,A,train\n")
    lists = write_hmdb51(tmp_path / "lists", {1: {"A": {"a": "training"}}}) if kind == "hmdb51" else tmp_path / "t.csv"
    with pytest.raises(AnnotationError, match=r"no lists of split 2; there are lists of \[1\]"):
        read_splits(lists, splits=[2])


def test_places_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"nowhere: no such file or folder; it must be UCF-101's lists"):
        read_splits(tmp_path / "nowhere")
    (tmp_path / "a.avi").touch()
    with pytest.raises(AnnotationError, match="holds neither lists nor folders"):
        read_splits(tmp_path)


def test_both_kinds_of_lists_in_one_folder(tmp_path: Path) -> None:
    write_ucf101(tmp_path, {1: LISTS})
    write_hmdb51(tmp_path, {1: {"A": {"a": "training"}}})
    with pytest.raises(AnnotationError, match="give each its own folder"):
        read_splits(tmp_path)


def test_options_of_random_splits_with_lists(tmp_path: Path) -> None:
    write_ucf101(tmp_path, {1: LISTS})
    with pytest.raises(ConfigError, match="seed and test_fraction are for class folders"):
        read_splits(tmp_path, seed=0)


def test_splits_that_disagree_on_a_class(tmp_path: Path) -> None:
    write_ucf101(tmp_path, {1: LISTS, 2: SplitLists(["A", "B"], {"a": 1}, {"c": 0})})
    with pytest.raises(AnnotationError, match="a is of class A in split 1, of class B in split 2"):
        read_splits(tmp_path)


def test_groups_and_empty_classes() -> None:
    assert group_of("v_Biking_g01_c04") == "v_Biking_g01"
    assert group_of("Golf_Tips_golf_f_nm_np1_fr_med_0") is None
    assert empty_classes(LISTS, "training") == []
    assert empty_classes(LISTS, "validation") == ["B"]
