"""Networks from streams that were trained before: what is taken over, what is refused, in which words."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.oracle.files import base_stream, write
from tests.oracle.surgery import st_mulnet
from tests.oracle.torchvision_resnet import random_state

from stmulnet import create_model, load_model, save_model
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.config import StreamConfig
from stmulnet.models.multiplier import Network
from stmulnet.models.sources import check_unseen
from stmulnet.models.temporal import PointwiseTemporalConv

TINY: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 1 / 32, "input_size": 64, "head_pool": "global"}
NAMES = ["run", "jump", "wave"]


def randomise(model: Network, seed: int) -> Network:
    """Every tensor of its own values, means and standard deviations too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + ("_mean" in name))
    return model


def stream(
    kind: str, folder: Path, name: str, *, dataset: str = "ucf101", split: int | None = 1, **options: Any
) -> Path:
    """A single-stream file as training leaves it."""
    options = {"class_names": NAMES, **TINY, **options}
    model = randomise(create_model(f"{kind}_resnet50", options.pop("num_classes", 3), **options), seed=len(name))
    path = folder / f"{name}.safetensors"
    save_model(model, path, metadata={"training": {"dataset": dataset, "split": split}})
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return stream("appearance", tmp_path, "image")


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    return stream("motion", tmp_path, "flow_")


def build(image: Path | None, flow: Path | None, name: str = "st_mulnet_resnet50", **options: Any) -> Network:
    options = {**TINY, "num_classes": 3, **options}
    return create_model(name, appearance_weights=image, motion_weights=flow, **options)


def tensors(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith(prefix)}


def test_streams_are_taken_over_and_connected(image: Path, flow: Path) -> None:
    model = build(image, flow)
    state = model.state_dict()
    for path, prefix in ((image, ("appearance.", "rgb_")), (flow, ("motion.", "flow_"))):
        for part in prefix:
            for name, tensor in tensors(path, part).items():
                assert torch.equal(state[name], tensor), name
    assert model.class_names == NAMES
    assert model.config.motion is not None
    assert model.config.motion.dropout == 0.8
    assert set(model.metadata) == {"provenance"}
    assert model.metadata["provenance"] == {
        "appearance": {"file": "image.safetensors", "dataset": "ucf101", "split": 1},
        "motion": {"file": "flow_.safetensors", "dataset": "ucf101", "split": 1},
    }


def test_an_assembled_network_scores_like_its_streams_where_nothing_connects_them(image: Path, flow: Path) -> None:
    rgb, fields = torch.randint(0, 256, (2, 5, 3, 64, 64)), torch.randint(0, 256, (2, 5, 20, 64, 64))
    with torch.inference_mode():
        output = build(image, flow, "two_stream_resnet50").eval()(rgb, fields)
        torch.testing.assert_close(output.appearance, load_model(image)(rgb).appearance)
        torch.testing.assert_close(output.motion, load_model(flow)(fields).motion)


def test_temporal_convolutions_start_as_they_do_without_files(image: Path, flow: Path) -> None:
    model = build(image, flow, fusion={"scale": True})
    weight = model.get_parameter("motion.res3.b.time.weight")
    assert torch.equal(weight[:, :, 1, 0], torch.eye(len(weight)))
    assert torch.equal(weight[:, :, ::2], torch.zeros_like(weight[:, :, ::2]))
    assert torch.equal(model.get_parameter("into_appearance.res3.scale.weight"), torch.full((16,), 0.1))


def test_filters_that_become_temporal_are_spread(image: Path, flow: Path) -> None:
    """As in STResNet_stage1.m: a third of the 1x1 filter in each tap."""
    model = build(image, flow, "st_resnet50")
    name = "appearance.res4.b.branch2c.0"
    assert isinstance(model.get_submodule(name), PointwiseTemporalConv)
    pointwise = tensors(image, name)[f"{name}.weight"]
    assert torch.equal(model.get_parameter(f"{name}.weight"), (pointwise / 3).repeat(1, 1, 3, 1))


