"""Training steps of the 50+50 network at full size: ours in float32 and bf16 against the same network in 3-D layers.

Run with ``python -m benchmarks.training``. The three take turns; figures are medians and the ratio of every turn.
A step is forward, backward and the optimiser, on 4 clips of 5 frames at 224x224. Memory is the peak of a process that
makes two steps of one kind.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from benchmarks.baselines.conv3d import Conv3dNetwork, same_scores
from benchmarks.peak import own_peak

from stmulnet.memory import keep_freed_memory
from stmulnet.models.multiplier import MultiplierNetwork
from stmulnet.models.zoo import create_model
from stmulnet.training.batchnorm import SigmaAverage
from stmulnet.training.losses import total_loss
from stmulnet.training.optim import make_optimizer, set_rate

CLIPS, FRAMES, SIZE, CLASSES = 4, 5, 224, 101
KINDS = ("Conv3d float32", "float32", "bf16", "bf16, stages computed twice")


def make_step(kind: str) -> Callable[[], None]:
    """What makes one training step of a kind; all have the same weights and clips."""
    torch.manual_seed(0)
    network = create_model("st_mulnet_resnet50", CLASSES)
    assert isinstance(network, MultiplierNetwork)
    network.train()
    network.recompute_stages = "twice" in kind
    conv3d = "Conv3d" in kind
    if conv3d:
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # torch's hints lack it alone
    model = Conv3dNetwork(network) if conv3d else network
    statistics_ = None if conv3d else SigmaAverage(network)
    optimizer = make_optimizer(network)
    set_rate(optimizer, 1e-3)
    rgb = torch.randint(0, 256, (CLIPS, FRAMES, 3, SIZE, SIZE), dtype=torch.uint8)
    flow = torch.randint(0, 256, (CLIPS, FRAMES, 20, SIZE, SIZE), dtype=torch.uint8)
    labels = torch.arange(CLIPS)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in kind):
            output = model(rgb, flow)
        total_loss(output, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if statistics_:
            statistics_.add(CLIPS)
            statistics_.finish_update(lambda tensor: tensor)

    return step


def peak_memory(kind: str) -> float:
    """Peak memory of a process of its own that makes two steps, in GB."""
    command = [sys.executable, "-m", "benchmarks.training", "--peak-of", kind]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak-of", choices=KINDS, help="print the peak memory of one kind in GB, and end")
    options = parser.parse_args()
    keep_freed_memory()  # as training does
    if options.peak_of:
        step = make_step(options.peak_of)
        for _ in range(2):
            step()
        print(own_peak())
        return
    network = create_model("st_mulnet_resnet50", CLASSES)
    assert isinstance(network, MultiplierNetwork)
    for name, parameter in network.named_parameters():
        if name.endswith("branch2c.1.weight"):  # a fresh network's residual branches are silent
            torch.nn.init.constant_(parameter, 0.2)
    clips = (torch.randint(0, 256, (1, FRAMES, channels, SIZE, SIZE), dtype=torch.uint8) for channels in (3, 20))
    print(f"largest difference of the scores: {same_scores(network, *clips):.1e} of the largest")
    del network
    steps = {kind: make_step(kind) for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(options.rounds + 1):
        for kind, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first one warms up
                seconds[kind].append(time.perf_counter() - start)
    steps.clear()
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds, 4 clips of 5 frames, 224x224")
    print("| step | s (median) | times as fast as Conv3d float32 | peak memory, GB |\n|---|---|---|---|")
    for kind in KINDS:
        ratios = [base / own for base, own in zip(seconds[KINDS[0]], seconds[kind], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {kind} | {statistics.median(seconds[kind]):.2f} | {ratio} | {peak_memory(kind):.1f} |")


if __name__ == "__main__":
    main()
