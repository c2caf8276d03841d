"""What a stranger's video may cost."""

from dataclasses import dataclass, fields
from pathlib import Path

from stmulnet.errors import ConfigError, LimitError
from stmulnet.video.io import VideoInfo, coded_length, probe

MEGABYTE = 2**20
MEGAPIXEL = 1_000_000
TEXT_BYTES = MEGABYTE  # largest body of a request that uploads nothing
FORM_BYTES = 64 * 2**10  # what a form is larger than the file in it


@dataclass(frozen=True)
class Measured:
    """A video within the limits.

    Attributes:
        info: What its header says.
        num_frames: Number of its coded frames.
        seconds: Its length.
    """

    info: VideoInfo
    num_frames: int
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Limits of a service; at least 1, but 0 for waiting and 0.001 for megapixels.

    Attributes:
        upload_mb: Size of an uploaded file.
        seconds: Length of a video.
        frames: Number of frames of a video.
        megapixels: Size of a frame, in millions of pixels.
        waiting: Predictions that may wait for their turn; further ones are sent away.
        disk_mb: Size of all temporary files; further uploads are sent away.
        keep_minutes: Time after which a file that nobody has removed is removed.
    """

    upload_mb: int = 200
    seconds: int = 120
    frames: int = 7200
    megapixels: float = 9.0  # 4K has 8.3
    waiting: int = 16
    disk_mb: int = 4000
    keep_minutes: int = 60

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "waiting" else 1e-3 if field.name == "megapixels" else 1
            if not value >= least:
                raise ConfigError(f"{field.name} must be {least:g} or more, got {value}")

    @property
    def upload_bytes(self) -> int:
        """Largest file, in bytes."""
        return self.upload_mb * MEGABYTE

    def check(self, path: Path) -> Measured:
        """Refuse a video beyond the limits before it costs anything; the header is not trusted for its length.

        Raises:
            LimitError: The video is beyond a limit.
            VideoDecodeError: The file is refused or damaged, or has no video.
        """
        if path.stat().st_size > self.upload_bytes:
            raise LimitError(self.too_large())
        info = probe(path)
        if info.width * info.height > self.megapixels * MEGAPIXEL:
            raise LimitError(
                f"{path}: frames of {info.width}x{info.height} are larger than the {self.megapixels:g} million pixels "
                "allowed here; scale the video down"
            )
        count, seconds = coded_length(path, at_most=self.frames + 1)
        if count > self.frames:
            raise LimitError(f"{path}: more than the {self.frames} frames allowed here; cut a shorter piece")
        if seconds > self.seconds:
            raise LimitError(f"{path}: {seconds:.0f} s are longer than the {self.seconds} s allowed here; cut it")
        return Measured(info, count, seconds)

    def too_large(self) -> str:
        """What is said about an upload that is too large."""
        return f"the file is larger than the {self.upload_mb} MB allowed here; send a shorter or smaller video"
