"""Packed data sets: what comes out is what went in, whatever happens on the way; damage is named."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stmulnet import cli
from stmulnet.errors import ConfigError, DatasetError
from stmulnet.video import pack
from stmulnet.video.extract_job import NeededFields
from stmulnet.video.manifest import ONLY_FOR_TEST_FRAMES, Manifest
from stmulnet.video.pack import pack_dataset
from stmulnet.video.packed import INDEX_NAME, PACK_NAME, PackedRoot, member_header
from stmulnet.video.store import FrameTree, find_images, open_tree, write_flow, write_frames

VIDEOS = {"b": 14, "a": 9, "c and a long name, in German möglichst länger als hundert Zeichen, " * 2: 5}
SHARD_BYTES = 2**16  # 64 KiB: two videos in the first shard


@pytest.fixture
def dataset(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Noise, so that no two images are alike."""
    root = tmp_path / "data"
    for video, count in VIDEOS.items():
        write_frames(root / "images" / video, rng.integers(0, 256, (count, 24, 32, 3), dtype=np.uint8))
        flow = rng.integers(0, 256, (count - 1, 2, 24, 32), dtype=np.uint8)
        write_flow((root / "flows" / "u" / video, root / "flows" / "v" / video), flow)
    (root / "annotations").mkdir()
    (root / "annotations" / "annot01.json").write_text("{}")
    (root / "manifest.json").write_text('{"settings": {}, "videos": []}')
    return root


@pytest.fixture
def packed(dataset: Path) -> Path:
    out = dataset.with_name("packed")
    pack_dataset(dataset, out, shard_bytes=SHARD_BYTES)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def check_same(tree: FrameTree, other: FrameTree) -> None:
    assert tree.videos() == other.videos() == sorted(VIDEOS)
    for video, count in VIDEOS.items():
        assert tree.num_frames(video) == other.num_frames(video) == count
        assert tree.num_flows(video) == other.num_flows(video) == count - 1
        numbers = [count - 1, 1, 3, 3, count - 1]
        np.testing.assert_array_equal(tree.read_rgb(video, numbers), other.read_rgb(video, numbers))
        np.testing.assert_array_equal(tree.read_flow(video, numbers), other.read_flow(video, numbers))


def test_images_are_the_same_as_in_the_folder(dataset: Path, packed: Path) -> None:
    assert sorted(path.name for path in packed.iterdir()) == [
        "annotations", "index.npy", "manifest.json", "pack.json", "shard-00000.tar", "shard-00001.tar",
    ]  # fmt: skip
    check_same(open_tree(dataset), open_tree(packed))
    check_same(open_tree(dataset), FrameTree(packed, packed))
    assert "(packed, 2 shards)" in open_tree(packed).kind


def test_shards_unpack_to_the_data_set(dataset: Path, packed: Path, tmp_path: Path) -> None:
    for shard in packed.glob("*.tar"):
        with tarfile.open(shard) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
    for name in ("images", "flows"):
        assert contents(tmp_path / "unpacked" / name) == contents(dataset / name)


def test_frames_or_flow_alone(dataset: Path, tmp_path: Path) -> None:
    shutil.rmtree(dataset / "flows")
    pack_dataset(dataset, tmp_path / "frames")
    assert find_images(tmp_path / "frames") == (tmp_path / "frames", None)
    assert open_tree(tmp_path / "frames").num_frames("a") == 9
    assert "(packed, 1 shard)" in open_tree(tmp_path / "frames").kind
    with pytest.raises(DatasetError, match="no flow in this packed data set"):
        FrameTree(None, tmp_path / "frames")


