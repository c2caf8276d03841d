"""Frames and flow of a folder of videos, in this process; interruptions are in test_extract_killed.py."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stmulnet.cli import main
from stmulnet.commands.extract import NEEDED_BY_TEST
from stmulnet.datasets import sampling
from stmulnet.errors import ConfigError, DatasetError
from stmulnet.flow.estimate import estimate_flow
from stmulnet.flow.quantize import to_uint8
from stmulnet.flow.tvl1 import tvl1
from stmulnet.video import extract as module
from stmulnet.video import extract_job
from stmulnet.video.extract import ExtractSummary, extract_videos
from stmulnet.video.manifest import Manifest
from stmulnet.video.state import dataset_state
from stmulnet.video.store import open_tree

Frames = npt.NDArray[np.uint8]
Encode = Callable[..., Path]


def run(videos: Path | list[Path], out: Path, **options: Any) -> ExtractSummary:
    return extract_videos(videos, out, **{"short_side": 32, "workers": 1, "flow_backend": "dis", **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def videos(tmp_path: Path, encode: Encode) -> Path:
    """Three videos, one of them in a class folder: 12, 5 and 40 frames (more than one chunk of pairs)."""
    folder = tmp_path / "videos"
    encode("videos/a.mp4", 12)
    encode("videos/Class/b.avi", 5, codec="mpeg4")
    encode("videos/c.mkv", 40, height=36, width=32)
    (folder / "readme.txt").write_text("not a video")
    (folder / "._a.mp4").write_bytes(b"written by a file manager")
    return folder


def test_content_is_decode_resize_flow_quantise_jpeg(videos: Path, tmp_path: Path) -> None:
    """By another path: OpenCV decodes, resizes and reads the JPEGs; the flow is computed over the whole video."""
    run(videos, tmp_path / "out", flow_backend="tvl1")
    for name, source, count in (("a", "a.mp4", 12), ("c", "c.mkv", 40)):
        capture = cv2.VideoCapture(str(videos / source))
        frames = [np.asarray(capture.read()[1])[..., ::-1] for _ in range(count)]
        size = (45, 32) if name == "a" else (32, 36)
        resized = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_LINEAR) for f in frames]).astype(np.uint8)
        flow = to_uint8(tvl1(resized))
        for t in range(count):
            stored = cv2.imread(str(tmp_path / f"out/images/{name}/frame{t + 1:06d}.jpg"), cv2.IMREAD_COLOR_RGB)
            assert np.abs(np.asarray(stored, dtype=int) - resized[t]).mean() < 4
        for t, axis in ((t, axis) for t in range(count - 1) for axis in (0, 1)):
            file = tmp_path / f"out/flows/{'uv'[axis]}/{name}/frame{t + 1:06d}.jpg"
            stored = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            assert np.abs(np.asarray(stored, dtype=int) - flow[t, axis]).mean() < 2


def test_flow_has_the_true_direction(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "out", short_side=40, flow_backend="tvl1")  # unscaled: 1 px right, 2 px down per frame
    levels = open_tree(tmp_path / "out").read_flow("a", range(1, 12))
    u, v = np.median(levels, axis=(0, 2, 3)) * 40 / 255 - 20
    assert u == pytest.approx(1, abs=0.3)
    assert v == pytest.approx(2, abs=0.3)


def test_summary_and_manifest(videos: Path, tmp_path: Path) -> None:
    summary = run(videos, tmp_path / "out")
    assert (summary.done, summary.skipped, summary.failures, summary.exit_code) == (3, 0, (), 0)
    assert (summary.frames, summary.pairs, summary.too_short) == (57, 54, ("b",))
    assert str(summary).startswith("3 videos extracted, 0 complete already, 0 failed\n57 frames and 54 flow fields in ")
    assert "1 video has fewer than the 11 frames a network needs: b" in str(summary)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["frames"]["short_side"] == 32
    assert manifest["settings"]["flow"]["bound_px"] == 20.0
    assert manifest["videos"][1] == {
        "name": "b",
        "source": "Class/b.avi",
        "source_bytes": (videos / "Class/b.avi").stat().st_size,
        "num_frames": 5,
        "width": 45,
        "height": 32,
    }
    assert [entry["name"] for entry in manifest["videos"]] == ["a", "b", "c"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["flows", "images", "manifest.json"]


def test_same_input_same_bytes(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "one", flow_backend="tvl1")
    run(videos, tmp_path / "two", flow_backend="tvl1", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_second_run_does_nothing(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(videos, tmp_path / "out")
    before = contents(tmp_path / "out")
    monkeypatch.setattr(module, "extract_one", None)
    summary = run(videos, tmp_path / "out")
    assert (summary.done, summary.skipped) == (0, 3)
    assert summary.too_short == ("b",)
    assert contents(tmp_path / "out") == before
    assert str(summary).startswith("0 videos extracted, 3 complete already, 0 failed\n1 video has fewer")


def test_incomplete_and_changed_videos_are_done_again(videos: Path, tmp_path: Path, encode: Encode) -> None:
    run(videos, tmp_path / "out")
    (tmp_path / "out/flows/v/a/frame000004.jpg").unlink()
    encode("videos/Class/b.avi", 7, codec="mpeg4")
    summary = run(videos, tmp_path / "out")
    assert (summary.done, summary.skipped, summary.frames) == (2, 1, 12 + 7)
    run(videos, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_an_entry_stays_until_it_is_replaced(videos: Path, tmp_path: Path) -> None:
    """Whatever comes of the new file: the manifest says what should be on disk."""
    run(videos, tmp_path / "out")
    before = Manifest.load(tmp_path / "out" / "manifest.json").videos
    (videos / "a.mp4").write_bytes(b"damaged since")
    summary = run(videos, tmp_path / "out")
    assert (summary.done, summary.skipped, len(summary.failures)) == (0, 2, 1)
    assert Manifest.load(tmp_path / "out" / "manifest.json").videos == before
    assert len(list((tmp_path / "out" / "images" / "a").iterdir())) == 12


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_run_says_how_far_it_is_and_leaves_a_mark(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    one = extract_job.extract_one
    monkeypatch.setattr(module, "extract_one", lambda job: interrupt() if job.name == "c" else one(job))
    arguments = ["extract", str(videos), str(out), "--short-side", "32", "--workers", "1", "--flow-backend", "dis"]
    assert main(arguments) == 130
    assert capsys.readouterr().err == (
        "stmulnet extract: interrupted: 2 of 3 videos done, which are kept; the same command again goes on from there\n"
    )
    assert list((out / ".partial").iterdir()) == []
    assert dataset_state(out).unfinished == ("an extraction is at work or was stopped; the same command again goes on",)
    assert main([*arguments, "--shard", "1/1"]) == 130
    assert [path.name for path in (out / ".partial").iterdir()] == ["shard-1-of-1"]
    monkeypatch.undo()
    run(videos, out, only=["a"])  # a repair does not finish it
    assert len(dataset_state(out).unfinished) == 1
    assert run(videos, out).done == 1
    assert dataset_state(out).unfinished == ()
    run(videos, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ("imports.json", "a data set of `stmulnet import-archive`"),
        ("pack.json", "a packed data set"),
        ("images/Class/a/frame000001.jpg", "frames or flow that were made elsewhere"),
    ],
)
def test_a_data_set_of_another_kind_is_refused(videos: Path, tmp_path: Path, made: str, kind: str) -> None:
    (tmp_path / "out" / made).parent.mkdir(parents=True)
    (tmp_path / "out" / made).touch()
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=f"out: holds {kind}, to which no videos can be added; give another folder"):
        run(videos, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_leftovers_are_cleaned(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Manifest({}).save(out / "manifest.json")
    (out / ".partial" / "a-123" / "images").mkdir(parents=True)
    (out / "images" / "a").mkdir(parents=True)
    (out / "images" / "a" / "frame000099.jpg").touch()
    for name in (".manifest.77.partial.json", ".failures.77.partial.txt"):
        (out / name).touch()
    run(videos, out)
    run(videos, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_other_settings_are_refused(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--short-side was 32, is 40 now; use the .* another output folder"):
        run(videos, tmp_path / "out", short_side=40)
    with pytest.raises(ConfigError, match=r"settings: --flow-backend was dis, is opencv now; use"):
        run(videos, tmp_path / "out", flow_backend="opencv")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["flow"] |= {"bound_px": 15, "rounding": "down", "a": 1, "b": 2}  # of another version
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        ConfigError, match=r"flow\.a was 1, is not set now, .*flow\.bound_px was 15, .* and 1 more; use"
    ):
        run(videos, tmp_path / "out")
    path.write_bytes(before["manifest.json"])
    assert contents(tmp_path / "out") == before


def test_other_library_version_is_noted(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(videos, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["frames"]["libraries"]["av"] = "1.0"
    path.write_text(json.dumps(manifest))
    assert run(videos, tmp_path / "out").skipped == 3
    assert "note: library version frames.libraries.av was 1.0, is " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"settings": {}}', '{"settings": {}, "videos": [{"name": "a"}]}'])
def test_broken_manifest_is_named(videos: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json: not a manifest"):
        run(videos, tmp_path / "out")


def test_broken_videos_do_not_stop_the_rest(
    videos: Path, tmp_path: Path, encode: Encode, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = encode("videos/b0.mp4", 30)
    broken.write_bytes(broken.read_bytes()[:-500])
    encode("videos/b1.mp4", 1)
    encode("videos/b2.mp4", 2, height=2, width=2400)  # at a short side of 32 wider than 32767
    (videos / "b3.mp4").symlink_to("nowhere")
    summary = run(videos, tmp_path / "out")
    assert (summary.done, summary.exit_code) == (3, 1)
    assert [name for name, _ in summary.failures] == ["b0.mp4", "b1.mp4", "b2.mp4", "b3.mp4"]
    why_first, why_second, why_third, why_fourth = (reason for _, reason in summary.failures)
    assert "damaged or cut off" in why_first
    assert "1 frame; flow needs two" in why_second
    assert "frames of 2400x2 would become 38400x32" in why_third
    assert why_fourth == "no such file"
    assert f"failed: b0.mp4: {why_first}\n" in capsys.readouterr().err
    assert f"{tmp_path / 'out' / 'failures.txt'}: what failed, and why" in str(summary)
    assert str(tmp_path) not in why_first
    lines = (tmp_path / "out" / "failures.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{name}\t{reason}" for name, reason in summary.failures]
    for path in ("b0.mp4", "b1.mp4", "b2.mp4", "b3.mp4"):
        (videos / path).unlink()
    run(videos, tmp_path / "fresh")
    run(videos, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_two_videos_of_one_name(videos: Path, tmp_path: Path, encode: Encode) -> None:
    encode("videos/Class/a.avi", 3, codec="mpeg4")
    with pytest.raises(DatasetError, match=r"the name 'a': \S*videos/a\.mp4 and \S*videos/Class/a\.avi"):
        run(videos, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_linked_class_folder_is_followed(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "Class").symlink_to(videos / "Class")
    (videos / "Class" / "loop").symlink_to(videos / "Class")
    assert run(tmp_path / "links", tmp_path / "out").done == 1


def test_bad_paths(videos: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DatasetError, match="none: no such folder"):
        run(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ConfigError, match="file: is a file; give another name"):
        run(videos, file)
    with pytest.raises(ConfigError, match=r"file/out: cannot be written"):
        run(videos, file / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").touch()
    with pytest.raises(DatasetError, match=r"no videos among its 1 files; looked in all folders for .*\.avi"):
        run(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_side": 8}, "short_side must be 16 to 4096 pixels, got 8"),
        ({"short_side": 100_000}, "short_side must be 16 to 4096 pixels, got 100000"),
        ({"workers": 0}, "workers must be 1 or more"),
        ({"jpeg_quality": 101}, "jpeg_quality must be 1 to 100, got 101"),
        ({"flow_backend": "farneback"}, "farneback.*tvl1, tvl1-torch, opencv"),
    ],
)
def test_bad_options(videos: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(videos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_second_extraction_into_one_folder_is_refused(videos: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    descriptor = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(DatasetError, match="another extraction is writing"):
        run(videos, tmp_path / "out")
    os.close(descriptor)
    assert run(videos, tmp_path / "out").done == 3


def test_memory_is_bounded_by_the_chunk(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def spy(frames: Frames, **options: Any) -> Any:
        lengths.append(len(frames))
        return estimate_flow(frames, **options)

    monkeypatch.setattr(extract_job, "estimate_flow", spy)
    run(videos, tmp_path / "out")
    assert lengths == [12, 5, 33, 8]


def test_command_line(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["extract", str(videos), str(tmp_path / "out"), "--short_side", "32", "--workers", "1"]
    arguments += ["--flow-backend", "dis"]
    assert main(arguments) == 0
    assert "3 videos extracted, 0 complete already, 0 failed\n57 frames and 54 flow" in capsys.readouterr().out
    several = [str(videos / "a.mp4"), str(videos / "Class"), *arguments[2:]]
    assert main(["extract", *several]) == 0
    assert "0 videos extracted, 2 complete already" in capsys.readouterr().out
    (videos / "bad.mp4").write_bytes(b"x" * 500)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "failed: bad.mp4: not a video file" in printed.err
    assert "bad.mp4" not in printed.out
    assert f"{tmp_path / 'out' / 'failures.txt'}: what failed, and why\n" in printed.out
    assert main(["extract", str(tmp_path / "none"), str(tmp_path / "out")]) == 2


def test_workers_do_not_import_torch() -> None:
    code = "import sys, stmulnet.video.extract, stmulnet.commands.extract; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_clips(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "data/clips/hmdb51/golf"
    summary = run(source, tmp_path / "out")
    (name,) = open_tree(tmp_path / "out").videos()
    assert name == "Golf_Tips_-_Hit_The_Driver_300+_Yards!!!_golf_f_nm_np1_fr_med_0"
    assert (summary.frames, open_tree(tmp_path / "out").num_flows(name)) == (89, 88)


def test_settings_bind_only_where_a_video_was_finished(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"no video")
    assert run(tmp_path / "videos", tmp_path / "out").exit_code == 1
    assert run(tmp_path / "videos", tmp_path / "out", short_side=48).exit_code == 1


def test_a_file_moved_to_another_folder_is_not_done_again(videos: Path, tmp_path: Path) -> None:
    run(videos / "Class", tmp_path / "out")
    summary = run(videos, tmp_path / "out")
    assert (summary.done, summary.skipped) == (2, 1)
    run(videos, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_several_sources(videos: Path, tmp_path: Path) -> None:
    run([videos / "Class", videos / "a.mp4", videos / "c.mkv"], tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [(entry["name"], entry["source"]) for entry in manifest["videos"]] == [
        ("a", "a.mp4"),
        ("b", "b.avi"),
        ("c", "c.mkv"),
    ]
    with pytest.raises(DatasetError, match=r"the name 'a': \S*a\.mp4 and \S*a\.mp4"):
        run([videos, videos / "a.mp4"], tmp_path / "out")


@pytest.mark.parametrize("workers", [1, 2])
def test_archives_give_what_folders_give(videos: Path, tmp_path: Path, workers: int) -> None:
    run(videos, tmp_path / "fresh")
    (videos / "Class" / "cut.mp4").write_bytes((videos / "a.mp4").read_bytes()[:-800])
    archive = Path(shutil.make_archive(str(tmp_path / "all"), "gztar", videos))
    summary = run(archive, tmp_path / "out", workers=workers)
    assert (summary.done, [source for source, _ in summary.failures]) == (3, ["Class/cut.mp4"])
    assert str(tmp_path) not in summary.failures[0][1]
    expected = contents(tmp_path / "fresh")
    assert {k: v for k, v in contents(tmp_path / "out").items() if k != "failures.txt"} == expected
    assert run(archive, tmp_path / "out").skipped == 3


def test_dis_is_stamped(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "out", short_side=40, flow_backend="dis")
    flow = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]["flow"]
    assert (flow["algorithm"], flow["backend"], flow["parameters"]["preset"]) == ("DIS", "dis", "fast")
    levels = open_tree(tmp_path / "out").read_flow("a", range(1, 12))
    u, v = np.median(levels, axis=(0, 2, 3)) * 40 / 255 - 20
    assert (u, v) == (pytest.approx(1, abs=0.3), pytest.approx(2, abs=0.3))
    with pytest.raises(ConfigError, match="settings: --flow-backend was dis, is tvl1 now; use the same"):
        run(videos, tmp_path / "out", short_side=40, flow_backend="tvl1")


def test_flow_by_torch_in_threads(videos: Path, tmp_path: Path) -> None:
    """Workers are threads of this process, one flow at a time; the result is that of one worker."""
    places = [videos / "a.mp4", videos / "Class"]
    run(places, tmp_path / "one", flow_backend="tvl1-torch", device="cpu")
    run(places, tmp_path / "two", flow_backend="tvl1-torch", device="cpu", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    run(places, tmp_path / "cpu", flow_backend="tvl1")
    levels = [open_tree(tmp_path / name).read_flow("a", range(1, 12)).astype(int) for name in ("one", "cpu")]
    assert np.abs(levels[0] - levels[1]).mean() < 0.5
    with pytest.raises(ConfigError, match="device 'tpu' is not usable"):
        run(videos, tmp_path / "x", flow_backend="tvl1-torch", device="tpu")
    with pytest.raises(ConfigError, match="a device can be chosen for flow backend tvl1-torch alone, not for dis"):
        run(videos, tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def every_third(num_frames: int) -> list[int]:
    return [number for number in range(1, num_frames) if number % 3]


def test_only_needed_flow(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields 1 2, 4 5, ...: those of the whole flow, and nothing else; videos without a test frame have all."""
    run(videos, tmp_path / "whole", short_side=40)
    lengths = []

    def spy(frames: Frames, **options: Any) -> Any:
        lengths.append(len(frames))
        return estimate_flow(frames, **options)

    monkeypatch.setattr(extract_job, "estimate_flow", spy)
    summary = run(videos, tmp_path / "part", short_side=40, needed=extract_job.NeededFields(25, every_third))
    assert set(lengths) == {3, 5}
    assert summary.pairs == 8 + 4 + 26
    assert "only the flow that 25 test frames per video need: this data set is for evaluation only" in str(summary)
    whole, part = contents(tmp_path / "whole"), contents(tmp_path / "part")
    manifest = json.loads(part.pop("manifest.json"))
    assert manifest["settings"]["flow"]["only_for_test_frames"] == 25
    assert sorted(path for path in part if "flows/u/c" in path) == [
        f"flows/u/c/frame{number:06d}.jpg" for number in every_third(40)
    ]
    assert sum("flows/v/b" in path for path in part) == 4
    assert part == {path: whole[path] for path in part}
    assert run(videos, tmp_path / "part", short_side=40, needed=extract_job.NeededFields(25, every_third)).skipped == 3
    with pytest.raises(ConfigError, match="--flow-only-needed was given, is not now"):
        run(videos, tmp_path / "part", short_side=40)


def test_flow_of_test_frames() -> None:
    assert sorted(NEEDED_BY_TEST.numbers(40)) == list(range(1, 40))
    needed = NEEDED_BY_TEST.numbers(1000)
    assert len(needed) == 250
    assert (min(needed), max(needed)) == (1, 999)
    assert all(field in needed for time in sampling.test_frames(1000) for field in range(time - 5, time + 5))


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.avi")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DatasetError, match=r"the file name 'b\\udcff.avi' is not UTF-8"):
        run(tmp_path, tmp_path / "out")
