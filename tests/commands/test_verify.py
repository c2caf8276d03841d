"""Every finding of `stmulnet verify` on a data set that it is made in, and what --repair makes of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stmulnet.cli import main
from stmulnet.commands import verify as module
from stmulnet.commands.extract import NEEDED_BY_TEST
from stmulnet.commands.pack import pack
from stmulnet.commands.verify import VerifySummary, verify
from stmulnet.datasets import transforms
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.errors import ConfigError, DatasetError
from stmulnet.files import write_json
from stmulnet.video import extract
from stmulnet.video.extract import extract_videos
from stmulnet.video.io import write_video
from stmulnet.video.manifest import Manifest
from stmulnet.video.store import write_flow, write_frames

LENGTHS = {"a": 14, "b": 12, "c": 8}
OPTIONS: dict[str, Any] = {"short_side": 32, "flow_backend": "dis", "workers": 1}

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three encoded videos of a moving, noisy texture (``videos``), and the data set made from them (``dataset``)."""
    root = tmp_path_factory.mktemp("verify")
    rng = np.random.default_rng(7)
    (root / "videos").mkdir()
    for name, count in LENGTHS.items():
        texture = cv2.GaussianBlur(rng.uniform(0, 200, (80, 90, 3)).astype(np.uint8), (0, 0), 1.5)
        moving = (texture[t : t + 40, 2 * t : 2 * t + 48] for t in range(count))
        frames = [(frame + rng.integers(0, 55, frame.shape)).astype(np.uint8) for frame in moving]
        write_video(root / "videos" / f"{name}.mp4", frames)
    extract_videos(root / "videos", root / "dataset", **OPTIONS)
    return root


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "dataset", tmp_path / "dataset")
    return tmp_path / "dataset"


def check(dataset: Path, **options: Any) -> VerifySummary:
    return verify(dataset, **{"workers": 1, **options})


def found(summary: VerifySummary) -> list[tuple[str, str, str]]:
    return [(finding.video, finding.kind, finding.message) for finding in summary.findings]


def annotate(dataset: Path, **num_frames: int) -> Path:
    entries = {video: {"set": "training", "label": 1, "nframes": n} for video, n in num_frames.items()}
    path = dataset / "annotations" / "annot01.json"
    write_json(path, {"labels": {"1": "x"}, "training": entries, "validation": {}})
    return path


def remove(dataset: Path, *paths: str) -> None:
    """Files or folders."""
    for path in paths:
        if (dataset / path).is_dir():
            shutil.rmtree(dataset / path)
        else:
            (dataset / path).unlink()


def cut(dataset: Path, path: str, size: int) -> int:
    return (dataset / path).write_bytes((dataset / path).read_bytes()[:size])


def flow(dataset: Path, video: str, levels: np.ndarray[Any, np.dtype[np.uint8]], *, first: int = 1) -> int:
    return write_flow((dataset / "flows" / "u" / video, dataset / "flows" / "v" / video), levels, first=first)


def planes(count: int, height: int = 32, width: int = 38) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(90, 170, (count, 2, height, width), dtype=np.uint8)


