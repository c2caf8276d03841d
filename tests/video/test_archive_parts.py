"""Pieces of files, put together again."""

import io
from pathlib import Path

import numpy as np
import pytest

from stmulnet.errors import DatasetError
from stmulnet.video.archive_parts import JoinedFile, find_archives


@pytest.fixture
def pieces(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    """Four pieces, one of them empty."""
    paths = [tmp_path / f"x.zip.{number:03d}" for number in range(1, 5)]
    for path, size in zip(paths, (100, 57, 0, 31), strict=True):
        path.write_bytes(rng.bytes(size))
    return paths


def test_reads_like_one_file(pieces: list[Path], rng: np.random.Generator) -> None:
    whole = io.BytesIO(b"".join(path.read_bytes() for path in pieces))
    with JoinedFile(pieces) as raw, io.BufferedReader(raw, 16) as joined:
        assert joined.read() == whole.read()
        for _ in range(500):
            to, whence = int(rng.integers(0, 200)), int(rng.integers(0, 3))
            offset = (to, to - whole.tell(), to - 188)[whence]
            assert joined.seek(offset, whence) == whole.seek(offset, whence) == joined.tell()
            count = int(rng.integers(0, 150))
            assert joined.read(count) == whole.read(count)


def test_position_before_the_start(pieces: list[Path]) -> None:
    with JoinedFile(pieces) as joined, pytest.raises(ValueError, match="negative position -1"):
        joined.seek(-1)


def test_order_does_not_matter(pieces: list[Path]) -> None:
    for named in (pieces, pieces[::-1], pieces[2:3], [*pieces, *pieces]):
        assert find_archives(named) == [("x.zip", tuple(pieces))]


def test_pieces_may_lie_in_several_folders_and_count_from_0(tmp_path: Path) -> None:
    paths = [tmp_path / f"disk{number}" / f"x.tar.00{number}" for number in range(3)]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    assert find_archives(paths[::-1]) == [("x.tar", tuple(paths))]


def test_whole_archives(tmp_path: Path) -> None:
    for name in ("a.zip", "b.tar.gz"):
        (tmp_path / name).touch()
    paths = [tmp_path / "b.tar.gz", tmp_path / "a.zip", tmp_path / "." / "a.zip"]
    assert find_archives(paths) == [("b.tar.gz", (paths[0],)), ("a.zip", (paths[1],))]


@pytest.mark.parametrize(
    ("lost", "named"), [([2], "x.zip.002: missing, while there are x.zip.001"), ([1, 3], "x.zip.001, x.zip.003")]
)
def test_missing_pieces_are_named(pieces: list[Path], lost: list[int], named: str) -> None:
    for number in lost:
        pieces[number - 1].unlink()
    with pytest.raises(DatasetError, match=named):
        find_archives([pieces[3]])


def test_one_piece_twice(pieces: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "x.zip.002"
    other.touch()
    with pytest.raises(DatasetError, match=r"two files are piece 002 of x\.zip: "):
        find_archives([*pieces, other])


def test_no_file(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "x.zip.001", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(DatasetError, match=rf"{problem}; name archives \(.zip, .tar"):
            find_archives([path])


def test_part_at(pieces: list[Path]) -> None:
    (source,) = find_archives(pieces[:1])
    names = [source.part_at(offset) for offset in (0, 99, 100, 156, 157, 500)]
    assert names == ["x.zip.001", "x.zip.001", "x.zip.002", "x.zip.002", "x.zip.004", "x.zip.004"]
