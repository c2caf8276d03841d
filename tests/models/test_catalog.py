"""The published weight files: their names, and fetching them from servers good and bad."""

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from tests.fileserver import FileServer, serve

import stmulnet.download
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models import catalog
from stmulnet.models.catalog import WeightFile, cache_folder, entries, fetch, find, local_path, locate, recorded_sha256

NAME = "ucf101-img-resnet50-split1-dr0.mat"
PATH = f"st-mul/ts-base/{NAME}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and an empty current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("STMULNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STMULNET_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(stmulnet.download, "WAIT_SEC", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of the cache's mirror variable."""
    with serve() as plan:
        monkeypatch.setenv("STMULNET_MIRROR", plan.address)
        yield plan


@pytest.fixture
def content(rng: np.random.Generator) -> bytes:
    return mat_file(rng)


def mat_file(rng: np.random.Generator, *, compressed: bool = True) -> bytes:
    """About 2 MB."""
    buffer = io.BytesIO()
    arrays = {"net": rng.standard_normal((500, 500)), "state": rng.standard_normal((3, 5))}
    scipy.io.savemat(buffer, arrays, do_compression=compressed)
    return buffer.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --- The table


def test_every_file_of_the_specification_is_listed() -> None:
    paths = {entry.path for entry in entries()}
    for dataset in ("ucf101", "hmdb51"):
        for split in (1, 2, 3):
            for depth, rate in ((50, "0.8"), (152, "0.8" if dataset == "ucf101" else "0.9")):
                assert f"st-mul/ts-base/{dataset}-img-resnet{depth}-split{split}-dr0.mat" in paths
                assert f"st-mul/ts-base/{dataset}-flow-resnet{depth}-split{split}-dr{rate}.mat" in paths
            assert f"st-mul/final/{dataset}ST-MulNet-img50-flow50-final-split={split}.mat" in paths
            assert f"st-mul/final/{dataset}ST-MulNet-img50-flow152-split={split}.mat" in paths
            assert f"st-res/stage1/{dataset}-ST-ResNet50-split={split}.mat" in paths
            assert f"st-res/stage2/{dataset}-ST-ResNet50-final-split={split}.mat" in paths


def test_names_and_paths_are_unique_and_consistent() -> None:
    for key in ("name", "path"):
        values = [getattr(entry, key) for entry in entries()]
        assert len(set(values)) == len(values) == 66
    for entry in entries():
        assert entry.path.endswith(entry.name)
        assert entry.dataset in entry.name
        assert re.search(rf"split=?{entry.split}", entry.name)
        assert entry.inferred == entry.path.startswith("st-res/")
        assert "//" not in entry.path


@pytest.mark.parametrize("given", [NAME, NAME.removesuffix(".mat"), PATH, PATH.removesuffix(".mat")])
def test_find(given: str) -> None:
    assert find(given).path == PATH


def test_the_base_of_the_same_name_for_st_resnet_is_another_file() -> None:
    entry = find(f"st-res/ts-base/{NAME}")
    assert entry.path == entry.name == f"st-res/ts-base/{NAME}"


def test_unknown_names_are_answered_with_close_ones() -> None:
    with pytest.raises(ConfigError, match=r"'ucf101-img-resnet50-split4-dr0'; did you mean ucf101-img-resnet50-split"):
        find("ucf101-img-resnet50-split4-dr0")
    with pytest.raises(ConfigError, match=r"no published weight file is called 'x'; `stmulnet weights list` names all"):
        find("x")


# --- Places


def test_the_cache_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("STMULNET_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for platform, folder in (
        ("linux", ".cache/stmulnet"),
        ("darwin", "Library/Caches/stmulnet"),
        ("win32", "AppData/Local/stmulnet/cache"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_folder() == tmp_path / folder
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "stmulnet"
    monkeypatch.setenv("STMULNET_CACHE", str(tmp_path / "y"))
    assert cache_folder() == tmp_path / "y"


def test_weight_files_are_located_as_given_then_by_hand_then_in_the_cache(cache: Path) -> None:
    hand = Path("experiment/base_pretrained_nets")
    hand.mkdir(parents=True)
    cache.mkdir()
    for place in (cache, hand, Path()):
        (place / NAME).touch()
        assert locate(NAME) == place / NAME
    assert locate(NAME.removesuffix(".mat")) == cache / NAME
    (hand / "own.safetensors").touch()
    assert locate("own.safetensors") == hand / "own.safetensors"


def test_what_is_no_weight_file_is_named(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "folder.mat").mkdir()
    (tmp_path / "link.mat").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.mat")
    for name, message in (
        (tmp_path / "folder.mat", r"folder\.mat: is a folder; name the weight file in it"),
        (tmp_path / "link.mat", r"link\.mat: is a link to nowhere, which does not exist"),
        (tmp_path / "pipe.mat", r"pipe\.mat: is no regular file"),
        ("", "the name of the weight file is empty"),
        (NAME, f"{NAME}: not here yet, neither as .*; `stmulnet weights fetch '{NAME}'` gets it"),
        (
            "x.mat",
            r"x\.mat: no such weight file, neither .* model\.safetensors of .*\(\.mat\)\. No published .* 'x\.mat'; ",
        ),
    ):
        with pytest.raises(CheckpointError, match=message):
            locate(name)


def test_files_are_found_in_the_cache_and_where_the_scripts_keep_them(cache: Path) -> None:
    assert local_path(NAME) is None
    by_hand = Path("experiment/base_pretrained_nets") / NAME
    by_hand.parent.mkdir(parents=True)
    by_hand.touch()
    assert local_path(NAME) == by_hand
    assert local_path(f"st-res/ts-base/{NAME}") is None
    cache.mkdir()
    (cache / NAME).touch()
    assert local_path(NAME.removesuffix(".mat")) == cache / NAME


# --- Fetching


def test_fetch_keeps_the_file_and_its_sum(server: FileServer, cache: Path, content: bytes) -> None:
    server.files[PATH] = content
    path = fetch(NAME)
    assert path == cache / NAME
    assert path.read_bytes() == content
    digest = hashlib.sha256(content).hexdigest()
    record = {"sha256": digest, "bytes": len(content), "address": f"{server.address}/{PATH}"}
    assert json.loads((cache / "checksums.json").read_text()) == {NAME: record}
    assert recorded_sha256(path) == recorded_sha256(Path("elsewhere") / NAME) == digest
    assert recorded_sha256(Path(f"x/st-res/ts-base/{NAME}")) is None
    assert recorded_sha256(Path("x.safetensors")) is None


def test_fetch_does_not_ask_for_what_is_there(
    server: FileServer, cache: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files[PATH] = content
    fetch(NAME)
    server.requests.clear()
    assert fetch(NAME) == cache / NAME
    assert server.requests == []
    assert "already there" in capsys.readouterr().err


def test_every_address_is_built_from_base_and_path(server: FileServer, content: bytes) -> None:
    entry = find("ucf101ST-MulNet-img50-flow50-final-split=1")
    server.files[f"mirror/{entry.path}"] = content
    fetch(entry.name, mirror=f"{server.address}/mirror/")
    assert [path for path, _ in server.requests] == [f"mirror/{entry.path}"]


def test_a_cut_connection_gives_the_exact_bytes(server: FileServer, content: bytes) -> None:
    server.files[PATH], server.cuts = content, [len(content) // 2]
    assert fetch(NAME).read_bytes() == content
    assert server.asked_for() == [None, f"bytes={len(content) // 2}-"]


def test_a_second_fetch_resumes_the_first(server: FileServer, cache: Path, content: bytes) -> None:
    server.files[PATH], server.cuts = content, [1_500_000, 0, 0, 0]
    with pytest.raises(
        CheckpointError, match=r"the first 1\.5 MB are kept .* the same command fetches the rest\. Give"
    ):
        fetch(NAME)
    assert names(cache) == [f"{NAME}.part", f"{NAME}.part.json"]
    assert fetch(NAME).read_bytes() == content
    assert server.asked_for()[-1] == "bytes=1500000-"
    assert names(cache) == ["checksums.json", NAME]


def test_a_file_that_changes_between_two_attempts(server: FileServer, content: bytes, rng: np.random.Generator) -> None:
    server.files[PATH], server.cuts = content, [1_500_000, 0, 0, 0]
    with pytest.raises(CheckpointError):
        fetch(NAME)
    other = mat_file(rng)
    server.files[PATH], server.headers = other, {"ETag": '"two"'}
    assert fetch(NAME).read_bytes() == other


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (b"<!DOCTYPE html>\n<title>404</title>", "an HTML page, not a MATLAB file; nothing is kept"),
        (b"\n <html><body>Sorry", "an HTML page"),
        (b"PK\x03\x04 a zip file" * 100, r"something that starts b'PK.*, not a MATLAB file"),
        (b"", "not a MATLAB file"),
        (b"MATLAB 5.0 MAT-file" + bytes(109), "the file is cut off"),
    ],
)
def test_wrong_content_is_refused_and_removed(wrong: bytes, problem: str, server: FileServer, cache: Path) -> None:
    server.files[PATH] = wrong
    with pytest.raises(CheckpointError, match=problem):
        fetch(NAME)
    assert names(cache) == []


@pytest.mark.parametrize("compressed", [True, False])
def test_a_cut_file_is_noticed_without_a_length(
    compressed: bool, server: FileServer, cache: Path, rng: np.random.Generator
) -> None:
    content = mat_file(rng, compressed=compressed)
    server.files[PATH], server.length, server.cuts = content, False, [1_000_000]
    with pytest.raises(CheckpointError, match="the file is cut off; nothing is kept"):
        fetch(NAME)
    assert names(cache) == []
    assert fetch(NAME).read_bytes() == content


def test_real_files_are_whole(shared_dir: Path) -> None:
    files = sorted((shared_dir / "fixtures" / "matconvnet").glob("*.mat"))
    assert len(files) == 3
    assert all(catalog._is_whole(path) for path in files)


@pytest.mark.parametrize("prefix", [b"", b"MATLAB 7.3 MAT-file".ljust(512)])
def test_hdf5_files_are_taken(prefix: bytes, server: FileServer, rng: np.random.Generator) -> None:
    server.files[PATH] = prefix + b"\x89HDF\r\n\x1a\n" + rng.bytes(3000)
    assert fetch(NAME).read_bytes() == server.files[PATH]


@pytest.mark.parametrize("status", [404, 403])
def test_a_missing_file_says_what_can_be_done(status: int, server: FileServer, cache: Path) -> None:
    server.statuses = [status]
    with pytest.raises(CheckpointError) as caught:
        fetch(NAME)
    message = str(caught.value)
    assert message.startswith(f"{server.address}/{PATH}: the server answers {status} ")
    for part in ("--mirror or $STMULNET_MIRROR", catalog.BASE_ADDRESS, str(cache)):
        assert part in message
    assert "experiment/base_pretrained_nets" in message
    assert "inferred" not in message


def test_only_the_authors_host_is_said_to_be_unreachable_at_times(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError) as caught:
        fetch(NAME)
    assert "unreachable at times" not in str(caught.value)
    monkeypatch.setattr(catalog, "BASE_ADDRESS", f"{server.address}/")
    with pytest.raises(
        CheckpointError, match=r"404 Not Found\. The authors' host has been unreachable at times\. Give"
    ):
        fetch(NAME)


def test_an_empty_answer(server: FileServer) -> None:
    server.files[PATH] = b""
    with pytest.raises(CheckpointError, match="an empty file, not a MATLAB file; nothing is kept"):
        fetch(NAME)


def test_what_is_here_is_copied_and_that_is_said(
    server: FileServer, cache: Path, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files[PATH] = content
    fetch(NAME)
    server.requests.clear()
    capsys.readouterr()
    assert fetch(NAME, out=tmp_path / "out").read_bytes() == content
    assert server.requests == []
    said = f"{tmp_path / 'out' / NAME}: copied from {cache / NAME}, where it is already; nothing was fetched\n"
    assert capsys.readouterr().err == said


def test_a_missing_file_of_an_inferred_name_says_so(server: FileServer) -> None:
    with pytest.raises(CheckpointError, match="The name of this file is inferred and may be another one there"):
        fetch("ucf101-ST-ResNet50-split=1")


def test_server_errors(server: FileServer, content: bytes) -> None:
    server.files[PATH], server.statuses = content, [500] * 4
    with pytest.raises(CheckpointError, match="answers 500 Internal Server Error, 4 times"):
        fetch(NAME)
    assert fetch(NAME).read_bytes() == content


def test_a_silent_server(server: FileServer, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stmulnet.download, "TIMEOUT_SEC", 0.1)
    monkeypatch.setattr(stmulnet.download, "RETRIES", 0)
    server.files[PATH], server.hang = content, True
    with pytest.raises(CheckpointError, match=r"no answer within 0\.1 s, 1 times; the first .* MB are kept"):
        fetch(NAME)


def test_the_authors_host_is_the_default(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def record(address: str, *_: object, **__: object) -> None:
        asked.append(address)
        raise CheckpointError("enough")

    monkeypatch.setattr(catalog, "download", record)
    with pytest.raises(CheckpointError, match="enough"):
        fetch("hmdb51ST-MulNet-img50-flow152-split=3")
    base = "http://ftp.tugraz.at/pub/feichtenhofer"
    assert asked == [f"{base}/st-mul/final/hmdb51ST-MulNet-img50-flow152-split=3.mat"]


# --- Sums


def test_another_file_than_at_first_is_refused(
    server: FileServer, cache: Path, content: bytes, rng: np.random.Generator, tmp_path: Path
) -> None:
    server.files[PATH] = content
    fetch(NAME)
    other = mat_file(rng)
    server.files[PATH] = other
    (cache / NAME).unlink()
    with pytest.raises(CheckpointError) as caught:
        fetch(NAME)
    message = str(caught.value)
    for data in (content, other):
        assert hashlib.sha256(data).hexdigest() in message
    assert f"remove the entry '{NAME}' from {cache / 'checksums.json'}" in message
    assert names(cache) == ["checksums.json"]
    (cache / "checksums.json").unlink()
    assert fetch(NAME).read_bytes() == other


def test_a_damaged_file_in_the_cache_is_not_handed_out(server: FileServer, cache: Path, content: bytes) -> None:
    server.files[PATH] = content
    fetch(NAME)
    (cache / NAME).write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"was recorded when .* was first fetched .*: damaged, or another file"):
        fetch(NAME)


def test_a_file_put_there_by_hand_is_taken_as_it_is(server: FileServer, cache: Path) -> None:
    by_hand = Path("experiment/base_pretrained_nets") / NAME
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"anything")
    assert fetch(NAME) == by_hand
    assert server.requests == []
    assert not cache.exists()


@pytest.mark.parametrize("damaged", ["", "[]", '{"x": 1}', '{"x": {"sha256": 1, "address": ""}}'])
def test_a_damaged_list_of_sums(damaged: str, server: FileServer, cache: Path, content: bytes) -> None:
    server.files[PATH] = content
    cache.mkdir()
    (cache / "checksums.json").write_text(damaged)
    with pytest.raises(ConfigError, match=r"checksums\.json: not a list of checksums, or damaged; remove it"):
        fetch(NAME)


# --- Mirrors and folders


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("as_address", [True, False])
def test_a_folder_as_mirror(flat: bool, as_address: bool, cache: Path, content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "my mirror"
    place = folder / (NAME if flat else PATH)
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    path = fetch(NAME, mirror=folder.as_uri() if as_address else str(folder))
    assert path == cache / NAME
    assert path.read_bytes() == place.read_bytes() == content
    assert recorded_sha256(path) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("wrong", [b"<html>", b"MATLAB 5.0 MAT-file"])
def test_a_wrong_file_in_a_folder(wrong: bytes, cache: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(wrong)
    with pytest.raises(CheckpointError, match=r"not a MATLAB file|cut off"):
        fetch(NAME, mirror=str(tmp_path))
    assert names(cache) == []


def test_a_folder_without_the_file(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"holds neither {PATH} nor {NAME}"):
        fetch(NAME, mirror=str(tmp_path))
    with pytest.raises(CheckpointError, match=r"mirror .*nowhere: no such folder; give another one"):
        fetch(NAME, mirror=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("mirror", ["ftp://host/x", "s3://bucket", "file://host/x", "http:///x"])
def test_a_mirror_that_is_none(mirror: str, cache: Path) -> None:
    with pytest.raises(ConfigError, match=f"mirror '{mirror}': give a base address"):
        fetch(NAME, mirror=mirror)


def test_out_is_a_folder(server: FileServer, cache: Path, content: bytes, tmp_path: Path) -> None:
    server.files[PATH] = content
    out = tmp_path / "new" / "folder"
    assert fetch(NAME, out=out) == out / NAME
    assert names(out) == [NAME]
    assert names(cache) == ["checksums.json"]
    server.requests.clear()
    assert fetch(NAME, out=out) == out / NAME
    assert server.requests == []


def test_out_takes_a_copy_of_what_is_here(server: FileServer, cache: Path, content: bytes, tmp_path: Path) -> None:
    server.files[PATH] = content
    fetch(NAME)
    server.requests.clear()
    assert fetch(NAME, out=tmp_path / "out").read_bytes() == content
    assert server.requests == []


def test_out_that_cannot_be_written(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; give another name"):
        fetch(NAME, out=tmp_path / "file")
    assert server.requests == []


def test_the_base_for_st_resnet_has_its_own_place(server: FileServer, cache: Path, content: bytes) -> None:
    entry: WeightFile = find(f"st-res/ts-base/{NAME}")
    server.files[entry.path] = content
    assert fetch(entry.name) == cache / "st-res" / "ts-base" / NAME
    assert local_path(NAME) is None
    assert recorded_sha256(cache / "st-res" / "ts-base" / NAME) == hashlib.sha256(content).hexdigest()
