"""TV-L1 in torch: pairs per second on a device against the floor that memory traffic sets, and agreement with the CPU.

    python benchmarks/flow_torch.py [--device cuda] [--compile] [--pairs N] [--batch-size N] [--size 340x256]
                                    [--clips DIR] [--no-agreement] [--schedules]

1. Work: what the pairs cost, counted in passes over an image of full size.
2. Floor: the bytes that work must move if each iteration reads and writes every value once, over the bandwidth of a
   copy on the device.
3. Speed: pairs per second, transfers included.
4. Agreement with the CPU kernel; beside it that of the CPU kernel with itself, tau changed by a millionth.
   --schedules adds what fixed numbers of iterations would give, on the CPU kernel.

Without clips (neither given nor in ../shared/data/clips beside the project) synthetic ones are used.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.device import choose_device
from stmulnet.flow import tvl1_torch_steps as steps
from stmulnet.flow.params import TVL1Params
from stmulnet.flow.tvl1 import tvl1
from stmulnet.flow.tvl1_torch import tvl1_torch_pairs
from stmulnet.video.io import iter_frames

SHARED_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
SUFFIXES = (".avi", ".mp4")
TARGET_EPE_PX, TARGET_PAIRS_PER_SEC = 0.05, 500

# float32 values per pixel, each read or written once; see the layouts in tvl1_torch_steps.py
FLOATS = {
    "iterations": (2 + 4 + 4) + (2 + 4),  # flow, dual, data term; flow, dual
    "medians": 2 + 2,
    "warps": (3 + 2 + 1) + 4,  # target, flow, first frame; data term
}

Pairs = NDArray[np.uint8]  # (N, 2, H, W)
Flow = NDArray[np.float32]


def main() -> int:
    options = _options()
    device = choose_device(options.device)
    pairs = _pairs(options)
    print(f"{len(pairs)} pairs of {options.size[0]}x{options.size[1]} on {_name(device)}, torch {torch.__version__}")
    bytes_per_pair = _work(pairs, device, options.batch_size)
    rate, flow = _speed(pairs, device, options)
    _floor(rate, bytes_per_pair, device)
    if options.agreement:
        return _agreement(pairs, flow, schedules=options.schedules)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--pairs", type=int, help="default: 8 on the CPU, else 368")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--size", type=_size, default=(340, 256))
    parser.add_argument("--clips", type=Path, help="folder searched for .avi and .mp4 files")
    parser.add_argument("--agreement", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--schedules", action="store_true")
    options = parser.parse_args()
    if options.pairs is None:
        options.pairs = 8 if choose_device(options.device).type == "cpu" else 368
    return options


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def _name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({torch.get_num_threads()} threads)"
    )


def _work(pairs: Pairs, device: torch.device, batch_size: int | None) -> float:
    """Count passes over an image of full size per pair; return the bytes that they must move at least."""
    pixels: dict[str, float] = dict.fromkeys((*FLOATS, "needed"), 0.0)
    with _Counting(pixels):
        tvl1_torch_pairs(pairs[:, 0], pairs[:, 1], device=device, batch_size=batch_size)
    passes = {name: count / pairs[:, 0].size for name, count in pixels.items()}
    waiting = 1 - passes["needed"] / passes["iterations"]
    print(
        f"work per pair, in passes over the full size: {passes['iterations']:.0f} iterations ({waiting:.0%} of them on "
        f"pairs that wait), {passes['medians']:.0f} medians, {passes['warps']:.0f} warps"
    )
    floats = passes["needed"] * FLOATS["iterations"] + sum(passes[name] * FLOATS[name] for name in ("medians", "warps"))
    least = float(4 * floats * pairs[0, 0].size)
    print(
        f"least traffic per pair: {least / 1e9:.2f} GB, of it {4 * FLOATS['iterations']} bytes per pixel and iteration"
    )
    return least


class _Counting:
    """While it lasts, the steps add the pixels that they work on to ``pixels``."""

    def __init__(self, pixels: dict[str, float]) -> None:
        self.pixels = pixels
        self.before = {name: getattr(steps, name) for name in ("iterate_once", "median_filter", "warp")}

    def __enter__(self) -> None:
        names = {"iterate_once": "iterations", "median_filter": "medians", "warp": "warps"}
        for name, function in self.before.items():
            setattr(steps, name, self._counted(names[name], function))

    def __exit__(self, *_: object) -> None:
        for name, function in self.before.items():
            setattr(steps, name, function)

    def _counted(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Tensor, *arguments: Any) -> Any:
            size = first.shape[-2] * first.shape[-1]
            self.pixels[kind] += len(first) * size
            if kind == "iterations":
                self.pixels["needed"] += int((arguments[3][0] > 0).sum()) * size
            return function(first, *arguments)

        return call


def _speed(pairs: Pairs, device: torch.device, options: argparse.Namespace) -> tuple[float, Flow]:
    def run() -> Flow:
        first, second = pairs[:, 0], pairs[:, 1]
        return tvl1_torch_pairs(first, second, device=device, batch_size=options.batch_size, compile=options.compile)

    compile_sec = 0.0
    if options.compile:
        start = time.perf_counter()
        run()
        compile_sec = time.perf_counter() - start
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    flow = run()
    rate = len(pairs) / (time.perf_counter() - start)
    memory = f", {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else ""
    print(
        f"speed: {rate:.1f} pairs/s (target {TARGET_PAIRS_PER_SEC}){memory}"
        + f"; first run {compile_sec:.0f} s" * options.compile
    )
    return rate, flow


def _floor(rate: float, bytes_per_pair: float, device: torch.device) -> None:
    bandwidth = _bandwidth(device)
    floor = bandwidth / bytes_per_pair
    print(f"floor: {floor:.1f} pairs/s at {bandwidth / 1e9:.0f} GB/s (a copy); reached: {rate / floor:.1%}")


def _bandwidth(device: torch.device) -> float:
    """Bytes per second, read and written, of a copy of half a gigabyte."""
    source = torch.ones(1 << 27, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(6):
        start = time.perf_counter()
        target.copy_(source)
        target[-1].item()  # waits for the device
        best = max(best, 2 * 4 * source.numel() / (time.perf_counter() - start))
    return best


def _agreement(pairs: Pairs, flow: Flow, *, schedules: bool) -> int:
    kernel = _kernel(pairs)
    print("\nmean end-point error, px, over each pair:    mean  median     90 %  largest   < 0.05")
    epe = _error("torch against the CPU kernel", flow, kernel)
    defaults = TVL1Params()
    nearly = dataclasses.replace(defaults, tau=defaults.tau * (1 + 1e-6))
    _error("CPU kernel, tau times 1 + 1e-6", _kernel(pairs, nearly), kernel)
    if schedules:
        for count in (30, 60, 120, 300):
            fixed = dataclasses.replace(defaults, epsilon=0.0, outer_iterations=count // defaults.inner_iterations)
            _error(f"CPU kernel, always {count} iterations", _kernel(pairs, fixed), kernel)
    return 0 if epe < TARGET_EPE_PX else 1


def _kernel(pairs: Pairs, params: TVL1Params | None = None) -> Flow:
    return np.concatenate([tvl1(pair, params=params or TVL1Params()) for pair in pairs])


def _error(what: str, flow: Flow, kernel: Flow) -> float:
    errors = np.hypot(*np.moveaxis(flow - kernel, 1, 0)).mean(axis=(1, 2))
    numbers = errors.mean(), np.median(errors), np.quantile(errors, 0.9), errors.max()
    print(
        f"{what:<40}", *(f"{number:8.4f}" for number in numbers), f"{(errors < TARGET_EPE_PX).mean():8.0%}", flush=True
    )
    return float(errors.mean())


def _pairs(options: argparse.Namespace) -> Pairs:
    """Gray pairs of neighbouring frames, spread evenly over the clips and over each clip."""
    paths = sorted(path for path in (options.clips or SHARED_CLIPS).rglob("*") if path.suffix in SUFFIXES)
    if options.clips and not paths:
        sys.exit(f"no .avi or .mp4 file under {options.clips}; give another folder, or none for synthetic clips")
    if not paths:
        print("no real clips beside the project: synthetic ones instead", file=sys.stderr)
        return np.stack([_synthetic_pair(seed, *options.size) for seed in range(options.pairs)])
    counts = np.diff(np.linspace(0, options.pairs, len(paths) + 1).round().astype(int))
    return np.stack(
        [pair for path, count in zip(paths, counts, strict=True) for pair in _read(path, count, options.size)]
    )


def _read(path: Path, count: int, size: tuple[int, int]) -> Iterator[Pairs]:
    if count == 0:
        return
    frames = [cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_RGB2GRAY) for frame in iter_frames(path)]
    for start in np.linspace(0, len(frames) - 2, count + 2).round().astype(int)[1:-1]:
        yield np.stack(frames[start : start + 2]).astype(np.uint8)


def _synthetic_pair(seed: int, width: int, height: int) -> Pairs:
    """Blurred noise that shifts, turns and grows by a few pixels."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (height, width)), (0, 0), 2.0)
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    turn, growth = rng.uniform(-1, 1), rng.uniform(0.98, 1.02)
    motion = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), turn, growth), np.float64)
    motion[:, 2] += rng.uniform(-3, 3, 2)
    moved = cv2.warpAffine(texture, motion, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.stack([texture.astype(np.uint8), moved.astype(np.uint8)])


if __name__ == "__main__":
    sys.exit(main())
