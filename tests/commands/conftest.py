"""A small data set for the tests of `verify`, to be damaged in every way."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.commands.verifying import OPTIONS

from stmulnet.video.extract import extract_videos
from stmulnet.video.io import write_video


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three encoded videos of a moving, noisy texture (``videos``), and the data set made from them (``dataset``)."""
    root = tmp_path_factory.mktemp("verify")
    rng = np.random.default_rng(7)
    (root / "videos").mkdir()
    for name, count in {"a": 14, "b": 12, "c": 8}.items():
        texture = cv2.GaussianBlur(rng.uniform(0, 200, (80, 90, 3)).astype(np.uint8), (0, 0), 1.5)
        moving = (texture[t : t + 40, 2 * t : 2 * t + 48] for t in range(count))
        frames = [(frame + rng.integers(0, 55, frame.shape)).astype(np.uint8) for frame in moving]
        write_video(root / "videos" / f"{name}.mp4", frames)
    extract_videos(root / "videos", root / "dataset", **OPTIONS)
    return root


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy of that data set, to be damaged."""
    shutil.copytree(made / "dataset", tmp_path / "dataset")
    return tmp_path / "dataset"
