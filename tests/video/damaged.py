"""Two hundred files that call themselves videos: damaged, odd, hostile, or nothing of the kind.

The same seed makes the same damage. Encoders may differ between builds of FFmpeg: what a file holds is random anyway,
what matters is that it is treated well.
"""

import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

Outcome = Literal["recognised", "refused", "either"]
Frames = NDArray[np.uint8]

HEIGHT, WIDTH, COUNT = 48, 64, 16

# name -> encoder, pixel format
CONTAINERS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p"),
    "h264.flv": ("libx264", "yuv420p"),
    "hevc.mp4": ("libx265", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "mpeg2.mpg": ("mpeg2video", "yuv420p"),
    "wmv2.wmv": ("wmv2", "yuv420p"),
    "prores.mov": ("prores_ks", "yuv422p10le"),
}
PIXEL_FORMATS = {
    "yuv444p.mp4": ("libx264", "yuv444p"),
    "yuv420p10.mkv": ("libx264", "yuv420p10le"),
    "gray.mkv": ("ffv1", "gray"),
    "gray16.mkv": ("ffv1", "gray16le"),
    "bgra.mkv": ("ffv1", "bgra"),
    "yuv411p.mkv": ("ffv1", "yuv411p"),
    "argb.mov": ("qtrle", "argb"),
    "rgba.mov": ("png", "rgba"),
    "monob.mov": ("png", "monob"),
    "rgb48.mov": ("png", "rgb48be"),
    "gbrp.mkv": ("libx264rgb", "rgb24"),
    "gbrpf32.mov": ("exr", "gbrpf32le"),
    "rgb555.avi": ("rawvideo", "rgb555le"),
    "yuyv422.mkv": ("rawvideo", "yuyv422"),
    "cinepak.avi": ("cinepak", "rgb24"),
}
SIZES = {  # height, width
    "1x1.mkv": (1, 1),
    "20000x2.mkv": (2, 20000),
    "2x20000.mkv": (20000, 2),
    "3x5.mkv": (5, 3),
    "65x49.mkv": (49, 65),
    "2000x1500.mkv": (1500, 2000),
}
TARGET = "h264.mp4"  # what playlists name: a video that lies beside them
PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{0}\n#EXT-X-ENDLIST\n",
    "m3u8-address": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/{0}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{0}'\n",
    "concat-protocol": "ffconcat version 1.0\nfile 'concat:{0}|{0}'\n",
    "mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{0}</BaseURL></Representation></AdaptationSet>'
    "</Period></MPD>\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "smil": '<smil><body><video src="{0}"/></body></smil>\n',
    "rtsp": "rtsp://127.0.0.1:9/{0}\n",
}
DISGUISES = (".mp4", ".avi", ".ts")


@dataclass(frozen=True)
class Case:
    """A file, and what is to come of it."""

    path: Path
    expected: Outcome


def make_corpus(folder: Path, rng: np.random.Generator) -> list[Case]:
    """Make all files in a folder."""
    sound = folder / "sound"
    sound.mkdir(parents=True)
    originals = [encode(sound / name, codec, pixels) for name, (codec, pixels) in CONTAINERS.items()]
    originals.append(remux(sound / TARGET, sound / "faststart.mp4", movflags="faststart"))
    originals.append(remux(sound / TARGET, sound / "fragments.mp4", movflags="frag_keyframe+empty_moov"))
    cases = [Case(path, "recognised") for path in originals]
    makers: tuple[Callable[[Path, list[Path], np.random.Generator], Iterator[Case]], ...] = (
        _flipped, _truncated, _wrong_names, _pixel_formats, _sizes, _headers, _timing, _playlists, _no_video, _no_files,
    )  # fmt: skip
    for make in makers:
        place = folder / make.__name__.strip("_")
        place.mkdir()
        cases += make(place, originals, rng)
    return cases


def texture(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH) -> Frames:
    """Blocks of random colours that move by one pixel per frame."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 256, (height // 8 + 2, (width + count) // 8 + 2, 3), dtype=np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([picture[:height, t : t + width] for t in range(count)])


def encode(
    path: Path, codec: str, pixels: str, *, frames: Frames | None = None, times: list[int] | None = None
) -> Path:
    """Encode frames, at 25 per second or at the given times in units of 1/25 s."""
    frames = texture() if frames is None else frames
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    container = {"avoid_negative_ts": "disabled"} if times and min(times) < 0 else {}  # kept as they are
    with av.open(str(path), "w", options=container) as writer:
        stream: Any = writer.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format=pixels)
            frame.pts = times[number] if times else number
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, **options: str) -> Path:
    """Copy the packets into another container."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(reader.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    return target


