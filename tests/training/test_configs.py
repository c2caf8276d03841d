"""The configuration files of the experiments: read by the command, with the values of the scripts and their sources."""

from pathlib import Path
from typing import Any

import pytest

from stmulnet import cli
from stmulnet.models.config import FusionConfig, TemporalPoolConfig
from stmulnet.models.zoo import model_config
from stmulnet.training import fit
from stmulnet.training.config import TrainConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = ("arid6", "moving_shapes")  # a network is given on the command line
EXPERIMENTS = ("base_appearance", "base_motion", "st_mulnet", "st_resnet_stage1", "st_resnet_stage2")

# learning rates, epochs, passes, batch, sub-batch, frames, strides, augmentation (the authors' scripts)
OFFICIAL: dict[str, tuple[Any, ...]] = {
    "base_appearance": ([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4], 6, 10, 256, 32, 1, None, "borders25"),
    "base_motion": ([1e-2, 1e-3, 1e-4, 1e-5], 4, 100, 128, 32, 1, None, "multiScaleRegular"),
    "st_mulnet": ([1e-3, 1e-3, 1e-4, 1e-5, 1e-6], 5, 5, 128, 4, 5, (5, 35), "f25noCtr"),
    "st_resnet_stage1": ([1e-3] * 3 + [1e-4] * 3 + [1e-5] * 3 + [1e-6] * 3, 8, 10, 128, 4, 5, (5, 15), "f25noCtr"),
    "st_resnet_stage2": ([1e-4, 1e-5], 2, 1, 128, 4, 11, (1, 15), "f25noCtr"),
}


def read(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrainConfig:
    taken: list[TrainConfig] = []
    monkeypatch.setattr(fit, "fit", lambda config, *_, **__: taken.append(config))
    more = ["--network", "st_mulnet_resnet50"] if name in SMALL else []
    arguments = ["--config", str(CONFIGS / f"{name}.yaml"), *more, "--dataset", str(tmp_path), "--out", str(tmp_path)]
    assert cli.main(["train", *arguments]) == 0
    return taken[0]


def test_every_file_is_known() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*EXPERIMENTS, *SMALL}


@pytest.mark.parametrize("name", [*EXPERIMENTS, *SMALL])
def test_networks_can_be_built(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = read(name, monkeypatch, tmp_path)
    model_config(config.network, 101, **config.network_options).check_frames(config.frames)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_values_are_the_scripts(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = read(name, monkeypatch, tmp_path)
    rates, epochs, passes, batch, sub_batch, frames, strides, augmentation = OFFICIAL[name]
    assert config.learning_rates == pytest.approx(rates)
    assert (config.num_epochs, config.passes_per_epoch) == (epochs, passes)
    assert (config.batch_size, config.sub_batch_size) == (batch, sub_batch)
    assert (config.frames, config.augmentation) == (frames, augmentation)
    assert strides is None or config.strides == strides
    assert (config.momentum, config.weight_decay, config.batchnorm, config.batchnorm_rate) == (
        0.9,
        5e-4,
        "official",
        0.05,
    )
    off = ("clip_gradients", "label_smoothing", "mixup", "ema", "warmup_epochs", "compile", "gradient_checkpointing")
    assert not any(getattr(config, option) for option in (*off, "repair", "holdout"))
    assert (config.optimizer, config.schedule, config.precision) == ("sgd", "list", "float32")


def test_defaults_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`stmulnet train` without a file is configs/st_mulnet.yaml."""
    taken: list[TrainConfig] = []
    monkeypatch.setattr(fit, "fit", lambda config, *_, **__: taken.append(config))
    place = ["--dataset", str(tmp_path), "--out", str(tmp_path)]
    assert cli.main(["train", "--network", "st_mulnet_resnet50", *place]) == 0
    with_file = read("st_mulnet", monkeypatch, tmp_path)
    assert taken[0].to_dict() | {"network_options": {}} == with_file.to_dict() | {"network_options": {}}
    networks = [model_config(config.network, 101, **config.network_options) for config in (taken[0], with_file)]
    assert networks[0] == networks[1]
    stage1, stage2 = (read(f"st_resnet_stage{number}", monkeypatch, tmp_path) for number in (1, 2))
    one, two = (model_config(config.network, 101, **config.network_options) for config in (stage1, stage2))
    assert (one.fusion, one.temporal_conv, one.temporal_pool) == (FusionConfig(operation="add"), "pointwise", None)
    assert (two.fusion, two.temporal_pool) == (one.fusion, TemporalPoolConfig("max", 5, 2))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_value_names_its_source(name: str) -> None:
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    before = ""
    for line in lines:
        value = line.strip() and not line.strip().startswith("#") and not line.rstrip().endswith(":")
        if value:
            assert "#" in line or before.startswith("#"), line
        before = line.strip()
