"""What windows share of the network's work: ``python -m benchmarks.windows [NETWORK ...] [--rounds N]``.

Full-size ST-MulNet on frames of 341x256, one view. Clips of overlapping windows go through the network by itself and
through `SharedFrames`, in turns; what counts are windows with as many before them as they overlap. One thread, time of
the processor.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from stmulnet.commands.bench import full_network
from stmulnet.commands.contests import clips
from stmulnet.memory import keep_freed_memory
from stmulnet.models.multiplier import Network, build_empty
from stmulnet.models.optimize import optimize
from stmulnet.models.sharing import SharedFrames
from stmulnet.streaming.windows import Windowing
from stmulnet.timing import Ratio

SIZE = (256, 341)
WINDOWINGS = (Windowing(95, 49, 25), Windowing(107, 48, 25), Windowing(107, 24, 25), Windowing(101, 50, 10))

NETWORKS: dict[str, Callable[[Network], Network]] = {
    "plain, float32": lambda network: network,
    "made fast, float32": lambda network: optimize(network, dtype=torch.float32),
    "made fast, bf16": lambda network: optimize(network, dtype=torch.bfloat16),
}


def main() -> None:
    """Print a row per network and windowing."""
    options = begin(__doc__)
    print(
        "| network | window, stride, frames | operations | s, by itself | s, shared | times as fast | scores | kept |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.networks:
        network = NETWORKS[name](full_network().eval())
        for windowing in WINDOWINGS:
            print(f"| {name} | {row(network, windowing, options.rounds)} |", flush=True)


def begin(description: str | None) -> argparse.Namespace:
    """What the command line asks for, ``networks`` and ``rounds``; makes the process ready for measurements."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.networks = options.networks or list(NETWORKS)
    torch.set_num_threads(1)
    keep_freed_memory()
    return options


def row(network: Network, windowing: Windowing, rounds: int) -> str:
    """One row of the table, without the name of the network."""
    alone, together, difference = [], [], 0.0
    shared = SharedFrames()
    for times, upcoming, tensors in windows(network, windowing, rounds):
        seconds, found = measured(lambda: shared.score(network, times, tensors, upcoming).fused)  # noqa: B023
        by_itself, expected = measured(lambda: network(*tensors).fused)  # noqa: B023
        difference = max(difference, float((found - expected).abs().max() / expected.abs().max()))
        alone.append(by_itself)
        together.append(seconds)
    alone, together = alone[-rounds:], together[-rounds:]
    held = sum(x.nbytes for states in shared._kept.values() for x in states if x is not None)
    cells = [f"{windowing.frames}, {windowing.stride}, {windowing.count}", f"{operations(network, windowing):.0%}"]
    cells += [f"{sorted(seconds)[rounds // 2]:.3g}" for seconds in (alone, together)]
    return " | ".join([*cells, str(Ratio.of(alone, together)), f"{difference:.0e}", f"{held / 1e6:.0f} MB"])


def windows(
    network: Network, windowing: Windowing, rounds: int
) -> Iterator[tuple[list[int], list[list[int]], list[torch.Tensor]]]:
    """Sampled frames of a window, those of the windows behind it, and the clips: noise, the same for the same frame."""
    before = -(-windowing.frames // windowing.stride)
    sampled = [windowing.sampled(windowing.window(index)) for index in range(2 * before + rounds)]
    stream = {time: clips(network.config, 1, 1, *SIZE) for times in sampled[: before + rounds] for time in times}
    for index, times in enumerate(sampled[: before + rounds]):
        tensors = [torch.cat(frames, dim=1) for frames in zip(*(stream[time] for time in times), strict=True)]
        yield times, sampled[index + 1 :], tensors


def operations(network: Network, windowing: Windowing) -> float:
    """Share of a clip's operations that is left."""
    with torch.device("meta"), torch.no_grad():
        empty, shared, counted = build_empty(network.config).eval(), SharedFrames(), []
        for times, upcoming, tensors in windows(network, windowing, 1):
            with FlopCounterMode(display=False) as counter:
                shared.score(empty, times, tensors, upcoming)
            counted.append(counter.get_total_flops())
    return float(counted[-1] / counted[0])


def measured(run: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Time of the processor and result."""
    start = time.process_time()
    with torch.inference_mode():
        found = run()
    return time.process_time() - start, found


if __name__ == "__main__":
    main()
