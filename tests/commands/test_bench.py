"""`stmulnet bench` with small networks; the figures themselves are no matter for tests."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stmulnet import cli
from stmulnet.commands import bench as bench_module
from stmulnet.commands import contests
from stmulnet.commands.bench import Load, bench
from stmulnet.commands.contests import Contest, Row, forward_flop, markdown, seconds_per_flop, training_flop
from stmulnet.commands.sample_video import write_sample
from stmulnet.errors import ConfigError
from stmulnet.models.multiplier import Network
from stmulnet.models.zoo import create_model
from stmulnet.timing import Ratio
from stmulnet.video.io import probe

TINY: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}


def tiny(**options: Any) -> Network:
    return create_model("st_mulnet_resnet50", 3, class_names=["a", "b", "c"], **{**TINY, **options}).eval()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "full_network", tiny)
    monkeypatch.setattr(bench_module, "LOADS", {"cpu": Load(1, 2, 2, 1)})
    monkeypatch.setattr(bench_module, "SHORT_CLIP", (5, 64, 64))
    monkeypatch.setattr(bench_module, "WHOLE_FRAMES", (6, 64, 80))
    monkeypatch.setattr(contests, "PRODUCTS", {"cpu": ((64, 64, 64),)})


def test_network_and_training_step(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "PARTS", ("network", "frames", "training"))
    summary = bench(rounds=1, json=tmp_path / "rows.json")
    assert summary.exit_code == 0
    works = list(dict.fromkeys(row.work for row in summary.rows))
    assert works[:2] == ["5 frames of 224x224", "2 clips of 25 whole frames of 341x256"]
    assert len(works) == 3
    for work in works:
        first, *others = [row for row in summary.rows if row.work == work]
        assert first.times_as_fast == Ratio(1.0, 1.0, 1.0)
        assert others
        assert all(
            row.seconds and row.seconds > 0 and row.roofline and row.roofline.low > 0 for row in [first, *others]
        )
    printed = capsys.readouterr().out
    assert printed.startswith("| work | how | s (median) | per second | times as fast | of the roofline |")
    assert len(printed.splitlines()) == 2 + len(summary.rows)
    saved = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["contender"] for row in saved] == [row.contender for row in summary.rows]


@pytest.mark.slow
def test_flow_and_prediction(small: None, tiny_project: Any) -> None:
    video = next(tiny_project.videos.rglob("*.avi"))
    summary = bench(["flow", "predict"], rounds=1, video=video)
    works = [row.work for row in summary.rows]
    assert works.count("predict, warm") == 3
    assert works.count("predict, a new process") == 2
    assert "OpenCV's TV-L1, one thread" in [row.contender for row in summary.rows]


def test_operations_are_counted_by_definition() -> None:
    model = tiny(units=(1, 1, 1, 1), fusion=None, temporal_conv=None)
    single = conv1 = 0
    sides = {"conv1": 32, "res2": 16, "res3": 8, "res4": 4, "res5": 2}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            if name.endswith("head.fc"):
                single += 2 * 2 * module.weight.numel()  # 6 frames: two windows of five
                continue
            side = sides[name.split(".")[1]]
            single += 6 * 2 * side * side * module.weight.numel()
            conv1 += 6 * 2 * side * side * module.weight.numel() if name.endswith("conv1") else 0
    assert forward_flop(model.config, 1, 6, 64, 64) == single
    assert forward_flop(model.config, 3, 6, 64, 64) == 3 * single
    # Backwards, a product for the gradient of the filters and one for that of the input, which conv1 does not need.
    assert training_flop(model.config, 2, 6, 64, 64) == 2 * (3 * single - conv1)


def test_rate_of_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "PRODUCTS", {"cpu": ((8, 4, 2), (2, 2, 2))})
    readings = iter([float(reading) for reading in (0, 3, 3, 5, 5, 6, 6, 7, 7, 8, 8, 9)])
    assert seconds_per_flop("float32", clock=lambda: next(readings))() == 1 / 128


def test_table() -> None:
    rows = [Row("w", "a", 1.0, Ratio(1, 1, 1)), Row("w", "b", 0.25, Ratio(4, 3.9, 4.2), Ratio(0.8, 0.7, 0.9))]
    assert markdown(rows).splitlines()[2:] == [
        "| w | a | 1 | 1 (1 to 1) |  |",
        "| w | b | 0.25 | 4 (3.9 to 4.2) | 80 % (70 to 90) |",
    ]


def test_contests_hold_each_turn_against_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow() -> None:
        now[0] += 6.0

    def fast() -> None:
        now[0] += 1.5

    rows = Contest("w", {"slow": slow, "fast": fast}).run(3, clock=lambda: now[0])
    assert [(row.seconds, row.times_as_fast) for row in rows] == [(6.0, Ratio(1, 1, 1)), (1.5, Ratio(4, 4, 4))]


def test_sample_video(tmp_path: Path) -> None:
    found = probe(write_sample(tmp_path / "x.mp4"))
    assert (found.width, found.height, found.duration_s) == (340, 256, 7.0)


def test_bad_input_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="rounds must be 1 or more, got 0"):
        bench(rounds=0)
    with pytest.raises(ConfigError, match="no part walk; there are network, frames, training, flow, predict"):
        bench(["walk"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="device 'meta' is not measured: use auto, cpu, cuda or cuda:N"):
        bench(device="meta")
    assert cli.main(["bench", "walk"]) == 2
    assert "walk" in capsys.readouterr().err
