"""Views of a video in one batch or one by one, and what flow stacks cost: ``python -m benchmarks.views [--rounds N]``.

Full-size ST-MulNet; one thread, time of the processor, in turns. The peaks are those of the process, in GB, after the
views one by one and then after the batch: they say something for the first row of a run with one network.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from benchmarks.peak import own_peak
from benchmarks.windows import NETWORKS, begin

from stmulnet.commands.bench import full_network
from stmulnet.commands.contests import clips
from stmulnet.datasets.sampling import flow_numbers, test_frames
from stmulnet.datasets.transforms import TestTransform
from stmulnet.models.multiplier import Network, TwoStreamOutput
from stmulnet.predictor.clips import protocol_clips
from stmulnet.timing import Ratio, timed

# Views, frames of each, height and width
VIEWS = {
    "original and mirrored": (2, 25, 256, 341),
    "the same, 10 frames": (2, 10, 256, 341),
    "half of views clips": (5, 5, 256, 341),
    "half of views ten_crop": (5, 25, 224, 224),
}


def main() -> None:
    """Print both tables."""
    options = begin(__doc__)
    print("| frames | protocol_clips, ms | stacks, MB |\n|---|---|---|")
    for count in (25, 10):
        print(f"| {count} | {stacks(count, 5 * options.rounds)} |", flush=True)
    print("| network | views | s, one by one | batch, times as fast | peak, GB |\n|---|---|---|---|---|")
    for name in options.networks:
        network = NETWORKS[name](full_network())
        for views, size in VIEWS.items():
            print(f"| {name} | {views} | {contest(network, size, options.rounds)} |", flush=True)


def contest(network: Network, size: tuple[int, int, int, int], rounds: int) -> str:
    """One row of the second table."""
    views = clips(network.config, *size)
    one_by_one = partial(_one_by_one, network, views)
    ways: list[Callable[[], object]] = [one_by_one, partial(network, *views)]
    times: list[list[float]] = [[], []]
    peaks = []
    with torch.inference_mode():
        for way in ways:
            way()
            peaks.append(f"{own_peak():.1f}")
        for _ in range(rounds):
            for way, found in zip(ways, times, strict=True):
                found.append(timed(way, time.process_time)())
    return f"{sorted(times[0])[rounds // 2]:.3g} | {Ratio.of(*times)} | {', '.join(peaks)}"


def _one_by_one(network: Network, views: list[torch.Tensor]) -> list[TwoStreamOutput]:
    return [network(*(view[index : index + 1] for view in views)) for index in range(len(views[0]))]


def stacks(count: int, rounds: int) -> str:
    """One row of the first table: frames of a video of 100."""
    rng = np.random.default_rng(0)
    times = test_frames(100, count)
    frames = {time: rng.integers(0, 256, (256, 341, 3), dtype=np.uint8) for time in times}
    fields = {
        field: rng.integers(0, 256, (2, 256, 341), dtype=np.uint8) for time in times for field in flow_numbers(time)
    }
    make = partial(protocol_clips, times, frames, fields, TestTransform(224))
    seconds = sorted(timed(make, time.process_time)() for _ in range(rounds))
    flow = make()[1]
    assert flow is not None
    return f"{1000 * seconds[rounds // 2]:.0f} | {flow.nbytes / 1e6:.0f}"


if __name__ == "__main__":
    main()
