"""`stmulnet bench`: how fast this machine is, and how much of it the package uses."""

import json as json_files
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stmulnet.commands.contests import (
    Contest,
    Missing,
    Row,
    as_json,
    attempt,
    clips,
    forward_flop,
    markdown,
    training_flop,
)
from stmulnet.commands.sample_video import write_sample
from stmulnet.console import notice
from stmulnet.errors import ConfigError
from stmulnet.files import atomic_path, check_output
from stmulnet.flow.estimate import estimate_flow
from stmulnet.memory import keep_freed_memory
from stmulnet.models.checkpoint import save_model
from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import fast_dtype, optimize
from stmulnet.models.resnet import Unit
from stmulnet.models.zoo import create_model
from stmulnet.predictor import VideoPredictor
from stmulnet.training.batchnorm import SigmaAverage
from stmulnet.training.losses import total_loss
from stmulnet.training.optim import make_optimizer, set_rate
from stmulnet.video.io import iter_frames
from stmulnet.video.pool import default_workers

Part = Literal["network", "frames", "training", "flow", "predict"]
PARTS: tuple[Part, ...] = ("network", "frames", "training", "flow", "predict")
POSITIONAL = ("parts",)
NETWORK, CLASSES = "st_mulnet_resnet50", 101
TRAINING_CLIPS, FLOW_PAIRS = 4, 4
SHORT_CLIP, WHOLE_FRAMES = (5, 224, 224), (25, 256, 341)  # frames, height, width: in training, in the test protocol


@dataclass
class BenchSummary:
    """What `bench` measured.

    Attributes:
        rows: One per contender.
    """

    rows: list[Row] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: there is nothing to fail."""
        return 0


def bench(
    parts: list[Part] | None = None,
    *,
    rounds: int = 5,
    video: Path | None = None,
    compile: bool = False,
    processor_time: bool = False,
    json: Path | None = None,
) -> BenchSummary:
    """Measure the network, a training step, the flow, and a prediction from a video file, at full size.

    Every row is a ratio within one run: contenders take turns, and the table has the median of the turns and, in
    brackets, the smallest and the largest. The roofline is the rate of large matrix products in the same turn. The
    network is that of the paper with random weights.

    Args:
        parts: Some of network (5 frames, as in training), frames (25 whole ones, as in the test protocol), training,
            flow and predict; all by default.
        rounds: Turns that count.
        video: A video of yours for flow and predict; by default one is made, 7 s of 340x256 pixels.
        compile: Also measure the network by torch.compile, which needs a C++ compiler and a minute.
        processor_time: Use one thread, and measure the time of the processor instead of that on the wall: other work on
            the machine disturbs it less. Not for predict, which uses threads and processes.
        json: Also write the rows there.

    Returns:
        The rows.

    Raises:
        ConfigError: An unknown part, or no round.
        VideoDecodeError: The video cannot be decoded.
    """
    if rounds < 1:
        raise ConfigError(f"rounds must be 1 or more, got {rounds}")
    if unknown := sorted(set(parts or ()) - set(PARTS)):
        raise ConfigError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if json is not None:
        check_output(json)
    keep_freed_memory()
    if processor_time:
        parts = [part for part in parts or PARTS if part != "predict"]
        torch.set_num_threads(1)
    clock = time.process_time if processor_time else time.perf_counter
    summary = BenchSummary()
    with tempfile.TemporaryDirectory() as folder:
        for contest in _contests(parts or PARTS, Path(folder), video, compile):
            summary.rows += contest.run(rounds, clock)
    notice(f"{torch.get_num_threads()} threads, {rounds} rounds, torch {torch.__version__}")
    print(markdown(summary.rows))
    if json is not None:
        with atomic_path(json) as temporary:
            temporary.write_text(json_files.dumps(as_json(summary.rows, rounds), indent=2) + "\n", encoding="utf-8")
    return summary


def _contests(parts: Sequence[Part], folder: Path, video: Path | None, compiled: bool) -> Iterator[Contest]:
    if "network" in parts:
        yield forward_contest("5 frames of 224x224", SHORT_CLIP, compiled=compiled)
    if "frames" in parts:
        yield forward_contest("25 whole frames of 341x256", WHOLE_FRAMES)
    if "training" in parts:
        yield training_contest()
    if {"flow", "predict"} & set(parts):
        video = video or write_sample(folder / "sample.mp4")
    if "flow" in parts:
        assert video is not None
        yield flow_contest(video)
    if "predict" in parts:
        assert video is not None
        yield predict_contest(video)
        yield cold_contest(video, folder)


def full_network(**options: Any) -> Network:
    """The network of the paper with random weights, in which no residual branch is silent.

    Args:
        **options: What is to be different, as for `create_model`.
    """
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(CLASSES)]
    network = create_model(NETWORK, CLASSES, class_names=names, **options)
    for module in network.modules():
        if isinstance(module, Unit):
            torch.nn.init.constant_(module.last_bn.weight, 0.2)
    return network.eval()


def forward_contest(
    work: str,
    size: tuple[int, int, int],
    *,
    others: dict[str, Callable[..., object] | Missing] | None = None,
    compiled: bool = False,
) -> Contest:
    """One clip through the network: ``others`` first, then the plain network, then those made fast.

    Args:
        work: What it is called.
        size: Frames, height, width.
        others: Further networks, called as the package's; the first is the yardstick.
        compiled: Whether torch.compile takes part.
    """
    plain = full_network()
    networks: dict[str, Callable[..., object] | Missing] = {**(others or {}), "plain network, float32": plain}
    numbers = {name: "float32" for name in networks}
    for dtype in dict.fromkeys((torch.float32, fast_dtype())):
        word = "bf16" if dtype == torch.bfloat16 else "float32"
        networks[f"made fast, {word}"] = optimize(plain, dtype=dtype)
        numbers[f"made fast, {word}"] = word
    batch = clips(plain.config, 1, *size)
    if compiled:
        networks[f"made fast, {word}, compiled"] = attempt(partial(_compiled, plain, batch))
        numbers[f"made fast, {word}, compiled"] = word
    runs = {
        name: network if isinstance(network, Missing) else partial(score, network, batch)
        for name, network in networks.items()
    }
    return Contest(work, runs, numbers, forward_flop(plain.config, *size), amount=size[0], unit="frames")


def score(network: Callable[..., object], batch: list[torch.Tensor]) -> None:
    """Clips through a network, for inference."""
    with torch.inference_mode():
        network(*batch)


def _compiled(plain: Network, batch: list[torch.Tensor]) -> Network:
    network = optimize(plain, compile=True)
    score(network, batch)  # compiles it, which takes a C++ compiler
    return network


def training_contest(others: dict[str, Callable[[], object] | Missing] | None = None) -> Contest:
    """A training step on four clips of five frames: ``others`` first, then the package's in float32 and bf16."""
    config = full_network().config
    own = {"float32": training_step(bf16=False), "bf16": training_step(bf16=True)}
    steps: dict[str, Callable[[], object] | Missing] = {**(others or {}), **own}
    numbers = {name: "bf16" if name == "bf16" else "float32" for name in steps}
    work = f"training step, {TRAINING_CLIPS} clips of 5 frames of 224x224"
    flop = training_flop(config, TRAINING_CLIPS, *SHORT_CLIP)
    return Contest(work, steps, numbers, flop, amount=TRAINING_CLIPS, unit="clips")


