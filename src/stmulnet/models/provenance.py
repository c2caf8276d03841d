"""What the name of a weight file says about its origin. A record and a cross-check: the content decides."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stmulnet.class_names import CLASS_NAMES
from stmulnet.models.config import ModelConfig


def read_provenance(path: Path) -> dict[str, Any]:
    """Data set and split as in ``ucf101-img-resnet50-split1-dr0.mat``; None where the name says nothing."""
    name = path.name.lower()
    dataset = next((dataset for dataset in CLASS_NAMES if re.search(_spelling(dataset), name)), None)
    split = re.search(r"split[-=]?([1-9])(?!\d)", name)
    return {"file": path.name, "dataset": dataset, "split": int(split[1]) if split else None}


def _spelling(dataset: str) -> str:
    """``ucf101`` as people write it: UCF-101, ucf_101; not within a longer word."""
    letters = dataset.rstrip("0123456789")
    return rf"(?<![a-z0-9]){letters}[-_ ]?{dataset.removeprefix(letters)}(?!\d)"


def check_names(provenance: Mapping[str, Any], config: ModelConfig) -> list[str]:
    """Where a file's name says another depth or data set than its content."""
    problems = []
    named = re.search(r"resnet-?(50|101|152)(?!\d)", provenance["file"].lower())
    depths = [stream.depth for stream in (config.appearance, config.motion) if stream]
    if named and int(named[1]) not in depths:
        found = " and ".join(map(str, dict.fromkeys(depths)))
        problems.append(f"the name says ResNet-{named[1]}, the layers are those of depth {found}; the layers count")
    dataset = provenance["dataset"]
    for other, names in CLASS_NAMES.items():
        if dataset is not None and dataset != other and config.num_classes == len(names):
            problems.append(f"the name says {dataset}, but {config.num_classes} classes are those of {other}")
    return problems
