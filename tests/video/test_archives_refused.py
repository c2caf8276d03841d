"""Archives that are damaged, incomplete or made to do harm: refused or reported, and never half unpacked."""

import io
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tests.video.archive_making import Files, contents, cut, patch, some_files, write_tar, write_zip

from stmulnet.errors import DatasetError
from stmulnet.video.archive_entries import NameCheck
from stmulnet.video.archives import ImportSummary, import_archives


@pytest.fixture
def files(rng: np.random.Generator) -> Files:
    return some_files(rng, videos=3)


def unpack(path: Path) -> ImportSummary:
    return import_archives([path], path.parent / "out", workers=1)


def refused(path: Path, message: str) -> None:
    """The whole archive is refused, with this message, before anything is written."""
    with pytest.raises(DatasetError, match=message) as caught:
        unpack(path)
    assert str(caught.value).startswith((path.name.partition(".zip")[0], str(path.parent)))
    assert not (path.parent / "out").exists() or contents(path.parent / "out") == {}


class Usage(NamedTuple):
    free: int


class Damage(NamedTuple):
    """Where the parts of a zip archive lie."""

    data: list[tuple[int, int, str]]
    directory: int


def layout(path: Path) -> Damage:
    with zipfile.ZipFile(path) as archive:
        starts = [(info.header_offset + 30 + len(info.filename.encode()), info) for info in archive.infolist()]
        data = [(start, start + info.compress_size, info.filename) for start, info in starts if info.compress_size]
        return Damage(data, archive.start_dir)


def entry_at(path: Path, name: str) -> int:
    """Position of an entry of the directory."""
    data = path.read_bytes()
    at = layout(path).directory
    while data[at + 46 :][: len(name.encode())] != name.encode():
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    return at


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit_in_the_data(tmp_path: Path, files: Files, method: int, rng: np.random.Generator) -> None:
    path = write_zip(tmp_path / "x.zip", files, method=method)
    places = layout(path).data
    for _ in range(15):
        start, end, name = places[rng.integers(len(places))]
        at = int(rng.integers(start, end))
        good = path.read_bytes()[at]
        patch(path, at, bytes([good ^ (1 << int(rng.integers(8)))]))
        summary = unpack(path)
        folder, _, file = name.rpartition("/")
        ((place, reason),) = summary.failures
        assert place == f"x.zip: {folder or 'top folder'}"
        assert reason.startswith(f"{file}: ")
        assert reason.endswith("is damaged near byte " + reason.rpartition("byte ")[2])
        assert contents(tmp_path / "out") == {n: c for n, c in files.items() if n.rpartition("/")[0] != folder}
        patch(path, at, bytes([good]))
        assert unpack(path).files == sum(n.rpartition("/")[0] == folder for n in files)  # only what failed
        assert contents(tmp_path / "out") == files
        shutil.rmtree(tmp_path / "out")


def test_any_flipped_byte_is_noticed_or_harmless(tmp_path: Path, files: Files, rng: np.random.Generator) -> None:
    """Wherever it is, headers and directory included: no file ever appears with another content."""
    files = dict(list(files.items())[::5])
    path = write_zip(tmp_path / "x.zip", files)
    good = path.read_bytes()
    for at in rng.choice(len(good), 250, replace=False).tolist():
        patch(path, at, bytes([good[at] ^ int(rng.integers(1, 256))]))
        out = tmp_path / f"out{at}"
        try:
            summary = import_archives([path], out, workers=1)
        except DatasetError:
            assert not out.exists() or contents(out) == {}
        else:
            found = contents(out)
            assert all(files[name] == content for name, content in found.items())
            assert summary.failures or found == files
        path.write_bytes(good)


def test_cut_anywhere(tmp_path: Path, files: Files, rng: np.random.Generator) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    good = path.read_bytes()
    for length in [0, 1, 3, 21, *rng.choice(len(good), 60, replace=False).tolist(), len(good) - 1]:
        path.write_bytes(good[:length])
        refused(path, "its end is missing; x.zip is incomplete; download it again|not a zip archive")


def test_last_piece_missing(tmp_path: Path, files: Files) -> None:
    pieces = cut(write_zip(tmp_path / "x.zip", files), 5000)
    pieces.pop().unlink()
    number = len(pieces)
    refused(
        pieces[0],
        rf"its end is missing; x\.zip\.{number:03d} is incomplete, or it has more pieces: x\.zip\.{number + 1:03d}",
    )


