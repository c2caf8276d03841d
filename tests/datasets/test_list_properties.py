"""Properties of lists, names and annotation files, over whatever hypothesis thinks of."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.datasets.writing import write_hmdb51, write_ucf101

from stmulnet.datasets import hmdb51, ucf101
from stmulnet.datasets.annotations import load_annotation, to_json
from stmulnet.datasets.inventory import match_names
from stmulnet.datasets.lists import SplitLists, check_split
from stmulnet.datasets.table import read_table
from stmulnet.errors import AnnotationError

Folder = Callable[[], Path]
Result = TypeVar("Result")

LETTERS = "abcXYZ019_äß"
CLASS_NAMES = st.lists(st.text(LETTERS + "-+()", min_size=1, max_size=6), min_size=1, max_size=4, unique=True)
VIDEO_NAMES = st.text(LETTERS + " -+!#()[];&~@,.'", min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and not name.startswith(".")
)
SUBSETS = st.sampled_from(["training", "validation", "unused"])


@st.composite
def split_lists(draw: st.DrawFn) -> SplitLists:
    """Any split with at least one video in each subset."""
    class_names = draw(CLASS_NAMES)
    videos = draw(st.lists(VIDEO_NAMES, min_size=2, max_size=12, unique=True))
    labels = draw(st.lists(st.integers(0, len(class_names) - 1), min_size=len(videos), max_size=len(videos)))
    cut = draw(st.integers(1, len(videos) - 1))
    pairs = list(zip(videos, labels, strict=True))
    return SplitLists(class_names, dict(pairs[:cut]), dict(pairs[cut:]), source={"kind": "ucf101"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A fresh folder at every call: hypothesis runs a test many times in one go."""
    return lambda: tmp_path_factory.mktemp("lists")


@given(lists=split_lists())
def test_lists_of_ucf101_come_back(folder: Folder, lists: SplitLists) -> None:
    assert ucf101.read_split(write_ucf101(folder(), {2: lists}), 2) == lists


@given(lists=split_lists(), seed=st.integers(0, 99))
def test_the_order_of_lines_does_not_matter(folder: Folder, lists: SplitLists, seed: int) -> None:
    place = write_ucf101(folder(), {1: lists})
    for name in ("trainlist01.txt", "testlist01.txt"):
        lines = (place / name).read_text(encoding="utf-8").splitlines()
        random.Random(seed).shuffle(lines)
        (place / name).write_text("\n".join(lines), encoding="utf-8")
    assert ucf101.read_split(place, 1) == lists


