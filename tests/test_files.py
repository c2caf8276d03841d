"""Output places are checked before the work; locks keep a second process out."""

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
