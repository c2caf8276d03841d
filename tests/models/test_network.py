"""The network against an independent float64 NumPy evaluation, and its promises."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stmulnet import create_model, list_models
from stmulnet.errors import ConfigError
from stmulnet.models.multiplier import Network
from stmulnet.models.resnet import Stream
from stmulnet.models.zoo import model_config

Array = NDArray[np.float64]
TINY: dict[str, Any] = {"units": (2, 2, 2, 3), "width_mult": 0.0625, "input_size": 64, "head_pool": 2}


class NumpyNetwork:
    """One video, written from the definition: no folding, no torch, axes (T, C, H, W)."""

    def __init__(self, model: Network) -> None:
        self.p = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}
        self.config = model.config

    def conv(self, x: Array, weight: Array, stride: int = 1) -> Any:
        pad = weight.shape[-1] // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = sliding_window_view(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
        return np.einsum("tchwij,ocij->tohw", windows, weight, optimize=True)

    def bn(self, x: Array, name: str) -> Any:
        mean, var, gamma, beta = (
            self.p[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return gamma * (x - mean) / np.sqrt(var + 1e-5) + beta

    def conv_bn(self, x: Array, name: str, stride: int = 1) -> Any:
        return self.bn(self.conv(x, self.p[f"{name}.0.weight"], stride), f"{name}.1")

    def time(self, x: Array, name: str) -> Any:
        if f"{name}.weight" not in self.p:
            return x
        taps, bias = self.p[f"{name}.weight"][..., 0], self.p[f"{name}.bias"]
        padded = np.concatenate([np.zeros_like(x[:1]), x, np.zeros_like(x[:1])])
        rows = [sum(np.einsum("chw,oc->ohw", padded[t + k], taps[:, :, k]) for k in range(3)) for t in range(len(x))]
        return np.stack(rows) + bias[:, None, None]

    def unit(self, state: Array, name: str, residual_input: Array | None = None) -> Any:
        first, stage = name.endswith(".a"), int(name.split("res")[1][0])
        stride = 2 if first and stage > 2 else 1
        x = state if residual_input is None else residual_input
        x = np.maximum(self.conv_bn(x, f"{name}.branch2a", stride), 0)
        x = np.maximum(self.conv_bn(x, f"{name}.branch2b"), 0)
        x = self.conv_bn(self.time(x, f"{name}.time"), f"{name}.branch2c")
        return x + (self.conv_bn(state, f"{name}.branch1", stride) if first else state)

    def stem(self, x: Array, stream: str) -> Any:
        x = self.conv(x, self.p[f"{stream}.conv1.weight"], 2) + self.p[f"{stream}.conv1.bias"][:, None, None]
        x = np.maximum(self.bn(x, f"{stream}.bn_conv1"), 0)
        x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
        return sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((-2, -1))

    def head(self, x: Array, stream: str) -> Any:
        if self.config.temporal_pool:
            x = sliding_window_view(x, self.config.min_frames, axis=0).max(-1)
        size = TINY["head_pool"]
        x = sliding_window_view(x, (size, size), axis=(2, 3)).mean((-2, -1))
        fc = self.p[f"{stream}.head.fc.weight"][..., 0, 0]
        return np.einsum("wchx,kc->kwhx", x, fc) + self.p[f"{stream}.head.fc.bias"][:, None, None, None]

    def __call__(self, rgb: Array, flow: Array) -> tuple[Array, Array]:
        a = self.stem(rgb - self.p["rgb_mean"][:, None, None], "appearance")
        m = self.stem(flow - 128.0, "motion")
        for stage, count in zip((2, 3, 4, 5), TINY["units"], strict=True):
            total, m = self.unit(a, f"appearance.res{stage}.a"), np.maximum(self.unit(m, f"motion.res{stage}.a"), 0)
            gated: Array | None = total * m if self.config.fusion else None
            a = np.maximum(total, 0)
            for letter in "bcdefg"[: count - 1]:
                a = np.maximum(self.unit(a, f"appearance.res{stage}.{letter}", gated), 0)
                m = np.maximum(self.unit(m, f"motion.res{stage}.{letter}"), 0)
                gated = None
        return self.head(a, "appearance"), self.head(m, "motion")


def randomise(model: Network) -> Network:
    """Asymmetric weights everywhere and moments of real activations: an identity or a symmetry would hide mistakes."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(0.1 * noise + 0.8 if tensor.ndim == 1 else noise / tensor[0].numel() ** 0.5)
            if name.endswith("time.weight"):
                tensor.mul_(2)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(*clips(np.random.default_rng(3), 5, 64, 64, videos=2))
    return model.eval()


def clips(rng: np.random.Generator, frames: int, height: int, width: int, videos: int = 1) -> list[torch.Tensor]:
    return [torch.from_numpy(rng.integers(0, 256, (videos, frames, c, height, width), dtype=np.uint8)) for c in (3, 20)]


