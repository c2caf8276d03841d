"""Random splits of class folders: by groups, repeatable, and independent of the order of the names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmulnet.datasets.annotations import Annotation, VideoRecord
from stmulnet.datasets.folder import hold_out, random_split, read_classes
from stmulnet.datasets.lists import group_of, shared_groups
from stmulnet.errors import AnnotationError, ConfigError

CLASSES = {
    "Wave": [f"v_Wave_g{group:02d}_c{clip:02d}" for group in range(1, 11) for clip in (1, 2, 3)],
    "Jump": [f"jump {number}" for number in range(20)],
}
NAMES = st.lists(
    st.one_of(st.builds("v_x_g{:02d}_c{:02d}".format, st.integers(1, 9), st.integers(1, 9)), st.text(min_size=1)),
    min_size=1,
    max_size=30,
    unique=True,
)


def test_groups_stay_together_and_shares_are_kept() -> None:
    lists = random_split(CLASSES, 1)
    assert lists.class_names == ["Jump", "Wave"]
    assert not shared_groups(lists)
    assert list(lists.validation.values()).count(0) == 6
    assert list(lists.validation.values()).count(1) == 3 * 3
    assert lists.source == {"kind": "folder", "split": 1, "seed": 0, "test_fraction": 0.3}


def test_seed_and_split_decide() -> None:
    first = random_split(CLASSES, 1, seed=4)
    assert random_split(CLASSES, 1, seed=4) == first
    assert random_split(CLASSES, 2, seed=4).validation != first.validation
    assert random_split(CLASSES, 1, seed=5).validation != first.validation


def test_a_known_draw_stays_the_same() -> None:
    """The seed in an annotation file shall give the same split with later releases."""
    lists = random_split({"A": [f"a{i}" for i in range(10)]}, 1, seed=3)
    assert sorted(lists.validation) == ["a1", "a2", "a4"]


@given(names=NAMES, data=st.data(), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**64 - 1))
def test_any_names(names: list[str], data: st.DataObject, fraction: float, seed: int) -> None:
    lists = random_split({"x": names}, 1, seed=seed, test_fraction=fraction)
    shuffled = data.draw(st.permutations(names))
    assert random_split({"x": shuffled}, 1, seed=seed, test_fraction=fraction) == lists
    assert sorted([*lists.training, *lists.validation]) == sorted(names)
    sides = [{group_of(name) or name for name in subset} for subset in (lists.training, lists.validation)]
    assert not sides[0] & sides[1]
    groups = len(sides[0] | sides[1])
    assert len(sides[1]) == (0 if groups == 1 else min(max(round(fraction * groups), 1), groups - 1))


@pytest.mark.parametrize(("options", "message"), [({"test_fraction": 0.0}, "got 0.0"), ({"seed": -1}, "got -1")])
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        random_split(CLASSES, 1, **options)  # type: ignore[arg-type]


def test_folders_of_files(tmp_path: Path) -> None:
    for path in ("Wave/b.avi", "Wave/a.MP4", "Wave/notes.txt", "Wave/.hidden.avi", "Jump/c.mkv", ".cache/d.avi"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "loose.avi").touch()
    assert read_classes(tmp_path) == {"Wave": ["a", "b"], "Jump": ["c"]}


def test_folders_of_extracted_videos(tmp_path: Path) -> None:
    for path in ("Wave/a", "Wave/b", "Jump/c"):
        (tmp_path / path).mkdir(parents=True)
    assert read_classes(tmp_path) == {"Wave": ["a", "b"], "Jump": ["c"]}


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    for path in ("Wave/a.avi", "Jump/a.mp4"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    with pytest.raises(AnnotationError, match=r"video 'a' is in 'Jump' and in 'Wave'; names must be unique"):
        read_classes(tmp_path)
    (tmp_path / "Jump" / "a.mp4").rename(tmp_path / "Wave" / "a.mp4")
    with pytest.raises(AnnotationError, match=r"Jump: holds no videos, neither files \(.*one folder per class"):
        read_classes(tmp_path)
    (tmp_path / "Jump").rmdir()
    with pytest.raises(AnnotationError, match=r"video 'a' is in 'Wave' and in 'Wave'"):
        read_classes(tmp_path)


def test_a_hold_out_takes_whole_groups_of_the_training_list() -> None:
    names = [f"v_{name}_g{group:02d}_c{clip:02d}" for name in "AB" for group in range(1, 11) for clip in (1, 2)]
    training = [VideoRecord(name, "AB".index(name[2]), 50) for name in names]
    annotation = Annotation(["A", "B"], training, [VideoRecord("v_A_g11_c01", 0, 50)])
    parts = [hold_out(annotation, 0.2, seed=seed) for seed in (0, 0, 1)]
    assert parts[0] == parts[1]
    assert parts[0] != parts[2]
    for part in parts:
        assert sorted(record.video for record in (*part.training, *part.validation)) == sorted(names)
        assert len(part.validation) == 8
        held, kept = ({group_of(record.video) for record in records} for records in (part.validation, part.training))
        assert not held & kept
    alone = Annotation(["A"], training[:2], [])
    with pytest.raises(AnnotationError, match="no class has two groups of training videos"):
        hold_out(alone, 0.2)
    with pytest.raises(ConfigError, match="test_fraction"):
        hold_out(annotation, 1.0)
