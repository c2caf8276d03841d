"""A video that the browser can play: the upload itself, or a smaller copy of it."""

from pathlib import Path

from stmulnet.video.io import VideoInfo, iter_frames, write_video

PLAYABLE = {".mp4": ("h264", "av1"), ".m4v": ("h264",), ".webm": ("vp8", "vp9", "av1")}
SHORT_SIDE_PX = 360
DEFAULT_FPS = 25.0


def playable(path: Path, info: VideoInfo) -> bool:
    """Whether browsers in general play the file, by its suffix and codec (UCF-101's .avi they do not)."""
    return info.codec in PLAYABLE.get(path.suffix.lower(), ())


def write_preview(video: Path, info: VideoInfo, out: Path) -> None:
    """Write a copy as H.264 in .mp4, with a short side of at most 360 pixels and without sound.

    Raises:
        VideoDecodeError: The video is damaged.
    """
    short_side = min(info.height, info.width, SHORT_SIDE_PX)
    write_video(out, iter_frames(video, short_side=short_side), fps=info.fps or DEFAULT_FPS)
