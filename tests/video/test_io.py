"""Decoding, probing and writing of video files."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stmulnet.errors import ConfigError, VideoDecodeError
from stmulnet.video import io

Frames = npt.NDArray[np.uint8]
Encode = Callable[..., Path]


def opencv_frames(path: Path) -> Frames:
    """All frames of a file by OpenCV: another caller of another build of FFmpeg."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Frames] = []
    while True:
        found, frame = capture.read()
        if not found:
            return np.stack(frames)
        frames.append(np.asarray(frame[..., ::-1], dtype=np.uint8))


def remux(source: Path, target: Path, *, rotation: int | None = None, **options: str) -> Path:
    """Copy the packets into another container, with a display rotation (degrees, counterclockwise)."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for packet in reader.demux(reader.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    return target


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as writer:
        stream = writer.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264")])
def test_frames_are_those_opencv_decodes(encode: Encode, name: str, codec: str) -> None:
    path = encode(name, 17, codec=codec)
    frames = io.read_frames(path)
    assert frames.shape == (17, 40, 56, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, opencv_frames(path))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_written_frames_come_back(tmp_path: Path, moving: Callable[..., Frames], name: str, codec: str) -> None:
    frames = moving(9, height=48, width=64)
    io.write_video(tmp_path / name, frames, codec=codec, fps=29.97)
    decoded = io.read_frames(tmp_path / name)
    assert np.abs(decoded.astype(int) - frames).mean() < 6
    assert [int(np.abs(decoded.astype(int) - frame).sum((1, 2, 3)).argmin()) for frame in frames] == list(range(9))


def test_odd_sizes_are_padded_with_the_last_row_and_column(tmp_path: Path) -> None:
    frames = np.zeros((3, 33, 47, 3), np.uint8)
    frames[:, :, -1] = frames[:, -1] = (0, 220, 0)
    io.write_video(tmp_path / "odd.mp4", frames)
    decoded = io.read_frames(tmp_path / "odd.mp4")
    assert decoded.shape == (3, 34, 48, 3)
    assert decoded[:, -1, :, 1].min() > 150
    assert decoded[:, :, -1, 1].min() > 150


def test_odd_stored_sizes_decode(tmp_path: Path, moving: Callable[..., Frames]) -> None:
    frames = moving(4, height=33, width=47)
    with av.open(str(tmp_path / "odd.mkv"), "w") as writer:
        stream: Any = writer.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 33, 47, "bgr0"
        for frame in frames:
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        writer.mux(stream.encode(None))
    np.testing.assert_array_equal(io.read_frames(tmp_path / "odd.mkv"), frames)  # ffv1 is lossless


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_display_rotation_is_applied(encode: Encode, tmp_path: Path, rotation: int, turns: int) -> None:
    plain = encode("plain.mp4")
    turned = remux(plain, tmp_path / "turned.mp4", rotation=rotation)
    expected = np.rot90(io.read_frames(plain), turns, axes=(1, 2))
    np.testing.assert_array_equal(io.read_frames(turned), expected)
    info = io.probe(turned)
    assert (info.height, info.width, info.rotation) == (*expected.shape[1:3], -rotation % 360)


def test_display_flip_is_applied(encode: Encode, tmp_path: Path) -> None:
    plain, flipped = encode("plain.mp4"), tmp_path / "flipped.mp4"
    data = bytearray(plain.read_bytes())
    unity = b"".join(value.to_bytes(4, "big") for value in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
    at = data.index(unity, data.index(b"tkhd"))
    data[at : at + 4] = (-65536).to_bytes(4, "big", signed=True)
    flipped.write_bytes(data)
    np.testing.assert_array_equal(io.read_frames(flipped), io.read_frames(plain)[:, :, ::-1])


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(240, 320, (256, 341)), (320, 240, (341, 256)), (256, 340, (256, 340)), (3, 4, (256, 341)), (2, 3, (256, 384))],
)
def test_resized_shape(height: int, width: int, expected: tuple[int, int]) -> None:
    assert io.resized_shape(height, width, 256) == expected


def test_resized_shape_rounds_halves_up() -> None:
    assert io.resized_shape(2, 5, 3) == (3, 8)  # 7.5
    assert io.resized_shape(4, 5, 2) == (2, 3)  # 2.5


@pytest.mark.parametrize("short_side", [24, 40, 64])
def test_short_side_is_opencv_linear(encode: Encode, short_side: int) -> None:
    path = encode("a.mp4", 5)
    size = (round(56 * short_side / 40), short_side)
    expected = [cv2.resize(f, size, interpolation=cv2.INTER_LINEAR) for f in opencv_frames(path)]
    np.testing.assert_array_equal(io.read_frames(path, short_side=short_side), expected)


def test_frames_come_one_by_one_and_max_frames_stops(encode: Encode) -> None:
    path = encode("a.mp4", 10)
    frames = io.iter_frames(path)
    assert isinstance(frames, Iterator)
    first = next(frames)
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(io.read_frames(path, max_frames=3)[0], first)
    assert len(io.read_frames(path, max_frames=3)) == 3
    assert len(io.read_frames(path, max_frames=99)) == 10


def test_probe(encode: Encode) -> None:
    info = io.probe(encode("a.avi", 10, codec="mpeg4"))
    assert info == io.VideoInfo(56, 40, 25.0, 10, pytest.approx(0.4), "mpeg4", 0)  # type: ignore[arg-type]


def test_frames_are_let_go_one_by_one(encode: Encode) -> None:
    """FFmpeg's frames must not wait for the garbage collector: of a large video, they would fill the memory."""
    path = encode("a.mp4", 30)
    gc.collect()
    gc.disable()
    try:
        alive = []
        for _ in io.iter_frames(path):
            alive.append(sum(type(item) is av.VideoFrame for item in gc.get_objects()))
    finally:
        gc.enable()
    assert max(alive) <= 5  # with what the decoder holds back, and the first one, of which the rotation is read


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc, of Linux only")
def test_one_thread_decodes_unless_more_are_asked_for(encode: Encode) -> None:
    path = encode("a.mp4", 30)
    before = len(os.listdir("/proc/self/task"))
    assert {len(os.listdir("/proc/self/task")) for _ in io.iter_frames(path)} == {before}