@pytest.mark.parametrize("digits", [5, 0])
def test_other_trees_and_suffixes(dataset: Path, tmp_path: Path, digits: int) -> None:
    """Numbers from 0, class folders, PNG: the pack has our names, and the same images."""
    other = tmp_path / "other"
    for folder in (*(dataset / "images").iterdir(), *(dataset / "flows").glob("?/*")):
        target = other / folder.relative_to(dataset).parent / "class" / folder.name
        target.mkdir(parents=True)
        for number, image in enumerate(sorted(folder.iterdir())):
            (target / f"img_{number:0{digits}d}.jpeg").write_bytes(image.read_bytes())
    pack_dataset(other, tmp_path / "out")
    check_same(open_tree(dataset), open_tree(tmp_path / "out"))


def test_gaps_stay_gaps(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "flows" / "u" / "a" / "frame000004.jpg").unlink()
    shutil.rmtree(dataset / "flows" / "v" / "b")
    summary = pack_dataset(dataset, tmp_path / "out")
    assert summary.incomplete == ["a", "b"]
    assert "gaps or flow of one axis only in 2 videos, packed as they are: a, b" in str(summary)
    tree = open_tree(tmp_path / "out")
    with pytest.raises(DatasetError, match=r"flows/u/a/frame000004.jpg: missing, while frame000008.jpg is there"):
        tree.num_flows("a")
    with pytest.raises(DatasetError, match=r"holds no flows/u/a/frame000004.jpg: it was not there when"):
        tree.read_flow("a", [3, 4])
    assert len(tree.read_flow("a", [3, 5])) == 2
    with pytest.raises(DatasetError, match="no images of video 'b'"):
        tree.num_flows("b")


def test_counts_are_reported(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pack", str(dataset), str(tmp_path / "out"), "--shard-megabytes", "1"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert "3 videos, 28 frames and 25 flow fields in 1 shard, 194.6 kB" in captured.out
    assert "pack: 3/3 videos" in captured.err
    before = contents(tmp_path / "out")
    (dataset / "annotations" / "annot02.json").write_text("{}")
    assert cli.main(arguments) == 0
    assert "packed before" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before | {"annotations/annot02.json": b"{}"}


def test_reading_goes_along_with_processes(packed: Path) -> None:
    """A copy sent to another process maps the index anew, and carries none of it."""
    tree = open_tree(packed)
    rgb = tree.read_rgb("a", [2])
    assert tree.frames is not None
    assert "_index" in tree.frames.__dict__
    sent = pickle.dumps(tree)
    assert len(sent) < 3000
    np.testing.assert_array_equal(pickle.loads(sent).read_rgb("a", [2]), rgb)


def test_neighbours_are_read_at_once(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = Path.open

    class Counting:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def seek(self, place: int) -> None:
            self.file.seek(place)

        def read(self, size: int) -> Any:
            reads.append(size)
            return self.file.read(size)

    tree = open_tree(packed)
    tree.num_flows("b")
    monkeypatch.setattr(Path, "open", lambda path, *args, **options: Counting(original(path, *args, **options)))
    tree.read_flow("b", [2, 3, 4, 9, 10])
    assert len(reads) == 2


# --- damage


def test_missing_cut_and_foreign_shards(packed: Path, dataset: Path) -> None:
    shard = packed / "shard-00000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-512])
    with pytest.raises(DatasetError, match=rf"shard-00000.tar: {len(content) - 512} bytes instead of {len(content)}"):
        open_tree(packed)
    shard.unlink()
    with pytest.raises(DatasetError, match=r"shard-00000.tar: missing, one of 2 shards; copy or pack it again"):
        open_tree(packed)
    shard.write_bytes(content[512:] + content[:512])
    with pytest.raises(DatasetError, match=r"images/a/frame000003.jpg is not where the index says"):
        open_tree(packed).read_rgb("a", [3, 4])


def test_cut_after_opening(packed: Path) -> None:
    tree = open_tree(packed)
    os.truncate(packed / "shard-00000.tar", 3000)
    with pytest.raises(DatasetError, match="is not where the index says"):
        tree.read_rgb("a", [9])
    (packed / "shard-00000.tar").unlink()
    with pytest.raises(DatasetError, match=r"shard-00000.tar: cannot be read: No such file"):
        tree.read_rgb("a", [9])


def test_damaged_image_is_named(dataset: Path, tmp_path: Path) -> None:
    (dataset / "images" / "a" / "frame000002.jpg").write_bytes(b"")
    pack_dataset(dataset, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"shard-00000.tar/images/a/frame000002.jpg: not a readable JPEG"):
        open_tree(tmp_path / "out").read_rgb("a", [1, 2])


DAMAGED = (b"\x93NUMPY", b"\x80\x04K\x01." * 99, np.lib.format.magic(1, 0) + b"v\0" + b"x" * 118, b"")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not made by `stmulnet pack`"),
        ({"version": 2}, "version 2 of the format, known is 1"),
        ({"videos": {"a": [0, 0, 1]}}, "damaged"),
        ({"videos": {"a": [9, 0, 1, 0, 0]}}, "out of range"),
        ({"videos": {"a": [0, 0, 10**9, 0, 0]}}, "out of range"),
        ({"videos": {"a": [0, -1, 1, 0, 0]}}, "damaged"),
        ({"videos": []}, "damaged"),
        ({"rows": 1e9}, "damaged"),
        ({"suffixes": {"frames": 1}}, "damaged"),
    ],
)
def test_damaged_content_is_refused(packed: Path, change: dict[str, Any], message: str) -> None:
    content = json.loads((packed / PACK_NAME).read_text())
    (packed / PACK_NAME).write_text(json.dumps(content | change))
    with pytest.raises(DatasetError, match=rf"pack.json: .*{message}"):
        open_tree(packed)


