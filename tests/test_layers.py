"""Imports go one way: the modules' text is read, nothing is imported."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "stmulnet"
BASE = {
    *("constants", "errors", "files", "console", "device", "distributed", "mirror", "values", "class_names"),
    *("download", "memory", "rendering", "timing"),
}
ALLOWED: dict[str, set[str]] = {
    **{name: BASE for name in BASE},
    "flow": BASE,
    "video": BASE | {"flow"},
    "datasets": BASE | {"flow", "video"},
    "models": BASE,
    "evaluation": BASE,
    "training": BASE | {"models", "datasets", "evaluation"},
    "predictor": BASE | {"video", "flow", "datasets", "models", "evaluation"},
    "overlay": BASE | {"video", "flow", "predictor", "evaluation"},
    "explanation": BASE | {"flow", "models", "evaluation", "predictor"},
    "streaming": BASE | {"video", "flow", "datasets", "evaluation", "predictor", "overlay"},
    "serving": BASE | {"video", "flow", "datasets", "models", "evaluation", "predictor", "explanation", "streaming"},
    "cli": BASE,
}
LIGHT = ("models", "flow/tvl1_torch", "training/optim.py")  # import with torch and numpy alone
LIGHT_PACKAGES = {"torch", "numpy", "safetensors", "stmulnet"}
LAZY = {  # imported where they are needed
    "models/matconvnet/file.py": {"scipy"},
    "models/hub.py": {"huggingface_hub"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            if node.module == "stmulnet":
                yield from (f"stmulnet.{alias.name}" for alias in node.names)


def internal(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports(path) if name.startswith("stmulnet.")}
    return names - {"__version__"}


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


MODULES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    unit = unit_of(path)
    if unit in ("commands", "__init__", "__main__"):
        return  # they may import everything
    assert internal(path) <= ALLOWED[unit] | {unit}, f"{unit} may import {sorted(ALLOWED[unit])} only"


def test_nothing_imports_the_commands() -> None:
    for path in MODULES:
        if unit_of(path) not in ("commands", "__init__"):
            assert "commands" not in internal(path), path


def test_only_training_imports_lightning() -> None:
    for path in MODULES:
        if any(name.partition(".")[0] in ("lightning", "pytorch_lightning") for name in imports(path)):
            assert unit_of(path) == "training", path


def test_networks_need_torch_and_numpy_alone() -> None:
    for path in MODULES:
        if str(path.relative_to(ROOT)).startswith(LIGHT):
            packages = {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
            packages -= LAZY.get(str(path.relative_to(ROOT)), set())
            assert packages <= LIGHT_PACKAGES, f"{path} imports {packages - LIGHT_PACKAGES}"


def test_networks_import_where_nothing_else_is_installed() -> None:
    heavy = ("scipy", "cv2", "av", "numba", "lightning", "jsonargparse", "rich", "matplotlib", "jinja2", "simplejpeg")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy}))\nimport stmulnet.models.zoo, stmulnet.training.optim"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
