"""UCF-101 and HMDB-51 at full size, in name only: counts, odd names, and the memory that loading takes."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.names import construct, make_pack, make_tree

from stmulnet.commands.annotate import AnnotateSummary, annotate
from stmulnet.datasets.annotations import load_annotation
from stmulnet.datasets.sources import read_splits
from stmulnet.video.packed import INDEX_NAME
from stmulnet.video.store import open_tree

UCF101_SIZES = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}
NUM_FRAMES = 12


def _names(lists: Path) -> list[str]:
    splits = read_splits(lists).values()
    return sorted({video for split in splits for video in (*split.videos(), *split.unused)})


@pytest.fixture(scope="module")
def ucf101(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AnnotateSummary:
    """As the official archives have it: other folders, a stray one, one field too few, a capital letter too many."""
    root = tmp_path_factory.mktemp("ucf101")
    names = [name.replace("HandstandPushups", "HandStandPushups") for name in _names(shared_dir / "splits" / "ucf101")]
    stray = "v_LongJump_g18_c03"
    make_tree(root, dict.fromkeys((name for name in names if name != stray), NUM_FRAMES), share=True)
    make_tree(root / "one", {stray: 20})
    (root / "one" / "images" / stray).rename(root / "images" / stray)
    for axis in "uv":
        (root / "one" / "flows" / axis / stray / "frame000019.jpg").unlink()
        (root / "one" / "flows" / axis / stray).rename(root / "flows" / axis / stray)
    (root / "images" / stray / "TSP flows").mkdir()
    (root / "images" / stray / "TSP flows" / "frame000001.jpg").touch()
    (root / "images").rename(root / "jpegs_256")
    (root / "flows").rename(root / "tvl1_flow")
    return annotate(shared_dir / "splits" / "ucf101", root)


def test_all_splits_of_ucf101(ucf101: AnnotateSummary) -> None:
    assert ucf101.exit_code == 0
    assert ucf101.shared_groups == {1: [], 2: [], 3: []}
    assert ucf101.unlisted == []
    assert ucf101.short_of_flow == ["v_LongJump_g18_c03"]
    sizes = {}
    for split, path in ucf101.files.items():
        annotation = load_annotation(path)
        sizes[split] = len(annotation.training), len(annotation.validation)
        frames = {record.video: record.num_frames for record in (*annotation.training, *annotation.validation)}
        assert len(frames) == 13320
        assert frames["v_LongJump_g18_c03"] == 19
        assert sum(video.startswith("v_PommelHorse_") for video in frames) == 123
    assert sizes == UCF101_SIZES
    assert Counter(name.split("_")[1] for name in ucf101.stock.renamed) == {"HandstandPushups": 128}


def test_construction_at_full_size(ucf101: AnnotateSummary) -> None:
    measured = construct(ucf101.files[1].parents[1])
    assert measured["clips"] == 9537
    assert measured["megabytes"] < 300


def test_packed_construction_at_full_size(ucf101: AnnotateSummary, tmp_path: Path) -> None:
    """With as many frames as UCF-101 really has, 2.5 million, whose index is never loaded as a whole."""
    names = open_tree(ucf101.files[1].parents[1]).videos()
    make_pack(tmp_path / "packed", dict.fromkeys(names, 187))
    shutil.copytree(ucf101.files[1].parent, tmp_path / "packed" / "annotations")
    assert (tmp_path / "packed" / INDEX_NAME).stat().st_size > 7_400_000 * 12
    measured = construct(tmp_path / "packed")
    assert measured["clips"] == 9537
    assert measured["megabytes"] < 300


def test_all_splits_of_hmdb51(shared_dir: Path, tmp_path: Path) -> None:
    """On disk with the characters replaced that unpacking tools do not like."""
    lists = shared_dir / "splits" / "hmdb51"
    names = [name.translate(str.maketrans("#!+ ", "____")) for name in _names(lists)]
    make_tree(tmp_path, dict.fromkeys(names, NUM_FRAMES), share=True)
    summary = annotate(lists, tmp_path)
    assert summary.exit_code == 0
    assert summary.unlisted == []
    for path in summary.files.values():
        annotation = load_annotation(path)
        assert Counter(record.label for record in annotation.training) == dict.fromkeys(range(51), 70)
        assert Counter(record.label for record in annotation.validation) == dict.fromkeys(range(51), 30)
    odd = {name for name in _names(lists) if set("#!+ ") & set(name)}
    assert summary.stock.renamed.keys() <= odd
    assert len(summary.stock.renamed) == 284  # of the 6371 that some split uses


def test_part_of_a_download(shared_dir: Path, tmp_path: Path) -> None:
    """Some classes only, as while an archive is being unpacked."""
    lists = shared_dir / "splits" / "ucf101"
    names = [name for name in _names(lists) if name.split("_")[1] in ("Archery", "Biking")]
    make_tree(tmp_path, dict.fromkeys(names, NUM_FRAMES), share=True)
    summary = annotate(lists, tmp_path, allow_missing=True)
    assert summary.exit_code == 1
    report = json.loads((tmp_path / "annotations" / "report.json").read_text())
    assert len(report["absent"]) + len(names) == 13320
    annotation = load_annotation(summary.files[1])
    assert {annotation.class_names[record.label] for record in annotation.training} == {"Archery", "Biking"}
    assert len(annotation.class_names) == 101