def training_step(
    *, bf16: bool, wrap: Callable[[Network], Callable[..., Any]] = lambda network: network
) -> Callable[[], None]:
    """What makes one training step: forward pass, backward pass, optimiser.

    Args:
        bf16: Whether products are computed in bfloat16.
        wrap: Makes of the network what is called.
    """
    network = full_network().train()
    model = wrap(network)
    averages = SigmaAverage(network)
    optimizer = make_optimizer(network)
    set_rate(optimizer, 1e-3)
    batch, labels = clips(network.config, TRAINING_CLIPS, *SHORT_CLIP), torch.arange(TRAINING_CLIPS)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = model(*batch)
        total_loss(output, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averages.add(TRAINING_CLIPS)
        averages.finish_update(lambda tensor: tensor)

    return step


def flow_contest(video: Path) -> Contest:
    """The flow of neighbouring frames in the middle of a video, at the size that the network sees."""
    frames = list(iter_frames(video, short_side=WHOLE_FRAMES[1]))
    middle = max((len(frames) - FLOW_PAIRS) // 2, 0)
    run = np.stack(frames[middle : middle + FLOW_PAIRS + 1])
    threads = default_workers()
    ways = {
        "OpenCV's TV-L1, one thread": ("opencv", 1),
        f"OpenCV's TV-L1, {threads} threads": ("opencv", threads),
        "TV-L1, one thread": ("tvl1", 1),
        f"TV-L1, {threads} threads": ("tvl1", threads),
        "DIS, one thread": ("dis", 1),
    }
    runs = {name: attempt(partial(_flow_run, run, backend, used)) for name, (backend, used) in ways.items()}
    pairs = len(run) - 1
    return Contest(f"flow of {pairs} pairs of {run.shape[2]}x{run.shape[1]}", runs, amount=pairs, unit="pairs")


def _flow_run(frames: NDArray[np.uint8], backend: str, threads: int) -> Callable[[], object]:
    small = np.ascontiguousarray(frames[:2, :64, :64])
    estimate_flow(small, backend=backend)  # fails without OpenCV's contrib modules, which have its TV-L1
    return partial(estimate_flow, frames, backend=backend, threads=threads)


def predict_contest(video: Path, others: dict[str, Callable[[], object] | Missing] | None = None) -> Contest:
    """A prediction from a video file by a predictor that has made one before; ``others`` first."""
    network = full_network()
    predictors = {
        "paper preset": VideoPredictor(network),
        "paper preset, bf16": VideoPredictor(network, precision="bf16"),
        "fast preset": VideoPredictor(network, preset="fast"),
    }
    runs = {name: partial(predictor, video) for name, predictor in predictors.items()}
    return Contest("predict, warm", {**(others or {}), **runs}, amount=1, unit="videos")


def cold_contest(video: Path, folder: Path) -> Contest:
    """The same as a command of its own, from its start to its end."""
    weights = folder / "network.safetensors"
    save_model(full_network(), weights)
    command = [sys.executable, "-m", "stmulnet", "predict", str(video), "--weights", str(weights)]
    runs = {
        f"{preset} preset": partial(subprocess.run, [*command, "--preset", preset], check=True, capture_output=True)
        for preset in ("paper", "fast")
    }
    return Contest("predict, a new process", runs, warm_up=0)
