"""Networks made fast against the networks they were made from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stmulnet import create_model, load_model, save_model
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models import fused
from stmulnet.models import optimize as optimize_module
from stmulnet.models.fused import FusedConv, packs
from stmulnet.models.multiplier import Network
from stmulnet.models.optimize import fast_dtype, optimize
from stmulnet.models.temporal import InsertedTemporalConv

TINY: dict[str, Any] = {"width_mult": 0.25, "units": (2, 2, 3, 2), "input_size": 64, "head_pool": "global"}
WIRINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "ST-MulNet": ("st_mulnet_resnet50", {}),
    "into motion": ("st_mulnet_resnet50", {"fusion": {"direction": "appearance_to_motion"}}),
    "both, scaled": ("st_mulnet_resnet50", {"fusion": {"direction": "both", "scale": True}}),
    "whole state": ("st_mulnet_resnet50", {"fusion": {"target": "state"}}),
    "some stages": ("st_mulnet_resnet50", {"fusion": {"stages": (3, 5)}}),
    "torch geometry": ("st_mulnet_resnet50", {"geometry": "torch"}),
    "basic units": ("st_mulnet_resnet18", {}),
    "ST-ResNet": ("st_resnet50", {}),
    "late fusion": ("two_stream_resnet50", {}),
    "appearance": ("appearance_resnet50", {}),
    "motion": ("motion_resnet50", {"conv1_bias": False}),
}


def make(name: str, **options: Any) -> Network:
    """A network with random weights and the statistics of real activations, so that features are of ordinary size."""
    torch.manual_seed(4)
    model = create_model(name, 5, **{**TINY, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.5 + 0.5 * torch.rand_like(parameter))
        for module in model.modules():
            if isinstance(module, InsertedTemporalConv):  # starts as the identity, which would hide mistakes
                module.weight.add_(0.3 * torch.randn_like(module.weight) / module.in_channels**0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.rgb_std.copy_(torch.tensor([50.0, 60.0, 70.0]))
        model.flow_std.fill_(9.0)
        model.train()(*clips(model, np.random.default_rng(8), videos=4))
    return model.eval()


def clips(model: Network, rng: np.random.Generator, videos: int = 2, side: tuple[int, int] = (64, 64)) -> list[Any]:
    levels = {"appearance": (3, 0, 256), "motion": (20, 108, 149)}
    drawn = []
    for stream in model.config.streams:
        channels, low, high = levels[stream]
        drawn.append(torch.from_numpy(rng.integers(low, high, (videos, 6, channels, *side), dtype=np.uint8)))
    return drawn


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest, relative to the largest score."""
    assert found.dtype == torch.float32
    assert wanted.std() > 0
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_scores_stay_within_rounding(
    wiring: str, dtype: torch.dtype, tolerance: float, rng: np.random.Generator
) -> None:
    name, options = WIRINGS[wiring]
    model = make(name, **options)
    fast = optimize(model, dtype=dtype)
    with torch.inference_mode():
        for side in ((64, 64), (71, 90)):
            batch = clips(model, rng, side=side)
            before = [clip.clone() for clip in batch]
            for wanted, found in zip(model(*batch), fast(*batch), strict=True):
                assert (wanted is None) == (found is None)
                if wanted is not None:
                    assert difference(found, wanted) < tolerance
            assert all(torch.equal(clip, copy) for clip, copy in zip(batch, before, strict=True))


MIXED = {  # appearance, motion, connected stages, sizes that fit, sizes that do not
    "Caffe's first": ("caffe", "torch", (2, 3, 4, 5), [(64, 64), (35, 96), (99, 40)], [(65, 64), (64, 98)]),
    "Caffe's second": ("torch", "caffe", (2, 3, 4, 5), [(64, 64), (35, 96), (99, 40)], [(65, 64), (64, 98)]),
    "late stage": ("caffe", "torch", (5,), [(64, 37), (53, 64)], [(65, 64), (64, 97), (33, 33)]),  # 33: 1 and 2 places
    "late stage, the other way": ("torch", "caffe", (5,), [(64, 37), (53, 64)], [(65, 64), (64, 97), (34, 34)]),
}


@pytest.mark.parametrize("kind", MIXED)
def test_streams_of_two_geometries_fit_or_are_refused(kind: str, rng: np.random.Generator) -> None:
    first, second, stages, fitting, others = MIXED[kind]
    options = {"appearance": {"geometry": first}, "motion": {"geometry": second}, "fusion": {"stages": stages}}
    model = make("st_mulnet_resnet50", **options)
    fast = optimize(model, dtype=torch.float32)
    with torch.inference_mode():
        for side in fitting:
            batch = clips(model, rng, side=side)
            assert difference(fast(*batch).fused, model(*batch).fused) < 1e-5
    for network in (model, fast):
        for side in others:
            with pytest.raises(ConfigError, match=f"{side[1]}x{side[0]} pixels: at res{stages[0]} .* multiples of 4"):
                network(*clips(model, rng, side=side))


