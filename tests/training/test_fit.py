"""Training end to end on a tiny data set: losses, run folder, resume, bad input."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stmulnet import cli, create_model, load_model
from stmulnet.commands.train import _warn_of_small_crops, train
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.transforms import TrainTransform
from stmulnet.errors import ConfigError, DatasetError, MissingExtraError, StmulnetError
from stmulnet.models.multiplier import joint_output
from stmulnet.training import fit
from stmulnet.training.callbacks import EpochReport
from stmulnet.training.datamodule import TwoStreamDataModule
from stmulnet.training.module import TwoStreamModule, stream_loss, total_loss, videos_in_update

OPTIONS: dict[str, Any] = {
    "units": [2, 1, 1, 1],
    "width_mult": 0.0625,
    "input_size": 64,
    "head_pool": "global",
    "fusion": {"stages": [2]},
}


def run(project: Any, out: Path, network: str = "st_mulnet_resnet50", **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "network_options": OPTIONS,
        "learning_rates": [0.01, 0.001],
        "passes_per_rate": 1,
        "batch_size": 4,
        "sub_batch_size": 2,
        "strides": (1, 2),
        "cache": True,
        "device": "cpu",
    }
    return train(project.dataset, network, out, **(settings | changes))


def test_loader_calls_are_the_sub_batches(tiny_project: Any) -> None:
    annotation = tiny_project.dataset / "annotations" / "annot01.json"
    data = TwoStreamDataset.in_folder(
        annotation, tiny_project.dataset, subset="training", sampling=lambda n, rng: [6], call_videos=4
    )
    module = TwoStreamDataModule(data, None, batch_size=4, workers=0)
    videos = [list(batch.video) for batch in module.train_dataloader()]
    order = [data.records[index].video for index in data.epoch_order()]
    assert videos == [order[at : at + 4] for at in range(0, len(order), 4)]


def test_oddities_of_the_official_loader_can_be_repaired(
    tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def stop(_config: Any, _model: Any, _annotation: Any, _subset: str, *rules: Any) -> None:
        made.append(rules)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_dataset", stop)
    cases: list[dict[str, Any]] = [{}, {"repair": ["first_run", "stride", "crop"], "augmentation": "borders25"}]
    for number, options in enumerate(cases):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_project, tmp_path / str(number), **options)
    (official, f25), (repaired, borders25) = made
    assert (official.shared, official.first_run) == (True, False)
    assert (repaired.shared, repaired.first_run) == (False, True)
    assert f25 == TrainTransform(64)
    assert borders25 == TrainTransform(64, "borders25", repaired=True)
    with pytest.raises(ConfigError, match="repair takes first_run, stride, crop, got crops"):
        run(tiny_project, tmp_path / "unknown", repair=["crops"])


def test_loss_equals_its_definition(rng: np.random.Generator) -> None:
    """Summed over windows and positions with the label repeated, divided by the number of videos."""
    maps = [rng.normal(size=(3, 4, 2, 2, 5)) for _ in range(2)]
    labels = np.array([2, 0, 3])
    want = []
    for logits in maps:
        total = 0.0
        for n in range(3):
            for w, h, x in np.ndindex(2, 2, 5):
                scores = logits[n, :, w, h, x]
                total += np.log(np.exp(scores).sum()) - scores[labels[n]]
        want.append(total / 3)
    tensors = [torch.from_numpy(logits) for logits in maps]
    targets = torch.from_numpy(labels)
    assert stream_loss(tensors[0], targets).item() == pytest.approx(want[0], rel=1e-12)
    assert total_loss(joint_output(*tensors), targets).item() == pytest.approx(sum(want), rel=1e-12)
    assert total_loss(joint_output(None, tensors[1]), targets).item() == pytest.approx(want[1], rel=1e-12)


def test_last_update_of_a_pass_has_the_rest() -> None:
    assert [videos_in_update(at, 128, 9537) for at in (0, 127, 128, 9471, 9472, 9536)] == [128, 128, 128, 128, 65, 65]
    assert videos_in_update(5, 8, 6) == 6


def test_every_video_of_an_update_weighs_the_same(rng: np.random.Generator) -> None:
    """Seven clips in sub-batches of 2, 2, 2, 1 and updates of 4 and 3; Lightning divides by the two sub-batches."""
    model = create_model("appearance_resnet50", 3, units=(1, 1, 1, 1), width_mult=1 / 32, input_size=32, head_pool=1)
    settings: dict[str, Any] = {"learning_rates": [0.1], "passes_per_rate": 1, "weight_decay": 0.0, "momentum": 0.9}
    module = TwoStreamModule(
        model, batch_size=4, clips_per_pass=7, scorer=lambda *_: torch.empty(0), seed=0, **settings
    )
    module.eval()
    module._trainer = SimpleNamespace(accumulate_grad_batches=2)  # type: ignore[assignment]
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    for index, (size, update) in enumerate([(2, 4), (2, 4), (2, 3), (1, 3)]):
        rgb = torch.from_numpy(rng.integers(0, 256, (size, 1, 3, 32, 32), np.uint8))
        batch = SimpleNamespace(rgb=rgb, flow=None, label=torch.arange(size))
        summed = sum(total_loss(model(rgb[i : i + 1]), batch.label[i : i + 1]).item() for i in range(size))
        assert module.training_step(batch, index).item() / 2 == pytest.approx(summed / update, rel=1e-5)


def test_run_folder_holds_everything(tiny_project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *("train", "--dataset", str(tiny_project.dataset), "--network", "st_mulnet_resnet50"),
        *("--out", str(tmp_path / "run"), "--learning_rates", "[0.01, 0.001]", "--passes_per_rate", "1"),
        *("--batch_size", "4", "--sub_batch_size", "2", "--strides", "[1, 2]", "--device", "cpu", "--cache"),
        *("--validate_every", "1", "--validation_frames", "5", "--network_options", json.dumps(OPTIONS)),
    ]
    assert cli.main(arguments) == 0
    assert "run: epoch 2/2  " in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "last.ckpt", "config.json", "history.json", "tensorboard"} <= names
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2]
    assert {"train_loss", "train_top1", "val_top1"} <= history[0].keys()
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.class_names == tiny_project.class_names
    assert model.metadata["training"]["learning_rates"] == [0.01, 0.001]
    assert model.metadata["preprocessing"]["frames"]["short_side"] == 64
    assert model.metadata["metric"]["top1"] == history[-1]["val_top1"]
    assert model.metadata["metric"]["list"] == "validation list of split 1"


@pytest.mark.parametrize("network", ["appearance_resnet50", "motion_resnet50", "two_stream_resnet50"])
def test_other_networks_train_too(network: str, tiny_project: Any, tmp_path: Path) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != "fusion"}
    weights = run(tiny_project, tmp_path / "run", network, network_options=options, learning_rates=[0.01]).weights
    assert load_model(weights).config.streams == {"appearance_resnet50": ("appearance",)}.get(
        network, ("motion",) if network == "motion_resnet50" else ("appearance", "motion")
    )


def test_same_seed_same_weights(tiny_project: Any, tmp_path: Path) -> None:
    states = [
        load_model(run(tiny_project, tmp_path / str(i), seed=seed).weights).state_dict()
        for i, seed in enumerate((3, 3, 4))
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["motion.conv1.weight"], states[2]["motion.conv1.weight"])


def test_interrupted_and_resumed_equals_uninterrupted(
    tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_model(run(tiny_project, tmp_path / "whole").weights).state_dict()
    batch_end = EpochReport.on_train_batch_end
    stop_in: list[int] = []

    def interrupt(self: EpochReport, trainer: Any, *args: Any) -> None:
        batch_end(self, trainer, *args)
        if trainer.current_epoch == stop_in[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochReport, "on_train_batch_end", interrupt)
        for epoch, advice in enumerate(("the same command starts again", "the same command with --resume goes on")):
            stop_in[:] = [epoch]
            with pytest.raises(KeyboardInterrupt):
                run(tiny_project, tmp_path / "part")
            assert advice in capsys.readouterr().err
    assert not (tmp_path / "part" / "model.safetensors").exists()
    resumed = load_model(run(tiny_project, tmp_path / "part", resume=True).weights).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [row["epoch"] for row in json.loads((tmp_path / "part" / "history.json").read_text())] == [1, 2]


def test_bad_runs_are_refused(tiny_project: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch_size 4 must be a multiple of sub_batch_size 3"):
        run(tiny_project, tmp_path / "run", sub_batch_size=3)
    with pytest.raises(ConfigError, match=r"holds no last.ckpt to resume from"):
        run(tiny_project, tmp_path / "run", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        run(tiny_project, tmp_path / "file")
    with pytest.raises(ConfigError, match="use it with workers 0"):
        run(tiny_project, tmp_path / "run", workers=1)
    with pytest.raises(StmulnetError, match=r"annot07\.json"):
        run(tiny_project, tmp_path / "run", split=7)
    with pytest.raises(ConfigError, match="no network 'x'"):
        run(tiny_project, tmp_path / "run", network="x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(ConfigError, match="photos holds other files"):
        run(tiny_project, tmp_path / "photos")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": []}, r"learning_rates must be positive numbers, at least one, got \[\]"),
        ({"learning_rates": [0.1, 0.0]}, "learning_rates must be positive"),
        ({"learning_rates": [float("nan")]}, "learning_rates must be positive"),
        ({"batch_size": -4}, "batch_size must be at least 1, got -4"),
        ({"sub_batch_size": 0}, "sub_batch_size must be at least 1, got 0"),
        ({"workers": -1}, "workers must be 0 or more, got -1"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1"),
        ({"seed": 2**32}, "seed must be at most 4294967295"),
        ({"frames": 4}, "frames must be 5 to 1000 for this network, got 4"),
        ({"validate_every": 1, "validation_frames": 0}, "frames must be 5 to 1000"),
        ({"network_options": {"num_classes": 3}}, "a network has no option 'num_classes'; it has"),
        ({"network_options": {1: 2}}, "a network has no option 1; it has"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not usable"),
    ],
)
def test_bad_numbers_leave_nothing(changes: dict[str, Any], message: str, tiny_project: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_project, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_overwritten_nor_resumed_otherwise(tiny_project: Any, tmp_path: Path) -> None:
    run(tiny_project, tmp_path / "run", learning_rates=[0.01])
    with pytest.raises(ConfigError, match="holds a training run already"):
        run(tiny_project, tmp_path / "run", learning_rates=[0.01])
    with pytest.raises(ConfigError, match=r"started with other values of seed \(0, now 1\)"):
        run(tiny_project, tmp_path / "run", learning_rates=[0.01], seed=1, resume=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_missing_frames_are_named_in_one_line(tiny_project: Any, tmp_path: Path, workers: int) -> None:
    shutil.copytree(tiny_project.dataset, tmp_path / "dataset")
    for image in (tmp_path / "dataset" / "images").glob("*/frame000008.jpg"):
        image.unlink()
    project = SimpleNamespace(dataset=tmp_path / "dataset")
    with pytest.raises(DatasetError, match=r"frame000008\.jpg: cannot be read") as caught:
        run(project, tmp_path / "run", cache=False, workers=workers)
    assert "Traceback" not in str(caught.value)


def test_divergence_stops_with_the_reason(tiny_project: Any, tmp_path: Path) -> None:
    with pytest.raises(StmulnetError, match="use smaller learning rates"):
        run(tiny_project, tmp_path / "run", learning_rates=[1e30])


def test_missing_extra_names_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning.pytorch")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'stmulnet\[train\]'"):
        train(tmp_path, "st_mulnet_resnet50", tmp_path / "run")


def test_crops_that_see_little_of_the_frame_are_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    for short_side, said in ((128, False), (256, True)):
        _warn_of_small_crops({"preprocessing": {"frames": {"short_side": short_side}}}, 112)
        text = "crops are 84 to 140 pixels, frames have a short side of 256"
        printed = capsys.readouterr().err
        assert (text in printed and "--short-side 128" in printed) is said
    _warn_of_small_crops({}, 64)
    assert capsys.readouterr().err == ""
