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
    CPU,
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
from stmulnet.console import counted, notice
from stmulnet.device import choose_device
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
SHORT_CLIP, WHOLE_FRAMES = (5, 224, 224), (25, 256, 341)  # frames, height, width: in training, in the test protocol


@dataclass(frozen=True)
class Load:
    """How much a device gets at once.

    Attributes:
        clips: Clips of 5 frames through the network.
        whole: Clips of 25 whole frames.
        training: Clips per training step.
        pairs: Pairs of frames whose flow is computed.
    """

    clips: int
    whole: int
    training: int
    pairs: int


LOADS = {"cpu": Load(1, 1, 4, 4), "cuda": Load(64, 8, 16, 32)}  # training on a CPU: the official sub-batch


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
    device: str = "auto",
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
            the machine disturbs it less. On a CPU, and not for predict, which uses threads and processes.
        device: Where the network, the training step and tvl1-torch compute: auto, cpu, cuda or cuda:N. GPUs get many
            clips at once. There torch computes float32 convolutions in TF32, faster than float32 products.
        json: Also write the rows there.

    Returns:
        The rows.

    Raises:
        ConfigError: An unknown part or device, or no round.
        VideoDecodeError: The video cannot be decoded.
    """
    if rounds < 1:
        raise ConfigError(f"rounds must be 1 or more, got {rounds}")
    if unknown := sorted(set(parts or ()) - set(PARTS)):
        raise ConfigError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    chosen = choose_device(device)
    if chosen.type not in LOADS:
        raise ConfigError(f"device {device!r} is not measured: use auto, cpu, cuda or cuda:N")
    if processor_time and chosen.type != "cpu":
        raise ConfigError(f"processor_time says nothing of device {device!r}: leave it out, or use device cpu")
    if json is not None:
        check_output(json)
    keep_freed_memory()
    if processor_time:
        parts = [part for part in parts or PARTS if part != "predict"]
        torch.set_num_threads(1)
    clock = time.process_time if processor_time else time.perf_counter
    summary = BenchSummary()
    with tempfile.TemporaryDirectory() as folder:
        for contest in _contests(parts or PARTS, Path(folder), video, compile, chosen):
            summary.rows += contest.run(rounds, clock)
    where = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{torch.get_num_threads()} threads"
    notice(f"{where}, {counted(rounds, 'round')}, torch {torch.__version__}")
    print(markdown(summary.rows))
    if json is not None:
        with atomic_path(json) as temporary:
            temporary.write_text(json_files.dumps(as_json(summary.rows, rounds), indent=2) + "\n", encoding="utf-8")
    return summary


def _contests(
    parts: Sequence[Part], folder: Path, video: Path | None, compiled: bool, device: torch.device
) -> Iterator[Contest]:
    load = LOADS[device.type]
    if "network" in parts:
        yield forward_contest("5 frames of 224x224", SHORT_CLIP, compiled=compiled, device=device, videos=load.clips)
    if "frames" in parts:
        yield forward_contest("25 whole frames of 341x256", WHOLE_FRAMES, device=device, videos=load.whole)
    if "training" in parts:
        yield training_contest(device=device)
    if {"flow", "predict"} & set(parts):
        video = video or write_sample(folder / "sample.mp4")
    if "flow" in parts:
        assert video is not None
        yield flow_contest(video, device)
    if "predict" in parts:
        assert video is not None
        yield predict_contest(video, device=device)
        yield cold_contest(video, folder, device)


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
    device: torch.device = CPU,
    videos: int = 1,
) -> Contest:
    """Clips through the network: ``others`` first, then the plain network, then those made fast.

    Args:
        work: What it is called.
        size: Frames, height, width.
        others: Further networks, called as the package's; the first is the yardstick.
        compiled: Whether torch.compile takes part.
        device: Where.
        videos: How many clips at once.
    """
    plain = full_network().to(device)
    networks: dict[str, Callable[..., object] | Missing] = {**(others or {}), "plain network, float32": plain}
    numbers = {name: "float32" for name in networks}
    for dtype in dict.fromkeys((torch.float32, fast_dtype(device))):
        word = "bf16" if dtype == torch.bfloat16 else "float32"
        networks[f"made fast, {word}"] = optimize(plain, device=device, dtype=dtype)
        numbers[f"made fast, {word}"] = word
    batch = [clip.to(device) for clip in clips(plain.config, videos, *size)]
    if compiled:
        networks[f"made fast, {word}, compiled"] = attempt(partial(_compiled, plain, batch, device))
        numbers[f"made fast, {word}, compiled"] = word
    runs = {
        name: network if isinstance(network, Missing) else partial(score, network, batch)
        for name, network in networks.items()
    }
    work = work if videos == 1 else f"{videos} clips of {work}"
    flop = forward_flop(plain.config, videos, *size)
    return Contest(work, runs, numbers, flop, amount=videos, unit="clips", device=device)


def score(network: Callable[..., object], batch: list[torch.Tensor]) -> None:
    """Clips through a network, for inference."""
    with torch.inference_mode():
        network(*batch)


def _compiled(plain: Network, batch: list[torch.Tensor], device: torch.device) -> Network:
    network = optimize(plain, device=device, compile=True)
    score(network, batch)  # compiles it, which takes a C++ compiler
    return network


def training_contest(
    others: dict[str, Callable[[], object] | Missing] | None = None, device: torch.device = CPU
) -> Contest:
    """A training step on clips of five frames: ``others`` first, then the package's in float32 and bf16."""
    config, videos = full_network().config, LOADS[device.type].training
    own = {
        "float32": training_step(bf16=False, device=device),
        "bf16": training_step(bf16=True, device=device),
    }
    steps: dict[str, Callable[[], object] | Missing] = {**(others or {}), **own}
    numbers = {name: "bf16" if name == "bf16" else "float32" for name in steps}
    work = f"training step, {videos} clips of 5 frames of 224x224"
    flop = training_flop(config, videos, *SHORT_CLIP)
    return Contest(work, steps, numbers, flop, amount=videos, unit="clips", device=device)