@pytest.mark.parametrize("name", ["st_mulnet_resnet50", "two_stream_resnet50"])
def test_network_equals_numpy_evaluation(name: str, rng: np.random.Generator) -> None:
    model = randomise(create_model(name, 5, **TINY)).double()
    rgb, flow = clips(rng, 7, 71, 94)
    out = model(rgb, flow)
    want = NumpyNetwork(model)(rgb[0].double().numpy(), flow[0].double().numpy())
    for got, expected in zip((out.appearance_map, out.motion_map), want, strict=True):
        assert got.shape[2:] == ((3 if "mulnet" in name else 7), 2, 2)
        np.testing.assert_allclose(got[0].detach().numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    averaged = [x.mean((-2, -1)).mean(-1) for x in want]
    np.testing.assert_allclose(out.fused[0].detach().numpy(), (averaged[0] + averaged[1]) / 2, rtol=1e-8)


def test_float32_agrees_with_float64(rng: np.random.Generator) -> None:
    model = randomise(create_model("st_mulnet_resnet50", 5, **TINY))
    inputs = clips(rng, 5, 64, 64)
    single = model(*inputs).fused.detach().double()
    double = model.double()(*inputs).fused.detach()
    assert (single - double).abs().max() < 1e-4 * double.abs().max()


def test_videos_of_a_batch_do_not_mix(rng: np.random.Generator) -> None:
    model = randomise(create_model("st_mulnet_resnet50", 4, **TINY))
    rgb, flow = clips(rng, 6, 64, 64, videos=3)
    together = model(rgb, flow).fused
    apart = torch.cat([model(rgb[i : i + 1], flow[i : i + 1]).fused for i in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_motion_reaches_appearance_only_through_the_gate(rng: np.random.Generator) -> None:
    rgb, flow = clips(rng, 5, 64, 64)
    for name, changes in (("st_mulnet_resnet50", True), ("two_stream_resnet50", False)):
        model = randomise(create_model(name, 4, **TINY))
        before, after = model(rgb, flow), model(rgb, 255 - flow)
        assert torch.equal(before.appearance, after.appearance) is not changes
        assert torch.equal(model(255 - rgb, flow).motion, before.motion)


def test_gradients_flow_into_both_streams_through_the_gate(rng: np.random.Generator) -> None:
    model = create_model("st_mulnet_resnet50", 4, **TINY)
    model(*clips(rng, 5, 64, 64, videos=2)).appearance.sum().backward()
    assert model.get_parameter("motion.res5.a.branch2c.0.weight").grad is not None
    assert model.get_parameter("motion.res5.b.branch2a.0.weight").grad is None  # behind the last gate


def test_single_streams_fill_their_own_fields(rng: np.random.Generator) -> None:
    rgb, flow = clips(rng, 2, 64, 64)
    appearance = create_model("appearance_resnet50", 4, **TINY).eval()(rgb)
    motion = create_model("motion_resnet50", 4, **TINY).eval()(flow)
    assert appearance.motion is None
    assert appearance.motion_map is None
    assert motion.appearance is None
    assert motion.motion_map.shape == (1, 4, 2, 1, 1)
    assert torch.equal(motion.fused, motion.motion)


def test_official_parameter_count() -> None:
    """ResNet-50 without its classifier has 23,508,032 parameters; conv1's bias adds 64."""
    resnet, flow_conv1 = 23_508_032 + 64, (20 - 3) * 64 * 49
    time = sum(3 * c * c + c for c in (64, 128, 256, 512))
    classifier = 2048 * 101 + 101
    with torch.device("meta"):
        model = create_model("st_mulnet_resnet50", 101)
    assert sum(p.numel() for p in model.parameters()) == 2 * (resnet + time + classifier) + flow_conv1


def test_resnet152_has_two_temporal_convolutions_per_stream() -> None:
    with torch.device("meta"):
        names = [n for n, _ in create_model("st_mulnet_resnet50_resnet152", 101).named_modules() if n.endswith(".time")]
    assert [n for n in names if "motion" in n] == ["motion.res2.b.time", "motion.res5.b.time"]
    assert len([n for n in names if "appearance" in n]) == 4


def test_every_listed_network_builds() -> None:
    with torch.device("meta"):
        for name in list_models():
            assert create_model(name, 7).config.num_classes == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"units": (2, 2, 2)}, "four numbers"),
        ({"units": (1, 2, 2, 2)}, "second unit"),
        ({"input_size": 194}, "input_size 194 leaves fewer positions .* head_pool 7 needs: use input_size 195 or more"),
        ({"colour": 3}, "a network has no option 'colour'; it has appearance, block, conv1_bias"),
        ({"num_classes": 1}, "at least 2"),
        ({"temporal_conv": "centre"}, "temporal_conv must be"),
        ({"width_mult": 9.0}, "between 1/64 and 4"),
        ({"motion": None}, "needs both streams"),
        ({"motion": {"width_mult": 0.5}}, "use one width"),
        ({"motion": {"geometry": "torch"}, "input_size": 225}, "cannot be connected for images of 225x225 pixels"),
        ({"fusion": {"operation": "divide"}}, "'multiply' or 'add'"),
        ({"fusion": "multiply"}, "fusion must be a table of operation, stages, direction, scale, target or null, got"),
        ({"fusion": {"stages": 3}}, "stages must be a list of whole numbers, got 3"),
        ({"units": 3}, "units must be a list of 4 whole numbers, got 3"),
        ({"units": [2, 2, 2, 1.5]}, "units must be a list of 4 whole numbers"),
        ({"units": [2, 2, 2, 10**7]}, "four numbers of 1 to 100"),
        ({"input_size": "large"}, "input_size must be a whole number, got 'large'"),
        ({"width_mult": "wide"}, "width_mult must be a number, got 'wide'"),
    ],
)
def test_contradicting_configurations_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("st_mulnet_resnet50", **overrides)


