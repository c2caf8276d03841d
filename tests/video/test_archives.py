"""Archives into folders: the same files as other programs unpack, in one piece or many, resumed or not."""

import itertools
import json
import shutil
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.video.archive_making import Files, contents, cut, some_files, write_tar, write_zip

from stmulnet.errors import ConfigError, DatasetError
from stmulnet.files import locked
from stmulnet.video import archives
from stmulnet.video.archive_parts import find_archives
from stmulnet.video.archive_zip import index_zip, zip_files
from stmulnet.video.archives import import_archives
from stmulnet.video.state import dataset_state

FOLDERS = 5 * 3 + 3  # of videos; the stray one, u of the .bin files, the top


@pytest.fixture
def files(rng: np.random.Generator) -> Files:
    return some_files(rng)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("workers", [1, 2])
def test_whole_zip(tmp_path: Path, files: Files, method: int, workers: int) -> None:
    summary = import_archives([write_zip(tmp_path / "x.zip", files, method=method)], tmp_path / "out", workers=workers)
    assert contents(tmp_path / "out") == files
    assert (summary.files, summary.folders, summary.skipped, summary.failures) == (len(files), FOLDERS, 0, [])
    assert summary.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "imports.json",
        "jpegs_256",
        "readme.txt",
        "tvl1_flow",
    ]


@pytest.mark.parametrize("piece_bytes", [7, 100, 1000, 5000])
def test_pieces(tmp_path: Path, files: Files, piece_bytes: int) -> None:
    """Whatever lies across the cuts: headers, names, data, the end of the directory."""
    files = dict(list(files.items())[:: 40 if piece_bytes == 7 else 1])
    pieces = cut(write_zip(tmp_path / "x.zip", files), piece_bytes)
    summary = import_archives(pieces[::-1][:1], tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == files
    assert summary.files == len(files)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.TGZ", "w:gz"), ("x.tar.bz2", "w:bz2"), ("x.tar.xz", "w:xz")],
)
@pytest.mark.parametrize("before", ["./", ""])
def test_tar(tmp_path: Path, files: Files, name: str, mode: str, before: str) -> None:
    summary = import_archives([write_tar(tmp_path / name, files, mode=mode, before=before)], tmp_path / "out")
    assert contents(tmp_path / "out") == files
    assert summary.files == len(files)


