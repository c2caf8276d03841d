"""``stmulnet annotate``: split lists and extracted frames to annotation files."""

from dataclasses import dataclass
from pathlib import Path

from stmulnet.console import progress
from stmulnet.datasets.annotations import SplitLists, find_splits, read_split, some_videos, to_json
from stmulnet.errors import AnnotationError
from stmulnet.files import check_output, write_json
from stmulnet.video.store import FLOW_FOLDER, FRAMES_FOLDER, FrameTree

POSITIONAL = ("lists", "dataset")
ANNOTATIONS_FOLDER = "annotations"


@dataclass(frozen=True)
class AnnotateSummary:
    """What was written.

    Attributes:
        files: Annotation file of every split.
        unlisted: Videos on disk that no list names.
        short_of_flow: Videos of the lists whose number of flow fields is not one below that of their frames.
    """

    files: dict[int, Path]
    unlisted: list[str]
    short_of_flow: list[str]
    exit_code: int = 0


def annotate(lists: Path, dataset: Path, *, splits: list[int] | None = None) -> AnnotateSummary:
    """Make annotation files from split lists in UCF-101's format and an extracted data set.

    Writes ``DATASET/annotations/annot01.json`` and so on, once all lists have been checked.

    Args:
        lists: Folder of ``classInd.txt``, ``trainlist01.txt``, ``testlist01.txt`` and so on.
        dataset: Folder that ``stmulnet extract`` wrote, with ``images`` and ``flows``.
        splits: Numbers of the splits wanted; all that have lists when not given.

    Raises:
        AnnotationError: A list is missing, malformed or contradicts itself, classInd.txt or the disk.
        DatasetError: The data set is missing, incomplete or in no known layout.
    """
    check_output(dataset / ANNOTATIONS_FOLDER)
    found = find_splits(lists)
    wanted = found if splits is None else sorted(set(splits))
    if not wanted:
        raise AnnotationError("splits names none; leave it out for all that have lists")
    unknown = [split for split in wanted if split not in found]
    if unknown:
        raise AnnotationError(f"{lists}: no lists of split {unknown[0]}; there are lists of {found}")
    contents = {split: read_split(lists, split) for split in wanted}
    listed = {video for content in contents.values() for video in (*content.training, *content.validation)}
    tree = FrameTree(dataset / FRAMES_FOLDER, dataset / FLOW_FOLDER)
    on_disk = tree.videos()
    counts = _count_images(tree, [video for video in on_disk if video in listed])
    # A field leads from one frame to the next: the frames after the last field are of no use.
    usable = {video: min(frames, fields + 1) for video, (frames, fields) in counts.items()}
    annotations = {split: to_json(content, usable) for split, content in contents.items()}
    files = {split: dataset / ANNOTATIONS_FOLDER / f"annot{split:02d}.json" for split in annotations}
    for split, annotation in annotations.items():
        write_json(files[split], annotation)
    unlisted = [video for video in on_disk if video not in listed]
    mismatched = [video for video, (frames, fields) in counts.items() if frames != fields + 1]
    summary = AnnotateSummary(files, unlisted, mismatched)
    _print(summary, contents)
    return summary


def _count_images(tree: FrameTree, videos: list[str]) -> dict[str, tuple[int, int]]:
    """Numbers of frames and of flow fields of every video."""
    counts = {}
    with progress(len(videos), "annotate", "videos") as advance:
        for video in videos:
            counts[video] = tree.num_frames(video), tree.num_flows(video)
            advance(1)
    return counts


def _print(summary: AnnotateSummary, contents: dict[int, SplitLists]) -> None:
    for split, path in summary.files.items():
        lists = contents[split]
        print(
            f"{path}: {len(lists.class_names)} classes, {len(lists.training)} training and "
            f"{len(lists.validation)} validation videos"
        )
    if summary.unlisted:
        print(f"on disk but in no list: {some_videos(summary.unlisted)}")
    if summary.short_of_flow:
        print(f"frames and flow differ in length, the shorter counts: {some_videos(summary.short_of_flow)}")