@pytest.mark.parametrize("change", [-1, -3000, 1, 800])
@pytest.mark.parametrize("index", [0, 1])
def test_piece_of_another_size(tmp_path: Path, files: Files, index: int, change: int) -> None:
    pieces = cut(write_zip(tmp_path / "x.zip", files), 5000)
    data = pieces[index].read_bytes()
    pieces[index].write_bytes(data[:change] if change < 0 else data + bytes(change))
    problem = f"{abs(change)} bytes are {'missing' if change < 0 else 'too many'}"
    refused(pieces[0], rf"{problem}: a piece is incomplete or of another archive.*: x\.zip\.001 .*x\.zip\.002 ")


def test_pieces_in_each_others_place(tmp_path: Path, files: Files) -> None:
    pieces = cut(write_zip(tmp_path / "x.zip", files), 3000)
    first, second = (piece.read_bytes() for piece in pieces[:2])
    pieces[0].write_bytes(second)
    pieces[1].write_bytes(first)
    summary = unpack(pieces[0])
    assert summary.failures
    assert "x.zip.001 is damaged near byte" in summary.failures[0][1]
    for name, content in contents(tmp_path / "out").items():
        assert files[name] == content


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "it is absolute") for name in ("../x", "/x", "a/../../x", "a//x", "a/./x", "..", "a/..")),
        *((name, "backslash or a drive letter") for name in ("C:/x", "C:x", "a\\x", "..\\x", "a/c:x")),
        *((name, "control characters") for name in ("a/x\ny", "\x1b[2J/x")),
        (f"a/{'x' * 256}", "more than 255 bytes"),
        *((name, "this program's own") for name in ("imports.json", ".importing/x", ".importing/0/x")),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_are_not_safe(tmp_path: Path, name: str, reason: str, kind: str) -> None:
    path = (write_zip if kind == "zip" else lambda p, f: write_tar(p, f, before=""))(
        tmp_path / f"x.{kind}", {"a/b": b"1"}
    )
    if kind == "zip":
        with zipfile.ZipFile(path, "a") as archive:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is; the constructor would mend it
            archive.writestr(info, b"2")
    else:
        write_tar(path, {"a/b": b"1", name: b"2"}, before="")
    refused(path, f"is refused: .*{reason}.*nothing was written")


def test_no_text_in_a_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a/ü": b"1"})
    data = path.read_bytes()
    path.write_bytes(data.replace("ü".encode(), b"\xff\xfe"))
    refused(path, "no UTF-8")


@pytest.mark.parametrize(
    "name", ["NUL", "a/con.jpg", "Com1/x", "a/xx:y", "a./x", "a/b ", "a/x?", 'a/"x"', "lpt9.tar.gz"]
)
def test_names_that_windows_has_not(name: str) -> None:
    assert NameCheck("x.zip", windows=False).split(name) == (name.rpartition("/")[0], name.rpartition("/")[2])
    with pytest.raises(DatasetError, match="Windows"):
        NameCheck("x.zip", windows=True).split(name)


@pytest.mark.parametrize("kind", [0o120000, 0o060000, 0o020000, 0o010000, 0o140000])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("a/link")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "x.zip", "'a/link' is a link or a device")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a/link")
        member.type, member.linkname = kind, "../../etc/passwd"
        archive.addfile(member)
    refused(tmp_path / "x.tar", "'a/link' is a link, a device or sparse")


@pytest.mark.parametrize("flag", [0x0001, 0x0041])
def test_encrypted(tmp_path: Path, files: Files, flag: int) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    patch(path, entry_at(path, "readme.txt") + 8, struct.pack("<H", flag))
    refused(path, "'readme.txt' is encrypted; unpack it with its password")


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_other_methods(tmp_path: Path, files: Files, method: int, name: str) -> None:
    refused(write_zip(tmp_path / "x.zip", files, method=method), f"is packed by {name}; only stored and deflated")


def test_unknown_method(tmp_path: Path, files: Files) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    patch(path, entry_at(path, "readme.txt") + 10, struct.pack("<H", 77))
    refused(path, "is packed by method 77")


def test_more_data_than_declared(tmp_path: Path) -> None:
    """Ten million zeros that call themselves ten bytes."""
    path = write_zip(tmp_path / "x.zip", {"a/b": b"fine", "bomb/x": bytes(10_000_000)})
    patch(path, entry_at(path, "bomb/x") + 24, struct.pack("<I", 10))
    summary = unpack(path)
    assert summary.failures == [("x.zip: bomb", summary.failures[0][1])]
    assert "x: more than the 10 bytes it should have" in summary.failures[0][1]
    assert contents(tmp_path / "out") == {"a/b": b"fine"}