@given(lists=split_lists(), data=st.data())
def test_a_video_named_twice_is_refused(folder: Folder, lists: SplitLists, data: st.DataObject) -> None:
    place = write_ucf101(folder(), {1: lists})
    training = (place / "trainlist01.txt").read_text(encoding="utf-8")
    line = data.draw(st.sampled_from(training.splitlines()))
    (place / "trainlist01.txt").write_text(f"{training}{line}\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="is in the list already"):
        ucf101.read_split(place, 1)
    (place / "trainlist01.txt").write_text(training, encoding="utf-8")
    tested = (place / "testlist01.txt").read_text(encoding="utf-8")
    (place / "testlist01.txt").write_text(f"{tested}{line.rpartition(' ')[0]}\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="for training and for testing"):
        ucf101.read_split(place, 1)


@given(
    names=st.lists(st.text("abc_", min_size=1, max_size=5), min_size=1, max_size=3, unique=True),
    videos=st.dictionaries(VIDEO_NAMES, st.tuples(st.integers(0, 2), SUBSETS), min_size=1, max_size=12),
)
def test_lists_of_hmdb51_come_back(folder: Folder, names: list[str], videos: dict[str, tuple[int, str]]) -> None:
    classes: dict[str, dict[str, str]] = {}
    for video, (number, subset) in videos.items():
        classes.setdefault(names[number % len(names)], {})[video] = subset
    used = {video for video, (_, subset) in videos.items() if subset != "unused"}
    place = write_hmdb51(folder(), {1: classes})
    if not used:
        with pytest.raises(AnnotationError, match="no videos"):
            hmdb51.read_split(place, 1)
        return
    lists = hmdb51.read_split(place, 1)
    assert lists.class_names == sorted(classes)
    assert lists.unused == videos.keys() - used
    for video, label in lists.videos().items():
        subset = classes[lists.class_names[label]][video]
        assert video in (lists.training if subset == "training" else lists.validation)
    assert lists.videos().keys() == used


READERS: list[Callable[[Path], SplitLists]] = [
    lambda place: ucf101.read_split(place, 1),
    lambda place: hmdb51.read_split(place, 1),
    lambda place: next(iter(read_table(place / "t.csv").values())),
]


def or_message(read: Callable[[Path], Result], path: Path) -> Result | str:
    """What is read, or the message of its refusal; any other exception fails the test."""
    try:
        return read(path)
    except AnnotationError as error:
        return str(error)


@given(text=st.text(), labelled=st.text())
@example(text="1 A\n", labelled="A/a.avi 1\nA/..avi 1")
@example(text="a.avi 1\n", labelled="video,class,subset\n\0,A,train\n")
def test_any_text_is_read_or_refused(folder: Folder, text: str, labelled: str) -> None:
    place = folder()
    for name in ("classInd.txt", "trainlist01.txt", "testlist01.txt", "A_test_split1.txt", "t.csv"):
        (place / name).write_text(text if name[0] in "cA" else labelled, encoding="utf-8", newline="")
    for read in READERS:
        lists = or_message(read, place)
        assert str(place) in lists if isinstance(lists, str) else check_split("", lists) == lists


@given(lists=split_lists(), seed=st.integers(0, 99))
def test_annotation_files_come_back(folder: Folder, lists: SplitLists, seed: int) -> None:
    rng = random.Random(seed)
    frames = {video: rng.randrange(11, 2000) for video in lists.videos()}
    path = folder() / "annot01.json"
    path.write_text(json.dumps(to_json(lists, frames, {v: v for v in frames})), encoding="utf-8")
    annotation = load_annotation(path)
    assert annotation.class_names == lists.class_names
    for subset, videos in (("training", lists.training), ("validation", lists.validation)):
        records = annotation.records(subset)
        assert [(r.video, r.label, r.num_frames) for r in records] == [(v, n, frames[v]) for v, n in videos.items()]


KEYS = st.sampled_from(["1", "2", "label", "nframes", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=8,
)


@given(labels=JSON | st.just({"1": "A"}), training=JSON, validation=JSON)
def test_any_json_is_read_or_refused(folder: Folder, labels: Any, training: Any, validation: Any) -> None:
    path = folder() / "annot01.json"
    path.write_text(json.dumps({"labels": labels, "training": training, "validation": validation}))
    annotation = or_message(load_annotation, path)
    if isinstance(annotation, str):
        assert str(path) in annotation
    else:
        assert all(0 <= r.label < len(annotation.class_names) and r.num_frames > 0 for r in annotation.training)


NAME_LISTS = st.lists(st.text("aAb_-! é", min_size=1, max_size=4), max_size=12, unique=True)


def letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


@given(listed=NAME_LISTS, on_disk=NAME_LISTS, seed=st.integers(0, 99))
def test_names_are_matched_one_to_one(listed: list[str], on_disk: list[str], seed: int) -> None:
    found = match_names(listed, on_disk)
    assert found.keys() <= set(listed)
    assert len(set(found.values())) == len(found)
    assert all(found[name] == name for name in set(listed) & set(on_disk))
    assert all(letters(name) == letters(other) for name, other in found.items())
    for names in (listed, on_disk):
        random.Random(seed).shuffle(names)
    assert match_names(listed, on_disk) == found


@pytest.mark.parametrize(
    ("listed", "on_disk", "found"),
    [
        ("v_HandStandPushups_g01_c01", "v_HandstandPushups_g01_c01", True),
        ("#2_Gum_chew", "_2_Gum_chew", True),
        ("#2_Gum_chew", "2_Gum_chew", True),
        ("Brushing__[_NEW_AUDIO_]_UPDATED!!!!_brush", "Brushing_NEW_AUDIO_UPDATED_brush", True),
        ("Tips_-_The_Driver_300+_Yards!!!_golf", "Tips_-_The_Driver_300 _Yards____golf", True),
        ("Tür", "Tu\u0308r", True),
        ("jump_1", "jump1", False),
        ("jump_1", "jump_10", False),
    ],
)
def test_spellings(listed: str, on_disk: str, found: bool) -> None:
    assert match_names([listed], [on_disk]) == ({listed: on_disk} if found else {})


def test_names_that_look_alike_are_not_guessed() -> None:
    """HMDB-51 has Smile!_smile_... and Smile_smile_...: one on disk must not stand in for the other."""
    assert match_names(["Smile!_smile", "Smile_smile"], ["Smile_smile"]) == {"Smile_smile": "Smile_smile"}
    assert match_names(["Smile!_smile", "Smile_smile"], ["Smile__smile"]) == {"Smile!_smile": "Smile__smile"}
    assert match_names(["Smile!_smile"], ["Smile__smile", "Smile-_smile"]) == {}
    assert match_names(["a-b", "a!b"], ["a_b"]) == {}