def _flipped(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    """Bytes replaced: one, a hundredth, a tenth; in the first kilobyte; a run of zeros."""
    for original in originals:
        content = np.frombuffer(original.read_bytes(), dtype=np.uint8)
        size = len(content)
        places = {
            "one": rng.integers(0, size, 1),
            "few": rng.integers(0, size, max(2, size // 100)),
            "many": rng.integers(0, size, size // 10),
            "header": rng.integers(0, min(size, 1024), 8),
        }
        for name, at in places.items():
            data = content.copy()
            data[at] ^= rng.integers(1, 256, len(at), dtype=np.uint8)
            yield _written(folder / f"{name}-{original.name}", data.tobytes())
        data, start = content.copy(), int(rng.integers(0, size))
        data[start : start + 512] = 0
        yield _written(folder / f"zeros-{original.name}", data.tobytes())


def _truncated(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    for original in originals:
        content = original.read_bytes()
        for share in (0.02, 0.5, 0.9):
            end = max(1, round(len(content) * share) + int(rng.integers(-8, 8)))
            yield _written(folder / f"{share}-{original.name}", content[:end])
    whole = originals[0].read_bytes()
    yield _written(folder / "last-byte.mp4", whole[:-1])
    yield _written(folder / "tail.mp4", whole[len(whole) // 2 :])
    yield _written(folder / "twice.mp4", whole + whole)


def _wrong_names(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    """The content counts, not the name."""
    for original, suffix in zip(originals, (".avi", ".mp4", ".mpg", ".mkv", "", ".txt", ".m3u8", ".jpg"), strict=False):
        yield Case(Path(shutil.copy(original, folder / f"{original.stem}-{original.suffix[1:]}{suffix}")), "recognised")
    yield Case(Path(shutil.copy(originals[0], folder / "concat:a|b ä\n%d.mp4")), "recognised")


def _pixel_formats(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    for name, (codec, pixels) in PIXEL_FORMATS.items():
        yield Case(encode(folder / name, codec, pixels), "recognised")


def _sizes(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    for name, (height, width) in SIZES.items():
        frames = texture(11, height, width)
        expected: Outcome = "refused" if 20000 in (height, width) else "recognised"  # enlarged, 640000 pixels long
        yield Case(encode(folder / name, "ffv1", "bgr0", frames=frames), expected)
    larger = encode(folder / "larger.ts", "libx264", "yuv420p", frames=texture(16, 96, 128))
    changing = originals[2].read_bytes() + larger.read_bytes()
    yield Case(_written(folder / "changing.ts", changing).path, "refused")


def _headers(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    """Sizes, counts and durations that are not true."""
    contents = {path.name: path.read_bytes() for path in originals}
    for value in (0, 1, 60000, 2**31 - 1, 2**32 - 1):
        number = struct.pack("<I", value)
        avi = contents["mpeg4.avi"]
        at = avi.index(b"strf") + 12  # after name, length and size of the BITMAPINFOHEADER: width, height
        yield _written(folder / f"size-{value}.avi", avi[:at] + 2 * number + avi[at + 8 :])
        at = avi.index(b"avih") + 8 + 16  # number of frames
        yield _written(folder / f"frames-{value}.avi", avi[:at] + number + avi[at + 4 :])
    for box, offset in (
        ("mvhd", 20),
        ("mdhd", 20),
        ("stsz", 12),
        ("stsz", 16),
        ("stts", 12),
        ("stco", 12),
        ("avc1", 4),
    ):
        mp4, big = contents["h264.mp4"], b"\xff" * 4
        at = mp4.index(box.encode()) + offset
        yield _written(folder / f"{box}-{offset}.mp4", mp4[:at] + big + mp4[at + 4 :])
    mp4 = contents["h264.mp4"]
    at = mp4.index(b"moov") - 4
    yield _written(folder / "endless-box.mp4", mp4[:at] + b"\x7f\xff\xff\xff" + mp4[at + 4 :])
    mkv = contents["h264.mkv"]
    at = mkv.index(b"\x1a\x45\xdf\xa3") + 4
    yield _written(folder / "endless-element.mkv", mkv[:at] + b"\x01\xff\xff\xff\xff\xff\xff\xfe" + mkv[at + 8 :])


def _timing(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    irregular = np.cumsum(rng.integers(1, 40, COUNT)).tolist()
    yield Case(encode(folder / "variable.mkv", "ffv1", "bgr0", times=irregular), "recognised")
    yield Case(encode(folder / "variable.mp4", "libx264", "yuv420p", times=irregular), "recognised")
    negative = [number - 200 for number in range(COUNT)]
    yield Case(encode(folder / "negative.mkv", "ffv1", "bgr0", times=negative), "either")
    yield Case(encode(folder / "negative.mp4", "libx264", "yuv420p", times=negative), "either")
    yield Case(encode(folder / "late.mkv", "ffv1", "bgr0", times=[10**6 + n for n in range(COUNT)]), "either")
    yield Case(encode(folder / "gap.mkv", "ffv1", "bgr0", times=[0, *range(10**6, 10**6 + COUNT - 1)]), "either")
    for count in (1, 10):
        yield Case(encode(folder / f"{count}-frames.mkv", "ffv1", "bgr0", frames=texture(count)), "refused")


def _playlists(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    """Texts by which FFmpeg would open other files or addresses."""
    shutil.copy(originals[0], folder / TARGET)
    for name, text in PLAYLISTS.items():
        for suffix in DISGUISES:
            yield Case(_written(folder / f"{name}{suffix}", text.format(TARGET).encode()).path, "refused")


def _no_video(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    """Complete files with everything but a video, and files that are none."""
    for path in (_sound(folder / "sound.mp4"), _sound(folder / "sound.ts"), _cover(folder / "cover.mp4")):
        yield Case(path, "refused")
    for path in (_subtitles(folder / "subtitles.mkv"), _no_frames(folder / "header-only.mp4")):
        yield Case(path, "refused")
    for name, data in {
        "empty.mp4": b"",
        "byte.mp4": b"\0",
        "zeros.mp4": bytes(5000),
        "random.mp4": rng.bytes(20000),
        "random.ts": b"".join(b"\x47" + rng.bytes(187) for _ in range(100)),  # synchronised, but nothing in it
        "random.mpg": b"\x00\x00\x01\xba" + rng.bytes(5000),
        "page.mp4": b"<!doctype html><p>404 Not Found</p>",
        "picture.mp4": b"\x89PNG\r\n\x1a\n" + rng.bytes(300),
        "gif.avi": b"GIF89a" + rng.bytes(300),
        "pickle.mp4": b"\x80\x04cos\nsystem\n(X\x04\x00\x00\x00exittR.",
    }.items():
        yield Case(_written(folder / name, data).path, "refused")


def _no_files(folder: Path, originals: list[Path], rng: np.random.Generator) -> Iterator[Case]:
    (folder / "link.mp4").symlink_to(originals[0])
    yield Case(folder / "link.mp4", "recognised")
    (folder / "broken.mp4").symlink_to("nowhere.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "terminal.mp4").symlink_to("/dev/stdin")
    for name in ("broken", "loop", "folder", "pipe", "device", "terminal", "missing", "x" * 250):
        yield Case(folder / f"{name}.mp4", "refused")


def _written(path: Path, data: bytes) -> Case:
    path.write_bytes(data)
    return Case(path, "either")


def _mux_sound(writer: Any, stream: Any) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 8000
    writer.mux(stream.encode(frame))
    writer.mux(stream.encode(None))


def _sound(path: Path) -> Path:
    with av.open(str(path), "w") as writer:
        _mux_sound(writer, writer.add_stream("aac", rate=8000, layout="mono"))
    return path


def _cover(path: Path) -> Path:
    with av.open(str(path), "w") as writer:
        sound = writer.add_stream("aac", rate=8000, layout="mono")
        cover: Any = writer.add_stream("png", rate=1)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        writer.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        _mux_sound(writer, sound)
    return path


def _subtitles(path: Path) -> Path:
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n\n2\n00:00:01,000 --> 00:00:02,000\nWorld\n")
    with av.open(str(text)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.subtitles[0])
        for packet in reader.demux():
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    return path


def _no_frames(path: Path) -> Path:
    """A track without a single frame."""
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as writer:
        stream: Any = writer.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        writer.start_encoding()
    return path


if __name__ == "__main__":  # to look at them
    print(len(make_corpus(Path(sys.argv[1]), np.random.default_rng(7))), "files")