def test_late_start_is_not_counted_as_missing(tmp_path: Path, moving: Callable[..., Frames]) -> None:
    """Matroska's duration tag is the time of the end, here 41 s; the video lasts for one."""
    with av.open(str(tmp_path / "late.mkv"), "w") as writer:
        stream: Any = writer.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 40, 56, "yuv420p"
        for number, image in enumerate(moving(10)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = 400 + number
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
    assert len(io.read_frames(tmp_path / "late.mkv")) == 10
    assert io.probe(tmp_path / "late.mkv").duration_s == pytest.approx(1.0)


def test_text_that_is_not_utf8_does_no_harm(encode: Encode) -> None:
    path = encode("a.mkv")
    content = path.read_bytes()
    at = content.index(b"DURATION") + 2
    path.write_bytes(content[:at] + b"\xff\xfe" + content[at + 2 :])
    assert len(io.read_frames(path)) == 12


def test_shape_that_cannot_be_resized_names_the_file(encode: Encode) -> None:
    path = encode("flat.mp4", 2, height=2, width=2000)
    with pytest.raises(VideoDecodeError, match=r"flat\.mp4: frames of 2000x2 would become 64000x64"):
        io.read_frames(path, short_side=64)


# --- what is not a complete, harmless video ---------------------------------------------------------------------------


def check_refused(path: Path, *parts: str) -> None:
    for read in (io.read_frames, io.probe):
        with pytest.raises(VideoDecodeError) as caught:
            read(path)
        for part in (str(path), *parts):
            assert part in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    check_refused(tmp_path / "none.mp4", "no such file")


def test_folder(tmp_path: Path) -> None:
    check_refused(tmp_path, "not a regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX matter")
def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    check_refused(tmp_path / "pipe.mp4", "not a regular file")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    check_refused(tmp_path / "empty.mp4", "empty (0 bytes)", "0 frames were readable")


def test_text(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    check_refused(tmp_path / "text.mp4", "not a video file", "matroska", "0 frames were readable")


def test_audio_only(tmp_path: Path) -> None:
    check_refused(write_audio(tmp_path / "sound.mp4"), "no video track (found: audio)")


def test_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as writer:
        sound = writer.add_stream("aac", rate=8000)
        cover: Any = writer.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        writer.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        writer.mux(sound.encode(frame))
        writer.mux(sound.encode(None))
    check_refused(path, "no video track")


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{0}'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{0}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{0}</BaseURL></MPD>\n',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".m3u8"])
def test_playlist_opens_nothing(encode: Encode, tmp_path: Path, kind: str, suffix: str) -> None:
    secret = encode("secret.mp4")
    path = tmp_path / f"playlist{suffix}"
    path.write_text(PLAYLISTS[kind].format(secret.name))
    with pytest.raises(VideoDecodeError, match=r"refused|not a video file"):
        io.read_frames(path)


