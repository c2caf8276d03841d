"""What the tests of `evaluate` share: data sets of several splits, weight files that fit them."""

import json
from pathlib import Path
from typing import Any

import torch
from tests.conftest import TinyProject

from stmulnet.models.checkpoint import save_model
from stmulnet.models.multiplier import Network
from stmulnet.models.zoo import create_model

SMALL: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}


def make_dataset(project: TinyProject, folder: Path, splits: int = 1) -> Path:
    """The images of the project under another name; odd splits are the project's, even ones train where it tests."""
    (folder / "annotations").mkdir(parents=True)
    for name in ("images", "flows", "manifest.json"):
        (folder / name).symlink_to(project.dataset / name)
    content = json.loads((project.dataset / "annotations" / "annot01.json").read_text())
    for split in range(1, splits + 1):
        training, validation = ("training", "validation") if split % 2 else ("validation", "training")
        changed = content | {"training": content[training], "validation": content[validation]}
        (folder / "annotations" / f"annot{split:02d}.json").write_text(json.dumps(changed))
    return folder


def all_for_training(project: TinyProject, folder: Path) -> Path:
    """The images of the project with all its videos for training, two groups per class, and none for testing."""
    path = make_dataset(project, folder) / "annotations" / "annot01.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"training": content["training"] | content["validation"], "validation": {}}))
    return folder


def network(kind: str, project: TinyProject, *, seed: int = 0, **options: Any) -> Network:
    """An untrained network of the project's classes."""
    torch.manual_seed(seed)
    return create_model(kind, 6, class_names=project.class_names, **{**SMALL, **options}).eval()


def save_network(
    path: Path, kind: str, project: TinyProject, *, seed: int = 0, metadata: dict[str, Any] | None = None
) -> Path:
    """Write such a network; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(network(kind, project, seed=seed), path, metadata=metadata)
    return path
