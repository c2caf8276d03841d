"""`stmulnet extract` with one process, two, ...: how close to so many times as fast."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stmulnet.commands.contests import Contest
from stmulnet.commands.sample_video import write_sample
from stmulnet.flow.tvl1_kernels import prepare_kernels
from stmulnet.video.io import iter_frames, probe
from stmulnet.video.pool import default_workers

SECONDS = 2.0  # length of the clips; alike, so that no process waits for another with a long one
PER_PROCESS = 3  # clips
MOST_PROCESSES = 8


def extraction_contest(videos: Sequence[Path], folder: Path, *, most: int | None = None) -> Contest:
    """The command on a few clips of about two seconds, frames and TV-L1 flow, each time into an empty folder.

    Args:
        videos: Clips to choose from; where there are too few, synthetic ones are made.
        folder: For them and for what is extracted.
        most: Processes; the number of cores, or 8, by default.
    """
    most = most or min(default_workers(), MOST_PROCESSES)
    counts = [count for count in (1, 2, 4, 8) if count < most] + [most]
    chosen = alike(videos, PER_PROCESS * most) or _made(folder, PER_PROCESS * most)
    prepare_kernels()
    frames = sum(1 for video in chosen for _ in iter_frames(video))
    return Contest(
        f"extract, {len(chosen)} clips with TV-L1 flow",
        {_name(count): partial(_extract, chosen, folder / "extracted", count) for count in counts},
        warm_up=0,
        amount=frames,
        unit="frames",
        processes={_name(count): count for count in counts},
        clock=time.perf_counter,  # the work is done by other processes
    )


def alike(videos: Sequence[Path], count: int) -> list[Path]:
    """The clips whose length is closest to two seconds; none where there are too few, or two of a name."""
    names = {path.stem: path for path in videos}
    by_length = sorted(names.values(), key=lambda path: abs((probe(path).duration_s or 0.0) - SECONDS))
    return by_length[:count] if len(names) >= count else []


def _made(folder: Path, count: int) -> list[Path]:
    first = write_sample(folder / "sample-0.mp4", seconds=int(SECONDS))
    return [first, *(Path(shutil.copy(first, folder / f"sample-{number}.mp4")) for number in range(1, count))]


def _name(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


def _extract(videos: Sequence[Path], out: Path, workers: int) -> None:
    command = [sys.executable, "-m", "stmulnet", "extract", *map(str, videos), str(out), "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"stmulnet extract: {done.stderr}")
    shutil.rmtree(out)