def test_pieces_of_a_tar(tmp_path: Path, files: Files) -> None:
    cut(write_tar(tmp_path / "x.tar.gz", files, mode="w:gz"), 900)
    import_archives([tmp_path / "x.tar.gz.001"], tmp_path / "out")
    assert contents(tmp_path / "out") == files


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_files_of_a_folder_need_not_follow_each_other(
    tmp_path: Path, files: Files, rng: np.random.Generator, kind: str
) -> None:
    names = rng.permutation(list(files)).tolist()
    write = write_zip if kind == "zip" else write_tar
    import_archives([write(tmp_path / f"x.{kind}", {name: files[name] for name in names})], tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == files


def test_several_archives_into_one_tree(tmp_path: Path, files: Files) -> None:
    """The flow of a video beside its frames, in the same folders."""
    frames = {f"v/img_{number:05d}.jpg": bytes([number]) for number in range(5)}
    flow = {f"v/flow_x_{number:05d}.jpg": bytes([number, 1]) for number in range(4)}
    paths = [
        write_zip(tmp_path / "a.zip", frames),
        write_tar(tmp_path / "b.tar", flow),
        write_zip(tmp_path / "c.zip", files),
    ]
    summary = import_archives(paths, tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == frames | flow | files
    assert summary.files == len(frames | flow | files)
    record = json.loads((tmp_path / "out" / "imports.json").read_text())["archives"]
    assert [(entry["archive"], entry["files"]) for entry in record] == [
        ("a.zip", 5),
        ("b.tar", 4),
        ("c.zip", len(files)),
    ]
    assert record[0]["bytes"] == paths[0].stat().st_size


def test_large_entries_come_in_chunks(tmp_path: Path, rng: np.random.Generator) -> None:
    files = {"a/random": rng.bytes(9_000_000), "a/even": bytes(9_000_001), "a/exact": bytes(1 << 22), "b/zero": b""}
    import_archives([write_zip(tmp_path / "x.zip", files)], tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == files


@pytest.mark.slow
def test_zip64_of_many_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"{number // 1000}/{number}"), b"")
    index = index_zip(find_archives([tmp_path / "x.zip"])[0])
    assert (len(index.units), sum(unit.files for unit in index.units)) == (66, 66_000)


def test_zip64_of_large_archives(tmp_path: Path) -> None:
    """Entries beyond 4 GB, behind a hole that takes no space on disk."""
    path = tmp_path / "x.zip"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/b", b"far away")
        with archive.open("a/c", "w", force_zip64=True) as entry:
            entry.write(b"wide")
    (source,) = find_archives([path])
    (unit,) = index_zip(source).units
    assert [(file.name, b"".join(file.chunks)) for file in zip_files(source, unit)] == [
        ("b", b"far away"),
        ("c", b"wide"),
    ]


def test_comment_behind_the_directory(tmp_path: Path, files: Files) -> None:
    with zipfile.ZipFile(write_zip(tmp_path / "x.zip", files), "a") as archive:
        archive.comment = b"PK\5\6" * 20
    import_archives([tmp_path / "x.zip"], tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == files


def test_names_that_are_not_ascii(tmp_path: Path) -> None:
    files = {"a/Größe.jpg": b"1", "é/ж.jpg": b"2"}
    import_archives(
        [write_zip(tmp_path / "x.zip", files), write_tar(tmp_path / "y.tar", {"ü.jpg": b"3"})],
        tmp_path / "out",
        workers=1,
    )
    assert contents(tmp_path / "out") == {**files, "ü.jpg": b"3"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_second_run_writes_nothing(tmp_path: Path, files: Files, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = write_zip if kind == "zip" else write_tar
    path = write(tmp_path / f"x.{kind}", files)
    import_archives([path], tmp_path / "out", workers=1)

    def fail(*_: Any) -> None:
        raise AssertionError("nothing is left to unpack")

    monkeypatch.setattr(archives, "_unpack", fail)
    summary = import_archives([path], tmp_path / "out", workers=1)
    assert (summary.files, summary.skipped) == (0, len(files))
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "out" / "tvl1_flow" / "v" / "v_Run (x)+!_g03")
    (tmp_path / "out" / "jpegs_256" / "v_Run (x)+!_g01" / "frame000002.jpg").unlink()
    again = import_archives([path], tmp_path / "out", workers=1)
    assert (again.files, again.folders, again.skipped) == (5, 2, len(files) - 5)
    assert contents(tmp_path / "out") == files
    assert dataset_state(tmp_path / "out").unfinished == ()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_files_changed_since_are_named(tmp_path: Path, files: Files, kind: str) -> None:
    write = write_zip if kind == "zip" else partial(write_tar, mode="w:gz")
    path, video = write(tmp_path / f"x.{kind}", files), tmp_path / "out" / "jpegs_256" / "v_Run (x)+!_g02"
    import_archives([path], tmp_path / "out", workers=1)
    (video / "frame000003.jpg").write_bytes(b"")
    (video / "frame000004.jpg").unlink()
    summary = import_archives([path], tmp_path / "out", workers=1)
    ((_, reason),) = summary.failures
    assert (summary.exit_code, summary.files, summary.skipped) == (1, 0, len(files) - 4)
    assert f"1 file is in {video} with other content, the first is frame000003.jpg; nothing is replaced" in reason
    assert "an import of x." in dataset_state(tmp_path / "out").unfinished[0]
    (video / "frame000003.jpg").unlink()
    assert import_archives([path], tmp_path / "out", workers=1).files == 2
    assert contents(tmp_path / "out") == files
    assert dataset_state(tmp_path / "out").unfinished == ()


def test_files_that_are_there_are_kept(tmp_path: Path, files: Files) -> None:
    """Of an earlier, interrupted unzip: equal ones count as done, missing ones are added, others are left alone."""
    path, video = write_zip(tmp_path / "x.zip", files), tmp_path / "out" / "jpegs_256" / "v_Run (x)+!_g02"
    video.mkdir(parents=True)
    first = "jpegs_256/v_Run (x)+!_g02/frame000001.jpg"
    (video / "frame000001.jpg").write_bytes(files[first])
    (video / "notes.txt").write_bytes(b"mine")
    summary = import_archives([path], tmp_path / "out", workers=1)
    assert (summary.files, summary.skipped, summary.failures) == (len(files) - 1, 1, [])
    assert contents(tmp_path / "out") == files | {"jpegs_256/v_Run (x)+!_g02/notes.txt": b"mine"}


def test_nothing_is_replaced(tmp_path: Path, files: Files) -> None:
    path, video = write_zip(tmp_path / "x.zip", files), tmp_path / "out" / "jpegs_256" / "v_Run (x)+!_g02"
    video.mkdir(parents=True)
    (video / "frame000003.jpg").write_bytes(b"other")
    summary = import_archives([path], tmp_path / "out", workers=1)
    ((place, reason),) = summary.failures
    assert place == "x.zip: jpegs_256/v_Run (x)+!_g02"
    assert "1 file is in" in reason
    assert "other content, the first is frame000003.jpg; nothing is replaced" in reason
    assert summary.exit_code == 1
    assert [path.name for path in video.iterdir()] == ["frame000003.jpg"]
    assert not (tmp_path / "out" / "imports.json").exists()
    (video / "frame000003.jpg").unlink()
    summary = import_archives([path], tmp_path / "out", workers=1)
    assert (summary.files, summary.skipped) == (4, len(files) - 4)
    assert contents(tmp_path / "out") == files


def test_a_file_in_the_place_of_a_folder(tmp_path: Path, files: Files) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "jpegs_256").write_bytes(b"")
    summary = import_archives([write_zip(tmp_path / "x.zip", files)], tmp_path / "out", workers=1)
    assert len(summary.failures) == 6
    assert all("cannot be put there" in reason for _, reason in summary.failures)


def test_folder_that_another_command_uses(tmp_path: Path, files: Files) -> None:
    (tmp_path / "out").mkdir()
    path = write_zip(tmp_path / "x.zip", files)
    with locked(tmp_path / "out", None), pytest.raises(DatasetError, match="another command is writing to this folder"):
        import_archives([path], tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    ("workers", "out", "message"), [(0, "out", "workers must be 1 or more"), (1, "file", "is a file")]
)
def test_bad_arguments(tmp_path: Path, workers: int, out: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=message):
        import_archives([tmp_path / "x.zip"], tmp_path / out, workers=workers)


def test_record_of_something_else(tmp_path: Path, files: Files) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "imports.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"imports\.json: not a record of `stmulnet import-archive`"):
        import_archives([write_zip(tmp_path / "x.zip", files)], tmp_path / "out", workers=1)


def test_summary_in_words(tmp_path: Path, files: Files) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    text = str(import_archives([path], tmp_path / "out", workers=1))
    assert text.startswith(f"{len(files)} files in {FOLDERS} folders written, 0 there already, 0 folders failed; ")
    (tmp_path / "out" / "readme.txt").unlink()
    text = str(import_archives([path], tmp_path / "out", workers=1))
    assert text.startswith(f"1 file in 1 folder written, {len(files) - 1} there already, 0 folders failed; ")
    text = str(import_archives([path], tmp_path / "out", workers=1))
    assert text.startswith(f"0 files in 0 folders written, {len(files)} there already, 0 folders failed; ")
    assert "files/s" not in text
    (tmp_path / "out" / "readme.txt").write_bytes(b"other")
    assert ", 1 folder failed, named above; " in str(import_archives([path], tmp_path / "out", workers=1))


def test_a_data_set_of_another_kind(tmp_path: Path, files: Files) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    path = write_zip(tmp_path / "x.zip", files)
    with pytest.raises(ConfigError, match="holds a data set of `stmulnet extract`, to which no archives can be added"):
        import_archives([path], tmp_path / "out", workers=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


def test_an_extracted_data_set_in_an_archive(tmp_path: Path) -> None:
    """Imported, it may be imported again."""
    files = {"manifest.json": b"{}", "images/a/frame000001.jpg": b"1"}
    path = write_zip(tmp_path / "x.zip", files)
    assert import_archives([path], tmp_path / "out", workers=1).files == 2
    assert import_archives([path], tmp_path / "out", workers=1).skipped == 2


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_of_nothing_and_of_videos(tmp_path: Path, kind: str) -> None:
    write = write_zip if kind == "zip" else write_tar
    with pytest.raises(DatasetError, match=rf"x\.{kind}: holds no files; nothing was written"):
        import_archives([write(tmp_path / f"x.{kind}", {})], tmp_path / "out", workers=1)
    files = {"UCF-101/Run/v_Run_g01_c01.AVI": b"1", "UCF-101/readme.txt": b"2"}
    with pytest.raises(
        DatasetError, match=r"holds videos \(UCF-101/Run/v_Run_g01_c01.AVI\).* `stmulnet extract`, which"
    ):
        import_archives([write(tmp_path / f"v.{kind}", files)], tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()
    files["UCF-101/frames/v_Run_g01_c01/frame000001.jpg"] = b"3"
    assert import_archives([write(tmp_path / f"v.{kind}", files)], tmp_path / "out", workers=1).files == 3


def test_an_interrupted_import_says_how_far_it_is_and_leaves_a_mark(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack, count = archives._unpack, itertools.count()

    def interrupted(*job: Any) -> int | str:
        if next(count) == 5:
            raise KeyboardInterrupt
        return unpack(*job)

    path = write_zip(tmp_path / "x.zip", files)
    monkeypatch.setattr(archives, "_unpack", interrupted)
    with pytest.raises(
        KeyboardInterrupt, match=f"x.zip: 5 of {FOLDERS} folders done, which are kept; the same command"
    ):
        import_archives([path], tmp_path / "out", workers=1)
    assert len(dataset_state(tmp_path / "out").unfinished) == 1
    import_archives([path], tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == files
    assert dataset_state(tmp_path / "out").unfinished == ()


def test_a_new_copy_of_a_damaged_archive_leaves_nothing_of_the_old_one(tmp_path: Path, files: Files) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    (tmp_path / "out" / ".importing").mkdir(parents=True)
    (tmp_path / "out" / ".importing" / "x.zip.01234567.jsonl").touch()
    import_archives([path], tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / ".importing").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_reading_a_large_tar_shows_progress(
    tmp_path: Path, rng: np.random.Generator, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x.tar" if mode == "w" else "x.tar.gz"
    path = write_tar(tmp_path / name, {f"a/{number}": rng.bytes(1_500_000) for number in range(2)}, mode=mode)
    import_archives([path], tmp_path / "out", workers=1)
    assert f"check {name}: 3/3 MB, " in capsys.readouterr().err


def test_checking_a_large_zip_shows_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_zip(tmp_path / "x.zip", {f"a/{number}": b"" for number in range(1500)})
    import_archives([path], tmp_path / "out", workers=1)
    assert "check x.zip: 1501/1501 entries, " in capsys.readouterr().err
