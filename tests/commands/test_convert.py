"""Weight files converted on the command line."""

from pathlib import Path

import pytest
import torch
from tests.models.scoring import st_mulnet
from tests.oracle import files

from stmulnet import cli, convert, create_model, load_model, save_model
from stmulnet.errors import CheckpointError, ConfigError, WeightFileWarning


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "ucf101ST-MulNet-img50-flow50-final-split=2.mat"
    files.write(st_mulnet(flow={"dropout": 0.8}), path)
    return path


def test_to_safetensors_and_back(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = tmp_path / "x.safetensors", tmp_path / "x.mat"
    assert cli.main(["convert", str(official), str(ours)]) == 0
    printed = capsys.readouterr().out
    assert "multiply, motion to appearance, at res2, res3, res4, res5" in printed
    assert "dataset ucf101, split 2" in printed
    assert str(ours) in printed
    assert cli.main(["convert", str(ours), str(theirs)]) == 0
    first, middle, last = (load_model(path) for path in (official, ours, theirs))
    assert middle.metadata == first.metadata
    assert middle.config == first.config == last.config
    for name, tensor in first.state_dict().items():
        assert torch.equal(middle.state_dict()[name], tensor), name
        torch.testing.assert_close(last.state_dict()[name], tensor, rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("x.pth", r"x.pth: weights are written as .mat or .safetensors; give the file one of these suffixes"),
        ("nowhere/x.mat/y.mat", "nowhere"),
    ],
)
def test_bad_targets(target: str, message: str, official: Path, tmp_path: Path) -> None:
    (tmp_path / "nowhere").write_text("a file")
    with pytest.raises(ConfigError, match=message):
        convert(official, tmp_path / target)


def test_source_and_target_are_two_files(official: Path) -> None:
    with pytest.raises(ConfigError, match="source and target are one file"):
        convert(official, official)


def test_what_a_mat_file_cannot_say(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = create_model("appearance_resnet50", 3, units=(1, 1, 1, 1), width_mult=1 / 32, head_pool="global")
    save_model(tiny, tmp_path / "tiny.safetensors")
    assert cli.main(["convert", str(tmp_path / "tiny.safetensors"), str(tmp_path / "tiny.mat")]) == 2
    assert "head_pool 'global' has no layer in MatConvNet files" in capsys.readouterr().err
    assert not (tmp_path / "tiny.mat").exists()


def test_warnings_are_one_line(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = tmp_path / "ucf101-img-resnet152-split1.mat"
    named.write_bytes(official.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [])
        assert cli.main(["convert", str(named), str(tmp_path / "x.safetensors")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {named}: the name says ResNet-152, the layers are those of depth 29")


def test_published_names_that_are_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, official: Path) -> None:
    monkeypatch.setenv("STMULNET_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    name = "ucf101-img-resnet50-split1-dr0"
    advice = f"{name}: not here yet, .*; `stmulnet weights fetch '{name}'` gets it"
    with pytest.raises(CheckpointError, match=advice):
        load_model(name)
    (tmp_path / f"{name}.mat").write_bytes(official.read_bytes())
    with pytest.warns(WeightFileWarning, match="the name says ResNet-50"):
        assert load_model(name).config == load_model(official).config


def test_what_gets_lost_on_the_way_to_a_mat_file_is_said(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "x.safetensors"
    save_model(
        load_model(official), source, metadata={"preprocessing": {}, "training": {"dataset": "mine", "split": 2}}
    )
    convert(official, tmp_path / "ucf-101-split2.mat")
    assert capsys.readouterr().err == ""
    convert(source, tmp_path / "mine-split2.mat")
    keep, appearance, motion = capsys.readouterr().err.splitlines()
    target = tmp_path / "mine-split2.mat"
    assert keep == f"note: {target}: a .mat file has no place for preprocessing, training; keep x.safetensors too"
    assert appearance.startswith(
        f"note: {target}: the appearance stream was trained on split 2 of mine (before that: split 2 of ucf101), the "
        "name of the file says an unknown data set"
    )
    assert "the motion stream" in motion
