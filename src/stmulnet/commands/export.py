"""`stmulnet export`: a network as a file that programs without this package run."""

import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch

from stmulnet.commands.exporting import (
    Arrays,
    Runner,
    check_extra,
    clip_frames,
    eager,
    open_onnx,
    open_torch_export,
    trace,
    write_onnx,
    write_torch_export,
)
from stmulnet.commands.quantizing import Change, Int8Job, quantize
from stmulnet.console import notice
from stmulnet.errors import ConfigError
from stmulnet.files import atomic_path, check_output
from stmulnet.models.checkpoint import load_model
from stmulnet.models.exportable import min_frames, min_side, output_names
from stmulnet.models.folding import fold_batchnorm
from stmulnet.models.multiplier import Network
from stmulnet.models.verify import random_clips

POSITIONAL = ("weights",)
SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
WRITERS = {"onnx": (write_onnx, open_onnx), "torch-export": (write_torch_export, open_torch_export)}
ROUNDS = 7  # of the benchmark, after one to warm up


@dataclass(frozen=True)
class Parity:
    """How far the file is from the network on one batch of noise.

    Attributes:
        sizes: N, T, H, W.
        error: Largest difference of any output.
        relative: The same in parts of that output's largest value.
    """

    sizes: tuple[int, int, int, int]
    error: float
    relative: float


@dataclass
class ExportSummary:
    """What `export` did.

    Attributes:
        out: The file, or where it would have been.
        written: Whether it is there: not if it disagrees with the network.
        parity: The comparisons.
        tolerance: What ``relative`` may be.
        change: Of the scores by int8, if asked for.
        seconds: Median time per clip by what ran it, if asked for.
    """

    out: Path
    written: bool
    parity: list[Parity]
    tolerance: float
    change: Change | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every comparison is within the tolerance."""
        return all(found.relative <= self.tolerance for found in self.parity)

    @property
    def exit_code(self) -> int:
        """0 if the file was written, 1 otherwise."""
        return 0 if self.written else 1


def export(
    weights: Path,
    *,
    out: Path,
    format: Literal["onnx", "torch-export"] = "onnx",
    int8: bool = False,
    dataset: Path | None = None,
    split: int = 1,
    calibration_clips: int = 32,
    allow_mismatch: bool = False,
    benchmark: bool = False,
    tolerance: float = 1e-4,
) -> ExportSummary:
    """Write a network as a file that programs without this package run: ONNX, or a program of torch.export.

    Inputs are uint8 clips rgb (N, T, 3, H, W) and flow (N, T, 20, H, W) of any N, T, H, W; outputs the raw scores of
    the streams (N, K), of both together, and the maps. The file is compared with the network before it is put in
    place.

    Args:
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file.
        out: The file to write, .onnx or .pt2; an existing one is replaced.
        format: onnx or torch-export.
        int8: Convolutions with 8-bit numbers (onnx only); what that changes is measured and printed.
        dataset: For int8: data set whose training clips set the number ranges, and whose test list is scored before
            and after; without it moving shapes take its place, and only the agreement is measured.
        split: For int8: split of the data set.
        calibration_clips: For int8: training clips that set the number ranges.
        allow_mismatch: For int8: score weights that have seen test videos; it is said.
        benchmark: Print the time per clip beside that of this package on this machine.
        tolerance: Largest difference allowed, in parts of the largest score; beyond it no file is left.

    Returns:
        How far file and network differ, and what was measured.
    """
    _check_arguments(out, format, int8, dataset, tolerance, calibration_clips)
    network = load_model(weights)
    summary = ExportSummary(out, False, [], tolerance)
    with TemporaryDirectory() as folder:
        path = Path(folder) / out.name
        run = _write(network, format, path)
        summary.parity = compare(network, run)
        _print_parity(summary)
        if not summary.agrees:
            notice(f"stmulnet export: {out} is not written: the file does not compute what the network does")
            return summary
        runners: dict[str, Runner] = {format: run}
        if int8:
            job = Int8Job(network, weights, dataset, split, calibration_clips, allow_mismatch)
            path, summary.change = quantize(job, path)
            runners["onnx int8"] = open_onnx(path)
            print(summary.change.in_words())
        if benchmark:
            summary.seconds = measure(network, runners)
            _print_seconds(summary.seconds)
        with atomic_path(out) as temporary:
            shutil.copyfile(path, temporary)
    summary.written = True
    print(f"written: {out}, {out.stat().st_size / 1e6:.1f} MB")
    return summary


def compare(network: Network, run: Runner) -> list[Parity]:
    """Compare a file with the network it was made from, on noise of several sizes; none is that of the tracing.

    Args:
        network: The network as it was loaded, with its BatchNorm.
        run: The file.
    """
    config = network.config
    frames, least, side = min_frames(config), min_side(config), max(config.input_size, min_side(config))
    batches = [
        (1, frames, side, side),
        (3, frames + 2, least, side + 7),
        (1, clip_frames(network) + 1, side + 16, least),
    ]
    reference = eager(network, output_names(config))
    return [
        _difference(sizes, reference(*clips), run(*clips))
        for seed, sizes in enumerate(batches, start=1)
        for clips in [random_clips(config, sizes, seed=seed)]
    ]


def measure(network: Network, runners: Mapping[str, Runner], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds for one clip of the training's size, all taking turns, so that other load on the machine is fair.

    Args:
        network: The network as it was loaded.
        runners: What else is measured, by name.
        rounds: Turns of each, after one that does not count.
    """
    config = network.config
    sizes = (
        1,
        clip_frames(network),
        max(config.input_size, min_side(config)),
        max(config.input_size, min_side(config)),
    )
    clips = random_clips(config, sizes, seed=9)
    names = output_names(config)
    everyone = {"stmulnet": eager(network, names), "stmulnet folded": eager(fold_batchnorm(network), names), **runners}
    times: dict[str, list[float]] = {name: [] for name in everyone}
    for turn in range(rounds + 1):
        for name, run in everyone.items():
            start = time.perf_counter()
            run(*clips)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _check_arguments(
    out: Path, format: str, int8: bool, dataset: Path | None, tolerance: float, calibration_clips: int
) -> None:
    if format not in SUFFIXES:
        raise ConfigError(f"format must be {' or '.join(SUFFIXES)}, got {format!r}")
    if out.suffix.lower() != SUFFIXES[format]:
        other = [f", or take --format {name}" for name, suffix in SUFFIXES.items() if suffix == out.suffix.lower()]
        advice = f"give the file that suffix{''.join(other)}"
        raise ConfigError(f"{out}: {format} files end in {SUFFIXES[format]}; {advice}")
    if int8 and format != "onnx":
        raise ConfigError(f"--int8 is for onnx, not for {format}; leave it out, or take --format onnx")
    if dataset is not None and not int8:
        raise ConfigError("--dataset is for int8; leave it out, or add --int8")
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance must lie between 0 and 1, got {tolerance:g}")
    if calibration_clips < 1:
        raise ConfigError(f"calibration_clips must be 1 or more, got {calibration_clips}")
    check_output(out, folder=False)
    if format == "onnx":
        check_extra()


