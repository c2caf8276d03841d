"""What is beyond a limit is refused before it costs anything."""

from pathlib import Path

import numpy as np
import pytest

from stmulnet.errors import ConfigError, LimitError, VideoDecodeError
from stmulnet.serving.limits import Limits
from stmulnet.video.io import coded_length, write_video


def make(path: Path, *, frames: int = 30, size: int = 64, fps: float = 10) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    write_video(path, (np.roll(noise, t, axis=1) for t in range(frames)), fps=fps, codec=codec)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_within_the_limits(tmp_path: Path, name: str) -> None:
    video = make(tmp_path / name)
    info = Limits(seconds=3, frames=30, megapixels=0.0041, upload_mb=1).check(video).info
    assert (info.width, info.height) == (64, 64)
    count, seconds = coded_length(video, at_most=100)
    assert count == 30
    assert seconds == pytest.approx(3.0, abs=0.11)
    assert coded_length(video, at_most=7)[0] == 7


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(seconds=2), "3 s are longer than the 2 s allowed here"),
        (Limits(frames=29), "more than the 29 frames allowed here"),
        (Limits(megapixels=0.004), "frames of 64x64 are larger than the 0.004 million pixels allowed here"),
    ],
)
def test_beyond_a_limit(tmp_path: Path, limits: Limits, message: str) -> None:
    with pytest.raises(LimitError, match=message):
        limits.check(make(tmp_path / "a.mp4"))


def test_a_large_file_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "a.mp4").open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(LimitError, match="larger than the 1 MB"):
        Limits(upload_mb=1).check(tmp_path / "a.mp4")


def test_a_header_that_lies_about_the_length_is_not_believed(tmp_path: Path) -> None:
    """AVI's header: the number of frames, at two places, and the rate."""
    video = make(tmp_path / "a.avi", frames=60)
    content = bytearray(video.read_bytes())
    for place in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
        assert int.from_bytes(content[place : place + 4], "little") == 60
        content[place : place + 4] = (5).to_bytes(4, "little")
    video.write_bytes(content)
    with pytest.raises(LimitError, match="more than the 50 frames"):
        Limits(frames=50).check(video)


def test_a_playlist_is_no_video(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoDecodeError, match=r"refused|not a video"):
        Limits().check(video)


@pytest.mark.parametrize("bad", [{"seconds": 0}, {"upload_mb": -1}, {"megapixels": 0}, {"waiting": -1}])
def test_limits_are_positive(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(bad))} must be"):
        Limits(**bad)