def test_plain_ffmpeg_would_open_the_playlist(encode: Encode, tmp_path: Path) -> None:
    secret = encode("secret.mp4", 7)
    path = tmp_path / "playlist.mp4"
    path.write_text(PLAYLISTS["concat"].format(secret.name))
    with av.open(str(path)) as container:  # the attack is real: this is what the allow-list prevents
        assert sum(1 for _ in container.decode(video=0)) == 7


@pytest.mark.parametrize("name", ["concat:a.mp4|b.mp4", "http:x.mp4", "pipe:0", "frame%03d.mp4", "-i.mp4", "ä ö.mp4"])
def test_odd_names_are_only_names(encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    encode("a.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(io.read_frames(name)) == 3


def test_picture_is_no_video(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "frame001.png"), np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "frame001.png").rename(tmp_path / "frame001.mp4")
    check_refused(tmp_path / "frame001.mp4", "refused")


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("share", [0.4, 0.8])
@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.flv", "libx264")])
def test_cut_off_file(encode: Encode, tmp_path: Path, name: str, codec: str, share: float) -> None:
    source = encode("whole.avi" if codec == "mpeg4" else "whole.mp4", 60, codec=codec)
    path = cut(remux(source, tmp_path / name), share)
    with pytest.raises(VideoDecodeError, match=r"cut off.* (\d+) (readable frames|frames were readable)"):
        io.read_frames(path)


def test_cut_off_before_the_index(encode: Encode) -> None:
    check_refused(cut(encode("a.mp4", 30), 0.7), "damaged or cut off")


def test_cut_off_after_the_index(encode: Encode, tmp_path: Path) -> None:
    path = cut(remux(encode("a.mp4", 60), tmp_path / "fast.mp4", movflags="faststart"), 0.7)
    readable: list[Frames] = []
    with pytest.raises(VideoDecodeError, match=r"cut off after \d+ readable frames") as caught:
        readable.extend(io.iter_frames(path))
    assert 0 < len(readable) < 60
    assert f"after {len(readable)} readable" in str(caught.value)


def test_damage_in_the_middle(encode: Encode, tmp_path: Path, rng: np.random.Generator) -> None:
    path = remux(encode("a.mp4", 60), tmp_path / "fast.mp4", movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 4000] = rng.bytes(4000)
    path.write_bytes(data)
    with pytest.raises(VideoDecodeError, match=r"damaged or cut off after \d+ readable frames"):
        io.read_frames(path)


@pytest.mark.parametrize("text", [b"foobar", b"foo:ba"])
def test_duration_tag_may_say_anything(encode: Encode, tmp_path: Path, text: bytes) -> None:
    content = encode("a.mkv").read_bytes()
    start = content.index(b"00:00:", content.index(b"DURATION"))
    (tmp_path / "b.mkv").write_bytes(content[:start] + text + content[start + len(text) :])
    assert io.probe(tmp_path / "b.mkv").num_frames_hint == 12
    assert len(io.read_frames(tmp_path / "b.mkv")) == 12


def test_trimmed_clip_is_complete(encode: Encode, tmp_path: Path) -> None:
    """An edit list that shows fewer frames than are stored is not a cut."""
    path = encode("a.mp4", 60)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # version, number of entries; then the duration in milliseconds
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") // 2).to_bytes(4, "big")
    path.write_bytes(data)
    assert 25 <= len(io.read_frames(path)) <= 35


def test_frame_size_limit(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode("a.mp4")
    monkeypatch.setattr(io, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(VideoDecodeError, match="56x40 are larger than the 1000 pixels"):
        io.read_frames(path)


def test_memory_limit(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode("a.mp4")
    monkeypatch.setattr(io, "MAX_READ_BYTES", 5 * 40 * 56 * 3)
    with pytest.raises(VideoDecodeError, match="more than 5 frames of 56x40"):
        io.read_frames(path)


def test_short_side_must_be_positive(encode: Encode) -> None:
    with pytest.raises(ConfigError, match=r"short_side .* got 0"):
        io.read_frames(encode("a.mp4"), short_side=0)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_failed_writing_leaves_the_old_file(tmp_path: Path, moving: Callable[..., Frames]) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")

    def frames() -> Iterator[Frames]:
        yield from moving(3)
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        io.write_video(tmp_path / "a.mp4", frames())
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.mp4", b"old")]


@pytest.mark.parametrize(
    ("name", "frames", "options", "message"),
    [
        ("a.mp4", [], {}, "no frames"),
        ("a.mp4", [np.zeros((8, 8, 3), np.float32)], {}, r"uint8 \(H, W, 3\).*float32"),
        ("a.mp4", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], {}, "all of one size"),
        ("a.mp4", [np.zeros((8, 8, 3), np.uint8)], {"codec": "gif"}, "libx264, mpeg4; got 'gif'"),
        ("a.mp4", [np.zeros((8, 8, 3), np.uint8)], {"fps": 0.0}, "fps must be positive"),
        ("a.xyz", [np.zeros((8, 8, 3), np.uint8)], {}, "'.xyz' is no video format"),
        ("a.webm", [np.zeros((8, 8, 3), np.uint8)], {}, "cannot be written to a .webm file"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, name: str, frames: list[Frames], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        io.write_video(tmp_path / name, frames, **options)
    assert list(tmp_path.iterdir()) == []


# --- real clips -------------------------------------------------------------------------------------------------------


def real_clips(shared_dir: Path) -> list[Path]:
    return sorted(p for p in (shared_dir / "data" / "clips").rglob("*") if p.suffix in (".avi", ".mp4"))


def test_real_clips_have_the_frames_opencv_decodes(shared_dir: Path) -> None:
    clips = real_clips(shared_dir)
    assert len(clips) > 30
    for path in clips[::8]:
        np.testing.assert_array_equal(io.read_frames(path), opencv_frames(path), err_msg=path.name)


def test_real_clips_lose_no_frame(shared_dir: Path) -> None:
    """UCF-101 and ARID: one frame per packet. HMDB-51: the second packet of each file stands for no frame (1 byte)."""
    for path in real_clips(shared_dir)[1::3]:
        with av.open(str(path)) as container:
            sizes = [packet.size for packet in container.demux(video=0) if packet.size]
        expected = sum(size > 1 for size in sizes)
        assert sum(1 for _ in io.iter_frames(path)) == expected, path.name
        assert io.probe(path).num_frames_hint == len(sizes)