def test_one_stream_alone(image: Path, flow: Path) -> None:
    state = build(image, None).state_dict()
    assert torch.equal(state["appearance.conv1.weight"], tensors(image, "app")["appearance.conv1.weight"])
    assert not torch.equal(state["motion.conv1.weight"], tensors(flow, "mot")["motion.conv1.weight"])
    alone = build(None, flow, "motion_resnet50")
    assert torch.equal(alone.state_dict()["flow_std"], tensors(flow, "flow")["flow_std"])


def test_a_trained_stream_remembers_where_it_started(image: Path, tmp_path: Path) -> None:
    again = build(image, None, "appearance_resnet50")
    save_model(again, tmp_path / "again.safetensors", metadata={"training": {"dataset": "hmdb51", "split": 2}})
    record = build(tmp_path / "again.safetensors", None).metadata["provenance"]["appearance"]
    start = {"file": "image.safetensors", "dataset": "ucf101", "split": 1}
    assert record == {"file": "again.safetensors", "dataset": "hmdb51", "split": 2, "from": start}
    save_model(again, tmp_path / "untrained.safetensors")
    assert build(tmp_path / "untrained.safetensors", None).metadata["provenance"] == {"appearance": start}


SURGERIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # network, our options, the script's switches
    "as published": ("st_mulnet_resnet50", {}, {}),
    "both directions, sums of scaled states": (
        "st_mulnet_resnet50",
        {"fusion": {"operation": "add", "direction": "both", "scale": True}},
        {"do_bidirectional": True, "do_sum": True, "do_mul": False, "do_scale": True},
    ),
    "differences over time, one stage": (
        "st_mulnet_resnet50",
        {"fusion": {"stages": [4]}, "temporal_conv": "difference"},
        {"stages": (4,), "add_conv3d": 10},
    ),
    "1x1 convolutions over time": ("st_mulnet_resnet50", {"temporal_conv": "pointwise"}, {"add_conv3d": 1}),
}


@pytest.mark.parametrize(
    ("surgery", "numbered"), [*((name, ()) for name in SURGERIES), ("as published", (3, 4))], ids=str
)
def test_what_the_authors_script_makes_of_two_files(surgery: str, numbered: tuple[int, ...], tmp_path: Path) -> None:
    """The script, written anew in the tests, and we assemble the same network of the same files."""
    name, options, switches = SURGERIES[surgery]
    shape: dict[str, Any] = {"units": TINY["units"], "width": 2, "num_classes": 11}
    nets = (
        base_stream("img", **shape, seed=1),
        base_stream("flow", **shape, dropout=0.8, numbered_stages=numbered, conv1_bias=not numbered, seed=2),
    )
    image, flow = tmp_path / "hmdb51-img-split3.mat", tmp_path / "HMDB51-flow-split3.mat"
    for net, path in zip((*nets, st_mulnet(*nets, **switches)), (image, flow, tmp_path / "fused.mat"), strict=True):
        write(net, path)
    wanted = load_model(tmp_path / "fused.mat")
    found = build(image, flow, name, num_classes=11, input_size=224, head_pool=7, **options).eval()
    assert found.class_names == wanted.class_names
    # A file does not say what temporal convolutions started from.
    kind: dict[str, Any] = {"temporal_conv": wanted.config.temporal_conv}
    assert dataclasses.replace(found.config, **kind) == wanted.config
    for key, tensor in wanted.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], tensor, rtol=1e-6, atol=1e-6, msg=key)