def test_sizes_that_do_not_fit_are_named(rng: np.random.Generator) -> None:
    model = make("st_mulnet_resnet50", motion={"geometry": "torch"})
    message = r"appearance has 85x64 positions \(caffe geometry\), motion 86x64 \(torch\); .* such as 340x256, and"
    with pytest.raises(ConfigError, match=message):
        model(*clips(model, rng, side=(256, 341)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ordinary_layers_take_the_place_of_packed_ones(
    dtype: torch.dtype, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("st_mulnet_resnet50")
    batch = clips(model, rng)
    with torch.inference_mode():
        packed = optimize(model, dtype=dtype)(*batch).fused
        monkeypatch.setattr(optimize_module, "packs", lambda dtype: False)
        plain = optimize(model, dtype=dtype)
        assert difference(plain(*batch).fused, packed) < (1e-5 if dtype == torch.float32 else 0.06)
    assert not any(layer.packed for layer in plain.modules() if isinstance(layer, FusedConv))


CONVS = {  # in and out channels, kernel, stride, over time
    "1x1": (16, 32, 1, 1, False),
    "1x1 with stride": (16, 48, 1, 2, False),
    "3x3": (16, 24, 3, 1, False),
    "7x7 with stride": (20, 32, 7, 2, False),
    "over time": (16, 16, 3, 1, True),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("kind", CONVS)
def test_fused_convolutions_equal_their_definition(kind: str, relu: bool, packed: bool) -> None:
    if packed and not packs(torch.float32):
        pytest.skip("this build of torch has no packed convolutions")
    channels, out_channels, kernel, stride, over_time = CONVS[kind]
    generator = torch.Generator().manual_seed(3)
    conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2)
    if over_time:
        conv = InsertedTemporalConv(channels)
        nn.init.normal_(conv.weight, generator=generator)
    layer = FusedConv(conv, relu=relu, packed=packed)
    for frames, height, width in ((4, 12, 15), (6, 9, 8), (4, 12, 15)):  # another size wants another order of weights
        x = torch.randn(2 * frames, channels, height, width, generator=generator)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            wanted = conv.double()(x.double(), frames) if over_time else conv.double()(x.double())
            other = torch.randn(wanted.shape, generator=generator).contiguous(memory_format=torch.channels_last)
            summed = wanted if over_time else wanted + other
            found = (
                layer(x, frames) if over_time else layer(x, frames, other.clone(memory_format=torch.preserve_format))
            )
            assert difference(found, F.relu(summed) if relu else summed) < 1e-6
            assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("broken", ["raises", "computes something else"])
def test_a_changed_interface_of_torch_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        if broken == "raises":
            raise TypeError("got an unexpected argument")
        return torch.ones(2, 32, 5, 5)

    monkeypatch.setattr(fused, "_packed_conv", changed)
    assert not packs.__wrapped__(torch.float32)


def test_float_clips_score_as_8_bit_ones(rng: np.random.Generator) -> None:
    model = make("st_mulnet_resnet50")
    rgb, flow = clips(model, rng)
    fast = optimize(model, dtype=torch.bfloat16)
    with torch.inference_mode():
        assert torch.equal(fast(rgb.float(), flow.float()).fused, fast(rgb, flow).fused)


def test_means_that_are_no_whole_numbers_are_not_rounded(rng: np.random.Generator) -> None:
    model = make("motion_resnet50")
    model.flow_mean.fill_(127.6)
    fast = optimize(model, dtype=torch.bfloat16)
    flow = torch.full((1, 5, 20, 64, 64), 128, dtype=torch.uint8)
    assert torch.allclose(fast.fold(flow, "flow"), torch.tensor(0.4))


def test_the_network_itself_stays_as_it_is(rng: np.random.Generator) -> None:
    model = make("st_mulnet_resnet50")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimize(model, dtype=torch.bfloat16)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_itself_can_be_made_fast(dtype: torch.dtype, rng: np.random.Generator) -> None:
    model = make("st_mulnet_resnet50")
    batch = clips(model, rng)
    with torch.inference_mode():
        wanted = optimize(model, dtype=dtype)(*batch).fused
    assert optimize(model, dtype=dtype, inplace=True) is model
    with torch.inference_mode():
        assert torch.equal(model(*batch).fused, wanted)


def test_bad_input_is_refused_as_by_the_plain_network(rng: np.random.Generator) -> None:
    fast = optimize(make("st_mulnet_resnet50"))
    rgb, flow = clips(fast, rng)
    with pytest.raises(ConfigError, match="needs 5 or more"):
        fast(rgb[:, :4], flow[:, :4])
    with pytest.raises(ConfigError, match=r"\(N, T, 3, H, W\)"):
        fast(flow, flow)


def test_what_it_cannot_do_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    model = make("st_mulnet_resnet50")
    fast = optimize(model)
    with pytest.raises(ConfigError, match="layers of an optimised network are not computed apart"):
        fast.activations(*clips(model, rng), ["res2a_spatial"])
    with pytest.raises(CheckpointError, match="save the one it was made from"):
        save_model(fast, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=r"dtype must be torch.float32 or torch.bfloat16, got torch.float16"):
        optimize(model, dtype=torch.float16)
    with pytest.raises(ConfigError, match="optimised already"):
        optimize(fast)
    assert fast.layer_names() == []


def test_load_model_optimises(rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("st_mulnet_resnet50")
    save_model(model, tmp_path / "x.safetensors")
    wanted, batch = optimize(model), clips(model, rng)
    monkeypatch.setattr("stmulnet.models.folding.copy", None)  # nobody else has this one
    fast = load_model(tmp_path / "x.safetensors", optimize=True)
    with torch.inference_mode():
        assert torch.equal(fast(*batch).fused, wanted(*batch).fused)


def test_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        assert fast_dtype() == (torch.bfloat16 if has else torch.float32)
    assert fast_dtype("mps") == torch.float32
