"""The official archives, small: imported, recognised, annotated and read as clips."""

from pathlib import Path

import numpy as np
import pytest
from tests.video.archive_making import cut, patch, write_zip

from stmulnet import TwoStreamDataset, cli, import_archive
from stmulnet.video.store import write_flow, write_frames

VIDEOS = {"v_Run_g01_c01": 18, "v_Run_g02_c01": 14, "v_Walk_g01_c01": 12, "v_Walk_g02_c01": 13}


@pytest.fixture
def archives(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    """Frames in three pieces, flow whole, as they are published."""
    tree = tmp_path / "tree"
    for video, frames in VIDEOS.items():
        write_frames(tree / "jpegs_256" / video, rng.integers(0, 256, (frames, 32, 48, 3), dtype=np.uint8))
        folders = tree / "tvl1_flow" / "u" / video, tree / "tvl1_flow" / "v" / video
        write_flow(folders, rng.integers(0, 256, (frames - 1, 2, 32, 48), dtype=np.uint8))
        (tree / "tvl1_flow" / "u" / f"{video}.bin").write_bytes(b"\0")
    paths = {}
    for part in ("jpegs_256", "tvl1_flow"):
        files = {path.relative_to(tree).as_posix(): path.read_bytes() for path in sorted((tree / part).rglob("*.*"))}
        paths[part] = write_zip(tmp_path / f"ucf101_{part}.zip", files)
    size = paths["jpegs_256"].stat().st_size
    return [*cut(paths["jpegs_256"], size // 2 - 100), paths["tvl1_flow"]]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "classInd.txt").write_text("1 Run\n2 Walk\n")
    (folder / "trainlist01.txt").write_text("Run/v_Run_g02_c01.avi 1\nWalk/v_Walk_g02_c01.avi 2\n")
    (folder / "testlist01.txt").write_text("Run/v_Run_g01_c01.avi\nWalk/v_Walk_g01_c01.avi\n")
    return folder


def test_imported_archives_are_a_data_set(
    archives: list[Path], lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "ucf101"
    assert cli.main(["import-archive", *map(str, archives), "--out", str(data), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "0 there already, 0 folders failed" in printed
    assert f"{data}: frames: jpegs_256/<video>/frame000001.jpg; flow: tvl1_flow/u/<video>/frame000001.jpg" in printed
    assert cli.main(["annotate", str(lists), str(data)]) == 0
    clips = TwoStreamDataset.in_folder(data / "annotations" / "annot01.json", data, subset="validation")
    assert [(record.video, record.num_frames) for record in clips.records] == [
        ("v_Run_g01_c01", 18),
        ("v_Walk_g01_c01", 12),
    ]
    assert (clips[0].rgb.shape, clips[1].flow.shape) == ((25, 3, 32, 48), (25, 20, 32, 48))


def test_frames_alone_and_damage(archives: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch(archives[0], 2000, b"damage")
    assert cli.main(["import-archive", str(archives[1]), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert "1 folder failed, named above" in captured.out
    assert "failed: ucf101_jpegs_256.zip: jpegs_256/v_Run_g01_c01: frame0000" in captured.err
    assert "ucf101_jpegs_256.zip.001 is damaged near byte" in captured.err
    assert "flow: none" in captured.out


def test_other_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = import_archive([write_zip(tmp_path / "x.zip", {"a/b.txt": b""})], out=tmp_path / "out", workers=1)
    assert summary.files == 1
    assert "note: no tree of frames and flow yet: " in capsys.readouterr().out


def test_a_folder_above_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"ucf101/jpegs_256/v_Run_g01_c01/frame000001.jpg": b"1"}
    import_archive([write_zip(tmp_path / "top.zip", files)], out=tmp_path / "out", workers=1)
    printed = capsys.readouterr().out
    inner = tmp_path / "out" / "ucf101"
    assert f"{tmp_path / 'out'}: frames and flow are not in this folder, but in {inner}: give that" in printed


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.zip.002").touch()
    assert cli.main(["import-archive", str(tmp_path / "x.zip.002"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("stmulnet import-archive: error: x.zip.001: missing, while there are x.zip.002")
    assert error.count("\n") == 1
