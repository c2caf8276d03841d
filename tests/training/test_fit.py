"""Training end to end on a tiny data set: run folder, options, resuming, bad input."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped] # the stubs are a package of their own
from tests.training.runs import OPTIONS, run, same, state

from stmulnet import cli, load_model
from stmulnet.commands.train import _warn_of_small_crops, train
from stmulnet.datasets.transforms import TrainTransform
from stmulnet.errors import ConfigError, DatasetError, MissingExtraError, StmulnetError
from stmulnet.files import locked
from stmulnet.training import fit
from stmulnet.training.loop import Loop


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


def test_run_folder_holds_everything(tiny_project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *("train", "--dataset", str(tiny_project.dataset), "--network", "st_mulnet_resnet50"),
        *("--out", str(tmp_path / "run"), "--learning_rates", "[0.01, 0.001]", "--passes_per_epoch", "1"),
        *("--batch_size", "4", "--sub_batch_size", "2", "--strides", "[1, 2]", "--device", "cpu", "--cache"),
        *("--validate_every", "1", "--validation_frames", "5", "--network_options", json.dumps(OPTIONS)),
    ]
    assert cli.main(arguments) == 0
    assert "run: epoch 2/2  train_loss" in capsys.readouterr().err
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "network.json", "data.json", "environment.json", "metrics.csv", "curves.png"),
        *("checkpoints", "tensorboard", "best.safetensors", "model.safetensors"),
    }
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["updates"], row["learning_rate"]) for row in rows] == [
        ("1", "2", "0.01"),
        ("2", "4", "0.001"),
    ]
    assert all(float(row[name]) >= 0 for row in rows for name in ("train_loss", "val_top1", "val_top1_motion"))
    data = json.loads((folder / "data.json").read_text())
    assert (data["split"], data["training_videos"], data["validation_videos"]) == (1, 6, 6)
    assert data["preprocessing"]["frames"]["short_side"] == 64
    assert json.loads((folder / "environment.json").read_text())["libraries"]["torch"] == torch.__version__
    model = load_model(folder / "model.safetensors")
    assert model.class_names == tiny_project.class_names
    assert model.metadata["training"]["learning_rates"] == [0.01, 0.001]
    assert model.metadata["training"]["data"] == data
    assert model.metadata["preprocessing"]["frames"]["short_side"] == 64
    assert model.metadata["metric"]["top1"] == pytest.approx(float(rows[-1]["val_top1"]))
    assert model.metadata["metric"]["list"] == "validation list of split 1"
    best = load_model(folder / "best.safetensors").metadata["metric"]
    assert best["top1"] == pytest.approx(max(float(row["val_top1"]) for row in rows))
    assert best["chosen_by"]


def test_recorded_options_give_the_same_run_again(tiny_project: Any, tmp_path: Path) -> None:
    run(tiny_project, tmp_path / "one")
    arguments = ["train", "--config", str(tmp_path / "one" / "config.yaml"), "--out", str(tmp_path / "two")]
    assert cli.main([*arguments, "--device", "cpu"]) == 0
    assert same(state(tmp_path / "one"), state(tmp_path / "two"))


@pytest.mark.parametrize("network", ["appearance_resnet50", "motion_resnet50", "two_stream_resnet50"])
def test_other_networks_train_too(network: str, tiny_project: Any, tmp_path: Path) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != "fusion"}
    weights = run(tiny_project, tmp_path / "run", network, network_options=options, learning_rates=[0.01]).weights
    assert load_model(weights).config.streams == {"appearance_resnet50": ("appearance",)}.get(
        network, ("motion",) if network == "motion_resnet50" else ("appearance", "motion")
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine", "learning_rates": [0.01], "epochs": 2, "warmup_epochs": 0.5},
        {"optimizer": "adamw", "clip_gradients": 1.0, "label_smoothing": 0.1, "mixup": 0.2},
        {"precision": "bf16"},
        {"ema": 0.9, "validate_every": 1, "validation_frames": 5},
        {"frames": 1, "network": "motion_resnet50", "augmentation": "multiScaleRegular"},
    ],
)
def test_options_change_the_weights_and_repeat(changes: dict[str, Any], tiny_project: Any, tmp_path: Path) -> None:
    options = dict(OPTIONS)
    if "network" in changes:
        del options["fusion"]
    common = {"network_options": options, **{key: value for key, value in changes.items() if key == "network"}}
    plain = {} if "frames" not in changes else {"frames": 5}
    for name, settings in (("plain", common | plain), ("one", common | changes), ("two", common | changes)):
        run(tiny_project, tmp_path / name, **settings)
    assert same(state(tmp_path / "one"), state(tmp_path / "two"))
    assert not same(state(tmp_path / "one"), state(tmp_path / "plain"))


def test_recomputed_stages_give_the_same_weights(tiny_project: Any, tmp_path: Path) -> None:
    run(tiny_project, tmp_path / "kept")
    run(tiny_project, tmp_path / "recomputed", gradient_checkpointing=True)
    assert same(state(tmp_path / "kept"), state(tmp_path / "recomputed"))


@pytest.mark.parametrize("network", ["st_mulnet_resnet50", "motion_resnet50"])
def test_crops_resized_on_the_device_train_alike(network: str, tiny_project: Any, tmp_path: Path) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != "fusion" or "mulnet" in network}
    cases: dict[str, dict[str, Any]] = {"loader": {}, "device": {"resize_on_device": True}, "other": {"seed": 5}}
    losses = {}
    for name, changes in cases.items():
        # A rate at which pixels that are one level apart cannot add up.
        run(
            tiny_project, tmp_path / name, network, network_options=options, learning_rates=[1e-7], mixup=0.2, **changes
        )
        with (tmp_path / name / "metrics.csv").open() as file:
            losses[name] = float(next(csv.DictReader(file))["train_loss"])
    assert losses["device"] == pytest.approx(losses["loader"], rel=1e-4)
    assert losses["other"] != pytest.approx(losses["loader"], rel=1e-3)


def test_same_seed_same_weights_whatever_the_loader(tiny_project: Any, tmp_path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {"a": {}, "b": {"cache": False, "workers": 1}, "c": {"seed": 4}}
    for name, changes in cases.items():
        run(tiny_project, tmp_path / name, **({"seed": 3} | changes))
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))
    assert not torch.equal(state(tmp_path / "a")["motion.conv1.weight"], state(tmp_path / "c")["motion.conv1.weight"])


def test_a_hold_out_takes_the_place_of_the_test_list(
    tiny_project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation = json.loads((tiny_project.dataset / "annotations" / "annot01.json").read_text())
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny_project.dataset, dataset)
    both = annotation["training"] | annotation["validation"]  # two groups per class
    (dataset / "annotations" / "annot01.json").write_text(json.dumps(annotation | {"training": both, "validation": {}}))
    project = SimpleNamespace(dataset=dataset)
    run(project, tmp_path / "run", holdout=0.5, validate_every=1, validation_frames=5)
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (data["training_videos"], data["validation_videos"]) == (6, 6)
    assert "held out: 6 of the 12 training videos (50%), by whole groups" in capsys.readouterr().err
    metric = load_model(tmp_path / "run" / "best.safetensors").metadata["metric"]
    assert metric["list"] == "hold-out of the training list of split 1"
    with pytest.raises(StmulnetError, match="no class has two groups of training videos"):
        run(tiny_project, tmp_path / "none", holdout=0.5)


def test_the_moving_average_is_what_is_saved_and_returned(
    tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[Any] = []
    original = fit.fit
    monkeypatch.setattr(fit, "fit", lambda *given, **options: returned.append(original(*given, **options)))
    for ema in (0, 0.9):
        run(tiny_project, tmp_path / str(ema), ema=ema)
    assert same(returned[0].state_dict(), state(tmp_path / "0"))
    assert same(returned[1].state_dict(), state(tmp_path / "0.9"))
    assert not same(returned[0].state_dict(), returned[1].state_dict())
    assert not returned[1].training


def test_a_second_stage_starts_from_the_weights_of_the_first(
    tiny_project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = OPTIONS | {"temporal_conv": None}
    first = run(tiny_project, tmp_path / "first", "st_resnet50", network_options=options | {"temporal_pool": None})
    pooled = options | {"temporal_pool": {"kind": "max", "window": 5, "stride": 2}}
    settings: dict[str, Any] = {"weights": first.weights, "learning_rates": [1e-9], "frames": 7}
    run(tiny_project, tmp_path / "second", "st_resnet50", network_options=pooled, **settings)
    one, two = state(tmp_path / "first"), state(tmp_path / "second")
    assert all(torch.allclose(two[name], value, atol=1e-6) for name, value in one.items() if "running" not in name)
    model = load_model(tmp_path / "second" / "model.safetensors")
    assert model.metadata["provenance"]["motion"]["file"] == "model.safetensors"
    assert model.config.temporal_pool is not None
    with pytest.raises(ConfigError, match=r"model\.safetensors holds another network than the one to train"):
        run(tiny_project, tmp_path / "third", **settings)
    with pytest.raises(ConfigError, match="weights of the whole network, or of its streams, not both"):
        run(tiny_project, tmp_path / "third", **settings, appearance_weights=first.weights)
    assert not (tmp_path / "third").exists()


def test_frozen_layers_of_start_weights_stay_as_they_are(tiny_project: Any, tmp_path: Path) -> None:
    first = run(tiny_project, tmp_path / "first").weights
    settings: dict[str, Any] = {"weights": first, "batchnorm": "frozen", "validate_every": 1, "validation_frames": 5}
    run(tiny_project, tmp_path / "frozen", ema=0.9, **settings)
    before, after = state(tmp_path / "first"), state(tmp_path / "frozen")
    frozen = {name for name in before if "bn_conv1" in name or ".1." in name}
    assert any(name.endswith("running_var") for name in frozen)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["motion.conv1.weight"], after["motion.conv1.weight"])
    assert not torch.equal(before["appearance.res2.b.branch2a.0.weight"], after["appearance.res2.b.branch2a.0.weight"])


@pytest.mark.parametrize(("missing", "message"), [("training", "no training videos"), ("validation", "give a holdout")])
def test_empty_lists_are_refused(missing: str, message: str, tiny_project: Any, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny_project.dataset, dataset)
    path = dataset / "annotations" / "annot01.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {missing: {}}))
    with pytest.raises(StmulnetError, match=message):
        run(SimpleNamespace(dataset=dataset), tmp_path / "run", validate_every=1, validation_frames=5)
    assert not (tmp_path / "run").exists()


def test_bad_runs_are_refused(tiny_project: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch_size 4 must be a multiple of sub_batch_size 3"):
        run(tiny_project, tmp_path / "run", sub_batch_size=3)
    with pytest.raises(ConfigError, match=r"holds no checkpoint to resume from; start without --resume"):
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
        ({"schedule": "cosine"}, r"schedule cosine .* got learning_rates \[0.01, 0.001\] and epochs None"),
        ({"validate_every": 3}, "validate_every must be at most the 2 epochs, got 3: nothing would be validated"),
        ({"epochs": 0}, "epochs must be at least 1, or null for one per learning rate, got 0"),
        ({"schedule": "linear"}, "schedule is one of list, cosine, got 'linear'"),
        ({"warmup_epochs": 2}, "warmup_epochs must be less than the 2 epochs, got 2"),
        ({"batch_size": -4}, "batch_size must be at least 1, got -4"),
        ({"sub_batch_size": 0}, "sub_batch_size must be at least 1, got 0"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be at least 1, got 0"),
        ({"workers": -1}, "workers must be 0 or more, got -1"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"clip_gradients": float("inf")}, "clip_gradients must be 0 or more, got inf"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1"),
        ({"ema": 1.0}, r"ema must lie in \[0, 1\), got 1"),
        ({"batchnorm_rate": 0.0}, "batchnorm_rate must be above 0 and at most 1, got 0"),
        ({"mixup": 0.2, "sub_batch_size": 1}, "mixup mixes the videos of a sub-batch"),
        ({"seed": 2**32}, "seed must be at most 4294967295"),
        ({"frames": 4}, "frames must be 5 to 1000 for this network, got 4"),
        ({"validate_every": 1, "validation_frames": 0}, "frames must be 5 to 1000"),
        ({"network_options": {"num_classes": 3}}, "a network has no option 'num_classes'; it has"),
        ({"network_options": {1: 2}}, "a network has no option 1; it has"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not usable"),
        ({"precision": "fp16"}, "precision fp16 needs a GPU; on a CPU use bf16 or float32"),
        ({"batchnorm": "sync"}, "batchnorm sync needs GPUs"),
        ({"batchnorm": "frozen"}, "there are none for appearance and motion: give weights"),
    ],
)
def test_bad_numbers_leave_nothing(changes: dict[str, Any], message: str, tiny_project: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tiny_project, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_overwritten_nor_resumed_otherwise(tiny_project: Any, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny_project.dataset, dataset)
    project = SimpleNamespace(dataset=dataset)
    run(project, tmp_path / "run", learning_rates=[0.01])
    with pytest.raises(ConfigError, match="holds a training run already"):
        run(project, tmp_path / "run", learning_rates=[0.01])
    with pytest.raises(ConfigError, match=r"started with other values of seed \(0, now 1\)"):
        run(project, tmp_path / "run", learning_rates=[0.01], seed=1, resume=True)
    weights = state(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    run(project, tmp_path / "run", learning_rates=[0.01], resume=True, cache=False, checkpoint_minutes=3)
    assert same(weights, state(tmp_path / "run"))
    annotation = dataset / "annotations" / "annot01.json"
    annotation.write_text(annotation.read_text() + " ")
    with pytest.raises(ConfigError, match=r"not what .* was started with, it differs in annotation_sha256"):
        run(project, tmp_path / "run", learning_rates=[0.01], resume=True)
    (tmp_path / "run" / "config.yaml").write_text("[]")
    with pytest.raises(ConfigError, match=r"config\.yaml: holds no options"):
        run(project, tmp_path / "run", learning_rates=[0.01], resume=True)


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
    with pytest.raises(
        StmulnetError, match=r"the loss is (nan|inf) in epoch 1, update \d: start again with smaller learning rates"
    ):
        run(tiny_project, tmp_path / "run", learning_rates=[1e30])
    # After update 3, the first one at that rate, the weights are huge: a checkpoint of them is no good one.
    with pytest.raises(StmulnetError, match=r"update 4: .*; the last good checkpoint is .*update-0000002\.ckpt"):
        run(tiny_project, tmp_path / "kept", learning_rates=[1e-3, 1e30, 1e30], checkpoint_minutes=0)


def test_weights_that_are_not_finite_are_never_saved(
    tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients can overflow while the loss is finite; here in the last update of all."""
    step = Loop._step

    def overflow(self: Loop) -> None:
        if self.position.updates == 3:
            self.parameters[0].grad = torch.full_like(self.parameters[0], float("inf"))
        step(self)

    monkeypatch.setattr(Loop, "_step", overflow)
    message = r"weights are not finite in epoch 2, update 4: .*; the last good checkpoint is .*update-0000003\.ckpt"
    with pytest.raises(StmulnetError, match=message):
        run(tiny_project, tmp_path / "run", checkpoint_minutes=0, keep_checkpoints=1)
    assert [path.name for path in tmp_path.glob("run/checkpoints/*")] == ["update-0000003.ckpt"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_missing_extra_names_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning.fabric")

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


def test_recorded_options_are_plain(tiny_project: Any, tmp_path: Path) -> None:
    run(tiny_project, tmp_path / "run", learning_rates=[0.01])
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (recorded["learning_rates"], recorded["strides"], recorded["repair"]) == ([0.01], [1, 2], [])
    assert recorded["weights"] is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own, when it compiles
def test_compiled_it_learns_the_same(tiny_project: Any, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    # Compiled, dropout draws other numbers.
    settings: dict[str, Any] = {"learning_rates": [0.01], "network_options": OPTIONS | {"dropout": 0.0}}
    settings |= {"validate_every": 1, "validation_frames": 5}
    run(tiny_project, tmp_path / "eager", **settings)
    run(tiny_project, tmp_path / "compiled", compile=True, **settings)
    eager, compiled = state(tmp_path / "eager"), state(tmp_path / "compiled")
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


def test_two_trainings_do_not_write_into_one_folder(tiny_project: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        locked(tmp_path / "run", None),
        pytest.raises(ConfigError, match="run: another training is writing there; wait for its end, or stop it"),
    ):
        run(tiny_project, tmp_path / "run")


def test_a_data_set_may_be_named_otherwise_when_a_run_goes_on(
    tiny_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_project, tmp_path / "run", learning_rates=[0.01])
    monkeypatch.chdir(tiny_project.dataset.parent)
    project = SimpleNamespace(dataset=Path(tiny_project.dataset.name))
    run(project, tmp_path / "run", learning_rates=[0.01], resume=True)


def test_a_hold_out_that_nobody_looks_at_is_pointed_out(
    tiny_project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StmulnetError):  # one group of videos per class
        run(tiny_project, tmp_path / "run", holdout=0.5)
    assert "nothing is validated on them without --validate-every" in capsys.readouterr().err
