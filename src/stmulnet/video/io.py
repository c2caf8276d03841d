"""Video files to RGB frames and back, by FFmpeg through PyAV.

Media are untrusted: a file is opened only with a demuxer of `FORMATS` and the protocol ``file``, so that a playlist
named ``clip.mp4`` cannot make FFmpeg open other files or addresses.

Axes: T frames, H x W pixels as displayed (rotation applied), 3 = R G B.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
import av.container
import av.sidedata.sidedata
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from stmulnet.errors import ConfigError, VideoDecodeError
from stmulnet.files import atomic_path

Image = npt.NDArray[np.uint8]

# FFmpeg's names of the accepted demuxers: self-contained files only. Not among them: concat, hls, dash, image2, sdp and
# every other one that opens what a file's text names. "mov" is also mp4, m4v and 3gp; "mpeg" is the program stream.
FORMATS = ("asf", "avi", "flv", "matroska", "mov", "mpeg", "mpegts", "ogg")
VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
MAX_FRAME_PIXELS = 8192 * 8192  # per frame; a damaged header otherwise makes the decoder ask for gigabytes
MAX_RESIZED_SIDE = 32767  # what OpenCV's remap can address; a JPEG could have twice as much
MAX_READ_BYTES = 8 * 2**30  # of all frames that read_frames may return

# A header's number of frames or duration is often off by a little; a file is taken as cut off beyond both of these.
MISSING_FRAMES = 3
MISSING_SHARE = 0.05

_ENCODER_OPTIONS: Mapping[str, dict[str, str]] = {
    "libx264": {"crf": "18"},
    "mpeg4": {"qmin": "2", "qmax": "3"},
}


@dataclass(frozen=True)
class VideoInfo:
    """What the header and the first frame of a video say.

    Attributes:
        width: Pixels, as displayed (after rotation).
        height: Pixels, as displayed (after rotation).
        fps: Mean frame rate, frames per second; None where the file does not say.
        num_frames_hint: Number of frames the header announces or its duration implies; decoding may find another one.
        duration_s: Seconds; None where the file does not say.
        codec: FFmpeg's name of the codec, e.g. ``"h264"``.
        rotation: Degrees (0, 90, 180, 270) by which the stored picture is turned clockwise for display.
    """

    width: int
    height: int
    fps: float | None
    num_frames_hint: int | None
    duration_s: float | None
    codec: str
    rotation: int


def probe(path: Path | str) -> VideoInfo:
    """Describe a video by its header and its first frame.

    Raises:
        VideoDecodeError: The file is missing, refused or damaged, or has no video.
    """
    path = Path(path)
    with _open(path) as (container, stream):
        rotation = 0
        for image, turned in displayed_frames(container, stream, path):
            height, width, rotation = *image.shape[:2], turned
            break
        fps = float(stream.average_rate) if stream.average_rate else None
        duration_s = _announced_seconds(container, stream)
        hint = stream.frames or (round(duration_s * fps) if duration_s and fps else None)
        codec = stream.codec_context.name
    return VideoInfo(width, height, fps, hint, duration_s, codec, rotation)


def coded_length(path: Path | str, *, at_most: int) -> tuple[int, float]:
    """Number of coded frames, and seconds of video, by the packets of the file: whatever its header says.

    Nothing is decoded, so that this costs little more than reading the file.

    Args:
        path: The file.
        at_most: Packets after which to stop: a file with more of them has this number.

    Raises:
        VideoDecodeError: The file is missing, refused or damaged, or has no video.
    """
    path = Path(path)
    count, end_s = 0, 0.0
    with _open(path) as (container, stream):
        start_s = float((stream.start_time or 0) * stream.time_base)
        try:
            for packet in container.demux(stream):
                if packet.size:
                    count, end_s = count + 1, max(end_s, _packet_end_seconds(packet) - start_s)
                if count >= at_most:
                    break
        except av.FFmpegError as error:
            raise VideoDecodeError(f"{path}: {_damaged_after(count)} ({error.strerror or error})") from error
    return count, end_s


def iter_frames(path: Path | str, *, short_side: int | None = None, threads: int = 1) -> Iterator[Image]:
    """Decode a video frame by frame, in display order, turned as its metadata says.

    Every frame the decoder delivers is yielded once: none is dropped or doubled for a constant rate. Pixels are taken
    as square. Damage that the decoder reports is an error. Not noticed are damage that it conceals (MPEG-4), up to
    `MISSING_FRAMES` frames missing at the end, and a cut between two frames in formats whose header says nothing of
    the length (MPEG-TS, MPEG-PS).

    Args:
        path: The file.
        short_side: Resize so that the shorter side has this many pixels (see `resized_shape`); None keeps the size.
        threads: Threads of the decoder.

    Yields:
        (H, W, 3) uint8, RGB, 0..255; all of one size.

    Raises:
        VideoDecodeError: The file is missing, refused, empty, damaged or cut off, or has no video. Raised when the
            damage is reached: the frames before it have been yielded.
    """
    path = Path(path)
    if short_side is not None and short_side < 1:
        raise ConfigError(f"short_side must be a number of pixels, 1 or more, or None; got {short_side}")
    with _open(path, threads=threads) as (container, stream):
        for image, _ in displayed_frames(container, stream, path):
            yield image if short_side is None else _resized(image, short_side, path)


def _resized(image: Image, short_side: int, path: Path) -> Image:
    try:
        return resize_short_side(image, short_side)
    except ConfigError as error:  # a video that no ordinary size makes small enough
        raise VideoDecodeError(f"{path}: {error}") from error


def read_frames(
    path: Path | str, *, short_side: int | None = None, max_frames: int | None = None, threads: int = 1
) -> npt.NDArray[np.uint8]:
    """Decode a video into one array.

    Args:
        path: The file.
        short_side: As in `iter_frames`.
        max_frames: Stop after this many frames; the rest of the file is then not checked for damage.
        threads: Threads of the decoder.

    Returns:
        (T, H, W, 3) uint8, RGB, 0..255.

    Raises:
        VideoDecodeError: As in `iter_frames`, or the frames need more than `MAX_READ_BYTES`.
    """
    frames: list[Image] = []
    for frame in islice(iter_frames(path, short_side=short_side, threads=threads), max_frames):
        frames.append(frame)
        if len(frames) * frame.nbytes > MAX_READ_BYTES:
            raise VideoDecodeError(
                f"{path}: more than {len(frames) - 1} frames of {frame.shape[1]}x{frame.shape[0]} do not fit into the "
                f"{MAX_READ_BYTES / 2**30:.0f} GiB allowed for one video in memory; give a shorter video or a smaller "
                "short_side"
            )
    return np.stack(frames)


def resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width with the shorter side at ``short_side`` and the longer one rounded, halves up.

    Deviation D10: 320x240 becomes 341x256, not 340x256 as in the official archives (FFmpeg's rule of even sizes).
    """
    short = min(height, width)
    return (2 * height * short_side + short) // (2 * short), (2 * width * short_side + short) // (2 * short)