def test_published_layout_of_base_files(shared_dir: Path) -> None:
    folder = shared_dir / "fixtures" / "matconvnet"
    wanted = load_model(folder / "ucf101ST-MulNet-imgtiny-flowtiny-final-split=1.mat")
    model = create_model(
        "st_mulnet_resnet50",
        11,
        appearance_weights=folder / "ucf101-img-resnettiny-split1-dr0.mat",
        motion_weights=folder / "ucf101-flow-resnettiny-split1-dr0.8.mat",
        units=(2, 2, 2, 3),
        width_mult=1 / 8,
    )
    assert model.config == wanted.config
    for name, tensor in wanted.state_dict().items():  # its statistics are newer, its temporal convolutions trained
        if "running" not in name and ".time." not in name:
            torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-5, atol=0, msg=name)


def test_imagenet_of_matconvnet_starts_both_streams(tmp_path: Path) -> None:
    """Averaged first filters, a new classifier in place of that for 1000 classes, flow divided by nothing."""
    path = tmp_path / "imagenet-resnet-tiny-dag.mat"
    write(base_stream("img", units=TINY["units"], width=2, num_classes=1000, imagenet_classes=True), path)
    given = load_model(path).state_dict()
    state = build(path, path).state_dict()
    filters = given["appearance.conv1.weight"]
    assert torch.equal(state["appearance.conv1.weight"], filters)
    assert torch.equal(state["motion.conv1.weight"], filters.mean(1, keepdim=True).repeat(1, 20, 1, 1))
    for part in ("conv1.bias", "res5.b.branch2b.0.weight", "bn_conv1.running_var"):
        assert torch.equal(state[f"motion.{part}"], given[f"appearance.{part}"])
    assert torch.equal(state["rgb_mean"], given["rgb_mean"])
    assert torch.equal(state["flow_mean"], torch.full((20,), 128.0))
    assert torch.equal(state["flow_std"], torch.ones(20))
    for name in ("appearance", "motion"):
        assert state[f"{name}.head.fc.weight"].shape[0] == 3
        assert 0 < state[f"{name}.head.fc.weight"].abs().max() < 0.1
        assert not state[f"{name}.head.fc.bias"].any()


def test_a_classifier_of_imagenet_stays_only_where_its_classes_are_asked_for(tmp_path: Path) -> None:
    state = random_state(50, 1000, width=2, units=TINY["units"])
    torch.save(state, tmp_path / "x.pth")
    model = build(tmp_path / "x.pth", tmp_path / "x.pth", num_classes=1000)
    assert torch.equal(model.get_parameter("appearance.head.fc.bias"), state["fc.bias"])
    assert not model.get_parameter("motion.head.fc.bias").any()


def test_a_file_in_torchvisions_form_with_other_classes_is_not_imagenet(
    flow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "resnet50-ucf101-split2.pth"
    state = random_state(50, 3, width=2, units=TINY["units"])
    torch.save(state, path)
    alone = build(path, None)
    assert torch.equal(alone.get_parameter("appearance.head.fc.bias"), state["fc.bias"])
    record = {"file": path.name, "dataset": "ucf101", "split": 2}
    assert alone.metadata["provenance"] == {"appearance": record}
    with pytest.raises(ConfigError, match=r"split2\.pth has 3 classes, the network 7; give other files"):
        build(path, None, num_classes=7)
    assert capsys.readouterr().err == ""
    build(path, None, num_classes=7, allow_mismatch=True)
    assert "allowed: the classifier of the appearance stream is then a new one" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"split2\.pth was trained on split 2 of ucf101, flow_"):
        build(path, flow)
    with pytest.raises(ConfigError, match=r"takes a motion stream or ImageNet weights \(of 1000 classes\)"):
        build(None, path)
    again = path.rename(tmp_path / "x.pth")
    assert build(again, None).metadata["provenance"]["appearance"]["dataset"] is None


