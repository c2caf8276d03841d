"""Fixtures every test may use."""

import os
from pathlib import Path

import numpy as np
import pytest

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests on a developer's machine unless asked for; CI runs them."""
    if os.environ.get("CI") or config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="slow: set CI=1 or pass -m slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)
