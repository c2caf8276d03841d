"""The wheel works where none of the extras is installed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def test_public_names_are_real() -> None:
    import stmulnet

    for name in stmulnet.__all__:
        assert getattr(stmulnet, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = stmulnet.nothing


def test_documented_modules_are_there_after_one_import() -> None:
    names = "stmulnet.flow.quantize.to_uint8, stmulnet.datasets.sampling.test_frames, stmulnet.errors.StmulnetError"
    code = f"import sys, stmulnet; {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(PROJECT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_its_data_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "stmulnet/py.typed" in names
    assert any(name.endswith(".html.j2") or name.endswith(".html") for name in names), "report template"
    assert {name.split("/")[0].split("-")[0] for name in names} == {"stmulnet"}


@pytest.mark.slow
def test_wheel_without_extras(wheel: Path, tmp_path: Path) -> None:
    """Import, --help and predict in an environment of the core dependencies; training names its extra."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(PROJECT / "constraints.txt")]
    subprocess.run([*pip, "torch"], check=True, capture_output=True)
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    run = {"check": False, "capture_output": True, "text": True, "cwd": tmp_path, "env": {**os.environ, "CI": ""}}

    listed = subprocess.run([str(python), "-m", "pip", "list"], **run)  # type: ignore[call-overload]
    assert "lightning" not in listed.stdout
    script = tmp_path / "make.py"
    script.write_text(MAKE_CLIP_AND_WEIGHTS)
    made = subprocess.run([str(python), str(script)], **run)  # type: ignore[call-overload]
    assert made.returncode == 0, made.stderr
    for arguments, code, text in (
        (["--help"], 0, "predict"),
        (["predict", "clip.mp4", "--weights", "tiny.safetensors"], 0, "walk"),
        (["train", "--dataset", "x", "--network", "x", "--out", "x"], 2, "pip install 'stmulnet[train]'"),
    ):
        done = subprocess.run([str(environment / "bin" / "stmulnet"), *arguments], **run)  # type: ignore[call-overload]
        assert done.returncode == code, done.stderr
        assert text in done.stdout + done.stderr


MAKE_CLIP_AND_WEIGHTS = """
import numpy as np, stmulnet
from pathlib import Path
from stmulnet.video.io import write_video
noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
write_video(Path("clip.mp4"), [np.roll(noise, t, axis=1) for t in range(16)])
tiny = dict(units=(2, 1, 1, 1), width_mult=1 / 32, input_size=64, head_pool="global", fusion={"stages": (2,)})
stmulnet.save_model(stmulnet.create_model("st_mulnet_resnet50", 2, class_names=["walk", "run"], **tiny),
                    "tiny.safetensors")
"""
