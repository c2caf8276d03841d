"""Frames that come in real time: rtsp servers and cameras, by FFmpeg through PyAV.

FFmpeg waits for the network, and nothing can interrupt it but its own time-out. It therefore runs in a thread of its
own, so that Ctrl-C is answered at once.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from stmulnet.errors import ConfigError, VideoDecodeError
from stmulnet.video.ahead import in_thread
from stmulnet.video.io import MAX_FRAME_PIXELS, displayed_frames, video_stream

Image = npt.NDArray[np.uint8]

TIMEOUT_SEC = 10.0  # to connect, and for each next piece
QUEUED_FRAMES = 4
_LIMITS = {"max_pixels": str(MAX_FRAME_PIXELS)}


def rtsp_frames(address: str, name: str) -> Iterator[Image]:
    """Frames of an rtsp server, over TCP, which loses none.

    Args:
        address: What the user typed.
        name: What messages call it.

    Yields:
        (H, W, 3) uint8, RGB.

    Raises:
        VideoDecodeError: The server cannot be reached, refuses, stalls, or sends what cannot be decoded.
    """
    # rtsp is no file format but a demuxer that opens its own connections: the list holds what it may use for them.
    options = _LIMITS | {"protocol_whitelist": "tcp", "format_whitelist": "rtsp", "rtsp_transport": "tcp"}
    return _in_thread(lambda: av.open(address, options=options, timeout=TIMEOUT_SEC), name)


def find_camera(number: int, name: str) -> Path:
    """The device of a camera, ``/dev/video<number>`` (Video4Linux).

    Raises:
        VideoDecodeError: There is no such camera.
        ConfigError: This FFmpeg knows no Video4Linux.
    """
    device = Path(f"/dev/video{number}")
    if not device.exists():
        cameras = ", ".join(sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*")))
        raise VideoDecodeError(f"{name}: there is no {device}; cameras found: {cameras or 'none'}")
    if "v4l2" not in {part for format in av.formats_available for part in format.split(",")}:
        raise ConfigError(f"{name}: this FFmpeg cannot read cameras; give a video file")
    return device


def camera_frames(device: Path, name: str) -> Iterator[Image]:
    """Frames of a camera that `find_camera` has found; arguments and errors as in `rtsp_frames`."""
    return _in_thread(lambda: av.open(str(device), format="v4l2", options=_LIMITS, timeout=TIMEOUT_SEC), name)


def _in_thread(connect: Callable[[], Any], name: str) -> Iterator[Image]:
    return in_thread(_read(connect, name), ahead=QUEUED_FRAMES, name="live", leave_sec=1.0)


def _read(connect: Callable[[], Any], name: str) -> Iterator[Image]:
    start = time.monotonic()
    try:
        container = connect()
    except (av.FFmpegError, ValueError) as error:
        # After its time-out FFmpeg names whatever it was at.
        timed_out = time.monotonic() - start >= TIMEOUT_SEC
        problem = f"no answer within {TIMEOUT_SEC:g} s" if timed_out else getattr(error, "strerror", None) or error
        raise VideoDecodeError(f"{name}: cannot be opened ({problem})") from error
    with container:
        stream = video_stream(container, name)
        stream.codec_context.options = _LIMITS
        for image, _ in displayed_frames(container, stream, name):
            yield image