def training_step(
    *,
    bf16: bool,
    wrap: Callable[[Network], Callable[..., Any]] = lambda network: network,
    device: torch.device = CPU,
) -> Callable[[], None]:
    """What makes one training step: forward pass, backward pass, optimiser.

    Args:
        bf16: Whether products are computed in bfloat16.
        wrap: Makes of the network what is called.
        device: Where.
    """
    network, videos = full_network().to(device).train(), LOADS[device.type].training
    model = wrap(network)
    averages = SigmaAverage(network)
    optimizer = make_optimizer(network)
    set_rate(optimizer, 1e-3)
    batch = [clip.to(device) for clip in clips(network.config, videos, *SHORT_CLIP)]
    labels = torch.arange(videos, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output = model(*batch)
        total_loss(output, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averages.add(videos)
        averages.finish_update(lambda tensor: tensor)

    return step


def flow_contest(video: Path, device: torch.device = CPU) -> Contest:
    """The flow of neighbouring frames in the middle of a video, at the size that the network sees."""
    frames, wanted = list(iter_frames(video, short_side=WHOLE_FRAMES[1])), LOADS[device.type].pairs
    middle = max((len(frames) - wanted) // 2, 0)
    run = np.stack(frames[middle : middle + wanted + 1])
    threads = default_workers()
    ways = {
        "OpenCV's TV-L1, one thread": ("opencv", 1),
        f"OpenCV's TV-L1, {threads} threads": ("opencv", threads),
        "TV-L1, one thread": ("tvl1", 1),
        f"TV-L1, {threads} threads": ("tvl1", threads),
        "DIS, one thread": ("dis", 1),
    }
    runs = {name: attempt(partial(_flow_run, run, backend, threads=used)) for name, (backend, used) in ways.items()}
    if device.type != "cpu":  # there it is slower than the package's other form
        runs[f"TV-L1 in torch, {device}"] = attempt(partial(_flow_run, run, "tvl1-torch", device=str(device)))
    pairs = len(run) - 1
    work = f"flow of {pairs} pairs of {run.shape[2]}x{run.shape[1]}"
    return Contest(work, runs, amount=pairs, unit="pairs", device=device)


def _flow_run(frames: NDArray[np.uint8], backend: str, **options: Any) -> Callable[[], object]:
    small = np.ascontiguousarray(frames[:2, :64, :64])
    estimate_flow(small, backend=backend, **options)  # fails without OpenCV's contrib modules, which have its TV-L1
    return partial(estimate_flow, frames, backend=backend, **options)


def predict_contest(
    video: Path, others: dict[str, Callable[[], object] | Missing] | None = None, device: torch.device = CPU
) -> Contest:
    """A prediction from a video file by a predictor that has made one before; ``others`` first."""
    network, name = full_network(), str(device)
    predictors = {
        "paper preset": VideoPredictor(network, device=name),
        "paper preset, bf16": VideoPredictor(network, device=name, precision="bf16"),
        "fast preset": VideoPredictor(network, device=name, preset="fast"),
    }
    runs = {name: partial(predictor, video) for name, predictor in predictors.items()}
    return Contest("predict, warm", {**(others or {}), **runs}, amount=1, unit="videos")


def cold_contest(video: Path, folder: Path, device: torch.device = CPU) -> Contest:
    """The same as a command of its own, from its start to its end."""
    weights = folder / "network.safetensors"
    save_model(full_network(), weights)
    command = [sys.executable, "-m", "stmulnet", "predict", str(video), "--weights", str(weights)]
    command += ["--device", str(device)]
    runs = {
        f"{preset} preset": partial(subprocess.run, [*command, "--preset", preset], check=True, capture_output=True)
        for preset in ("paper", "fast")
    }
    return Contest("predict, a new process", runs, warm_up=0)