def _write(network: Network, format: str, path: Path) -> Runner:
    """Write the file and open it again."""
    notice("tracing the network for all sizes: a minute or more for a large one")
    start = time.perf_counter()
    write, open_file = WRITERS[format]
    write(trace(network), network, path)
    run = open_file(path)
    notice(f"traced, written and opened in {time.perf_counter() - start:.0f} s; comparing")
    return run


def _difference(sizes: tuple[int, int, int, int], ours: Arrays, theirs: Arrays) -> Parity:
    assert len(ours) == len(theirs)
    error = relative = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape or not np.isfinite(other).all():
            return Parity(sizes, float("inf"), float("inf"))
        largest = float(np.abs(one - other).max())
        error = max(error, largest)
        relative = max(relative, largest / max(float(np.abs(one).max()), 1e-30))
    return Parity(sizes, error, relative)


def _print_parity(summary: ExportSummary) -> None:
    for found in summary.parity:
        clips, frames, height, width = found.sizes
        print(
            f"{clips} x {frames} frames of {width}x{height}: largest difference {found.error:.2g}, "
            f"{found.relative:.2g} of the largest score (allowed: {summary.tolerance:g})"
        )


def _print_seconds(seconds: Mapping[str, float]) -> None:
    ours = seconds["stmulnet folded"]
    print(f"one clip as in training, median of {ROUNDS} turns on {torch.get_num_threads()} threads:")
    for name, value in seconds.items():
        print(f"  {name:<16} {1000 * value:8.1f} ms   {value / ours:5.2f} of stmulnet folded")
