"""``stmulnet extract VIDEOS OUT``."""

from pathlib import Path

from stmulnet.video.extract import ExtractSummary, extract_videos

POSITIONAL = ("videos", "out")


def extract(
    videos: Path,
    out: Path,
    *,
    short_side: int = 256,
    backend: str = "tvl1",
    workers: int | None = None,
    jpeg_quality: int = 95,
) -> ExtractSummary:
    """Write the frames and the TV-L1 flow of a folder of videos; run again, it goes on where it stopped.

    Args:
        videos: Folder with video files, flat or in class folders; a video is named by its file name without suffix.
        out: Folder of the data set: images/VIDEO/, flows/u/VIDEO/, flows/v/VIDEO/ and manifest.json.
        short_side: Shorter side of the stored frames, in pixels; the shape is kept.
        backend: Flow implementation: tvl1, or opencv (the reference, far slower).
        workers: Processes at work; one per core if not given.
        jpeg_quality: Quality of the stored JPEGs, 1 to 100.

    Returns:
        The summary, which is printed as well.

    Raises:
        DatasetError: No videos, two videos of one name, or writing fails.
        ConfigError: An option is out of range, or the output is no writable folder or was made with other settings.
    """
    summary = extract_videos(
        videos, out, short_side=short_side, backend=backend, workers=workers, jpeg_quality=jpeg_quality
    )
    print(summary)
    return summary
