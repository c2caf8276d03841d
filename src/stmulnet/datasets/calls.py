"""Loader calls: the clips of an epoch that are drawn together.

The official loader (getBatchWrapper_rgbflow.m, cnn_get_im_flow_batch.m) reads one sub-batch per call, four videos,
and makes some random choices once per call. Here a clip is made by itself, by any loader worker, and yet knows which
call it belongs to: an epoch has one order, drawn from seed and epoch, and each ``size`` consecutive clips of that
order are a call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from stmulnet.errors import ConfigError

# Generators are seeded with (seed, epoch, number, purpose); those of single clips with (seed, epoch, index).
_CALL, _ORDER = 1, 2

Rule = TypeVar("Rule", bound=Callable[..., Any])


@dataclass(frozen=True)
class LoaderCall:
    """A loader call as one of its videos sees it.

    Attributes:
        earlier: RGB frames of the videos before it in the call, in order.
        rng: Generator of what the call shares: it starts alike for every video of the call.
    """

    earlier: tuple[int, ...]
    rng: np.random.Generator


@runtime_checkable
class SharesInCall(Protocol):
    """A sampling or transform whose videos share random choices within a loader call."""

    def in_call(self, call: LoaderCall) -> Any:
        """Return the sampling or transform for one video of the call."""
        ...


def in_call(rule: Rule, call: LoaderCall) -> Rule:
    """A sampling or transform for one video of a call; what shares nothing stays what it is."""
    return cast(Rule, rule.in_call(call)) if isinstance(rule, SharesInCall) else rule


class EpochCalls:
    """The order of the clips in one epoch, cut into loader calls.

    Deviation D8: a call has consecutive clips of the order, officially every 32nd of the 128 of an update, which is the
    same in distribution; but in the last, smaller update of an epoch official calls have 2 or 3 videos, and here all
    calls but the very last have ``size``.

    Args:
        num_frames: RGB frames of every video of the list.
        size: Videos per call (official: 4).
        seed: Seed of everything random.
        epoch: Number of the epoch.
    """

    def __init__(self, num_frames: Sequence[int], *, size: int, seed: int, epoch: int) -> None:
        if size < 1:
            raise ConfigError(f"a loader call needs 1 video or more, got {size}")
        self.epoch = epoch
        self._num_frames = num_frames
        self._size = size
        self._seed = seed
        self._order = np.random.default_rng([seed, epoch, 0, _ORDER]).permutation(len(num_frames))
        self._position = np.argsort(self._order)

    @property
    def order(self) -> list[int]:
        """Indices of the clips in the order in which the epoch visits them."""
        return [int(index) for index in self._order]

    def of(self, index: int) -> LoaderCall:
        """The call of the video with this index."""
        position = int(self._position[index])
        number = position // self._size
        earlier = self._order[number * self._size : position]
        rng = np.random.default_rng([self._seed, self.epoch, number, _CALL])
        return LoaderCall(tuple(self._num_frames[i] for i in earlier), rng)
