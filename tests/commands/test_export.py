"""Exported files: other programs get the scores of the network from them, or there is no file."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import TinyProject

from stmulnet import cli, load_model, save_model
from stmulnet.commands import export as command
from stmulnet.commands.export import compare, export
from stmulnet.commands.exporting import eager
from stmulnet.errors import ConfigError, MissingExtraError
from stmulnet.models.exportable import output_names
from stmulnet.models.verify import random_clips
from stmulnet.models.zoo import create_model

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def documented(file: str) -> str:
    """The example of the page that opens a file."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    code: str
    (code,) = (block for block in blocks if f'"{file}"' in block)
    return code.replace("224, 224", "64, 80")


def check_scores(weights: Path, run: Any) -> None:
    """Compare a file with the network on sizes that neither tracing nor command has seen."""
    network = load_model(weights)
    reference = eager(network, output_names(network.config))
    for sizes in ((1, 5, 64, 64), (4, 6, 81, 50), (2, 11, 37, 128)):
        clips = random_clips(network.config, sizes, seed=sum(sizes))
        for ours, theirs in zip(reference(*clips), run(*clips), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * np.abs(ours).max())


@pytest.mark.slow
def test_onnx(tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx
    import onnxruntime

    out = tmp_path / "model.onnx"
    arguments = [str(tiny_project.weights), "--out", str(out), "--benchmark"]
    assert cli.main(["export", *arguments]) == 0
    printed, said = capsys.readouterr()
    assert len(re.findall(r"largest difference [\d.e-]+, [\d.e-]+ of the largest score", printed)) == 3
    assert re.search(r"onnx +[\d.]+ ms +[\d.]+ of stmulnet folded", printed)
    assert f"written: {out}, " in printed
    assert "torchvision" not in said
    session = onnxruntime.InferenceSession(out)
    given = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    assert given["rgb"] == ("tensor(uint8)", ["N", "T", 3, "H", "W"])
    assert given["flow"] == ("tensor(uint8)", ["N", "T", 20, "H", "W"])
    classes = len(tiny_project.class_names)
    shapes = {value.name: value.shape for value in session.get_outputs()}
    assert shapes["fused"] == ["N", classes]
    assert shapes["motion_map"] == ["N", classes, "T - 4", 1, 1]
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(out).graph.node}
    check_scores(tiny_project.weights, lambda rgb, flow: session.run(None, {"rgb": rgb.numpy(), "flow": flow.numpy()}))
    network, stored = load_model(tiny_project.weights), session.get_modelmeta().custom_metadata_map
    assert json.loads(stored["class_names"]) == tiny_project.class_names
    assert json.loads(stored["config"]) == json.loads(json.dumps(network.config.to_dict()))
    assert json.loads(stored["preprocessing"]) == network.metadata["preprocessing"]
    run_example("model.onnx", tiny_project, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch about itself, where a program is opened
def test_torch_export(tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.pt2"
    summary = export(tiny_project.weights, out=out, format="torch-export")
    assert summary.exit_code == 0
    assert max(found.relative for found in summary.parity) < 1e-5
    files = {"stmulnet.json": ""}
    module = torch.export.load(out, extra_files=files).module()
    check_scores(tiny_project.weights, lambda *clips: [output.detach().numpy() for output in module(*clips)])
    assert json.loads(files["stmulnet.json"])["class_names"] == tiny_project.class_names
    run_example("model.pt2", tiny_project, tmp_path, capsys)


def run_example(file: str, project: TinyProject, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of the page, as somebody would run it."""
    capsys.readouterr()
    code = documented(file).replace(f'"{file}"', f'"{folder / file}"')
    exec(compile(code, "export.md", "exec"), {})
    assert capsys.readouterr().out.strip() in project.class_names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("motion_resnet18", {"temporal_pool": {"kind": "avg", "window": "all"}}),
        ("appearance_resnet50", {"input_size": 224, "head_pool": 7, "geometry": "torch", "units": (1, 2, 1, 1)}),
        ("st_resnet50", {"temporal_conv": "pointwise", "units": (1, 2, 1, 1), "fusion": {"stages": (3,)}}),
    ],
)
def test_other_networks(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(1)
    small = {"units": (1, 1, 1, 1), "width_mult": 1 / 16, "input_size": 64, "head_pool": "global"}
    save_model(create_model(name, 3, **{**small, **options}), tmp_path / "x.safetensors")
    summary = export(tmp_path / "x.safetensors", out=tmp_path / "x.onnx")
    assert summary.written
    assert max(found.relative for found in summary.parity) < 1e-5


def test_streams_that_fit_at_some_sizes_only_are_refused(tmp_path: Path) -> None:
    small: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 1 / 16, "input_size": 64, "head_pool": "global"}
    model = create_model("st_mulnet_resnet50", 3, motion={"geometry": "torch"}, **small)
    save_model(model, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="export a network whose streams have one geometry"):
        export(tmp_path / "x.safetensors", out=tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.slow
def test_int8(tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    out = tmp_path / "small.onnx"
    summary = export(tiny_project.weights, out=out, int8=True, dataset=tiny_project.dataset, calibration_clips=6)
    assert out.stat().st_size < 0.6 * tiny_project.weights.stat().st_size
    nodes = onnx.load(out).graph.node
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in nodes}
    change = summary.change
    assert change is not None
    assert change.videos == 6
    assert change.top1 is not None
    assert 0 < change.score < 0.5
    printed = capsys.readouterr().out
    assert re.search(r"int8 on 6 test videos of dataset: top-1 [\d.]+ % before, [\d.]+ % after; the same", printed)


# --- a file that disagrees


def wrong(program: Any, network: Any, path: Path) -> None:
    """Write something."""
    path.write_bytes(b"file")


def test_no_file_beyond_the_tolerance(
    tiny_project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_model(tiny_project.weights)
    right = eager(network, output_names(network.config))

    def nearly(*clips: Any) -> list[Any]:
        first, *others = right(*clips)
        return [first + 0.01 * np.abs(first).max(), *others]

    monkeypatch.setattr(command, "trace", lambda network: None)
    monkeypatch.setitem(command.WRITERS, "onnx", (wrong, lambda path: nearly))
    out = tmp_path / "out" / "x.onnx"
    assert cli.main(["export", str(tiny_project.weights), "--out", str(out)]) == 1
    printed, said = capsys.readouterr()
    assert "0.01 of the largest score (allowed: 0.0001)" in printed
    assert "x.onnx is not written: the file does not compute what the network does" in said
    assert not out.exists()
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(b"an earlier file")
    assert export(tiny_project.weights, out=out).exit_code == 1
    assert out.read_bytes() == b"an earlier file"
    assert export(tiny_project.weights, out=out, tolerance=0.02).exit_code == 0
    assert out.read_bytes() == b"file"
    assert [path.name for path in out.parent.iterdir()] == ["x.onnx"]


def test_other_shapes_and_values_that_are_not_finite_disagree(tiny_project: TinyProject) -> None:
    network = load_model(tiny_project.weights)
    right = eager(network, output_names(network.config))
    assert all(found.error == 0 for found in compare(network, right))
    for change in (lambda scores: scores[:1, :1], lambda scores: scores * np.nan):
        found = compare(network, lambda *clips, change=change: list(map(change, right(*clips))))
        assert all(one.relative == float("inf") for one in found)


def test_every_comparison_has_its_own_size(tiny_project: TinyProject) -> None:
    network = load_model(tiny_project.weights)
    sizes = [found.sizes for found in compare(network, eager(network, output_names(network.config)))]
    assert {size[0] for size in sizes} == {1, 3}
    assert len({size[1:] for size in sizes}) == len(sizes) == 3


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.pt2"], "x.pt2: onnx files end in .onnx"),
        (["--out", "x.onnx", "--format", "torch-export"], "torch-export files end in .pt2"),
        (["--out", "x.onnx", "--format", "tflite"], "--format must be one of onnx, torch-export, got tflite"),
        (["--out", "x.pt2", "--format", "torch-export", "--int8"], "int8 is for onnx"),
        (["--out", "x.onnx", "--dataset", "d"], "dataset is for int8"),
        (["--out", "x.onnx", "--tolerance", "0"], "tolerance must lie between 0 and 1"),
        (["--out", "x.onnx", "--int8", "--calibration-clips", "0"], "--calibration-clips must be 1 or more"),
        ([], "missing: --out"),
    ],
)
def test_bad_arguments(
    options: list[str], message: str, tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(tiny_project.weights), *options]) == 2
    assert message in capsys.readouterr().err


def test_unknown_format(tiny_project: TinyProject) -> None:
    with pytest.raises(ConfigError, match="format must be onnx or torch-export, got 'tflite'"):
        export(tiny_project.weights, out=Path("x.onnx"), format="tflite")  # type: ignore[arg-type]


def test_without_the_extra(tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stmulnet\[export\]'"):
        export(tiny_project.weights, out=Path("x.onnx"))
