"""Files in the authors' layout against an independent float64 evaluation of the same file, whatever their wiring."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.models.scoring import SMALL, bases, make_clip, reference, st_mulnet, st_resnet, whole_state, worst_error
from tests.oracle import files, interpreter, surgery

from stmulnet import create_model, load_model
from stmulnet.errors import WeightFileWarning
from stmulnet.models.matconvnet import export_mat
from stmulnet.models.provenance import read_provenance

Array = NDArray[Any]


# Every switch of the scripts, each with what it is easily confused with.
WIRINGS: dict[str, Any] = {
    "as published": lambda: st_mulnet(),
    "addition": lambda: st_mulnet(do_sum=True, do_mul=False),
    "into motion": lambda: st_mulnet(fuse_into="temporal"),
    "into motion, addition": lambda: st_mulnet(fuse_into="temporal", do_sum=True, do_mul=False),
    "both directions": lambda: st_mulnet(do_bidirectional=True),
    "both directions, addition, scale": lambda: st_mulnet(
        do_bidirectional=True, fuse_into="temporal", do_sum=True, do_mul=False, do_scale=True
    ),
    "scale": lambda: st_mulnet(do_scale=True),
    "scale into motion": lambda: st_mulnet(do_scale=True, fuse_into="temporal"),
    "two stages": lambda: st_mulnet(stages=(3, 5)),
    "no temporal convolutions": lambda: st_mulnet(add_conv3d=0),
    "pointwise temporal convolutions": lambda: st_mulnet(add_conv3d=1),
    "no temporal pooling": lambda: st_mulnet(add_pool3d=0),
    "average over time": lambda: st_mulnet(add_pool3d=1),
    "maximum over all frames": lambda: st_mulnet(window=float("inf")),
    "stride over time": lambda: st_mulnet(window=3, pool_stride=2),
    "numbered units": lambda: st_mulnet(flow={"units": (3, 3, 4, 2), "numbered_stages": (3, 4), "conv1_bias": False}),
    "numbered units in both": lambda: st_mulnet({"numbered_stages": (3, 4)}, {"numbered_stages": (3, 4)}),
    "temporal convolutions in numbered units": lambda: st_mulnet(
        {"numbered_stages": (3, 4)}, {"numbered_stages": (4,)}, time_anchor="b1_branch2b"
    ),
    "whole appearance state": whole_state,
    "torch geometry": lambda: st_mulnet(geometry="torch"),
    "basic units": lambda: st_mulnet(block="basic", time_anchor="b_branch2a"),
    "basic units, torch geometry": lambda: st_mulnet(block="basic", geometry="torch", add_conv3d=0),
    "dropout before the classifier": lambda: st_mulnet(flow={"dropout": 0.5, "dropout_layout": "before"}),
    "dropout appended": lambda: st_mulnet(flow={"dropout": 0.5}, dropout=0.8),
    "no losses": lambda: st_mulnet({"with_losses": False}, {"with_losses": False}),
    "ST-ResNet stage 1": lambda: st_resnet(stage2=False),
    "ST-ResNet stage 2": lambda: st_resnet(stage2=True),
    "deeper": lambda: st_mulnet(units=(3, 4, 6, 3)),
}


@pytest.fixture(scope="module")
def clip() -> tuple[Array, Array]:
    return make_clip()


@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_wiring_gives_the_scores_of_the_file(wiring: str, clip: tuple[Array, Array], tmp_path: Path) -> None:
    net = WIRINGS[wiring]()
    files.write(net, tmp_path / "x.mat")
    want = reference(net, *clip)
    assert worst_error(load_model(tmp_path / "x.mat", dtype=torch.float64), *clip, want) < 1e-10
    model = load_model(tmp_path / "x.mat")
    assert worst_error(model, *clip, want) < 2e-5
    export_mat(model, tmp_path / "again.mat")
    same_file(interpreter.read(tmp_path / "again.mat"), net, names="before the classifier" not in wiring)
    assert load_model(tmp_path / "again.mat").config == model.config


def same_file(got: files.Net, want: files.Net, *, names: bool = True) -> None:
    """Equal layers, wired equally; parameters bitwise, moments within one step of their type."""
    ours = {layer.name: layer for layer in got.layers if layer.type != "dagnn.Loss"}
    theirs = {layer.name: layer for layer in want.layers if layer.type != "dagnn.Loss"}
    assert sorted(layer.type for layer in ours.values()) == sorted(layer.type for layer in theirs.values())
    for name, layer in theirs.items() if names else ():
        other = ours[name]
        assert (other.type, other.outputs, other.params) == (layer.type, layer.outputs, layer.params), name
        assert sorted(other.inputs) == sorted(layer.inputs), name
    assert {param.name for param in got.params} == {param.name for param in want.params}
    for param in want.params:
        value = got.param(param.name).value
        wanted = np.asarray(param.value, np.float32).reshape(value.shape)
        if param.name.endswith(("_moments", "_moments_spatial", "_moments_temporal")):
            np.testing.assert_array_max_ulp(value, wanted, 1)
        else:
            np.testing.assert_array_equal(value, wanted)
        assert (got.param(param.name).learning_rate, got.param(param.name).weight_decay) == (
            param.learning_rate,
            param.weight_decay,
        )


@pytest.mark.parametrize("kind", ["img", "flow"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dropout": 0.8, "with_losses": False},
        {"dropout": 0.0},
        {"conv1_bias": False, "numbered_stages": (3, 4), "units": (2, 3, 3, 2)},
        {"block": "basic", "width": 8},
        {"geometry": "torch", "num_classes": 1000},
    ],
    ids=str,
)
def test_base_streams(kind: str, options: dict[str, Any], clip: tuple[Array, Array], tmp_path: Path) -> None:
    net = bases(**options)[kind == "flow"]
    files.write(net, tmp_path / "base.mat")
    model = load_model(tmp_path / "base.mat", dtype=torch.float64)
    assert worst_error(model, *clip, reference(net, *clip)) < 1e-10
    assert model.config.streams == (("appearance",) if kind == "img" else ("motion",))


FORMS: dict[str, dict[str, Any]] = {
    "not wrapped": {"wrapped": False},
    "left by training": {"training_run": True},
    "double": {"dtype": "double"},
    "vectors as rows": {"vector_shape": "1xC"},
    "vectors along the third axis": {"vector_shape": "1x1xC"},
    "mean in double": {"average_image": "double"},
    "not compressed": {"compress": False},
    "fields of newer versions missing": {
        "drop_optional_fields": (
            *("dilate", "opts", "leak", "pickTemporalCentre", "hasBias", "freeze", "frozen", "scale", "size"),
            *(
                "useShortCircuit",
                "precious",
                "vars",
                "learningRate",
                "weightDecay",
                "classes",
                "epsilon",
                "numChannels",
            ),
        )
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_network(form: str, published: files.Net, tmp_path: Path) -> None:
    files.write(published, tmp_path / "x.mat")
    files.write(published, tmp_path / "y.mat", **FORMS[form])
    plain, other = load_model(tmp_path / "x.mat"), load_model(tmp_path / "y.mat")
    assert other.config == plain.config
    for name, tensor in plain.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


@pytest.fixture(scope="module")
def published() -> files.Net:
    return st_mulnet(flow={"dropout": 0.8})


def test_means_of_an_image_are_averaged_over_it(tmp_path: Path) -> None:
    image, flow = bases()
    files.write(image, tmp_path / "img.mat")
    mean = image.meta["normalization"]["averageImage"]
    assert mean.shape == (224, 224, 3)
    np.testing.assert_allclose(load_model(tmp_path / "img.mat").rgb_mean.numpy(), mean.mean((0, 1), float), rtol=1e-6)
    files.write(flow, tmp_path / "flow.mat")
    assert load_model(tmp_path / "flow.mat").flow_mean.tolist() == [128.0] * 20


def test_the_content_decides_and_the_name_is_a_record(published: files.Net, tmp_path: Path) -> None:
    path = tmp_path / "hmdb51-ResNet-final-split=3.mat"
    files.write(published, path)
    model = load_model(path)
    assert model.metadata["provenance"] == {"file": path.name, "dataset": "hmdb51", "split": 3}
    assert model.class_names == [f"class{i:03d}" for i in range(1, 6)]


@pytest.mark.parametrize(
    ("name", "dataset", "split"),
    [
        ("ucf101-flow-resnet50-split2-dr0.8.mat", "ucf101", 2),
        ("UCF-101_flow_split=3.mat", "ucf101", 3),
        ("my_hmdb51ST-MulNet-img50-flow50-final-split=1.mat", "hmdb51", 1),
        ("hmdb512-split12.mat", None, None),
        ("subucf101.mat", None, None),
    ],
)
def test_data_set_and_split_in_names(name: str, dataset: str | None, split: int | None) -> None:
    assert read_provenance(Path(name)) == {"file": name, "dataset": dataset, "split": split}


@pytest.mark.parametrize(
    ("name", "classes", "warning"),
    [
        ("ucf101-img-resnettiny-split1-dr0.mat", 5, None),
        ("ucf101-img-resnet152-split1-dr0.mat", 5, r"the name says ResNet-152, the layers are those of depth 29"),
        ("hmdb51-img-split1-dr0.mat", 101, "the name says hmdb51, but 101 classes are those of ucf101"),
        ("ucf101-img-split1-dr0.mat", 101, None),
        ("mine.mat", 51, None),
    ],
)
def test_warnings_of_names(name: str, classes: int, warning: str | None, tmp_path: Path) -> None:
    net = files.base_stream("img", **{**SMALL, "num_classes": classes}, imagenet_classes=True)
    files.write(net, tmp_path / name)
    if warning is None:
        model = load_model(tmp_path / name)
    else:
        with pytest.warns(WeightFileWarning, match=warning):
            model = load_model(tmp_path / name)
    if name.startswith("ucf101") and classes == 101:  # the file's names are ImageNet's: 1000
        assert (model.class_names or [])[:2] == ["ApplyEyeMakeup", "ApplyLipstick"]
    else:
        assert model.class_names is None


OFFICIAL = {50: {"units": (3, 4, 6, 3)}, 152: {"units": (3, 8, 36, 3), "numbered_stages": (3, 4), "conv1_bias": False}}


@pytest.mark.slow
@pytest.mark.parametrize("motion_depth", [50, 152])
def test_full_size(motion_depth: int, tmp_path: Path) -> None:
    """The published networks: ResNet-50 beside ResNet-50 or 152, 101 classes, 224 pixels."""
    image = files.base_stream("img", seed=1, **OFFICIAL[50])  # type: ignore[arg-type]
    flow = files.base_stream("flow", seed=2, dropout=0.8, **OFFICIAL[motion_depth])  # type: ignore[arg-type]
    net = surgery.st_mulnet(image, flow)
    surgery.perturb_temporal(net, 3)
    interpreter.calibrate(net, 4)
    path = tmp_path / f"ucf101ST-MulNet-img50-flow{motion_depth}-split=1.mat"
    files.write(net, path, compress=False)
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (6, 224, 224, 23), dtype=np.uint8)[:, ::16, ::16].repeat(16, 1).repeat(16, 2)
    clip = images[..., :3], images[..., 3:]
    want = reference(net, *clip, dtype=np.float32)
    model = load_model(path)
    assert model.config == create_model(f"st_mulnet_resnet50{'_resnet152' * (motion_depth == 152)}", 101).config
    assert worst_error(model, *clip, want) < 2e-5
    export_mat(model, tmp_path / "again.mat")
    same_file(interpreter.read(tmp_path / "again.mat"), net)
