"""Which clips each forward and backward pass sees: the order of an epoch, cut into updates, rounds and sub-batches.

An epoch goes over the training list a few times. An update is one step of the optimiser; its clips are cut into
sub-batches, each a forward and backward pass of its own. With several processes a round is what they do at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

import numpy as np

from stmulnet.errors import ConfigError

Dealing = Literal["whole", "even"]
T = TypeVar("T")


@dataclass(frozen=True)
class SubBatch:
    """Clips that go through the network together.

    Attributes:
        clips: Their indices.
        number: Of the sub-batch in the epoch, from 0: what is random about it depends on this, not on the process.
        update_videos: Clips of the update, of all its sub-batches.
        round_videos: Clips of the round: of the sub-batches of all processes.
    """

    clips: list[int]
    number: int
    update_videos: int
    round_videos: int


Update = list[SubBatch]


def plan_epoch(
    order: Sequence[int], *, batch_size: int, sub_batch_size: int, processes: int = 1, dealing: Dealing = "whole"
) -> list[Update]:
    """Cut the order of an epoch into updates and these into sub-batches; the last update has the rest.

    Args:
        order: Indices of the clips.
        batch_size: Clips per update (official: 128).
        sub_batch_size: Clips per forward and backward pass (official: 4).
        processes: Processes that share the work: process r takes the sub-batches r, r + processes, ... of an update.
        dealing: ``"whole"`` cuts as a single process would, whatever their number, so that in the last round of the
            last update some may have nothing to do. ``"even"`` makes all sub-batches of an
            update as large as each other, to one clip, and all processes take part in every round.

    Raises:
        ConfigError: The clips of an update cannot be dealt evenly.
    """
    updates: list[Update] = []
    number = 0
    for start in range(0, len(order), batch_size):
        clips = list(order[start : start + batch_size])
        even = dealing == "even"
        pieces = _even(clips, sub_batch_size, processes) if even else _cut(clips, sub_batch_size)
        update = []
        for turn in _cut(pieces, processes):
            videos = sum(map(len, turn))
            update += [SubBatch(piece, number + at, len(clips), videos) for at, piece in enumerate(turn)]
            number += len(turn)
        updates.append(update)
    return updates


def share(update: Update, process: int, processes: int) -> Update:
    """The sub-batches of one process."""
    return list(islice(update, process, None, processes))


def _cut(items: list[T], size: int) -> list[list[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _even(clips: list[int], size: int, processes: int) -> list[list[int]]:
    if len(clips) < processes:
        raise ConfigError(
            f"synchronised BatchNorm needs a clip for each of the {processes} processes, the last update of an epoch "
            f"has {len(clips)}: change batch_size or the number of processes"
        )
    rounds = -(-len(clips) // (size * processes))
    return [[int(clip) for clip in piece] for piece in np.array_split(clips, rounds * processes)]