def test_a_clean_data_set(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(dataset, a=14, b=12)
    summary = check(dataset)
    assert summary.exit_code == 0
    assert found(summary) == [
        ("c", "unlisted", "in no annotation file"),
        ("c", "too-short", "8 usable frames; a network needs 11"),
    ]
    assert (summary.videos, summary.images, summary.decoded) == (3, 34 + 2 * 31, True)
    printed = capsys.readouterr().out
    assert "frames: images/<video>/frame000001.jpg; flow: flows/u/<video>/frame000001.jpg" in printed
    assert "3 videos, 96 images decoded in " in printed
    assert "\nnote too-short\n  c: 8 usable frames; a network needs 11\n" in printed
    assert printed.endswith(f"no failures\n{dataset / 'verify.json'}: all findings\n")
    report = json.loads((dataset / "verify.json").read_text())
    assert report["failures"] == []
    assert report["notes"][1] == {"video": "c", "kind": "too-short", "message": "8 usable frames; a network needs 11"}


def test_report_and_text_are_the_same_for_any_number_of_processes(dataset: Path) -> None:
    remove(dataset, "images/a/frame000003.jpg")
    check(dataset)
    one = (dataset / "verify.json").read_bytes()
    check(dataset, workers=2, report=dataset / "two.json")
    assert (dataset / "two.json").read_bytes() == one


FAILURES: list[tuple[Damage, str, str, str]] = [
    (
        lambda d: remove(d, "images/a/frame000003.jpg", "images/a/frame000009.jpg"),
        *("a", "gap", "frames: 2 numbers are missing: 3, 9"),
    ),
    (lambda d: remove(d, "flows/v/b/frame000001.jpg"), "b", "gap", "flow v: 1 number is missing: 1"),
    (lambda d: remove(d, "flows/v/b/frame000011.jpg"), "b", "uv-count", "flow has 11 images of u and 10 of v"),
    (
        lambda d: remove(d, *(f"flows/{axis}/b/frame0000{n}.jpg" for axis in "uv" for n in (10, 11))),
        *("b", "flow-count", "12 frames, 9 flow fields: 10 frames can be used"),
    ),
    (
        lambda d: shutil.copy(d / "images/b/frame000001.jpg", d / "images/b/frame000000.jpg"),
        *("b", "numbering", "frames: frame000000.jpg, but numbers start later in this data set"),
    ),
    (lambda d: remove(d, "images/a/frame000014.jpg"), "a", "manifest", "the manifest says 14 frames, there are 13"),
    (lambda d: shutil.rmtree(d / "images/a"), "a", "no-frames", "no frames in DATASET/images/a"),
    (lambda d: shutil.rmtree(d / "flows/v/a"), "a", "no-flow", "no flow in DATASET/flows/v/a"),
    (
        lambda d: remove(d, "images/a", "flows/u/a", "flows/v/a"),
        *("a", "missing", "in the manifest, but no images are there"),
    ),
    (
        lambda d: [cut(d, f"flows/u/a/frame00000{n}.jpg", 0) for n in (2, 5)],
        *("a", "empty-file", "flow u: 2 of 13 images, first frame000002.jpg: 0 bytes"),
    ),
    (
        lambda d: (d / "images/b/frame000004.jpg").write_bytes(b"not a JPEG"),
        *("b", "unreadable", "frames: 1 of 12 images, first frame000004.jpg: not a readable JPEG ("),
    ),
    (
        lambda d: cut(d, "images/b/frame000004.jpg", 600),
        *("b", "unreadable", "frames: 1 of 12 images, first frame000004.jpg: not a readable JPEG ("),
    ),
    (
        lambda d: write_frames(d / "images/b", planes(1, 40, 38)[:, [0, 0, 0]].transpose(0, 2, 3, 1), first=5),
        *("b", "size-change", "frames of several sizes: 38x32 from number 1, 38x40 from number 5"),
    ),
    (
        lambda d: flow(d, "b", planes(11, 33)[:2], first=7),
        *("b", "size-change", "flow of several sizes: 38x32 from number 1, 38x33 from number 7"),
    ),
    (
        lambda d: shutil.copy(d / "flows/u/b/frame000004.jpg", d / "images/b/frame000004.jpg"),
        *("b", "colour-change", "frames: 1 of 12 images are grey, the others in colour; first number 4"),
    ),
    (
        lambda d: shutil.copy(d / "images/b/frame000007.jpg", d / "flows/v/b/frame000007.jpg"),
        *("b", "colour-change", "flow v: 10 of 11 images are grey, the others in colour; first number 7"),
    ),
    (
        lambda d: flow(d, "b", np.full((11, 2, 32, 38), 128, np.uint8)),
        *("b", "constant-flow", "no motion in any of the 11 flow fields, each of one value"),
    ),
    (
        lambda d: flow(d, "b", np.zeros((1, 2, 32, 38), np.uint8), first=4),
        *("b", "constant-flow", "flow u: 1 image of one value, not standstill, first number 4: 0"),
    ),
    (
        lambda d: write_frames(d / "images/b", [np.full((32, 38, 3), 7, np.uint8)] * 12),
        *("b", "constant-frames", "12 of 12 frames are of one colour, first number 1"),
    ),
    (
        lambda d: annotate(d, a=14, b=13),
        *("b", "annotation-count", "annot01.json gives it 13 frames, 12 can be used: run `stmulnet annotate` again"),
    ),
    (lambda d: annotate(d, c=8), "c", "too-short", "8 usable frames; a network needs 11"),
    (lambda d: annotate(d, lost=20), "lost", "missing", "listed in annot01.json, but no images are there"),
    (
        lambda d: annotate(d).write_text("{"),
        *("", "annotation", "DATASET/annotations/annot01.json: not a JSON file"),
    ),
]


def _words(value: object) -> str:
    """Names of cases: the same in every process."""
    return "" if callable(value) else str(value)[:30]


@pytest.mark.parametrize(("damage", "video", "kind", "message"), FAILURES, ids=_words)
def test_failures(dataset: Path, damage: Damage, video: str, kind: str, message: str) -> None:
    damage(dataset)
    summary = check(dataset)
    assert summary.exit_code == 1
    failures = [(f.video, f.kind, f.message.replace(str(dataset), "DATASET")) for f in summary.failures]
    assert [entry[:2] for entry in failures if entry[1] != "manifest" or kind == "manifest"] == [(video, kind)] * (
        2 if message.startswith("flow u: 1 image of one value") else 1
    )
    assert next(entry for entry in failures if entry[1] == kind)[2].startswith(message)
    report = json.loads((dataset / "verify.json").read_text())
    assert {entry["kind"] for entry in report["failures"]} == {entry[1] for entry in failures}


NOTES: list[tuple[Damage, str, str, str]] = [
    (  # PommelHorse and others of the official archives
        lambda d: flow(d, "b", planes(11, 33, 36)),
        *("b", "frames-flow-size", "frames are 38x32, flow is 36x33: both are cut to 36x32 when they are read"),
    ),
    (  # v_LongJump_g18_c03 of the official archive
        lambda d: (d / "images/b/TSP flows").mkdir(),
        *("b", "stray", "no images of the video: b/TSP flows"),
    ),
    (
        lambda d: flow(d, "b", np.full((7, 2, 32, 38), 128, np.uint8)),
        *("b", "standstill", "no motion in 7 of 11 flow fields"),
    ),
    (
        lambda d: flow(d, "b", np.full((1, 2, 32, 38), 140, np.uint8), first=6),
        *("b", "uniform-flow", "flow u: 1 image of one value, not standstill, first number 6: 140"),
    ),
    (
        lambda d: write_frames(d / "images/b", [np.full((32, 38, 3), 7, np.uint8)], first=3),
        *("b", "constant-frames", "1 of 12 frames are of one colour, first number 3"),
    ),
    (
        lambda d: annotate(d, a=14, b=11),
        *("b", "annotation-count", "annot01.json gives it 11 frames, 12 can be used"),
    ),
    (
        lambda d: (
            write_frames(d / "images/new", planes(12)[:, [0, 0, 1]].transpose(0, 2, 3, 1))
            and flow(d, "new", planes(11))
        ),
        *("new", "no-entry", "not in the manifest"),
    ),
    (
        lambda d: (d / ".partial").mkdir(),
        *("", "unfinished", "an extraction is at work or was stopped; the same command again goes on"),
    ),
    (
        lambda d: (d / ".importing").mkdir(),
        *("", "unfinished", "an import is at work, was stopped or failed; the same command again goes on"),
    ),
    (
        lambda d: (d / "failures.txt").write_text("x.mp4\tno video\n"),
        *("", "not-extracted", "1 video could not be extracted, see failures.txt"),
    ),
]


@pytest.mark.parametrize(("blemish", "video", "kind", "message"), NOTES, ids=_words)
def test_notes_are_no_failures(dataset: Path, blemish: Damage, video: str, kind: str, message: str) -> None:
    blemish(dataset)
    summary = check(dataset)
    assert summary.exit_code == 0
    assert next(text for name, what, text in found(summary) if (name, what) == (video, kind)).startswith(message)


def test_known_blemishes_of_the_official_archives(tmp_path: Path) -> None:
    """Clips of different sizes, flow of another size or as long as the frames, stray things: all clips are used."""
    rng = np.random.default_rng(5)
    shapes = {"v_PommelHorse_g05_c01": (40, 64), "v_LongJump_g18_c03": (40, 54), "kick": (40, 54)}
    for video, (height, width) in shapes.items():
        frames = rng.integers(0, 256, (20, height, width, 3), dtype=np.uint8)
        write_frames(tmp_path / "jpegs_256" / video, frames)
        flow_folders = tmp_path / "tvl1_flow" / "u" / video, tmp_path / "tvl1_flow" / "v" / video
        write_flow(flow_folders, planes(20 if video == "kick" else 19, height, 54))
        flow_folders[0].with_suffix(".bin").write_bytes(b"ranges")
    (tmp_path / "jpegs_256" / "v_LongJump_g18_c03" / "TSP flows").mkdir()
    annotate(tmp_path, **dict.fromkeys(shapes, 20))
    summary = check(tmp_path)
    assert summary.exit_code == 0
    assert sorted((finding.video, finding.kind) for finding in summary.findings) == [
        ("v_LongJump_g18_c03", "stray"),
        ("v_PommelHorse_g05_c01", "frames-flow-size"),
    ]
    for transform in (transforms.TrainTransform(32), transforms.TestTransform(32)):
        clips = TwoStreamDataset.in_folder(
            tmp_path / "annotations" / "annot01.json", tmp_path, subset="training", transform=transform
        )
        samples = [clips[index] for index in range(len(clips))]
        assert [sample.video for sample in samples] == list(shapes)
        assert all(sample.rgb.shape[2:] == sample.flow.shape[2:] for sample in samples)


def test_as_many_fields_as_frames_are_good(dataset: Path) -> None:
    """HMDB-51's official archive has both kinds of clips."""
    flow(dataset, "b", planes(12))
    assert check(dataset).exit_code == 0


def test_official_archives(tmp_path: Path) -> None:
    write_frames(tmp_path / "jpegs_256" / "x", planes(12)[:, [0, 0, 1]].transpose(0, 2, 3, 1))
    flow_folders = tmp_path / "tvl1_flow" / "u" / "x", tmp_path / "tvl1_flow" / "v" / "x"
    write_flow(flow_folders, planes(12))
    summary = check(tmp_path)
    assert (summary.exit_code, found(summary), summary.images) == (0, [], 36)
    (tmp_path / "tvl1_flow" / "u" / "x" / "frame000012.jpg").unlink()
    (tmp_path / "x.mp4").touch()
    summary = check(tmp_path, repair=tmp_path / "x.mp4")
    assert summary.not_repaired == {
        "x": "no manifest.json, so how its images were made is unknown; import or extract it again"
    }
    assert summary.exit_code == 1


@pytest.mark.parametrize("fields", [11, 12])
def test_trees_with_everything_in_one_folder(tmp_path: Path, fields: int) -> None:
    """As other tools write them; dense_flow writes a first field that leads nowhere."""
    (tmp_path / "data" / "clip").mkdir(parents=True)
    for name, count in (("img", 12), ("flow_x", fields), ("flow_y", fields)):
        for number, image in enumerate(planes(count)[:, 0], start=1):
            cv2.imwrite(str(tmp_path / "data" / "clip" / f"{name}_{number:05d}.png"), image)
    summary = check(tmp_path / "data")
    assert (summary.exit_code, found(summary), summary.images) == (0, [], 34)
    (tmp_path / "data/clip/img_00004.png").write_bytes((tmp_path / "data/clip/img_00004.png").read_bytes()[:-20])
    for headers_only in (False, True):
        (failure,) = check(tmp_path / "data", headers_only=headers_only).failures
        assert failure.message.startswith("frames: 1 of 12 images, first img_00004.png: not a ")


def test_packed_data_sets(dataset: Path, made: Path, tmp_path: Path) -> None:
    cut(dataset, "images/b/frame000004.jpg", 600)
    cut(dataset, "flows/u/b/frame000004.jpg", 0)
    remove(dataset, "flows/v/a/frame000005.jpg")
    before = check(dataset)
    pack(dataset, tmp_path / "packed")
    packed = check(tmp_path / "packed")
    assert (packed.images, packed.findings) == (before.images, before.findings)
    assert sorted(failure.kind for failure in packed.failures) == ["empty-file", "gap", "unreadable"]
    repaired = check(tmp_path / "packed", repair=made / "videos")
    reason = "packed; repair the data set that was packed, and pack it again"
    assert repaired.not_repaired == {"a": reason, "b": reason}
    shard = tmp_path / "packed" / "shard-00000.tar"
    data = bytearray(shard.read_bytes())
    data[data.index(b"images/c/frame000002.jpg")] ^= 1
    shard.write_bytes(bytes(data))
    messages = [failure.message for failure in check(tmp_path / "packed").failures if failure.video == "c"]
    assert len(messages) == 1
    assert "images/c/frame000002.jpg is not where the index says" in messages[0]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda d: cut(d, "images/b/frame000004.jpg", 600), "unreadable"),
        (lambda d: cut(d, "images/b/frame000004.jpg", 0), "empty-file"),
        (lambda d: (d / "images/b/frame000004.jpg").write_bytes(b"no JPEG"), "unreadable"),
        (lambda d: flow(d, "b", planes(11, 33)[:2], first=7), "size-change"),
        (lambda d: remove(d, "flows/v/b/frame000001.jpg"), "gap"),
        (lambda d: shutil.copy(d / "flows/u/b/frame000004.jpg", d / "images/b/frame000004.jpg"), "colour-change"),
    ],
)
def test_headers_suffice_for(dataset: Path, damage: Damage, kind: str) -> None:
    assert check(dataset, headers_only=True).exit_code == 0
    damage(dataset)
    summary = check(dataset, headers_only=True)
    assert [failure.kind for failure in summary.failures] == [kind]
    assert "images looked at (headers only) in" in str(summary)


