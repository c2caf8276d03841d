"""``stmulnet extract VIDEOS ... OUT``."""

from pathlib import Path

from stmulnet.constants import TEST_FRAMES
from stmulnet.datasets.sampling import flow_numbers, test_frames
from stmulnet.video.extract import ExtractSummary, extract_videos
from stmulnet.video.extract_job import NeededFields

POSITIONAL = ("videos", "out")


def extract(
    videos: Path | list[Path],
    out: Path,
    *,
    short_side: int = 256,
    flow_backend: str = "tvl1",
    flow_only_needed: bool = False,
    shard: str | None = None,
    workers: int | None = None,
    jpeg_quality: int = 95,
    device: str = "auto",
) -> ExtractSummary:
    """Write the frames and the optical flow of videos; run again, it goes on where it stopped.

    Args:
        videos: Folders with video files, flat or in class folders, tar or zip archives of videos, or video files; a
            video is named by its file name without suffix.
        out: Folder of the data set: images/VIDEO/, flows/u/VIDEO/, flows/v/VIDEO/ and manifest.json.
        short_side: Shorter side of the stored frames, in pixels; the shape is kept.
        flow_backend: Flow implementation: tvl1 (on the CPU), tvl1-torch (the same on a GPU, where there is one),
            opencv (the reference, far slower), or dis (another algorithm, far faster, on which networks trained with
            TV-L1 lose accuracy).
        flow_only_needed: Compute only the flow that the 25 test frames of each video need; a data set made so is for
            evaluation only.
        shard: i/n, e.g. 2/8: the second of eight parts of the videos, divided by name, so that several machines can
            share the work; they may write into one folder. When all are done, the same command without it joins them.
        workers: Processes at work, with tvl1-torch threads that share the GPU; one per core if not given.
        jpeg_quality: Quality of the stored JPEGs, 1 to 100.
        device: For tvl1-torch: auto, cpu, cuda or cuda:N.

    Returns:
        The summary, which is printed as well.

    Raises:
        DatasetError: No videos, two videos of one name, or writing fails.
        ConfigError: An option is out of range, or the output is no writable folder or was made with other settings.
    """
    summary = extract_videos(
        videos,
        out,
        short_side=short_side,
        flow_backend=flow_backend,
        workers=workers,
        jpeg_quality=jpeg_quality,
        device=device,
        needed=NEEDED_BY_TEST if flow_only_needed else None,
        shard=shard,
    )
    print(summary)
    return summary


def _fields_of_test_frames(num_frames: int) -> set[int]:
    """Numbers of the flow fields in the stacks of the test protocol's frames."""
    return {field for time in test_frames(num_frames) for field in flow_numbers(time)}


NEEDED_BY_TEST = NeededFields(TEST_FRAMES, _fields_of_test_frames)