def test_geometry_follows_the_file_unless_it_is_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pth"
    torch.save(random_state(50, 1000, width=2, units=TINY["units"]), path)
    config = build(path, None).config
    assert config.appearance is not None
    assert config.motion is not None
    assert (config.appearance.geometry, config.appearance.conv1_bias) == ("torch", False)
    assert (config.motion.geometry, config.motion.conv1_bias) == ("caffe", True)
    assert build(path, path, geometry="torch", conv1_bias=False).config.motion == dataclasses.replace(
        config.appearance, dropout=0.8
    )
    whole = StreamConfig(TINY["units"], TINY["width_mult"])
    for options in ({"geometry": "caffe"}, {"appearance": {"geometry": "caffe"}}, {"appearance": whole}):
        with pytest.raises(ConfigError, match=r"the file has ResNet-26, geometry torch.*; the network has .*caffe"):
            build(path, None, **options)
    assert build(path, None, geometry="caffe", allow_mismatch=True).config.appearance == config.appearance
    assert "note: " in capsys.readouterr().err


def test_another_depth_is_refused_or_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stream("appearance", tmp_path, "deep", units=(2, 3, 2, 2))
    with pytest.raises(
        ConfigError,
        match=r"deep\.safetensors does not fit the appearance stream: the file has ResNet-29, units \(2, 3, 2, 2\); "
        r"the network has ResNet-26, units \(2, 2, 2, 2\); give other files, or allow it \(allow_mismatch\): ",
    ):
        build(path, None)
    assert capsys.readouterr().err == ""
    config = build(path, None, allow_mismatch=True, appearance={"dropout": 0.3}).config
    assert config.appearance == StreamConfig((2, 3, 2, 2), 1 / 32, dropout=0.3)
    assert "note: " in capsys.readouterr().err


def test_another_width_is_refused(image: Path, tmp_path: Path) -> None:
    wide = stream("motion", tmp_path, "wide", width_mult=1 / 16)
    with pytest.raises(ConfigError, match=r"width_mult 0\.0625; the network has .*width_mult 0\.03125"):
        build(image, wide)
    with pytest.raises(
        ConfigError,
        match=r"stream as in .*image\.saf.* motion .*wide\.s.*: fusion at res2 joins 8 with 16 .* width_mult",
    ):
        build(image, wide, allow_mismatch=True)


def test_other_classes_are_refused_or_get_a_new_classifier(
    image: Path, flow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"image\.safetensors has 3 classes, the network 7; give other files"):
        build(image, flow, num_classes=7)
    model = build(image, flow, num_classes=7, allow_mismatch=True)
    assert model.class_names is None
    assert not model.get_parameter("motion.head.fc.bias").any()
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2
    assert notes[1].startswith("note: ")
    assert notes[1].endswith("allowed: the classifier of the motion stream is then a new one")


