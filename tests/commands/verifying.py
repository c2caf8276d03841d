"""What the tests of `verify` share: checks, and the ways to damage a data set."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stmulnet.commands.verify import VerifySummary, verify
from stmulnet.files import write_json
from stmulnet.video.store import write_flow

OPTIONS: dict[str, Any] = {"short_side": 32, "flow_backend": "dis", "workers": 1}  # of the extraction

Damage = Callable[[Path], object]


def check(dataset: Path, **options: Any) -> VerifySummary:
    return verify(dataset, **{"workers": 1, **options})


def found(summary: VerifySummary) -> list[tuple[str, str, str]]:
    return [(finding.video, finding.kind, finding.message) for finding in summary.findings]


def annotate(dataset: Path, **num_frames: int) -> Path:
    entries = {video: {"set": "training", "label": 1, "nframes": n} for video, n in num_frames.items()}
    path = dataset / "annotations" / "annot01.json"
    write_json(path, {"labels": {"1": "x"}, "training": entries, "validation": {}})
    return path


def remove(dataset: Path, *paths: str) -> None:
    """Files or folders."""
    for path in paths:
        if (dataset / path).is_dir():
            shutil.rmtree(dataset / path)
        else:
            (dataset / path).unlink()


def cut(dataset: Path, path: str, size: int) -> int:
    return (dataset / path).write_bytes((dataset / path).read_bytes()[:size])


def flow(dataset: Path, video: str, levels: np.ndarray[Any, np.dtype[np.uint8]], *, first: int = 1) -> int:
    return write_flow((dataset / "flows" / "u" / video, dataset / "flows" / "v" / video), levels, first=first)


def planes(count: int, height: int = 32, width: int = 38) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(90, 170, (count, 2, height, width), dtype=np.uint8)
