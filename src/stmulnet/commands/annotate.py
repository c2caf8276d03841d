"""``stmulnet annotate``: split lists and extracted frames to annotation files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stmulnet.console import counted, notice, some
from stmulnet.datasets.annotations import ANNOTATIONS_FOLDER, to_json
from stmulnet.datasets.inventory import Inventory, take_stock
from stmulnet.datasets.lists import SUBSETS, SplitLists, empty_classes, shared_groups, some_videos
from stmulnet.datasets.sources import read_splits
from stmulnet.errors import AnnotationError
from stmulnet.files import check_output, write_json
from stmulnet.video.manifest import load_manifests
from stmulnet.video.store import open_tree

POSITIONAL = ("lists", "dataset")
REPORT_FILE = "report.json"


@dataclass(frozen=True)
class AnnotateSummary:
    """What was written, and how lists and disk differ.

    Attributes:
        files: Annotation file of every split.
        stock: What there is on disk of what the lists name.
        shared_groups: Per split the groups (``v_Biking_g01``) with training and test videos.
    """

    files: dict[int, Path]
    stock: Inventory
    shared_groups: dict[int, list[str]]

    @property
    def unlisted(self) -> list[str]:
        """Videos on disk that no list names."""
        return self.stock.unlisted

    @property
    def short_of_flow(self) -> list[str]:
        """Videos of the lists whose number of flow fields is not one below that of their frames."""
        return self.stock.short_of_flow

    @property
    def exit_code(self) -> int:
        """0, or 1 where videos of the lists were left out."""
        return 1 if self.stock.unusable else 0


def annotate(
    lists: Path,
    dataset: Path,
    *,
    splits: list[int] | None = None,
    allow_missing: bool = False,
    seed: int | None = None,
    test_fraction: float | None = None,
) -> AnnotateSummary:
    """Make the annotation files of all splits from split lists and an extracted data set.

    Writes ``DATASET/annotations/annot01.json`` and so on, once all lists have been checked, and beside them
    ``report.json`` with every difference between lists and disk.

    Args:
        lists: Folder of UCF-101's or HMDB-51's split lists, a CSV file with the columns video, class, subset (and
            split), or a folder with one folder of videos per class, which is split at random.
        dataset: Folder with frames and flow, in any known tree. Where there is only one of the two it counts alone.
        splits: Numbers of the splits wanted. All that have lists when not given; of class folders one.
        allow_missing: Leave out listed videos without (enough) frames or flow on disk, name them in report.json and
            end with exit code 1; otherwise they are an error.
        seed: Of the random split of class folders; 0 when not given.
        test_fraction: Share of every class's groups that is tested on, for class folders; 0.3 when not given.

    Raises:
        AnnotationError: Lists are missing, malformed or contradict themselves or the disk.
        ConfigError: An option is out of range, or there is no place for the output.
        DatasetError: The data set is missing or in no known layout.
    """
    out = dataset / ANNOTATIONS_FOLDER
    check_output(out)
    contents = read_splits(lists, splits=splits, seed=seed, test_fraction=test_fraction)
    listed = {video: None for content in contents.values() for video in content.videos()}
    unused = {video: None for content in contents.values() for video in sorted(content.unused)}
    tree = open_tree(dataset)
    notice(f"{dataset}: {tree.kind}")
    manifest = load_manifests(dataset)
    part = manifest.only_for_test_frames if manifest else None
    if part:
        notice(f"{dataset}: only the flow of {part} test frames per video is there: good for evaluation alone")
    stock = take_stock(tree, listed, unused, only_test_frames=part)
    _check(lists, stock, allow_missing=allow_missing)
    files = {split: out / f"annot{split:02d}.json" for split in contents}
    for split, content in contents.items():
        write_json(files[split], to_json(content, stock.num_frames, stock.disk_names))
    groups = {split: shared_groups(content) for split, content in contents.items()}
    summary = AnnotateSummary(files, stock, groups)
    write_json(out / REPORT_FILE, _report(summary))
    _print(summary, contents, out / REPORT_FILE)
    return summary


def _check(lists: Path, stock: Inventory, *, allow_missing: bool) -> None:
    if stock.unusable and not allow_missing:
        raise AnnotationError(
            f"{lists} names {stock.problems()}. Extract them (again), or leave them out with --allow-missing"
        )
    if not stock.num_frames:
        unlisted = f" (on disk: {some_videos(stock.unlisted)})" if stock.unlisted else ""
        raise AnnotationError(f"{lists}: not one of its videos can be used{unlisted}; are these the lists of the data?")


def _report(summary: AnnotateSummary) -> dict[str, Any]:
    stock = asdict(summary.stock)
    del stock["disk_names"], stock["num_frames"]
    groups = {str(split): names for split, names in summary.shared_groups.items()}
    return {key: _printable(value) for key, value in stock.items()} | {
        "renamed": _printable(summary.stock.renamed),
        "shared_groups": _printable(groups),
    }


def _printable(value: Any) -> Any:
    """Names of files need not be text: bytes that are none become escapes."""
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _print(summary: AnnotateSummary, contents: Mapping[int, SplitLists], report: Path) -> None:
    stock = summary.stock
    for split, path in summary.files.items():
        content = contents[split].without(stock.unusable)
        print(
            f"{path}: {counted(len(content.class_names), 'class', 'classes')}, {len(content.training)} training and "
            f"{counted(len(content.validation), 'validation video')}"
        )
        for subset in SUBSETS:
            if empty := empty_classes(content, subset):
                print(f"  no {subset} videos in {len(empty)} of the classes: {some(empty)}")
        if groups := summary.shared_groups[split]:
            print(f"  training and validation share {len(groups)} of the groups: {some(groups)}; an easy test")
    notes = {
        "on disk but in no list": stock.unlisted,
        "spelt otherwise on disk": stock.renamed,
        "frames and flow differ in length, the shorter counts": stock.short_of_flow,
    }
    for note, videos in notes.items():
        if videos:
            print(f"{note}: {some_videos(videos)}")
    if earlier := sorted(set(report.parent.glob("annot[0-9][0-9].json")) - set(summary.files.values())):
        print(f"not written anew: {some([path.name for path in earlier])}")
    if stock.unusable:
        print(f"LEFT OUT: {stock.problems()}")
    if stock.unusable or any(notes.values()):
        print(f"all names: {report}")
