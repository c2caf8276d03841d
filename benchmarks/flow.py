"""Speed and agreement of the package's TV-L1 with OpenCV's, on real clips, one thread each.

    python benchmarks/flow.py [--clips DIR] [--pairs N] [--every N]

Without clips (neither given nor in ../shared/data/clips beside the project) synthetic ones are used.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stmulnet.flow.estimate import estimate_flow

SHARED_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
SUFFIXES = (".avi", ".mp4")
TARGET_RATIO, TARGET_EPE_PX = 15.0, 0.01

Frames = NDArray[np.uint8]


@dataclass
class Row:
    """One clip: seconds per pair of both implementations, and the mean end-point error between them."""

    name: str
    width: int
    height: int
    opencv_sec: float
    ours_sec: float
    epe_px: float


def main() -> int:
    options = _options()
    rows = []
    estimate_flow(_synthetic_clip(seed=0, pairs=1), backend="tvl1")  # load or compile the kernel before timing
    print(f"{'clip':<34} {'size':>8} {'OpenCV s/pair':>13} {'ours s/pair':>11} {'ratio':>6} {'mean EPE px':>11}")
    for name, frames in _clips(options):
        row = measure(name, frames)
        rows.append(row)
        print(_line(row), flush=True)
    return _summary(rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder searched for .avi and .mp4 files")
    parser.add_argument("--pairs", type=int, default=2, help="pairs of frames per clip, spread over the clip")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip only")
    return parser.parse_args()


def measure(name: str, frames: Frames) -> Row:
    """Time both on the pairs (frames 2n and 2n + 1) in turn, so that a busy machine slows both alike."""
    seconds = {"opencv": 0.0, "tvl1": 0.0}
    errors = []
    for start in range(0, len(frames), 2):
        flow = {}
        for backend in seconds:
            begin = time.perf_counter()
            flow[backend] = estimate_flow(frames[start : start + 2], backend=backend)[0]
            seconds[backend] += time.perf_counter() - begin
        errors.append(np.hypot(*(flow["opencv"] - flow["tvl1"])).mean())
    pairs = len(errors)
    height, width = frames.shape[1:3]
    return Row(name, width, height, seconds["opencv"] / pairs, seconds["tvl1"] / pairs, float(np.mean(errors)))


def _line(row: Row) -> str:
    ratio = row.opencv_sec / row.ours_sec
    size = f"{row.width}x{row.height}"
    return f"{row.name:<34.34} {size:>8} {row.opencv_sec:13.3f} {row.ours_sec:11.4f} {ratio:6.1f} {row.epe_px:11.5f}"


def _summary(rows: list[Row]) -> int:
    ratios = [row.opencv_sec / row.ours_sec for row in rows]
    ratio, epe = float(np.median(ratios)), float(np.median([row.epe_px for row in rows]))
    print(
        f"\nmedians over {len(rows)} clips: {np.median([row.opencv_sec for row in rows]):.3f} s per pair by OpenCV, ",
        end="",
    )
    print(f"{np.median([row.ours_sec for row in rows]):.4f} s by us")
    print(f"ratio    {ratio:8.1f}   target >= {TARGET_RATIO:g}   range {min(ratios):.1f} to {max(ratios):.1f}")
    print(f"EPE px   {epe:8.5f}   target < {TARGET_EPE_PX:g}   largest {max(row.epe_px for row in rows):.5f}")
    return 0 if ratio >= TARGET_RATIO and epe < TARGET_EPE_PX else 1


def _clips(options: argparse.Namespace) -> Iterator[tuple[str, Frames]]:
    paths = sorted(path for path in (options.clips or SHARED_CLIPS).rglob("*") if path.suffix in SUFFIXES)
    if options.clips and not paths:
        sys.exit(f"no .avi or .mp4 file under {options.clips}; give another folder, or none for synthetic clips")
    if not paths:
        print("no real clips beside the project: synthetic ones instead", file=sys.stderr)
        for seed in range(6):
            yield f"synthetic {seed}", _synthetic_clip(seed, options.pairs)
    for path in paths[:: options.every]:
        yield path.stem, _read_pairs(path, options.pairs)


def _read_pairs(path: Path, pairs: int) -> Frames:
    """Decode the clip at its own size and pick ``pairs`` pairs of neighbours spread over it."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    starts = np.linspace(0, len(frames) - 2, pairs).round().astype(int)
    return np.stack([frames[start + offset] for start in starts for offset in (0, 1)])


def _synthetic_clip(seed: int, pairs: int) -> Frames:
    """Blurred noise that shifts, turns and grows by a few pixels from the first to the second frame of a pair."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(pairs):
        texture = cv2.GaussianBlur(rng.uniform(0, 255, (240, 320, 3)), (0, 0), 2.0)
        texture = (texture - texture.min()) / np.ptp(texture) * 255
        motion = np.array(cv2.getRotationMatrix2D((160, 120), rng.uniform(-1, 1), rng.uniform(0.98, 1.02)), np.float64)
        motion[:, 2] += rng.uniform(-3, 3, 2)
        moved = cv2.warpAffine(texture, motion, (320, 240), borderMode=cv2.BORDER_REFLECT)
        frames += [texture.astype(np.uint8), moved.astype(np.uint8)]
    return np.stack(frames)


if __name__ == "__main__":
    sys.exit(main())