def resize_short_side(image: Image, short_side: int) -> Image:
    """Resize (H, W, 3) by `cv2.INTER_LINEAR` to `resized_shape`; the same array where the size is right already."""
    height, width = resized_shape(image.shape[0], image.shape[1], short_side)
    if (height, width) == image.shape[:2]:
        return image
    if height * width > MAX_FRAME_PIXELS or max(height, width) > MAX_RESIZED_SIDE:
        raise ConfigError(
            f"frames of {image.shape[1]}x{image.shape[0]} would become {width}x{height} with short_side {short_side}; "
            f"allowed are sides of {MAX_RESIZED_SIDE} and {MAX_FRAME_PIXELS} pixels in all: give a smaller short_side"
        )
    return cast(Image, cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def write_video(path: Path | str, frames: Iterable[Image], *, fps: float = 25.0, codec: str = "libx264") -> None:
    """Encode frames as 4:2:0 video; the suffix chooses the container. Nothing is left behind on failure.

    An odd height or width gets its last row or column doubled: 4:2:0 needs even sizes.

    Args:
        path: The file to write; replaced in one step.
        frames: (H, W, 3) uint8 RGB, all of one size, at least one.
        fps: Frames per second.
        codec: FFmpeg's encoder: ``"libx264"`` (H.264, for .mp4 and .mkv) or ``"mpeg4"`` (for .avi).

    Raises:
        ConfigError: No frame, frames of a wrong kind, or an encoder that is not offered.
    """
    path = Path(path)
    if codec not in _ENCODER_OPTIONS:
        raise ConfigError(f"codec must be one of {', '.join(_ENCODER_OPTIONS)}; got {codec!r}")
    if not fps > 0:
        raise ConfigError(f"fps must be positive, got {fps}")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ConfigError(f"{path}: no frames to write; a video needs at least one")
    with atomic_path(path) as temporary, _open_for_writing(temporary, codec) as container:
        # MPEG-4 stores the time base in 16 bits.
        rate = Fraction(fps).limit_denominator(1001)
        stream = cast(av.VideoStream, container.add_stream(codec, rate=rate, options=_ENCODER_OPTIONS[codec]))
        padded = _padded_even(first, first.shape, path)
        stream.height, stream.width = padded.shape[:2]
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        for frame in iterator:
            image = _padded_even(frame, first.shape, path)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@contextlib.contextmanager
def _open(path: Path, *, threads: int = 1) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream."""
    _require_file(path)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(FORMATS),
        "max_pixels": str(MAX_FRAME_PIXELS),
    }
    try:
        # With the explicit protocol, a name such as "concat:a|b" or "http:x" is only a name.
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise VideoDecodeError(f"{path}: {opening_problem(error)}; 0 frames were readable") from error
    with container:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = threads
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        yield container, stream


def _require_file(path: Path) -> None:
    if not path.exists():
        raise VideoDecodeError(f"{path}: no such file")
    if not path.is_file():
        raise VideoDecodeError(f"{path}: not a regular file; give a video file")
    if path.stat().st_size == 0:
        raise VideoDecodeError(f"{path}: the file is empty (0 bytes); 0 frames were readable")


def opening_problem(error: av.FFmpegError) -> str:
    """Why FFmpeg did not open something, and what it would open."""
    allowed = f"accepted are {', '.join(FORMATS)} (FFmpeg's names; mov is also mp4)"
    if isinstance(error, av.error.ArgumentError):  # what FFmpeg returns for a format outside of format_whitelist
        return f"this file format is refused; {allowed}"
    if isinstance(error, av.error.InvalidDataError):
        return f"not a video file (such as text, or a playlist), or its header is damaged or cut off; {allowed}"
    return f"cannot be opened: {error.strerror or error}"


def video_stream(container: Any, path: Path | str) -> Any:
    """The video track of an open container that a player would show.

    Raises:
        VideoDecodeError: There is none, or its frames are too large.
    """
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({stream.type or "unknown" for stream in container.streams})) or "nothing"
        raise VideoDecodeError(f"{path}: no video track (found: {kinds}); 0 frames were readable")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None:
        raise VideoDecodeError(
            f"{path}: this build of FFmpeg has no decoder for the video track; 0 frames were readable"
        )
    if context.width * context.height > MAX_FRAME_PIXELS:
        raise VideoDecodeError(
            f"{path}: frames of {context.width}x{context.height} are larger than the {MAX_FRAME_PIXELS} pixels "
            "allowed; 0 frames were readable"
        )
    return stream


def displayed_frames(container: Any, stream: Any, path: Path | str) -> Iterator[tuple[Image, int]]:
    """Yield (frame as displayed, clockwise rotation in degrees); raise where the file is damaged or ends too early."""
    count = packets = 0
    end_s = 0.0
    shape: tuple[int, ...] | None = None
    turn: _Turn | None = None  # of the first frame: asked for its side data, a frame is kept until garbage is collected
    to_rgb = VideoReformatter()  # one for all: the frames' own ones each start threads, which takes more than the work
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise VideoDecodeError(f"{path}: {_damaged_after(count)} (a packet is cut off or damaged)")
            if packet.size:
                packets += 1
                end_s = max(end_s, _packet_end_seconds(packet))
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise VideoDecodeError(f"{path}: {_damaged_after(count)} (a frame is damaged)")
                turn = turn or _Turn.of(frame)
                image = turn.applied(cast(Image, to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()))
                if image.shape != (shape := shape or image.shape):
                    raise VideoDecodeError(
                        f"{path}: frame {count + 1} has another size, {image.shape[1]}x{image.shape[0]}, than those "
                        f"before, {shape[1]}x{shape[0]}; {count} frames were readable"
                    )
                count += 1
                yield image, turn.degrees
    except av.FFmpegError as error:
        raise VideoDecodeError(f"{path}: {_damaged_after(count)} ({error.strerror or error})") from error
    if count == 0:
        raise VideoDecodeError(
            f"{path}: no frame of the video track can be decoded: damaged or cut off; 0 frames were readable"
        )
    _check_complete(container, stream, path, packets=packets, end_s=end_s, count=count)


def _damaged_after(count: int) -> str:
    return f"damaged or cut off after {count} readable frames"


def _packet_end_seconds(packet: Any) -> float:
    start = packet.pts if packet.pts is not None else packet.dts
    return float((start + (packet.duration or 0)) * packet.time_base) if start is not None else 0.0


def _check_complete(container: Any, stream: Any, path: Path | str, *, packets: int, end_s: float, count: int) -> None:
    """Compare what was found with what the header announces, in packets or, where it has no number, in seconds.

    Packets, not frames: MPEG-4 in AVI (HMDB-51) has packets that stand for no frame of their own.
    """
    # mov's index accounts for edit lists (trimmed clips), its frame counter does not.
    announced = len(stream.index_entries) if container.format.name.startswith("mov") else stream.frames
    if announced:
        found, unit = float(packets), "frames"
    else:
        seconds, rate = _announced_seconds(container, stream), float(stream.average_rate or 0)
        announced, found = (seconds or 0) * rate, (end_s - _start_seconds(stream)) * rate
        unit = "frames (by its duration)"
    if announced - found > max(MISSING_FRAMES, MISSING_SHARE * announced):
        raise VideoDecodeError(
            f"{path}: cut off: the header announces {announced:.0f} {unit}, {count} frames were readable; "
            "get a complete copy of the file"
        )


def _start_seconds(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _announced_seconds(container: Any, stream: Any) -> float | None:
    """Duration of the video track by its header."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska: "00:00:01.300000000", the time of the end. Any program may have written anything else there.
    if match := re.fullmatch(r"(\d{1,9}):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        end_s = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
        return max(0.0, end_s - max(0.0, _start_seconds(stream)))
    if container.duration and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


@dataclass(frozen=True)
class _Turn:
    """How the stored picture is turned for display: transposed, then flipped.

    Attributes:
        degrees: The rotation in it, clockwise.
    """

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False
    degrees: int = 0

    @classmethod
    def of(cls, frame: Any) -> "_Turn":
        """Read the display matrix of a frame."""
        matrix = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
        if matrix is None:
            return cls()
        # libavutil/display.h: 16.16 fixed point, rows (a b u), (c d v), ...; x' = a x + c y, y' = b x + d y.
        a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
        transposed = abs(b) > abs(a)
        x_sign, y_sign = (c, b) if transposed else (a, d)
        return cls(transposed, x_sign < 0, y_sign < 0, round(-frame.rotation / 90) * 90 % 360)

    def applied(self, image: Image) -> Image:
        """The image (H, W, 3) as displayed, contiguous: FFmpeg pads the rows of odd sizes."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1])


@contextlib.contextmanager
def _open_for_writing(path: Path, codec: str) -> Iterator[av.container.OutputContainer]:
    try:
        container = av.open(f"file:{path.absolute()}", "w")
    except ValueError as error:
        raise ConfigError(f"{path.suffix!r} is no video format FFmpeg can write; use .mp4, .mkv or .avi") from error
    try:
        with container:
            if codec not in container.supported_codecs:
                raise ConfigError(f"{codec} video cannot be written to a {path.suffix} file; use .mp4, .mkv or .avi")
            yield container
    except av.FFmpegError as error:
        raise ConfigError(f"{codec} video cannot be written to a {path.suffix} file: {error.strerror}") from error


def _padded_even(image: Image, shape: tuple[int, ...], path: Path) -> Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != shape:
        raise ConfigError(
            f"{path}: frames must be uint8 (H, W, 3), all of one size; got {image.dtype} {image.shape}, first {shape}"
        )
    height, width = shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