def test_damaged_index_is_refused(packed: Path) -> None:
    """When the data set is opened, not video by video."""
    np.save(packed / INDEX_NAME, np.zeros(5))
    with pytest.raises(DatasetError, match=r"index\.npy: not the index of this packed data set; copy or pack it again"):
        open_tree(packed)
    for damage in DAMAGED:
        (packed / INDEX_NAME).write_bytes(damage)
        with pytest.raises(DatasetError, match=r"index\.npy: damaged; copy or pack it again$"):
            open_tree(packed)
    (packed / INDEX_NAME).unlink()
    with pytest.raises(DatasetError, match=r"index\.npy: missing, the index of the packed data set; copy or pack it"):
        open_tree(packed)
    (packed / PACK_NAME).write_text("{")
    with pytest.raises(DatasetError, match=r"pack\.json: damaged"):
        open_tree(packed)
    (packed / PACK_NAME).unlink()
    with pytest.raises(DatasetError, match=r"shards, but no pack\.json; copy it as well, or pack into an empty folder"):
        open_tree(packed)
    (packed / ".partial").mkdir()
    with pytest.raises(DatasetError, match=r"not finished; run the same `stmulnet pack` again"):
        open_tree(packed)


@pytest.mark.parametrize("command", ["verify", "annotate"])
def test_a_damaged_index_is_bad_input(command: str, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (packed / "lists.csv").write_text("video,class,subset\na,A,train\nb,A,test\n")
    (packed / INDEX_NAME).unlink()
    lists = [str(packed / "lists.csv")] if command == "annotate" else []
    assert cli.main([command, *lists, str(packed)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "index.npy: missing, the index of the packed data set; copy or pack it again" in error


def test_unknown_names_and_numbers(packed: Path) -> None:
    root = PackedRoot(packed, "flow")
    with pytest.raises(DatasetError, match=r"no video 'nope' in this packed data set \(3 videos\)"):
        root.count(0, "nope")
    for number in (0, -1, 9):
        with pytest.raises(DatasetError, match="holds no flows/v/a/frame"):
            list(root.read("a", [(1, number)]))


# --- packing again, and killed


def test_other_data_is_refused(dataset: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or with another shard size"):
        pack_dataset(dataset, packed)
    (dataset / "manifest.json").write_text('{"settings": {}, "videos": [] }')
    with pytest.raises(ConfigError, match="another state of it"):
        pack_dataset(dataset, packed, shard_bytes=SHARD_BYTES)
    (packed / PACK_NAME).write_text("{")
    with pytest.raises(ConfigError, match=r"pack\.json: damaged; give another folder, or delete this one"):
        pack_dataset(dataset, packed, shard_bytes=SHARD_BYTES)
    with pytest.raises(ConfigError, match="is the data set itself"):
        pack_dataset(dataset, dataset)
    with pytest.raises(DatasetError, match="is packed already"):
        pack_dataset(packed, tmp_path / "again")
    with pytest.raises(ConfigError, match="shard_bytes must be at least 65536, got 3"):
        pack_dataset(dataset, tmp_path / "again", shard_bytes=3)
    with pytest.raises(ConfigError, match=r"sub/packed: lies in the data set; give a folder outside it"):
        pack_dataset(dataset, dataset / "sub" / "packed")
    assert not (dataset / "sub").exists()


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("shard-00000.tar", "a packed data set"),
        ("manifest.json", "a data set of `stmulnet extract`"),
        ("images/a/frame000001.jpg", "frames or flow that were made elsewhere"),
        ("notes/today.txt", "notes"),
    ],
)
def test_a_folder_with_anything_else_is_refused(dataset: Path, tmp_path: Path, name: str, held: str) -> None:
    """Another data set above all, whose manifest and annotations would be replaced."""
    other = tmp_path / "other"
    (other / name).parent.mkdir(parents=True)
    (other / name).write_text("{}")
    with pytest.raises(ConfigError, match=rf"other: holds {held}; give a new or an empty folder for the shards"):
        pack_dataset(dataset, other)
    assert contents(other) == {name: b"{}"}


def test_an_unfinished_data_set_is_packed_with_a_word(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset / ".importing").mkdir()
    (dataset / ".partial").mkdir()
    printed = str(pack_dataset(dataset, tmp_path / "out"))
    said = capsys.readouterr().err
    for text in ("an extraction is at work or was stopped; the same command again goes on", "an import is at work"):
        assert f"packed without what was not finished: {text}" in printed
        assert f"note: {dataset}: {text}" in said
    assert contents(tmp_path / "out").keys() >= {"pack.json", "manifest.json", "shard-00000.tar"}


def test_packing_again_mends_what_is_damaged(
    dataset: Path, packed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = contents(packed)
    for name, damage in (("index.npy", None), ("index.npy", DAMAGED[0]), ("shard-00000.tar", None)):
        (packed / name).unlink()
        if damage is not None:
            (packed / name).write_bytes(damage)
        assert not pack_dataset(dataset, packed, shard_bytes=SHARD_BYTES).packed_before
        assert f"{name}: " in capsys.readouterr().err
        assert contents(packed) == fresh
    (packed / "shard-00001.tar").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(pack, "_write_index", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            pack_dataset(dataset, packed, shard_bytes=SHARD_BYTES)
    assert pack_dataset(dataset, packed, shard_bytes=SHARD_BYTES).videos == len(VIDEOS)
    assert contents(packed) == fresh


def _interrupt(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_says_how_far_it_is(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of shards that are finished: the one under way begins anew."""
    end = pack._end_shard
    monkeypatch.setattr(pack, "_end_shard", lambda file: end(file) if "00000" in file.name else _interrupt())
    with pytest.raises(KeyboardInterrupt, match=r"^2 of 3 videos packed; the same command again goes on from there$"):
        pack_dataset(dataset, tmp_path / "out", shard_bytes=SHARD_BYTES)


def test_flow_of_test_frames_alone_has_no_gaps(tmp_path: Path, rng: np.random.Generator) -> None:
    """But what is missing of it is one."""
    data, needed = tmp_path / "data", NeededFields(25, _first_and_last)
    for video in ("a", "b"):
        write_frames(data / "images" / video, rng.integers(0, 256, (14, 24, 32, 3), dtype=np.uint8))
        for number in (*_first_and_last(14), 6):
            flow = rng.integers(0, 256, (1, 2, 24, 32), dtype=np.uint8)
            write_flow((data / "flows" / "u" / video, data / "flows" / "v" / video), flow, first=number)
    assert pack_dataset(data, tmp_path / "all", needed=needed).incomplete == ["a", "b"]
    Manifest({"flow": {ONLY_FOR_TEST_FRAMES: 25}}).save(data / "manifest.json")
    summary = pack_dataset(data, tmp_path / "part", needed=needed)
    assert (summary.incomplete, summary.test_frames) == ([], 25)
    assert str(summary).splitlines()[1:] == ["only the flow that 25 test frames per video need: for evaluation only"]
    (data / "flows" / "v" / "b" / "frame000013.jpg").unlink()
    (data / "flows" / "u" / "a" / "frame000006.jpg").unlink()
    assert pack_dataset(data, tmp_path / "less", needed=needed).incomplete == ["b"]


def _first_and_last(num_frames: int) -> list[int]:
    return [1, 2, num_frames - 1]


@pytest.mark.parametrize(("size", "text"), [(10240, "10.2 kB"), (5_000_000, "5.0 MB"), (46_060_000_000, "46.1 GB")])
def test_sizes_in_fitting_units(size: int, text: str) -> None:
    assert str(pack.PackSummary(1, 1, 0, 1, size, [])) == f"1 video, 1 frame and 0 flow fields in 1 shard, {text}"


def test_headers_tell_neither_time_nor_owner() -> None:
    header = member_header("images/a/frame000001.jpg", 5)
    member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (member.mtime, member.uid, member.gid, member.uname, member.size) == (0, 0, 0, "", 5)


def test_stopped_anywhere_goes_on_to_the_same_bytes(
    dataset: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception at the n-th renaming or copying, for every n."""
    fresh, stops = contents(packed), 0
    for moment in range(100):
        out, calls = tmp_path / f"out{moment}", [0]

        def stopped(function: Any, calls: list[int] = calls, moment: int = moment) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                calls[0] += 1
                if calls[0] == moment + 1:
                    raise KeyboardInterrupt
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("_add_video", "_end_shard", "_note_finished", "_write_index", "_copy_records", "write_text"):
                patch.setattr(pack, name, stopped(getattr(pack, name)))
            patch.setattr(os, "replace", stopped(os.replace))
            try:
                pack_dataset(dataset, out, shard_bytes=SHARD_BYTES)
                break
            except KeyboardInterrupt:
                stops += 1
        pack_dataset(dataset, out, shard_bytes=SHARD_BYTES)
        assert contents(out) == fresh
    assert stops > 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_twenty_times_at_random_moments(tmp_path: Path, rng: np.random.Generator) -> None:
    """On real processes, which know nothing of it."""
    data, out = tmp_path / "data", tmp_path / "out"
    for number in range(300):
        write_frames(data / "images" / f"v{number}", rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8))
    fresh = tmp_path / "fresh"
    pack_dataset(data, fresh, shard_bytes=SHARD_BYTES)
    code = (
        f"from stmulnet.video.pack import *; pack_dataset(Path({str(data)!r}), Path({str(out)!r}), shard_bytes=65536)"
    )
    kills = 0
    while kills < 20:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        before = len(list(out.glob("*.tar")))
        while process.poll() is None and len(list(out.glob("*.tar"))) == before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        if process.wait() != -signal.SIGKILL:  # it was quicker
            shutil.rmtree(out)
        else:
            kills += 1
    pack_dataset(data, out, shard_bytes=SHARD_BYTES)
    assert contents(out) == contents(fresh)