@pytest.mark.parametrize("geometry", ["caffe", "torch"])
def test_input_sizes_are_allowed_exactly_where_the_last_map_is_large_enough(geometry: str) -> None:
    options: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 1 / 64, "head_pool": "global", "geometry": geometry}
    model = create_model("appearance_resnet50", 2, **options).eval()
    stream, config = model.appearance, model.config.appearance
    assert isinstance(stream, Stream)
    assert config is not None
    for side in range(32, 264):
        x = stream.stem(torch.zeros(1, 3, side, side))
        for stage in (2, 3, 4, 5):
            x = stream.stage(stage, x, 1)
            assert config.map_size(side, 100, stage) == (x.shape[-2], (25, 13, 7, 4)[stage - 2])
        positions = x.shape[-1]
        allowed = {"input_size": side, "geometry": geometry}
        model_config("appearance_resnet50", 2, head_pool=positions, **allowed)
        with pytest.raises(ConfigError, match="use input_size"):
            model_config("appearance_resnet50", 2, head_pool=positions + 1, **allowed)


def test_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no network 'resnet'; one of: .*st_mulnet_resnet50"):
        create_model("resnet")


def test_watching_layers_takes_their_names(rng: np.random.Generator) -> None:
    model = create_model("two_stream_resnet50", 4, **TINY).eval()
    rgb, flow = clips(rng, 2, 64, 64)
    found = model.activations(rgb, flow, names=["res2a_spatial", "fc1000_temporal"])
    assert found["fc1000_temporal"].shape == (1, 2, 4, 1, 1)
    assert torch.equal(model.activations(rgb, flow, ["res2a_spatial"])["res2a_spatial"], found["res2a_spatial"])
    calls: list[Any] = [(rgb, flow), (rgb, flow, "res2a_spatial"), (rgb, ["res2a_spatial"]), (rgb, flow, rgb, [])]
    for wrong in calls:
        with pytest.raises(ConfigError, match="activations takes rgb, flow and a list of layer names"):
            model.activations(*wrong)
    with pytest.raises(ConfigError, match=r"no layer 'res2a'; near: res2a_\w+.* \(model.layer_names\(\) lists them\)"):
        model.activations(rgb, flow, ["res2a"])
    with pytest.raises(ConfigError, match=r"no layer 'colour' \(model"):
        model.activations(rgb, flow, ["colour"])


def test_class_names_differ() -> None:
    with pytest.raises(ConfigError, match="class names must differ, 'a' occur more than once"):
        create_model("appearance_resnet50", 3, class_names=["a", "b", "a"], **TINY)
    with pytest.raises(ConfigError, match="2 class names for 3 classes: one for each"):
        create_model("appearance_resnet50", 3, class_names=["a", "b"], **TINY)


def test_wrong_inputs_are_refused(rng: np.random.Generator) -> None:
    model = create_model("st_mulnet_resnet50", 4, **TINY)
    rgb, flow = clips(rng, 5, 64, 64)
    with pytest.raises(ConfigError, match="must agree"):
        model(rgb[:, :, :, :60], flow)
    with pytest.raises(ConfigError, match="needs 5 or more"):
        model(rgb[:, :4], flow[:, :4])
    with pytest.raises(ConfigError, match=r"images too small: \(2, 1\) positions on the last map, head_pool 2"):
        model(rgb[..., :32], flow[..., :32])
    with pytest.raises(ConfigError, match="images of 2x64 pixels are too small: each side needs 3 or more"):
        model(rgb[..., :2], flow[..., :2])
    with pytest.raises(ConfigError, match=r"\(N, T, 3, H, W\)"):
        model(flow, flow)
    with pytest.raises(ConfigError, match=r"rgb must have the shape \(N, T, 3, H, W\), got \(5, 3, 64, 64\)"):
        model(rgb[0], flow[0])
    with pytest.raises(ConfigError, match=r"flow must be a torch tensor \(N, T, 20, H, W\), got ndarray"):
        model(rgb, flow.numpy())
