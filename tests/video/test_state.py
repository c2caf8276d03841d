"""What a folder holds, by the files that the commands leave in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stmulnet.errors import ConfigError
from stmulnet.video.manifest import Manifest
from stmulnet.video.state import check_extract_output, check_import_output, dataset_state


def images(out: Path) -> None:
    (out / "jpegs_256" / "v_Run_g01_c01").mkdir(parents=True)


def manifest(out: Path, name: str = "manifest.json") -> None:
    Manifest({}).save(out / name)


def touch(out: Path, name: str) -> None:
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).touch()


KINDS: list[tuple[list[Callable[[Path], None]], str]] = [
    ([], ""),
    ([lambda out: touch(out, "notes.txt")], ""),
    ([lambda out: touch(out, ".partial/shard-1-of-2/finished.jsonl")], ""),  # just begun
    ([manifest], "a data set of `stmulnet extract`"),
    ([lambda out: manifest(out, "manifest-shard-1-of-2.json"), images], "a data set of `stmulnet extract`"),
    ([lambda out: touch(out, "imports.json"), images], "a data set of `stmulnet import-archive`"),
    ([lambda out: touch(out, ".importing/x.zip.0123abcd.jsonl")], "a data set of `stmulnet import-archive`"),
    ([images], "frames or flow that were made elsewhere"),
    ([lambda out: touch(out, "clip/img_00001.jpg")], "frames or flow that were made elsewhere"),
    ([lambda out: touch(out, "pack.json"), manifest], "a packed data set"),
    ([lambda out: touch(out, "shard-00000.tar")], "a packed data set"),
    ([lambda out: touch(out, ".partial/source.json")], "a packed data set"),
]


@pytest.mark.parametrize(("made", "kind"), KINDS)
def test_kinds(tmp_path: Path, made: list[Callable[[Path], None]], kind: str) -> None:
    for make in made:
        make(tmp_path)
    assert dataset_state(tmp_path).kind == kind


def test_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    state = dataset_state(tmp_path / "none")
    assert (state.kind, state.unfinished) == ("", ())
    check_extract_output(tmp_path / "none")
    check_import_output(tmp_path / "none")


def test_what_is_unfinished(tmp_path: Path) -> None:
    assert dataset_state(tmp_path).unfinished == ()
    manifest(tmp_path)
    (tmp_path / ".partial").mkdir()
    touch(tmp_path, ".importing/ucf101_jpegs_256.zip.0123abcd.jsonl")
    assert dataset_state(tmp_path).unfinished == (
        "an extraction is at work or was stopped; the same command again goes on",
        "an import of ucf101_jpegs_256.zip is at work, was stopped or failed; the same command again goes on",
    )
    touch(tmp_path / "packed", "shard-00000.tar")
    (tmp_path / "packed" / ".partial").mkdir()
    (text,) = dataset_state(tmp_path / "packed").unfinished
    assert text.startswith("a packing is at work or was stopped")


def test_what_may_be_written_where(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("extracted", "imported", "packed", "foreign", "both")}
    for name in ("extracted", "both"):
        manifest(folders[name])
    for name in ("imported", "both"):
        touch(folders[name], "imports.json")
    touch(folders["packed"], "pack.json")
    images(folders["foreign"])
    for name in ("extracted", "both"):  # both: an extracted data set that came in an archive
        check_extract_output(folders[name])
    for name in ("imported", "foreign", "both"):  # foreign: begun with another program
        check_import_output(folders[name])
    for name in ("imported", "packed", "foreign"):
        with pytest.raises(ConfigError, match=f"{name}: holds .*, to which no videos can be added; give another"):
            check_extract_output(folders[name])
    for name in ("extracted", "packed"):
        with pytest.raises(ConfigError, match=f"{name}: holds .*, to which no archives can be added; give another"):
            check_import_output(folders[name])
