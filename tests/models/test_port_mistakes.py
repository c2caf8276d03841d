"""Mistakes that an earlier PyTorch port makes with the authors' files, made here on purpose: the checks must see them.

Each test loads a file correctly, makes one mistake, and asks for what `test_matconvnet` asks for: the scores of the
independent evaluation. Right is an error below 2e-5 of the largest score; each mistake costs at least 0.01.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.models.scoring import SMALL, bases, make_clip, reference, scored, st_mulnet, tensor, worst_error
from tests.oracle import files, interpreter, surgery
from torch import Tensor, nn

from stmulnet import load_model
from stmulnet.errors import ConfigError
from stmulnet.evaluation.protocol import video_scores
from stmulnet.models.config import STAGES, TemporalPoolConfig
from stmulnet.models.multiplier import MultiplierNetwork, with_weights
from stmulnet.models.resnet import Head, Unit, batch_norm
from stmulnet.models.temporal import InsertedTemporalConv, TemporalPool

Array = NDArray[Any]
RIGHT, WRONG = 2e-5, 1e-2
# As with the official 224 pixels, maps are even before pool1: symmetric padding gives maps of the same size.
HEIGHT, WIDTH = 56, 68


@pytest.fixture(scope="module")
def clip() -> tuple[Array, Array]:
    rgb, flow = make_clip()
    return rgb[:, :HEIGHT, :WIDTH], flow[:, :HEIGHT, :WIDTH]


class Case(NamedTuple):
    """A file, the network that was read from it, and the scores of the independent evaluation."""

    net: files.Net
    model: MultiplierNetwork
    clip: tuple[Array, Array]
    want: dict[str, Array]

    def error(self, model: MultiplierNetwork) -> float:
        """Of the scores before averaging."""
        return worst_error(model, *self.clip, self.want)

    def averaged_error(self, model: MultiplierNetwork) -> float:
        """Of the scores averaged over positions and windows, for mistakes that change their number."""
        out = scored(model, *self.clip)
        errors = []
        for stream, scores in self.want.items():
            got, want = getattr(out, stream)[0].numpy(), scores.mean((1, 2, 3))
            errors.append(np.abs(got - want).max() / np.abs(want).max())
        return float(max(errors))


def read(net: files.Net, clip: tuple[Array, Array], folder: Path) -> Case:
    files.write(net, folder / "x.mat")
    model = load_model(folder / "x.mat")
    assert isinstance(model, MultiplierNetwork)
    case = Case(net, model, clip, reference(net, *clip))
    assert case.error(model) < RIGHT
    return case


@pytest.fixture(scope="module")
def published(clip: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A network as published: products into appearance at every stage, 0.8 dropout in the motion stream."""
    return read(st_mulnet(flow={"dropout": 0.8}), clip, tmp_path_factory.mktemp("published"))


@pytest.fixture
def model(published: Case) -> MultiplierNetwork:
    """A correct network, to make mistakes with."""
    return copy.deepcopy(published.model)


def units(model: nn.Module) -> list[Unit]:
    return [module for module in model.modules() if isinstance(module, Unit)]


def heads(model: MultiplierNetwork) -> list[Head]:
    return [model.appearance.head, model.motion.head]


# ---- weights and geometry ----


@pytest.mark.parametrize("size", [3, 7])
def test_transposed_kernels(size: int, published: Case, model: MultiplierNetwork) -> None:
    """The files' axes (y, x, in, out) all reversed, to (out, in, x, y): every 3x3 and 7x7 kernel is transposed."""
    with torch.no_grad():
        for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
            if conv.kernel_size == (size, size):
                conv.weight.copy_(conv.weight.mT.clone())
    assert published.error(model) > WRONG


def test_standard_deviations_as_variances(published: Case, model: MultiplierNetwork) -> None:
    """The second column of the moments taken for variances: the network divides by the root of sigma."""
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        assert norm.running_var is not None
        sigma = (norm.running_var + norm.eps).sqrt()
        norm.running_var.copy_(sigma)
    assert published.error(model) > WRONG


def test_stride_on_the_3x3_convolution(published: Case, model: MultiplierNetwork) -> None:
    """Torchvision's geometry: the same shapes everywhere, other pixels."""
    for unit in units(model):
        first, second = unit.get_submodule("branch2a.0"), unit.get_submodule("branch2b.0")
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        first.stride, second.stride = second.stride, first.stride
    assert published.error(model) > WRONG


def test_pool1_padded_on_all_sides(published: Case, model: MultiplierNetwork) -> None:
    """The same size, but every window is one pixel off."""
    for stream in (model.appearance, model.motion):
        stream.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
    assert published.error(model) > WRONG


