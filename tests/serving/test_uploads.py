"""Temporary files: private, found again by nobody else, and gone afterwards."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stmulnet.serving.limits import MEGABYTE, Limits
from stmulnet.serving.uploads import BROKEN_UPLOAD_SEC, Uploads, shown_name, suffix_of


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    made = Uploads(Limits(disk_mb=2, keep_minutes=10))
    yield made
    made.close()
    assert not made.folder.exists()


def put(path: Path, *, size: int = 10, age: float = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_the_folder_is_for_its_owner_alone(uploads: Uploads) -> None:
    assert uploads.folder.stat().st_mode & 0o077 == 0


def test_a_file_is_removed_after_use_also_after_an_error(uploads: Uploads) -> None:
    used: list[Path] = []

    def use() -> None:
        with uploads.file("clip.AVI") as path:
            path.write_bytes(b"x")
            assert uploads.holds(path)
            used.append(path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert used[0].suffix == ".avi"
    assert not used[0].exists()


def test_holds_only_files_inside(uploads: Uploads, tmp_path: Path) -> None:
    outside = put(tmp_path / "secret")
    (uploads.own / "link").symlink_to(outside)
    refused = ["/etc/passwd", str(outside), f"{uploads.own}/../../etc/passwd", str(uploads.own / "link")]
    refused += ["http://example.org/a.mp4", "", "\0", "x" * 5000, str(uploads.own), str(uploads.own / "none")]
    for path in refused:
        assert not uploads.holds(path), path


def test_a_session_has_the_files_of_its_last_video_until_it_leaves(uploads: Uploads) -> None:
    first, second, other = (put(uploads.own / name) for name in ("first", "second", "other"))
    uploads.hold("a", first)
    uploads.hold("b", other)
    uploads.hold("a", second)
    assert not first.exists()
    assert second.exists()
    uploads.release("a")
    uploads.release("never seen")
    assert not second.exists()
    assert other.exists()


def test_a_file_that_two_sessions_have_sent_stays_for_the_second(uploads: Uploads) -> None:
    same = put(uploads.web / "d" / "same.mp4")
    uploads.hold("a", same)
    uploads.hold("b", same)
    uploads.discard(same)
    uploads.release("a")
    assert same.exists()
    uploads.hold("b")
    assert not same.exists()


def test_what_is_old_is_swept_away_but_not_what_stays(uploads: Uploads) -> None:
    example = put(uploads.examples / "a.mp4", age=1e6)
    old = [put(uploads.own / "old", age=601), put(uploads.web / "tmpxyz", age=BROKEN_UPLOAD_SEC + 1)]
    young = [put(uploads.web / "e" / "complete", age=BROKEN_UPLOAD_SEC + 1), put(uploads.web / "tmpabc")]
    uploads.sweep(time.time())
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (example, *young))


def test_full_counts_what_is_there_and_what_comes(uploads: Uploads) -> None:
    put(uploads.web / "d" / "video", size=MEGABYTE)
    assert not uploads.full(MEGABYTE)
    assert uploads.full(MEGABYTE + 1)


def test_a_playable_upload_gets_a_second_name(uploads: Uploads) -> None:
    upload = put(uploads.web / "d" / "my clip.webm")
    clip = uploads.adopt(upload)
    assert uploads.clip(clip.name) == clip
    assert clip.suffix == ".webm"
    assert uploads.clip("../web/d/my clip.webm") is None
    assert uploads.clip(clip.name + "x") is None


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("/home/me/clip.mp4", "clip.mp4"),
        ("C:\\Users\\me\\clip.mp4", "clip.mp4"),
        ("a\nb\x1b[31m.avi", "ab[31m.avi"),
        ("", "video"),
        (None, "video"),
        ("x" * 200 + ".avi", "…" + "x" * 75 + ".avi"),
    ],
)
def test_names_as_messages_repeat_them(given: str | None, shown: str) -> None:
    assert shown_name(given) == shown


def test_only_suffixes_of_videos_are_kept() -> None:
    assert suffix_of("a.MKV") == ".mkv"
    assert suffix_of("a.sh") == suffix_of("a") == ""
