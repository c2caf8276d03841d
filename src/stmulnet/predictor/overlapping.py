"""Clips that overlap, scored one after the other: the network's work on frames in common is done once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count

from stmulnet.evaluation.protocol import ClipScorer
from stmulnet.models.multiplier import Network
from stmulnet.models.sharing import SharedFrames


class OverlappingClips:
    """What the views of clips of one stream of frames, the original and the mirrored one, share with earlier ones."""

    def __init__(self) -> None:
        self._views: defaultdict[int, SharedFrames] = defaultdict(SharedFrames)

    def scorer(self, network: Network, *, times: Sequence[int], upcoming: Iterable[Sequence[int]]) -> ClipScorer:
        """What scores the next clip, view by view; arguments as of `SharedFrames.score`.

        A network that `torch.compile` has made one piece of shares nothing.
        """
        if network._compiled_call_impl is not None:
            return network
        upcoming = list(upcoming)
        views = count()
        return lambda *view: self._views[next(views)].score(network, times, view, upcoming)
