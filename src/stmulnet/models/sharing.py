"""Overlapping clips of one stream of frames, scored one after the other: what they have in common is computed once.

Behind unit a of res2, the features of a frame depend on this frame alone. Every convolution over time, in units b, adds
a neighbour on either side, or the end of the clip. Features are therefore known by their level and by the frames that
they depend on: where an earlier clip had the same, they are taken from there.

Axes: T frames, C channels, h x w positions.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stmulnet.models.config import STAGES, ModelConfig
from stmulnet.models.multiplier import Network, TwoStreamOutput

HEADS = STAGES[-1] + 1
LEVELS = (*STAGES, HEADS)  # behind unit a of res2, res3, res4 and res5, and before the heads
Key = tuple[int, tuple[int | None, ...]]  # level; numbers of a frame and of its neighbours, None beyond the clip
States = tuple[Tensor | None, ...]  # what one part of a network gives to the next, (T, C, h, w) each


class Step(NamedTuple):
    """Positions in the clip, ascending, at one level."""

    wanted: list[int]  # whose features the next part reads
    fresh: list[int]  # those of them that have to be computed


class SharedFrames:
    """Scores clips of one stream of frames, and keeps the features that the next clips read.

    The number of a frame must stand for the same pixels and the same flow in every clip, and all clips must go through
    the same network.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, States] = {}  # of single frames

    def score(
        self, network: Network, times: Sequence[int], clips: Sequence[Tensor], upcoming: Iterable[Sequence[int]] = ()
    ) -> TwoStreamOutput:
        """What ``network(*clips)`` gives.

        Args:
            network: In evaluation mode.
            times: Numbers of the T frames of the clip.
            clips: (1, T, C, H, W) of each stream.
            upcoming: The numbers of the clips to come; what none of them reads is not kept.
        """
        network.check(*clips)
        assert len(times) == clips[0].shape[1]
        keys = frame_keys(network.config, times)
        steps = plan(network.config, keys, self._kept)
        computed = {keys[level][place] for level in LEVELS for place in steps[level].fresh}
        read = _read_by(upcoming, network.config, computed | self._kept.keys())
        states: States = ()
        if fresh := steps[STAGES[0]].fresh:
            states = network.first_units(STAGES[0], *network.stem(*(clip[:, fresh] for clip in clips)))
        for stage in STAGES:
            wanted, fresh = steps[stage].wanted, steps[stage + 1].fresh
            states = self._gather(states, steps[stage], keys[stage], read)
            if fresh:
                states = network.second_units(stage, *states, len(wanted))
                states = network.last_units(stage, *_rows(states, [wanted.index(place) for place in fresh]))
            if fresh and stage + 1 != HEADS:
                states = network.first_units(stage + 1, *states)
        states = self._gather(states, steps[HEADS], keys[HEADS], read)
        self._kept = {key: kept for key, kept in self._kept.items() if key in read}
        return network.heads(*states, len(times))

    def _gather(self, states: States, step: Step, keys: list[Key], read: set[Key]) -> States:
        """Features of the wanted frames, from those of the fresh ones and from what is kept."""
        rows = {place: row for row, place in enumerate(step.fresh)}
        for place, row in rows.items():
            if keys[place] in read:  # a copy: the next part may work in place
                self._kept[keys[place]] = tuple(None if x is None else x[row : row + 1].clone() for x in states)
        if step.fresh == step.wanted:
            return states
        frames = [
            tuple(None if x is None else x[rows[place] : rows[place] + 1] for x in states)
            if place in rows
            else self._kept[keys[place]]
            for place in step.wanted
        ]
        return tuple(None if parts[0] is None else torch.cat(parts) for parts in zip(*frames, strict=True))


def frame_keys(config: ModelConfig, times: Sequence[int]) -> dict[int, list[Key]]:
    """By level, what the features of each frame of a clip depend on."""
    keys: dict[int, list[Key]] = {}
    reach = 0
    for level in LEVELS:
        beyond = [None] * reach
        numbers = (*beyond, *times, *beyond)
        keys[level] = [(level, numbers[place : place + 2 * reach + 1]) for place in range(len(times))]
        reach += time_reach(config, level)
    return keys


def time_reach(config: ModelConfig, stage: int) -> int:
    """Frames that unit b of a stage sees on either side of one, in one of the streams at least."""
    streams = [getattr(config, name) for name in config.streams]
    if stage not in STAGES or config.temporal_conv is None or not any(s.sees_time(stage) for s in streams):
        return 0
    return 2 if config.temporal_conv == "pointwise" else 1  # there, two convolutions of the unit


def plan(config: ModelConfig, keys: dict[int, list[Key]], known: Collection[Key]) -> dict[int, Step]:
    """What is to be computed of a clip, from the heads back to its frames, where some features are known.

    Unit b sees the wanted frames as if they were a clip. Those at the edges of a gap are there as neighbours alone.
    """
    wanted = list(range(len(keys[HEADS])))
    steps: dict[int, Step] = {}
    for level in reversed(LEVELS):
        fresh = [place for place in wanted if keys[level][place] not in known]
        steps[level] = Step(wanted, fresh)
        reach = time_reach(config, level - 1)
        near = {place + shift for place in fresh for shift in range(-reach, reach + 1)}
        wanted = [place for place in range(len(keys[level])) if place in near]
    return steps


def _read_by(upcoming: Iterable[Sequence[int]], config: ModelConfig, known: Collection[Key]) -> set[Key]:
    """Those of the known features that clips to come will read."""
    known = set(known)
    numbers = {frames[len(frames) // 2] for _, frames in known}
    read: set[Key] = set()
    for times in upcoming:
        if numbers.isdisjoint(times):
            continue
        keys = frame_keys(config, times)
        for level, (wanted, fresh) in plan(config, keys, known).items():
            read.update(keys[level][place] for place in set(wanted) - set(fresh))
            known.update(keys[level][place] for place in fresh)
    return read


def _rows(states: States, rows: list[int]) -> States:
    """Some of the frames; the same tensors if these are all."""
    if all(x is None or len(x) == len(rows) for x in states):
        return states
    return tuple(None if x is None else x[rows].contiguous(memory_format=torch.channels_last) for x in states)
