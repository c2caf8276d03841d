import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image as matplotlib_image
from tests.conftest import TinyProject

import stmulnet
from stmulnet import cli
from stmulnet.commands.explain import explain
from stmulnet.errors import ConfigError, MissingExtraError
from stmulnet.models.checkpoint import save_model
from stmulnet.models.zoo import create_model

ROWS = ["rgb", "flow", "gate_res3", "gate_res4", "gate_res5", "cam_appearance", "cam_motion"]


@pytest.fixture
def video(tiny_project: TinyProject) -> Path:
    return min(tiny_project.videos.rglob("*.avi"))


def test_page_pictures_and_arrays(
    tiny_project: TinyProject, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["explain", str(video), "--weights", str(tiny_project.weights), "--out", str(out), "--threads", "1"]
    assert cli.main(words) == 0
    assert f"page: {out / 'explanation.html'}" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["explanation.html", "explanation.npz", "frames"]
    names = {f"frame{time:06d}_{row}.png" for time in range(6, 12) for row in ROWS}  # 16 frames have 6 stacks
    assert {path.name for path in (out / "frames").iterdir()} == names
    assert matplotlib_image.imread(out / "frames" / "frame000007_gate_res3.png").shape[:2] == (64, 64)
    with np.load(out / "explanation.npz") as arrays:
        assert arrays["gate_res3"].shape == (25, 8, 8)
        assert arrays["fall_both_fused"].shape == (25,)
    page = (out / "explanation.html").read_text(encoding="utf-8")
    assert video.name in page
    assert page.count("data:image/jpeg") == 6 * len(ROWS)


def test_the_same_from_python(tiny_project: TinyProject, video: Path, tmp_path: Path) -> None:
    name = tiny_project.class_names[3]
    summary = stmulnet.explain(
        str(video),  # type: ignore[arg-type] # public functions take text for paths
        weights=str(tiny_project.weights),  # type: ignore[arg-type]
        out=str(tmp_path),  # type: ignore[arg-type]
        target=name,
        cam_stage="res4",
        frames=5,
        threads=1,
    )
    assert summary.explanation is not None
    assert summary.explanation.label == name
    assert summary.explanation.cams["motion"].shape == (5, 4, 4)
    assert summary._repr_html_().startswith("<iframe")


def test_an_earlier_explanation_is_replaced_and_nothing_else(
    tiny_project: TinyProject, video: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    explain(video, weights=tiny_project.weights, out=out, frames=6, threads=1)
    (out / "notes.txt").write_text("mine")
    explain(weights=tiny_project.weights, out=out, maximise="RingBobs", steps=2)
    assert sorted(path.name for path in out.iterdir()) == [
        *("explanation.html", "maximised_appearance.png", "maximised_motion.png", "notes.txt")
    ]
    assert matplotlib_image.imread(out / "maximised_motion.png").shape[:2] == (64, 640)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

    other = tmp_path / "other"
    (other / "frames").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is not empty and holds no earlier explanation; give a new or empty folder"):
        explain(video, weights=tiny_project.weights, out=other)


def test_maximise_says_what_it_reached(
    tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", str(tiny_project.weights), "--out", str(tmp_path), "--steps", "4"]
    assert cli.main(["explain", "--maximise", "CrossSwings", *words]) == 0
    printed = capsys.readouterr().out
    found = re.findall(r"CrossSwings, (\w+) stream: score (\S+) of noise, (\S+) in the end", printed)
    assert [stream for stream, _, _ in found] == ["appearance", "motion"]
    assert "CrossSwings, motion stream" in (tmp_path / "explanation.html").read_text(encoding="utf-8")


def test_late_fusion_has_no_gate_row(tiny_project: TinyProject, video: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}
    model = create_model("two_stream_resnet50", 6, class_names=tiny_project.class_names, **options)
    metadata = {"preprocessing": {"frames": {"short_side": 64}}}
    save_model(model, tmp_path / "late.safetensors", metadata=metadata)
    summary = explain(video, weights=tmp_path / "late.safetensors", out=tmp_path / "out", frames=5, threads=1)
    assert not any("gate" in path.name for path in (tmp_path / "out" / "frames").iterdir())
    assert "are not connected" in summary.page.read_text(encoding="utf-8")


def test_bad_input_writes_nothing(
    tiny_project: TinyProject, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--weights", str(tiny_project.weights), "--out", str(tmp_path / "out")]
    for words, message in (
        ([], "nothing to explain; name a video, or a class with --maximise"),
        (["nowhere.avi"], "nowhere.avi: no such file"),
        ([str(video), "--target", "RingSwing"], "no class 'RingSwing'; it has 6, such as RingSwings"),
        (["--maximise", "Ring", "--steps", "0"], "no class 'Ring'"),
        (["--maximise", "RingBobs", "--steps", "0"], "steps must be 1 or more, got 0"),
        ([str(video), "--cam-stage", "res6"], "--cam-stage must be one of res2, res3, res4, res5, got res6"),
    ):
        assert cli.main(["explain", *words, *out]) == 2
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_extra(tiny_project: TinyProject, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stmulnet\[explain\]'"):
        explain(video, weights=tiny_project.weights, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
