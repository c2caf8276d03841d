"""What there is on disk of what the lists name: names are matched, frames counted, differences noted."""

import unicodedata
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from stmulnet.console import progress
from stmulnet.constants import MIN_FRAMES
from stmulnet.datasets.lists import some_videos
from stmulnet.datasets.sampling import flow_numbers, test_frames
from stmulnet.errors import DatasetError
from stmulnet.video.store import FrameTree, U, V


@dataclass
class Inventory:
    """Lists and disk compared; names are the lists' unless it says otherwise.

    Attributes:
        disk_names: Name on disk of every video that is there.
        num_frames: Usable frames of every video that a network can use: of N frames and M flow fields the smaller of
            N and M + 1, at least 11.
        absent: Videos that are not on disk.
        short: Videos with fewer than 11 usable frames, and their number.
        damaged: Videos whose frames or flow have a gap or are missing, with the problem.
        unlisted: Videos on disk, by their names there, that no list names.
        short_of_flow: Videos whose number of flow fields is not one below that of their frames.
    """

    disk_names: dict[str, str] = field(default_factory=dict)
    num_frames: dict[str, int] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    short: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    short_of_flow: list[str] = field(default_factory=list)

    @property
    def renamed(self) -> dict[str, str]:
        """Videos that are spelt otherwise on disk: name in the lists -> name on disk."""
        return {listed: found for listed, found in self.disk_names.items() if listed != found}

    @property
    def unusable(self) -> list[str]:
        """Videos of the lists that no network can use as they are."""
        return sorted([*self.absent, *self.short, *self.damaged])

    def problems(self) -> str:
        """The unusable videos in words; empty where there are none."""
        parts = []
        if self.absent:
            parts.append(f"{some_videos(self.absent)} with no frames on disk")
        if self.short:
            parts.append(f"{some_videos(self.short)} with fewer than {MIN_FRAMES} usable frames (RGB frames with flow)")
        if self.damaged:
            first = min(self.damaged)
            parts.append(f"{some_videos(self.damaged)} with incomplete frames or flow: {self.damaged[first]}")
        return "; ".join(parts)


def take_stock(
    tree: FrameTree, listed: Iterable[str], unused: Iterable[str] = (), *, only_test_frames: int | None = None
) -> Inventory:
    """Look for the videos of the lists on disk and count their frames.

    Args:
        tree: Frames and flow on disk.
        listed: Videos that shall be there.
        unused: Videos that the lists name, but need not be there.
        only_test_frames: Of how many test frames per video there is flow; None where there is all of it.

    Raises:
        DatasetError: The tree cannot be listed.
    """
    wanted = dict.fromkeys(listed)
    on_disk = tree.videos()
    names = match_names([*wanted, *(video for video in unused if video not in wanted)], on_disk)
    stock = Inventory(disk_names={video: names[video] for video in wanted if video in names})
    stock.absent = [video for video in wanted if video not in names]
    listed_on_disk = set(names.values())
    stock.unlisted = [video for video in on_disk if video not in listed_on_disk]
    with progress(len(stock.disk_names), "count frames", "videos") as advance:
        for video, name in stock.disk_names.items():
            _count(tree, video, name, stock, only_test_frames)
            advance(1)
    return stock


def _count(tree: FrameTree, video: str, name: str, stock: Inventory, only_test_frames: int | None) -> None:
    try:
        frames = tree.num_frames(name)
        fields = _num_fields(tree, name, frames, only_test_frames)
    except DatasetError as error:
        stock.damaged[video] = str(error)
        return
    if frames != fields + 1:
        stock.short_of_flow.append(video)
    # A field leads from one frame to the next: the frames after the last field are of no use.
    usable = min(frames, fields + 1)
    if usable < MIN_FRAMES:
        stock.short[video] = usable
    else:
        stock.num_frames[video] = usable


def _num_fields(tree: FrameTree, name: str, frames: int, only_test_frames: int | None) -> int:
    """Number of flow fields of a video; where those of test frames are there that is enough."""
    if tree.flow is None:
        return frames - 1
    if only_test_frames is None or frames < MIN_FRAMES:
        return tree.num_flows(name)
    needed = {field for time in test_frames(frames, only_test_frames) for field in flow_numbers(time)}
    for plane in (U, V):
        missing = sorted(needed.difference(tree.flow.numbers(plane, name)))
        if missing:
            (path,) = tree.flow.paths(plane, name, missing[:1])
            raise DatasetError(f"{path}: missing; extract the video again")
    return frames - 1


def match_names(listed: Collection[str], on_disk: Collection[str]) -> dict[str, str]:
    """Find the videos of lists on disk, listed name -> name there; those that are not there are left out.

    Published lists and archives spell some names differently: HandStandPushups and HandstandPushups, or a blank, ``#``,
    ``!``, ``+`` or bracket of HMDB-51 replaced. So names are compared as they are, then without regard to case and with
    every character but letters and digits alike, then with rows of such characters as one. A match counts only if
    one name of the lists and one name on disk look like that, of all there are.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for spelling in (str, _plain, _plainer):
        left, right = _unique(listed, spelling), _unique(on_disk, spelling)
        for key, video in left.items():
            if video not in found and key in right and right[key] not in taken:
                found[video] = right[key]
                taken.add(right[key])
    return found


def _unique(names: Collection[str], spelling: Callable[[str], str]) -> dict[str, str]:
    """Spelling -> name, of the spellings that only one name has."""
    by_key: dict[str, str] = {}
    repeated = set()
    for name in names:
        if by_key.setdefault(spelling(name), name) != name:
            repeated.add(spelling(name))
    return {key: name for key, name in by_key.items() if key not in repeated}


def _plain(name: str) -> str:
    # Composed: file systems differ in whether an umlaut is one character or two.
    composed = unicodedata.normalize("NFC", name).casefold()
    return "".join(character if character.isalnum() else "_" for character in composed)


def _plainer(name: str) -> str:
    return "_".join(part for part in _plain(name).split("_") if part)
