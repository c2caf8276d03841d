import re
from pathlib import Path

from stmulnet.class_names import CLASS_NAMES

# The list of cnn_setup_data.m differs from the alphabet in these two pairs (1-based labels 21, 22 and 45, 46).
SWAPPED = {"kick_ball": 21, "kick": 22, "sword_exercise": 45, "sword": 46}


def test_ucf101_is_in_the_order_of_its_list(shared_dir: Path) -> None:
    lines = (shared_dir / "splits" / "ucf101" / "classInd.txt").read_text(encoding="utf-8").splitlines()
    listed = {int(number): name for number, name in (line.split() for line in lines if line.strip())}
    assert dict(enumerate(CLASS_NAMES["ucf101"], start=1)) == listed
    assert len(listed) == 101


def test_hmdb51_has_the_classes_of_its_lists(shared_dir: Path) -> None:
    files = [path.name for path in (shared_dir / "splits" / "hmdb51").glob("*.txt")]
    listed = {match[1] for name in files if (match := re.match(r"(\w+)_test_split[123]\.txt", name))}
    assert sorted(CLASS_NAMES["hmdb51"]) == sorted(listed)
    assert len(listed) == 51


def test_hmdb51_is_alphabetical_but_for_two_pairs() -> None:
    names = list(CLASS_NAMES["hmdb51"])
    assert {name: names.index(name) + 1 for name in SWAPPED} == SWAPPED
    for first, second in (("kick_ball", "kick"), ("sword_exercise", "sword")):
        index = names.index(first)
        names[index : index + 2] = [second, first]
    assert names == sorted(names)
