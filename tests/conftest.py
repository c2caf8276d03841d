"""Fixtures every test may use."""

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:  # one core per process, before torch and NumPy are loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# Repeatable, like every other test: no random seed, no memory of earlier runs.
settings.register_profile("project", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("project")

SHARED_DIR = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of reference material beside the project: real clips, official lists, weight files."""
    if not SHARED_DIR.is_dir():
        pytest.skip("needs the reference material in ../shared (real clips, official lists), which is not shipped")
    return SHARED_DIR


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed: tests are random but repeatable."""
    return np.random.default_rng(20170726)


@dataclass(frozen=True)
class TinyProject:
    """A tiny data set from end to end: 12 videos of 6 classes, frames and flow, annotation, a network's weights."""

    videos: Path
    dataset: Path
    weights: Path
    class_names: list[str]


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """Moving shapes at 64 px, extracted and annotated, and a small two-stream network that fits them; untrained."""
    import torch

    from stmulnet.commands.annotate import annotate
    from stmulnet.datasets.moving_shapes import CLASSES, make_moving_shapes
    from stmulnet.models.checkpoint import save_model
    from stmulnet.models.zoo import create_model
    from stmulnet.video.extract import extract_videos
    from stmulnet.video.manifest import Manifest

    root = tmp_path_factory.mktemp("tiny")
    made = make_moving_shapes(root, groups_train=1, groups_test=1, size=64, num_frames=16)
    dataset = root / "dataset"
    extract_videos(made.videos, dataset, short_side=64, workers=1)
    annotate(made.lists, dataset)
    torch.manual_seed(5)
    options: dict[str, Any] = {
        "units": (1, 2, 2, 2),
        "width_mult": 0.125,
        "input_size": 64,
        "head_pool": "global",
        "dropout": 0.0,
    }
    options["fusion"] = {"operation": "multiply", "stages": (3, 4, 5)}
    model = create_model("st_mulnet_resnet50", len(CLASSES), class_names=list(CLASSES), **options)
    for name, parameter in model.named_parameters():
        if name.endswith("branch2c.1.weight"):  # a fresh network's residual branches are silent
            torch.nn.init.ones_(parameter)
    # Random features have wild scales; running statistics of a few batches give scores of ordinary size.
    with torch.no_grad():
        for _ in range(30):
            model(torch.randint(0, 256, (2, 5, 3, 64, 64)), torch.randint(98, 158, (2, 5, 20, 64, 64)))
    metadata = {"preprocessing": Manifest.load(dataset / "manifest.json").settings}
    save_model(model, root / "model.safetensors", metadata=metadata)
    return TinyProject(made.videos, dataset, root / "model.safetensors", list(CLASSES))


def pytest_configure() -> None:
    """Heed Ctrl-C: shells start background jobs with it ignored, and what tests start would ignore it too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests on a developer's machine unless asked for; CI runs them."""
    if os.environ.get("CI") or config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="slow: set CI=1 or pass -m slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)
