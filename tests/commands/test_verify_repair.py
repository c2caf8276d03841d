"""What `stmulnet verify --repair` mends, what it cannot, and that it loses nothing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands.verifying import annotate, check, cut, remove

from stmulnet.video import extract
from stmulnet.video.io import write_video
from stmulnet.video.manifest import Manifest


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "verify.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_repair(dataset: Path, made: Path) -> None:
    before = contents(dataset)
    cut(dataset, "images/a/frame000004.jpg", 600)
    remove(dataset, "flows/v/b/frame000001.jpg", "images/b/frame000002.jpg")
    shutil.rmtree(dataset / "flows/u/c")
    summary = check(dataset, repair=made / "videos")
    assert (summary.exit_code, summary.repaired, summary.not_repaired) == (0, ("a", "b", "c"), {})
    assert "repaired: a, b, c" in str(summary)
    assert json.loads((dataset / "verify.json").read_text())["repaired"] == ["a", "b", "c"]
    assert contents(dataset) == before


def test_repair_touches_nothing_that_is_good(dataset: Path, made: Path) -> None:
    remove(dataset, "images/a/frame000003.jpg")
    place = dataset / "images/b/frame000001.jpg"
    before = place.stat().st_mtime_ns
    shutil.copytree(made / "videos", dataset.parent / "more")
    shutil.copy(made / "videos/a.mp4", dataset.parent / "more/extra.mp4")
    assert check(dataset, repair=dataset.parent / "more").repaired == ("a",)
    assert place.stat().st_mtime_ns == before
    assert not (dataset / "images/extra").exists()


def test_what_cannot_be_repaired(dataset: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "videos", tmp_path / "videos")
    (tmp_path / "videos" / "a.mp4").unlink()
    (tmp_path / "videos" / "b.mp4").write_bytes(b"damaged".ljust((made / "videos" / "b.mp4").stat().st_size))
    annotate(dataset, a=14, b=12, c=9)
    for video in "abc":
        cut(dataset, f"images/{video}/frame000004.jpg", 500)
    summary = check(dataset, repair=tmp_path / "videos")
    assert (summary.exit_code, summary.repaired) == (1, ("c",))
    assert summary.not_repaired["a"] == f"no video of this name in {tmp_path / 'videos'}"
    assert summary.not_repaired["b"].startswith("not a video file")
    assert f"not repaired: a: {summary.not_repaired['a']}" in str(summary)
    kinds = sorted((failure.video, failure.kind) for failure in summary.failures)
    assert kinds == [("a", "unreadable"), ("b", "unreadable"), ("c", "annotation-count"), ("c", "too-short")]


@pytest.mark.parametrize("gone", [("images/b", "flows/u/b", "flows/v/b"), ("images/b/frame000004.jpg",)])
def test_a_repair_that_fails_forgets_nothing(
    dataset: Path, made: Path, tmp_path: Path, gone: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when the file is damaged nor when the repair is interrupted: the next check finds the same."""
    (tmp_path / "videos").mkdir()
    size = (made / "videos" / "b.mp4").stat().st_size
    (tmp_path / "videos" / "b.mp4").write_bytes((made / "videos" / "b.mp4").read_bytes()[:-500].ljust(size, b"\0"))
    manifest = (dataset / "manifest.json").read_bytes()
    remove(dataset, *gone)
    before = check(dataset).findings
    failed = check(dataset, repair=tmp_path / "videos")
    assert (failed.exit_code, list(failed.not_repaired), failed.findings) == (1, ["b"], before)
    assert check(dataset).findings == before

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extract, "extract_one", interrupt)
    with pytest.raises(KeyboardInterrupt, match="0 of 1 video done, which are kept; the same command again goes on"):
        check(dataset, repair=made / "videos")
    monkeypatch.undo()
    assert check(dataset).findings == before
    assert (dataset / "manifest.json").read_bytes() == manifest
    assert check(dataset, repair=made / "videos").repaired == ("b",)


def test_another_video_of_the_same_name_is_no_repair(dataset: Path, made: Path, tmp_path: Path) -> None:
    before = contents(dataset)
    (tmp_path / "videos").mkdir()
    shutil.copy(made / "videos" / "a.mp4", tmp_path / "videos" / "b.mp4")
    remove(dataset, "images/b/frame000004.jpg")
    summary = check(dataset, repair=tmp_path / "videos")
    sizes = [(made / "videos" / name).stat().st_size for name in ("a.mp4", "b.mp4")]
    assert summary.not_repaired == {
        "b": f"{tmp_path / 'videos' / 'b.mp4'} has {sizes[0]} bytes, the file that it was made from had {sizes[1]}: "
        "another one, which `stmulnet extract` would put in its place"
    }
    del before["images/b/frame000004.jpg"]
    assert contents(dataset) == before


def test_a_repair_from_another_place_leaves_the_manifest_as_it_was(dataset: Path, made: Path, tmp_path: Path) -> None:
    before = contents(dataset)
    shutil.copytree(made / "videos", tmp_path / "more" / "Class")
    remove(dataset, "images/b/frame000004.jpg")
    assert check(dataset, repair=tmp_path / "more").repaired == ("b",)
    assert contents(dataset) == before


def test_settings_that_are_gone_are_the_reason(dataset: Path, made: Path) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["flow"]["bound_px"] = 15
    path.write_text(json.dumps(manifest))
    remove(dataset, "images/b/frame000004.jpg")
    summary = check(dataset, repair=made / "videos")
    assert summary.not_repaired["b"].startswith(f"{dataset}: made with other settings: flow.bound_px was 15, is 20.0")
    assert [failure.kind for failure in summary.failures] == ["gap"]


def test_a_repair_that_does_not_help(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", [np.full((40, 48, 3), 90, np.uint8)] * 14)
    manifest = Manifest.load(dataset / "manifest.json")
    size = (tmp_path / "videos" / "a.mp4").stat().st_size
    manifest.videos["a"] = replace(manifest.videos["a"], source_bytes=size)
    manifest.save(dataset / "manifest.json")
    remove(dataset, "images/a/frame000004.jpg")
    summary = check(dataset, repair=tmp_path / "videos")
    assert summary.not_repaired == {"a": "extracted again, but 14 of 14 frames are of one colour, first number 1"}
