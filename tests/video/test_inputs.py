"""The kinds of sources give the same frames; what is no source is refused in words."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.fileserver import FileServer, serve
from tests.rtspserver import serve_rtsp

from stmulnet.errors import ConfigError, DatasetError, DownloadError, VideoDecodeError
from stmulnet.video import inputs, live
from stmulnet.video.expand import expand_videos
from stmulnet.video.inputs import FrameSource, open_source
from stmulnet.video.io import read_frames
from stmulnet.video.store import write_frames

Frames = np.ndarray
Encode = Callable[..., Path]


@pytest.fixture
def server() -> Any:
    with serve() as running:
        yield running


def frames_of(source: FrameSource, **options: Any) -> Frames:
    with source:
        return np.stack(list(source.frames(**options)))


def write_pngs(folder: Path, frames: Frames) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(folder / f"f{number}.png"), frame[:, :, ::-1])
    return folder


@pytest.mark.parametrize("short_side", [None, 32, 64])
def test_all_kinds_give_the_same_frames(
    encode: Encode, tmp_path: Path, server: FileServer, short_side: int | None
) -> None:
    path = encode("clip.mp4", 12)
    decoded = read_frames(path)
    server.files = {"a/clip.mp4": path.read_bytes(), "watch": path.read_bytes()}
    expected = read_frames(path, short_side=short_side)
    kinds: list[Any] = [path, str(path), decoded, write_pngs(tmp_path / "frames", decoded)]
    kinds += [f"{server.address}/a/clip.mp4", f"{server.address}/watch?v=1"]
    server.files["watch?v=1"] = path.read_bytes()
    for given in kinds:
        found = frames_of(open_source(given, allow_addresses=True), short_side=short_side)
        np.testing.assert_array_equal(found, expected)


def test_what_is_known_before_decoding(encode: Encode, moving: Callable[..., Frames], tmp_path: Path) -> None:
    file, array = open_source(encode("clip.mp4", 12)), open_source(moving(7))
    folder = open_source(write_pngs(tmp_path / "frames", moving(5)))
    assert (file.fps, file.num_frames_hint, file.is_live) == (25.0, 12, False)
    assert (array.fps, array.num_frames_hint, array.name) == (None, 7, "array")
    assert (folder.fps, folder.num_frames_hint, folder.name) == (None, 5, str(tmp_path / "frames"))
    assert open_source(file) is file


def test_folders_are_read_in_natural_order(moving: Callable[..., Frames], tmp_path: Path) -> None:
    frames = moving(12)
    folder = write_pngs(tmp_path / "frames", frames)  # f1 ... f12: by letters f10 follows f1
    (folder / "notes.txt").write_text("not an image")
    np.testing.assert_array_equal(frames_of(open_source(folder)), frames)


def test_extracted_frames_are_a_video(moving: Callable[..., Frames], tmp_path: Path) -> None:
    frames = moving(3)
    write_frames(tmp_path / "v", frames)
    found = frames_of(open_source(tmp_path / "v"))
    assert np.abs(found.astype(int) - frames).mean() < 3


def test_images_of_two_sizes_are_no_video(moving: Callable[..., Frames], tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "frames", moving(2))
    cv2.imwrite(str(folder / "f3.png"), np.zeros((40, 57, 3), np.uint8))
    with pytest.raises(VideoDecodeError, match=r"f3.png: 57x40, but the images before it 56x40"):
        frames_of(open_source(folder))


def test_images_that_cannot_be_read(moving: Callable[..., Frames], tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "frames", moving(2))
    cv2.imwrite(str(folder / "f2.png"), np.zeros((40, 56, 3), np.uint16))
    with pytest.raises(VideoDecodeError, match=r"f2.png: a PNG of 16 bit"):
        frames_of(open_source(folder))
    (folder / "f2.png").write_bytes((folder / "f1.png").read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"f2.png: not a readable PNG"):
        frames_of(open_source(folder))
    head = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60000).to_bytes(4) + (60000).to_bytes(4) + b"\x08\x02\0\0\0"
    (folder / "f2.png").write_bytes(head)
    with pytest.raises(VideoDecodeError, match=r"60000x60000 are more than"):
        frames_of(open_source(folder))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 8, 8), np.uint8), r"must be uint8 \(T, H, W, 3\).* got uint8 \(4, 8, 8\)"),
        (np.zeros((4, 8, 8, 3), np.float32), r"got float32 \(4, 8, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "not empty"),
        (None, "must be a path, an array .* got NoneType"),
        (True, "got bool"),
        (-1, "numbered from 0"),
        ("http://", "names no host"),
        ("ftp://host/x.mp4", "ftp addresses are not opened; http, https and rtsp are"),
        ("file:///etc/passwd", "file addresses are not opened"),
        ("http://me:secret@127.0.0.1/x.mp4", r"http://127\.0\.0\.1/x.mp4: http addresses with a user"),
    ],
)
def test_what_is_no_source(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_source(given, allow_addresses=True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["http://127.0.0.1/x.mp4", "HTTPS://127.0.0.1/x", "rtsp://127.0.0.1/x", 0])
def test_addresses_and_cameras_only_where_allowed(given: Any) -> None:
    with pytest.raises(ConfigError, match="are not opened here"):
        open_source(given)


def test_missing_things(tmp_path: Path) -> None:
    with pytest.raises(VideoDecodeError, match="no such file"):
        open_source(tmp_path / "nowhere.mp4")
    with pytest.raises(VideoDecodeError, match=r"a folder without images \(.jpg, .jpeg, .png\)"):
        open_source(tmp_path)
    with pytest.raises(VideoDecodeError, match=r"camera 97: there is no /dev/video97; cameras found: "):
        open_source(97, allow_addresses=True)


def temporary_folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("stmulnet-*"))


def test_fetched_files_are_removed(
    encode: Encode, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.files = {"clip.mp4": encode("clip.mp4", 12).read_bytes()}
    with open_source(f"{server.address}/clip.mp4", allow_addresses=True) as source:
        assert len(temporary_folders(tmp_path)) == 1
        assert source.fps == 25.0
        assert len(list(source.frames())) == len(list(source.frames())) == 12
        assert len(server.requests) == 1
    assert temporary_folders(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>", "the address is that of a web page"),
        (b"\n <html>", "the address is that of a web page"),
        (b"x" * 3000, r"larger than the 0 MB allowed"),
    ],
)
def test_what_is_not_fetched(
    content: bytes, message: str, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(inputs, "MAX_FETCHED_BYTES", 2000)
    server.files = {"x.mp4": content}
    for server.length, server.chunked in ((True, False), (False, True)):  # announced, and only seen as it comes
        with pytest.raises(DownloadError, match=message):
            open_source(f"{server.address}/x.mp4", allow_addresses=True)
    assert temporary_folders(tmp_path) == []


def test_answers_that_are_no_video(server: FileServer) -> None:
    server.files = {"x.mp4": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"}
    with (
        open_source(f"{server.address}/x.mp4", allow_addresses=True) as source,
        pytest.raises(VideoDecodeError, match=rf"^{server.address}/x.mp4: (not a video|this file format is refused)"),
    ):
        next(source.frames())
    with pytest.raises(DownloadError, match=r"y.mp4: the server answers 404"):
        open_source(f"{server.address}/y.mp4", allow_addresses=True)
    server.redirect = "file:///etc/passwd"
    with pytest.raises(DownloadError, match=r"Redirection to url .* is not allowed"):
        open_source(f"{server.address}/z", allow_addresses=True)


def test_rtsp_gives_the_frames_of_the_file(encode: Encode) -> None:
    path = encode("clip.mp4", 30)
    expected = read_frames(path)
    with serve_rtsp(transport_stream(path)) as address:
        source = open_source(address, allow_addresses=True)
        assert source.is_live
        found = frames_of(source)
    assert len(found) in (29, 30)  # FFmpeg knows the end of a picture by the next packet; after the last there is none
    np.testing.assert_array_equal(found[:26], expected[:26])
    assert "live" not in {thread.name for thread in threading.enumerate()}


def transport_stream(path: Path) -> bytes:
    """The same encoded frames as MPEG-TS."""
    import av

    out = path.with_suffix(".ts")
    with av.open(str(path)) as source, av.open(str(out), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return out.read_bytes()


def test_rtsp_that_stalls_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TIMEOUT_SEC", 0.5)
    start = time.monotonic()
    with serve_rtsp(b"", stalls=True) as address, pytest.raises(VideoDecodeError, match=r"no answer within 0.5 s"):
        frames_of(open_source(address.replace("//", "//me:secret@"), allow_addresses=True))
    assert time.monotonic() - start < 5
    with pytest.raises(VideoDecodeError, match=r"rtsp://127.0.0.1:\d+/clip: cannot be opened \(Connection refused\)"):
        frames_of(open_source(address, allow_addresses=True))


def test_leaving_a_stream_early_ends_its_thread(encode: Encode) -> None:
    with serve_rtsp(transport_stream(encode("clip.mp4", 90))) as address:
        frames = open_source(address, allow_addresses=True).frames(short_side=20)
        assert next(frames).shape == (20, 28, 3)
        frames.close()  # type: ignore[attr-defined]
        assert "live" not in {thread.name for thread in threading.enumerate()}


def test_names_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("v10.mp4", "v2.mp4", "notes.txt", "sub/v1.AVI", "sub/.v0.avi", "images/1.png", "[odd].mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert expand_videos(["v*.mp4"]) == [Path("v2.mp4"), Path("v10.mp4")]
    assert expand_videos(["**/*.AVI", "[odd].mp4"]) == [Path("sub/v1.AVI"), Path("[odd].mp4")]
    assert expand_videos(["sub", "images"]) == [Path("sub/v1.AVI"), Path("images")]
    assert expand_videos(["."]) == [Path("[odd].mp4"), Path("sub/v1.AVI"), Path("v2.mp4"), Path("v10.mp4")]
    assert expand_videos(["rtsp://h/*", "0", 3, "nowhere.mp4"]) == ["rtsp://h/*", 0, 3, Path("nowhere.mp4")]
    (tmp_path / "0").touch()
    assert expand_videos(["0"]) == [Path("0")]
    with pytest.raises(ConfigError, match=r"w\*.mp4: no file matches this pattern"):
        expand_videos(["w*.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: a folder without video files \(.3gp"):
        expand_videos(["empty"])
    (tmp_path / "images" / "a.mp4").touch()
    with pytest.raises(ConfigError, match="holds images and video files"):
        expand_videos(["images"])