def test_less_data_than_declared(tmp_path: Path, files: Files) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    patch(path, entry_at(path, "readme.txt") + 24, struct.pack("<I", 5))
    ((_, reason),) = unpack(path).failures
    assert "readme.txt: 4 bytes with CRC" in reason
    assert "instead of 5 with" in reason


def test_entries_that_share_their_data(tmp_path: Path) -> None:
    """A directory that names one packed file a hundred times."""
    path = write_zip(tmp_path / "x.zip", {"a/b": bytes(1000)})
    data, start = path.read_bytes(), entry_at(path, "a/b")
    entry, end = data[start:-22], bytearray(data[-22:])
    end[8:20] = struct.pack("<2H2I", 100, 100, 100 * len(entry), start)
    path.write_bytes(data[:start] + 100 * entry + end)
    refused(path, "several share their data")


def test_one_name_twice(tmp_path: Path, files: Files) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("readme.txt", b"again")
    ((place, reason),) = unpack(path).failures
    assert (place, reason) == (
        "x.zip: top folder",
        "readme.txt: is there twice (or again in other letters, which are the same here)",
    )
    assert not (tmp_path / "out" / "readme.txt").exists()


def test_more_than_the_disk_holds(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    needed = 4096 * sum(len(content) > 0 for content in files.values())
    for free, fits in ((needed, False), (2 * needed, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(free))
        if fits:
            assert unpack(path).files == len(files)
        else:
            refused(path, r"unpack to 0\.\d GB, but 0\.0 GB are free there; make room")


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="POSIX")
def test_more_files_than_the_disk_holds(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks, inodes = (4096, 4096, 10**9, 10**9, 10**9), (100, 50, 50)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*blocks, *inodes, 0, 255)))
    refused(write_zip(tmp_path / "x.zip", files), r"room for 50 more \(inodes\)")


def test_volumes(tmp_path: Path, files: Files) -> None:
    path = write_zip(tmp_path / "x.zip", files)
    patch(path, len(path.read_bytes()) - 18, struct.pack("<H", 2))
    refused(path, r"an archive in volumes .*zip -s 0 x\.zip --out whole\.zip")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.rar", "archives of this kind are not read"),
        ("x.z01", "this kind"),
        ("x.txt", "no archive by its name; known are .zip"),
    ],
)
def test_other_kinds(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    refused(tmp_path / name, message)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000)])
def test_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    refused(tmp_path / "x.zip", "not a zip archive")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_cut_tar(tmp_path: Path, files: Files, mode: str, rng: np.random.Generator) -> None:
    path = write_tar(tmp_path / "x.tar", files, mode=mode)
    good = path.read_bytes()
    end = len(good) if mode != "w" else good.rindex(b"stay") + 1  # behind it are zeros only
    for length in [0, 1, *rng.choice(end, 25, replace=False).tolist()]:
        path.write_bytes(good[:length])
        refused(path, r"x\.tar: damaged, or no tar archive \(.*\); download it again \(x\.tar \d+ bytes\)")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_flipped_byte_in_a_compressed_tar(tmp_path: Path, files: Files, mode: str, rng: np.random.Generator) -> None:
    path = write_tar(tmp_path / "x.tar", files, mode=mode)
    good = path.read_bytes()
    for at in rng.integers(12, len(good), 25).tolist():
        patch(path, at, bytes([good[at] ^ 0x10]))
        refused(path, "damaged, or no tar archive")
        path.write_bytes(good)


def test_damaged_header_in_a_tar(tmp_path: Path, files: Files) -> None:
    """tarfile itself would take it for the end of the archive."""
    path = write_tar(tmp_path / "x.tar", files)
    patch(path, 512 * 10 * 2 + 150, b"#")
    data = path.read_bytes()
    at = data.index(b"./tvl1_flow/v")
    patch(path, at, b"#")
    refused(path, r"no header, and no end, at byte|damaged")


def test_one_name_twice_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a/x", "a/x", "a/y", "b/z"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"123"))
    summary = unpack(tmp_path / "x.tar")
    assert [place for place, _ in summary.failures] == ["x.tar: a"]
    assert (tmp_path / "out" / "b" / "z").read_bytes() == b"123"
    assert not (tmp_path / "out" / "a").exists()
