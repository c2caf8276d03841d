"""Videos in folders, files and archives."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stmulnet.errors import DatasetError
from stmulnet.video.sources import VideoSource, find_sources, open_sources

FILES = {"UCF/Run/v_Run_g01_c01.avi": b"one" * 50_000, "UCF/Walk/v_Walk_g01_c01.MP4": b"two", "UCF/readme.txt": b"no"}
HIDDEN = {"UCF/Run/._v_Run_g01_c01.avi": b"x", "__MACOSX/UCF/v.avi": b"x", ".cache/v.avi": b"x"}


def make_zip(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    mode: Any = "w" if path.suffix == ".tar" else f"w:{path.suffix[1:].replace('tgz', 'gz')}"
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def make(path: Path, files: dict[str, bytes]) -> Path:
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


def read(places: Path | list[Path], folder: Path) -> dict[str, bytes]:
    """Content by source; the temporary copies are removed."""
    folder.mkdir(exist_ok=True)
    found = {}
    for opened in open_sources(find_sources(places).values(), folder):
        assert opened.problem is None
        found[opened.source.source] = opened.path.read_bytes()
        if opened.source.in_archive:
            assert list(folder.iterdir()) == [opened.path]
            opened.path.unlink()
    assert list(folder.iterdir()) == []
    return found


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.TAR.xz"])
def test_archives(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / name, {f"./{path}": content for path, content in (FILES | HIDDEN).items()})
    sources = find_sources(archive)
    assert sources["v_Run_g01_c01"] == VideoSource(
        "v_Run_g01_c01", "UCF/Run/v_Run_g01_c01.avi", 150_000, archive, in_archive=True
    )
    assert read(archive, tmp_path / "work") == {k: v for k, v in FILES.items() if not k.endswith("txt")}


def test_folders_files_and_archives_together(tmp_path: Path) -> None:
    (tmp_path / "folder" / "Class").mkdir(parents=True)
    (tmp_path / "folder" / "Class" / "a.avi").write_bytes(b"a")
    (tmp_path / "b.dat").write_bytes(b"b")
    places = [tmp_path / "b.dat", make_zip(tmp_path / "c.zip", {"x/c.avi": b"c"}), tmp_path / "folder"]
    assert list(find_sources(places)) == ["a", "b", "c"]
    assert read(places, tmp_path / "work") == {"Class/a.avi": b"a", "b.dat": b"b", "x/c.avi": b"c"}


def test_only_what_is_wanted_is_copied(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", FILES)
    wanted = find_sources(archive)["v_Walk_g01_c01"]
    (opened,) = open_sources([wanted], tmp_path)
    assert opened.path.read_bytes() == b"two"


def test_paths_of_an_archive_lead_nowhere(tmp_path: Path) -> None:
    files = {"../../evil.avi": b"1", "/etc/absolute.avi": b"2", "a/../b/dots.avi": b"3"}
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("a.zip", "a.tar"):
        archive = make(tmp_path / name, files)
        assert sorted(find_sources(archive)) == ["absolute", "dots", "evil"]
        assert sorted(read(archive, tmp_path / "deep" / "er" / "work").values()) == [b"1", b"2", b"3"]
        assert {p.name for p in tmp_path.rglob("*.avi")} == set()
        archive.unlink()


def test_links_and_devices_are_no_videos(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"{name}.avi")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    problems = [opened.problem for opened in open_sources(find_sources(tmp_path / "a.tar").values(), tmp_path)]
    assert problems == ["cannot be read from the archive: a link, a device or a sparse file"] * 3


def test_one_damaged_member_of_a_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.avi": b"first" * 100, "b.avi": b"second"}, method=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"firstfirst", b"fistrfirst", 1))
    one, two = open_sources(find_sources(archive).values(), tmp_path)
    assert one.problem is not None
    assert one.problem.startswith("cannot be read from the archive: Bad CRC-32")
    assert (two.problem, two.path.read_bytes()) == (None, b"second")


def test_encrypted_member(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.avi": b"content"}, method=zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag in the local header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(data))
    (opened,) = open_sources(find_sources(archive).values(), tmp_path)
    assert opened.problem is not None
    assert "encrypted" in opened.problem


def test_a_member_that_claims_more_than_the_disk_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.avi": bytes(5000)})
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=4000))
    (opened,) = open_sources(find_sources(archive).values(), tmp_path)
    assert opened.problem == "there is no room for a temporary copy of its 5000 bytes"


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no archive" * 100,
        lambda data: data[:-11000],  # of a plain tar within a header
        lambda data: data[:-20000],
        lambda data: data[:-9],
    ],
)
def test_damaged_archives_are_refused(tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    archive = make(tmp_path / name, {f"{n}.avi": os.urandom(9000) for n in range(3)})
    data = archive.read_bytes()
    archive.write_bytes(damage(data if name != "a.tar" else data[:29696]))  # to the first block of zeros at the end
    with pytest.raises(DatasetError, match=rf"{name}: not an archive that can be read to its end \(.*get it again$"):
        list(open_sources(find_sources(archive).values(), tmp_path))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_compressed_archives_are_checked_to_their_end(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / name, {f"{n}.avi": os.urandom(9000) for n in range(3)})
    data = bytearray(archive.read_bytes())
    data[12000] ^= 255
    archive.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="not an archive that can be read to its end"):
        find_sources(archive)


def test_a_tar_damaged_between_members(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", {f"{n}.avi": bytes(512) for n in range(5)})
    data = bytearray(archive.read_bytes())
    data[2 * 1024 : 2 * 1024 + 8] = b"damaged!"
    archive.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="cut off or damaged after 2 members"):
        find_sources(archive)
    archive.write_bytes(bytes(data[: 2 * 1024]))
    with pytest.raises(DatasetError, match="cut off or damaged after 2 members"):
        find_sources(archive)


def test_archives_of_other_kinds_and_pieces(tmp_path: Path) -> None:
    for name in ("UCF101.rar", "a.7z", "a.zip.001"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DatasetError, match=r"archives of this kind cannot be read, only \.zip, \.tar, .*unpack it"):
            find_sources(tmp_path / name)


def test_archives_without_videos(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.zip: no videos in this archive; looked for \.3gp"):
        find_sources(make_zip(tmp_path / "a.zip", {"a.txt": b""}))
    with pytest.raises(DatasetError, match="to read the 1 archives there, name them instead of the folder"):
        find_sources(tmp_path)


def test_two_videos_of_one_name(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar", {"x/a.avi": b"1", "y/a.mp4": b"2"})
    with pytest.raises(DatasetError, match=r"the name 'a': \S*a\.tar: x/a\.avi and \S*a\.tar: y/a\.mp4"):
        find_sources(archive)


@pytest.mark.parametrize("name", ["a\\b.avi", "b\\..avi"])
def test_names_that_are_no_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="cannot be the name of a folder"):
        find_sources(make_tar(tmp_path / "a.tar", {name: b""}))


def test_missing_place(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder or file"):
        find_sources([tmp_path / "nowhere"])


def test_archives_are_not_changed(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    archive.chmod(stat.S_IRUSR)
    before = archive.read_bytes()
    read(archive, tmp_path / "work")
    assert archive.read_bytes() == before