def test_damage_in_the_middle_needs_decoding(dataset: Path) -> None:
    path = dataset / "images/b/frame000004.jpg"
    data = bytearray(path.read_bytes())
    middle = data.index(b"\xff\xda") + 60  # after the header of the scan
    data[middle : middle + 40] = b"\xff\xd3" * 20
    path.write_bytes(bytes(data))
    assert check(dataset, headers_only=True).exit_code == 0
    assert [failure.kind for failure in check(dataset).failures] == ["unreadable"]


def test_shards(made: Path, tmp_path: Path) -> None:
    for index in (1, 2, 3):
        extract_videos(made / "videos", tmp_path / "data", shard=f"{index}/3", **OPTIONS)
    kinds = [(f.kind, f.failure) for f in check(tmp_path / "data").findings if f.kind == "shards"]
    assert kinds == [("shards", False)]
    (tmp_path / "data" / "manifest-shard-2-of-3.json").unlink()
    messages = [f.message for f in check(tmp_path / "data").failures]
    assert messages == ["without the videos of shard 2/3: extract or copy them"]
    for path in (tmp_path / "data" / "images").iterdir():
        (path / "frame000002.jpg").write_bytes(b"")
    reasons = set(check(tmp_path / "data", repair=made / "videos").not_repaired.values())
    assert reasons == {"shards are missing; extract or copy them before"}
    assert not (tmp_path / "data" / "manifest.json").exists()
    extract_videos(made / "videos", tmp_path / "data", shard="1/2", **OPTIONS)
    messages = [f.message for f in check(tmp_path / "data").failures if f.kind == "shards"]
    assert messages == ["without the videos of shard 2/2; or else 2/3: extract or copy them"]