# ---- connections ----


def test_product_of_the_state_behind_the_relu(published: Case, model: MultiplierNetwork) -> None:
    """The motion stream multiplied with what appearance's ReLU makes, not with the sum before it."""
    for gate in model.into_appearance.values():
        gate.register_forward_pre_hook(lambda _, args: (args[0].relu(), args[1]))
    assert published.error(model) > WRONG


def stage_with_gate(model: MultiplierNetwork, place: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """A stage whose unit at ``place`` is gated with what the streams have before it."""

    def stage(number: int, appearance: Tensor, motion: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        key, total = f"res{number}", appearance
        pairs = zip(model.appearance.units(number), model.motion.units(number), strict=True)
        for index, (own, other) in enumerate(pairs):
            is_gated = index == place and key in model.into_appearance
            gated = model.into_appearance[key](total, motion) if is_gated else None
            total = own(appearance, frames, residual_input=gated)
            appearance, motion = total.relu(), other(motion, frames).relu()
        return appearance, motion

    return stage


def test_gate_at_the_third_unit(clip: tuple[Array, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product enters unit c, from what the streams have after b; officially unit b, from what they have after a."""
    case = read(st_mulnet(stages=(5,)), clip, tmp_path)
    assert case.model.config.appearance is not None
    assert case.model.config.appearance.units[STAGES.index(5)] == 3
    monkeypatch.setattr(case.model, "stage", stage_with_gate(case.model, place=1))
    assert case.error(case.model) < RIGHT
    monkeypatch.setattr(case.model, "stage", stage_with_gate(case.model, place=2))
    assert case.error(case.model) > WRONG


# ---- time ----


def test_temporal_convolutions_without_bias(published: Case, model: MultiplierNetwork) -> None:
    """Weights of the files without their biases."""
    for unit in units(model):
        if unit.time is not None:
            unit.time.bias = None
    assert published.error(model) > WRONG


class NormalisedTime(nn.Module):
    """A temporal convolution with a BatchNorm behind it."""

    def __init__(self, time: InsertedTemporalConv) -> None:
        super().__init__()
        self.time, self.norm = time, batch_norm(time.out_channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        out: Tensor = self.norm(self.time(x, frames))
        return out


def test_batchnorm_behind_temporal_convolutions(clip: tuple[Array, Array], tmp_path: Path) -> None:
    """At its start a temporal convolution changes nothing; with a BatchNorm behind it, that holds until training."""
    net = surgery.st_mulnet(*bases())
    interpreter.calibrate(net, 5, size=64, frames=5)
    case = read(net, clip, tmp_path)
    tensors = {name: tensor for name, tensor in case.model.state_dict().items() if ".time." not in name}
    plain = with_weights(replace(case.model.config, temporal_conv=None), tensors)
    assert len(tensors) < len(case.model.state_dict())
    mistaken = copy.deepcopy(case.model)
    for unit in units(mistaken):
        if unit.time is not None:
            unit.time = NormalisedTime(unit.time)  # type: ignore[assignment] # the mistake

    def difference(model: MultiplierNetwork, *, training: bool) -> float:
        maps = [scored(copy.deepcopy(net).train(training), *clip).motion_map for net in (model, plain)]
        assert maps[0] is not None
        assert maps[1] is not None
        return float((maps[0] - maps[1]).abs().max() / maps[1].abs().max())

    assert difference(case.model, training=False) < RIGHT
    assert difference(case.model, training=True) < RIGHT
    assert difference(mistaken, training=False) < 1e-4  # eps
    assert difference(mistaken, training=True) > WRONG


def average_first(head: Head, x: Tensor, frames: int) -> Tensor:
    x = head.pool5(x)
    assert head.temporal_pool is not None
    x = head.fc(head.dropout(head.temporal_pool(x, frames)))
    return x[None].transpose(1, 2)


@pytest.mark.parametrize("mistake", ["average first", "all frames", "both"])
def test_order_and_extent_of_temporal_pooling(mistake: str, published: Case, model: MultiplierNetwork) -> None:
    """Spatial average before the temporal maximum; maximum over all frames instead of windows of five."""
    for head in heads(model):
        if mistake != "average first":
            head.temporal_pool = TemporalPool(TemporalPoolConfig(window="all"))
        if mistake != "all frames":
            head.forward = lambda x, frames, head=head: average_first(head, x, frames)  # type: ignore[method-assign,misc]
    assert published.averaged_error(published.model) < RIGHT
    assert published.averaged_error(model) > WRONG


# ---- head ----


def test_global_average(published: Case, model: MultiplierNetwork) -> None:
    """One average over the map instead of windows at every position, which weigh positions in the middle more."""
    for head in heads(model):
        head.pool_size, head.pool5 = "global", nn.AdaptiveAvgPool2d(1)
    assert published.averaged_error(model) > WRONG


def test_relu_on_scores(published: Case, model: MultiplierNetwork) -> None:
    """Raw scores may be negative."""
    for head in heads(model):
        head.fc.register_forward_hook(lambda _, __, scores: scores.relu())
    assert published.error(model) > WRONG


def varying_streams(model: MultiplierNetwork, clip: tuple[Array, Array]) -> set[str]:
    """Streams whose scores differ from call to call in training, BatchNorm left aside."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(3)
    first, second = scored(model, *clip), scored(model, *clip)
    return {name for name in model.config.streams if not torch.equal(getattr(first, name), getattr(second, name))}


def test_no_dropout(published: Case, model: MultiplierNetwork) -> None:
    """0.8 of the motion stream's features are dropped in training, none of the appearance stream's."""
    assert model.motion.head.dropout.p == 0.8
    assert varying_streams(model, published.clip) == {"motion"}
    model.motion.head.dropout = nn.Dropout(0)
    assert varying_streams(model, published.clip) == set()


# ---- images ----


def test_images_of_112_pixels(tmp_path: Path) -> None:
    """A network with the official average over 7x7 positions does not take them."""
    net = files.base_stream("img", **{**SMALL, "mean_image": False})
    files.write(net, tmp_path / "img.mat")
    model = load_model(tmp_path / "img.mat")
    assert (model.config.input_size, model.config.head_pool) == (224, 7)
    with pytest.raises(ConfigError, match=r"images too small: \(4, 4\) positions on the last map, head_pool 7"):
        model(torch.zeros(1, 5, 3, 112, 112))


def test_a_part_of_the_image_in_the_test_protocol(published: Case) -> None:
    """The protocol takes the whole frame, of any shape, not its square middle."""
    want = interpreter.protocol_scores(published.net, *published.clip)["score"]
    rgb, flow = (tensor(images)[0] for images in published.clip)
    margin = (WIDTH - HEIGHT) // 2

    def error(part: slice) -> float:
        got = video_scores(published.model, rgb[..., part], flow[..., part]).fused
        return float(np.abs(got - want).max() / np.abs(want).max())

    assert error(slice(None)) < RIGHT
    assert error(slice(margin, margin + HEIGHT)) > WRONG


# ---- files of other networks, taken for the one network that the port knows ----


def test_both_directions_taken_for_one(clip: tuple[Array, Array], tmp_path: Path) -> None:
    case = read(st_mulnet(do_bidirectional=True), clip, tmp_path)
    case.model.into_motion = nn.ModuleDict()
    assert case.error(case.model) > WRONG


def test_one_direction_taken_for_the_other(clip: tuple[Array, Array], tmp_path: Path) -> None:
    case = read(st_mulnet(fuse_into="temporal"), clip, tmp_path)
    case.model.into_appearance, case.model.into_motion = case.model.into_motion, nn.ModuleDict()
    assert case.error(case.model) > WRONG


def test_sums_taken_for_products(clip: tuple[Array, Array], tmp_path: Path) -> None:
    case = read(st_mulnet(do_sum=True, do_mul=False), clip, tmp_path)
    for gate in case.model.into_appearance.values():
        gate.operation = "multiply"  # type: ignore[assignment] # ModuleDict does not know what it holds
    assert case.error(case.model) > WRONG


@pytest.fixture(scope="module")
def numbered(clip: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A motion stream with ResNet-152's names: res3a, res3b1, res3b2; temporal convolutions in res2 and res5 only."""
    net = st_mulnet(flow={"units": (2, 3, 3, 2), "numbered_stages": (3, 4), "conv1_bias": False})
    return read(net, clip, tmp_path_factory.mktemp("numbered"))


def test_temporal_convolutions_in_units_called_b1(numbered: Case) -> None:
    """Every second unit taken for one that sees time."""
    model, config = copy.deepcopy(numbered.model), numbered.model.config.motion
    assert config is not None
    seeing = [stage for stage in STAGES if model.motion.units(stage)[1].time is not None]
    assert seeing == [2, 5]
    for stage in (3, 4):
        model.motion.units(stage)[1].time = InsertedTemporalConv(config.mid_channels(stage), "average")
    assert numbered.error(model) > WRONG


def test_a_stream_taken_for_a_shallower_one(numbered: Case) -> None:
    """Units that the default network has not are left out."""
    model = copy.deepcopy(numbered.model)
    stage = model.motion.get_submodule("res3")
    assert isinstance(stage, nn.ModuleDict)
    del stage["b2"]
    assert numbered.error(model) > WRONG