def test_other_names_of_classes_are_refused(image: Path, tmp_path: Path) -> None:
    other = stream("motion", tmp_path, "other", class_names=["Run", "wave", "jump"])
    with pytest.raises(ConfigError, match=r"class 2 is 'wave' in .*other\.safetensors and 'jump' in .*image\.safeten"):
        build(image, other)
    with pytest.raises(ConfigError, match=r"class 1 is 'run' in .*image\.safetensors and 'walk' in the names given"):
        build(image, None, class_names=["walk", "jump", "wave"])
    assert build(image, other, allow_mismatch=True).class_names == NAMES
    assert build(image, None, class_names=["Run", "JUMP", "wave"]).class_names == ["Run", "JUMP", "wave"]


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("UCF-101", 2, r"image\.safetensors was trained on split 1 of ucf101, x\.safetensors .* split 2 of UCF-101; g"),
        ("hmdb51", 1, r"trained on split 1 of ucf101, x\.safetensors was trained on split 1 of hmdb51"),
        ("hmdb51", None, r"x\.safetensors was trained on split \? of hmdb51"),
    ],
)
def test_streams_from_other_videos_are_refused(
    dataset: str,
    split: int | None,
    message: str,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = stream("motion", tmp_path, "x", dataset=dataset, split=split)
    with pytest.raises(ConfigError, match=message):
        build(image, other)
    capsys.readouterr()
    build(image, other, allow_mismatch=True)
    consequence = "have learnt from the videos" if dataset == "hmdb51" else "no test list is unseen by both"
    assert consequence in capsys.readouterr().err


def test_an_earlier_training_counts_too(image: Path, tmp_path: Path) -> None:
    """On split 2 now, but from a stream that saw split 1."""
    again = build(image, None, "appearance_resnet50")
    save_model(again, tmp_path / "again.safetensors", metadata={"training": {"dataset": "ucf101", "split": 2}})
    other = stream("motion", tmp_path, "other", split=2)
    with pytest.raises(ConfigError, match=r"image\.safetensors was trained on split 1 of ucf101, other"):
        build(tmp_path / "again.safetensors", other)
    provenance = build(tmp_path / "again.safetensors", None).metadata["provenance"]
    check_unseen(provenance, "hmdb51", 3)
    with pytest.raises(
        ConfigError,
        match=r"image\.safetensors was trained on split 1 of ucf101, and has seen videos that split 2 of UCF_101 tests",
    ):
        check_unseen(provenance, "UCF_101", 2)


def test_unknown_origins_and_imagenet_fit_everything(image: Path, tmp_path: Path) -> None:
    save_model(create_model("motion_resnet50", 3, **TINY), tmp_path / "unknown.safetensors")
    build(image, tmp_path / "unknown.safetensors")
    torch.save(random_state(50, 1000, width=2, units=TINY["units"]), tmp_path / "x.pth")
    check_unseen(build(image, tmp_path / "x.pth").metadata["provenance"], "ImageNet", 2)


def test_files_that_are_no_base_of_the_stream_are_refused(image: Path, flow: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"flow_\.safetensors holds a motion stream, appearance_weights takes an app"):
        build(flow, None, allow_mismatch=True)
    with pytest.raises(ConfigError, match="holds an appearance stream, motion_weights takes a motion stream or Image"):
        build(None, image)
    save_model(build(image, flow), tmp_path / "both.safetensors")
    with pytest.raises(ConfigError, match="holds both streams, motion_weights takes a file of one"):
        build(None, tmp_path / "both.safetensors")
    seeing_time = stream("motion", tmp_path, "time", temporal_conv="center")
    with pytest.raises(ConfigError, match="holds a stream with temporal convolutions"):
        build(None, seeing_time)
    with pytest.raises(ConfigError, match="motion_resnet50 has no appearance stream, so it takes no appearance_weig"):
        build(image, None, "motion_resnet50")
    (tmp_path / "x.npz").touch()
    with pytest.raises(CheckpointError, match=r"weights of a stream are files \.mat, \.safetensors, \.pth or \.pt"):
        build(tmp_path / "x.npz", None)


@pytest.mark.parametrize(
    "provenance", ["x", [1], {"file": 3, "dataset": None, "split": 1}, {"appearance": {"file": "x"}}]
)
def test_damaged_origins_are_refused(provenance: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_model(create_model("appearance_resnet50", 3, **TINY), path, metadata={"provenance": provenance})
    with pytest.raises(CheckpointError, match="a provenance has file, dataset and split, this is"):
        build(path, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": "5"}, "num_classes must be a whole number, got '5'"),
        ({"num_classes": 2.0}, r"num_classes must be a whole number, got 2\.0"),
        ({"name": ["x"]}, r"no network \['x'\]; one of: appearance_resnet101"),
        ({"class_names": "abc"}, "class_names must be a list of texts, got 'abc'"),
        ({"class_names": [1, 2, 3]}, r"class_names must be a list of texts, got \[1, 2, 3\]"),
        (
            {"name": "appearance_resnet18", "motion": {"depth": 18}},
            "appearance_resnet18 has no motion stream, so it takes no options of one",
        ),
        ({"appearance_weights": 3}, "appearance_weights must be a path, got 3"),
    ],
)
def test_arguments_of_other_types_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(**{"name": "st_mulnet_resnet50", "num_classes": 3, **TINY, **wrong})
