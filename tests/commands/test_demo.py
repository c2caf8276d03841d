"""The demo from videos to report, with few videos and two epochs: everything is there, nothing foreign is touched."""

import json
import re
from pathlib import Path

import pytest

from stmulnet import cli
from stmulnet.commands import demo as module
from stmulnet.errors import ConfigError
from stmulnet.video.io import probe


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GROUPS_TRAIN": 2, "GROUPS_TEST": 1, "EPOCHS": 2, "VALIDATE_EVERY": 1}.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("small")
def test_demo_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert cli.main(["demo", "--out", str(out), "--workers", "1"]) == 0
    printed = capsys.readouterr()
    assert "binding classes" in printed.out
    assert [f"[{step}/4]" in printed.err for step in range(1, 5)] == [True] * 4
    results = json.loads((out / "results.json").read_text())
    assert list(results["networks"]) == ["appearance only", "motion only", "late fusion", "ST-MulNet"]
    assert all(0 <= network["binding classes"] <= 1 for network in results["networks"].values())
    page = (out / "report.html").read_text()
    assert "late fusion" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "the page opens without a network"
    assert probe(out / "overlay.mp4").num_frames_hint == 32
    # A second run starts by removing the first one, and nothing but it.
    (out / "mine.txt").write_text("keep")
    module._prepare(out, seed=1)
    assert {path.name for path in out.iterdir()} == {"demo.json", "mine.txt"}


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no earlier demo"):
        module.demo(out=tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        module.demo(out=tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_learning_rates_warm_up_and_fall() -> None:
    rates = module._learning_rates()
    assert len(rates) == module.EPOCHS
    assert 0 < rates[0] < max(rates) <= module.PEAK_RATE
    assert 0 < rates[-1] < 0.1 * module.PEAK_RATE