def test_data_sets_for_evaluation_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (90, 400)).astype(np.uint8), (0, 0), 1.5)
    frames = [np.repeat(texture[:40, t : t + 48, np.newaxis], 3, axis=2).astype(np.uint8) for t in range(330)]
    write_video(tmp_path / "long.mp4", frames)
    extract_videos(tmp_path / "long.mp4", tmp_path / "data", needed=NEEDED_BY_TEST, **OPTIONS)
    summary = check(tmp_path / "data")
    assert ("", "evaluation-only", "only the flow that 25 test frames need: for evaluation only") in found(summary)
    assert summary.exit_code == 0
    assert summary.images == 330 + 2 * 250
    needed = sorted(NEEDED_BY_TEST.numbers(330))[17]
    (tmp_path / "data/flows/u/long" / f"frame{needed:06d}.jpg").unlink()
    (failure,) = check(tmp_path / "data").failures
    assert failure.message == f"flow u: 1 number is missing: {needed}"
    repaired = check(tmp_path / "data", repair=tmp_path / "long.mp4")
    assert (repaired.exit_code, repaired.repaired) == (0, ("long",))


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


def test_bad_arguments(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers must be 1 or more"):
        check(dataset, workers=0)
    with pytest.raises(ConfigError, match="is a folder; give another name for the output"):
        check(dataset, report=tmp_path)
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="nowhere: no such folder or file"):
        check(dataset, repair=tmp_path / "nowhere")
    with pytest.raises(
        ConfigError, match=r"x\.json: the report cannot be written there: No such file or directory; give"
    ):
        check(dataset, report=tmp_path / "nowhere" / "x.json")
    assert not (tmp_path / "nowhere").exists()


def test_findings_are_printed_where_the_report_cannot_be_written(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "internal")

    monkeypatch.setattr(module, "write_json", full)
    assert main(["verify", str(dataset), "--workers", "1"]) == 2
    printed = capsys.readouterr()
    assert "\nno failures\n" in printed.out
    assert printed.err.endswith(
        f"error: {dataset / 'verify.json'}: the report cannot be written there: No space left on device; give another "
        "place (--report)\n"
    )


def test_command_line(dataset: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", str(dataset), "--workers", "1"]
    assert main(arguments) == 0
    remove(dataset, "images/a/frame000003.jpg")
    assert main([*arguments, "--headers-only"]) == 1
    printed = capsys.readouterr().out
    assert "FAILURE gap\n  a: frames: 1 number is missing: 3\n" in printed
    assert "\nfailures: 1 (1 video)\n" in printed
    assert main([*arguments, "--repair", str(made / "videos")]) == 0
    assert main(["verify", str(dataset.parent / "nowhere")]) == 2
