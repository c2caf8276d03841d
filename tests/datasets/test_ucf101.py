"""UCF-101's lists: what is read, and what is refused with which words."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stmulnet.datasets.ucf101 import find_splits, read_class_names, read_split
from stmulnet.errors import AnnotationError

CLASSES = "1 Diving\n2 Biking\n"
TRAIN = "Diving/v_Diving_g02_c01.avi 1\nBiking/v_Biking_g02_c01.avi 2\n"
TEST = "Diving/v_Diving_g01_c01.avi\n"

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
        ({"train": f"Biking/v_a.avi {'9' * 5000}\n"}, r"trainlist01.txt:1: .* is not 'CLASS/VIDEO.avi LABEL'"),
        ({"train": TRAIN + TRAIN}, r"trainlist01.txt:3: v_Diving_g02_c01 is in the list already"),
        (
            {"test": "Diving/v_Diving_g02_c01.avi\n"},
            r"split 1 has 1 video \(v_Diving_g02_c01\) for training and for testing",
        ),
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


def test_a_folder_without_lists(write: Write) -> None:
    with pytest.raises(AnnotationError, match="holds no trainlist01"):
        find_splits(write(train=None, test=None))


@pytest.mark.parametrize(("split", "sizes"), [(1, (9537, 3783)), (2, (9586, 3734)), (3, (9624, 3696))])
def test_the_official_ucf101_lists(shared_dir: Path, split: int, sizes: tuple[int, int]) -> None:
    lists = read_split(shared_dir / "splits" / "ucf101", split)
    assert len(lists.class_names) == 101
    assert (len(lists.training), len(lists.validation)) == sizes
