"""Every finding of `stmulnet verify` on a data set that it is made in."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands.verifying import Damage, annotate, check, cut, flow, found, planes, remove

from stmulnet.cli import main
from stmulnet.commands import verify as module
from stmulnet.errors import ConfigError, DatasetError
from stmulnet.video.store import write_frames


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
