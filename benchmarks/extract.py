"""Speed of `stmulnet extract` and `stmulnet verify` on real clips, and what UCF-101 would take at that speed.

    python benchmarks/extract.py [--clips DIR] [--backend tvl1] [--workers N] [--every N]

Clips are those of ../shared/data/clips beside the project, or of DIR; each of its folders is measured by itself. Wall
time says what this machine does now, with whatever else runs on it; the time of the cores, of all processes together,
says what the work takes and is what the projection uses. `stmulnet verify` is measured on the result, in one process.
"""

import argparse
import contextlib
import io
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

from stmulnet.commands.verify import verify
from stmulnet.video.extract import extract_videos
from stmulnet.video.pool import default_workers
from stmulnet.video.sources import find_sources

SHARED_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
UCF101_CLIPS, UCF101_FRAMES = 13_320, 2_500_000
UCF101_FOLDER = "UCF-101"


@dataclass
class Row:
    """One folder of clips: core seconds of extraction, of complete verification, and of one by headers."""

    name: str
    videos: int
    pairs: int
    images: int
    wall_sec: float
    core_sec: float
    verify_sec: float
    headers_sec: float


def main() -> int:
    options = _options()
    print(f"{'clips':<10} {'videos':>6} {'pairs':>6} {'wall s':>7} {'pairs/s':>8} {'core ms/pair':>12}", end="")
    print(f" {'verify us/image':>15} {'headers only':>12}")
    rows = []
    for folder in _folders(options.clips or SHARED_CLIPS):
        with tempfile.TemporaryDirectory() as out:
            rows.append(measure(folder, Path(out), options))
            print(_line(rows[-1]), flush=True)
    sums = {field.name: sum(getattr(row, field.name) for row in rows) for field in fields(Row) if field.name != "name"}
    total = Row("all", **sums)
    print(_line(total))
    _project(next((row for row in rows if row.name == UCF101_FOLDER), total), options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder with folders of videos")
    parser.add_argument("--backend", default="tvl1", help="flow implementation")
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes at work")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip only")
    return parser.parse_args()


def _folders(clips: Path) -> list[Path]:
    """Folders with videos."""
    folders = sorted(path for path in clips.iterdir() if path.is_dir()) if clips.is_dir() else []
    found = [folder for folder in folders if any(file.suffix in (".avi", ".mp4") for file in folder.rglob("*"))]
    if not found:
        sys.exit(f"{clips}: no folders with .avi or .mp4 files; give --clips DIR")
    return found


def measure(folder: Path, out: Path, options: argparse.Namespace) -> Row:
    """Extract the clips of a folder at the default size, and verify the result."""
    names = list(find_sources(folder))[:: options.every]
    wall, cores = time.perf_counter(), _core_seconds()
    summary = extract_videos(folder, out, flow_backend=options.backend, workers=options.workers, only=names)
    wall_sec, core_sec = time.perf_counter() - wall, _core_seconds() - cores
    seconds = []
    for headers_only in (False, True):
        cores = _core_seconds()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            verified = verify(out, headers_only=headers_only, workers=1)
        seconds.append(_core_seconds() - cores)
        if summary.failures or verified.failures:
            sys.exit(f"{summary}\n{printed.getvalue()}")
    return Row(folder.name, summary.done, summary.pairs, verified.images, wall_sec, core_sec, *seconds)


def _core_seconds() -> float:
    """Of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _line(row: Row) -> str:
    extraction = f"{row.wall_sec:7.1f} {row.pairs / row.wall_sec:8.1f} {1000 * row.core_sec / row.pairs:12.1f}"
    verification = f"{1e6 * row.verify_sec / row.images:15.0f} {1e6 * row.headers_sec / row.images:12.0f}"
    return f"{row.name:<10} {row.videos:6d} {row.pairs:6d} {extraction} {verification}"


def _project(row: Row, options: argparse.Namespace) -> None:
    hours = row.core_sec / row.pairs * (UCF101_FRAMES - UCF101_CLIPS) / 3600
    images = 3 * UCF101_FRAMES - 2 * UCF101_CLIPS
    print(
        f"\nUCF-101, {UCF101_CLIPS} clips and about {UCF101_FRAMES} frames, at the speed of {row.name!r}: "
        f"{hours:.0f} core-hours with {options.backend}, that is {hours / options.workers:.0f} hours on "
        f"{options.workers} cores; verification {row.verify_sec / row.images * images / 3600:.1f} core-hours, by "
        f"headers {row.headers_sec / row.images * images / 3600:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
