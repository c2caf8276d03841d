"""Output places are checked before the work; locks keep a second process out."""

import errno
import sys
from pathlib import Path

import pytest

from stmulnet.errors import ConfigError
from stmulnet.files import check_output, locked


def test_places_that_can_be_written(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "deeper"):
        check_output(folder)
    check_output(tmp_path / "new" / "file.mp4", folder=False)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is a file; give another name"):
        check_output(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"x: cannot be written, .*file is no folder"):
        check_output(tmp_path / "file" / "x")
    with pytest.raises(ConfigError, match="is a folder; give another name"):
        check_output(tmp_path, folder=False)


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="no permission to write to"):
        check_output(tmp_path / "new")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_a_lock_is_held_by_one_until_its_end(tmp_path: Path) -> None:
    busy = ConfigError("someone is there")
    for place in (tmp_path, tmp_path / "file"):
        if place != tmp_path:
            place.touch()
        with locked(place, busy), pytest.raises(ConfigError, match="someone is there"), locked(place, busy):
            pytest.fail("two have the lock")
        with locked(place, busy):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_several_share_a_lock_that_nobody_can_have_alone(tmp_path: Path) -> None:
    busy = ConfigError("someone is there")
    with locked(tmp_path, busy, shared=True):
        with locked(tmp_path, busy, shared=True):
            pass
        with pytest.raises(ConfigError, match="someone is there"), locked(tmp_path, busy):
            pytest.fail("one has it alone while another shares it")
    with locked(tmp_path, busy), pytest.raises(ConfigError, match="someone"), locked(tmp_path, busy, shared=True):
        pytest.fail("one shares what another has alone")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path, ConfigError("someone is there")):
        pass
    assert capsys.readouterr().err == f"note: {tmp_path}: this file system knows no locks; see that nothing else " + (
        "writes there\n"
    )
