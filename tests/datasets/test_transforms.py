"""Crops, flips and resizing against references in NumPy float64."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from stmulnet.datasets import transforms
from stmulnet.errors import ConfigError

Float = npt.NDArray[np.float64]


def _clip(rng: np.random.Generator, height: int, width: int, count: int = 3) -> tuple[Tensor, Tensor]:
    """RGB and flow stacks of smooth random images that use the whole range of values."""
    coarse = rng.integers(0, 256, (count, 23, 6, 7)).astype(np.float32)
    images = torch.nn.functional.interpolate(torch.from_numpy(coarse), (height, width), mode="bilinear")
    images = images.round().to(torch.uint8)
    return images[:, :3].contiguous(), images[:, 3:].contiguous()


def _cubic(x: Float) -> Float:
    """The cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.asarray(np.where(x < 1, inner, np.where(x < 2, outer, 0.0)), np.float64)


def _weights(size_in: int, size_out: int) -> Float:
    """(size_out, size_in) weights of the antialiased resize along one axis."""
    scale = size_in / size_out
    centres = (np.arange(size_out) + 0.5) * scale - 0.5
    weights = _cubic((np.arange(size_in)[None] - centres[:, None]) / max(scale, 1.0))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float64)


def _reference_resize(images: Tensor, size: tuple[int, int]) -> Float:
    rows, columns = _weights(images.shape[-2], size[0]), _weights(images.shape[-1], size[1])
    narrowed = np.clip(np.einsum("mchw,xw->mchx", images.numpy().astype(np.float64), columns), 0, 255)
    return np.asarray(np.clip(np.einsum("yh,mchx->mcyx", rows, narrowed), 0, 255), np.float64)


@pytest.mark.parametrize("size", [(24, 24), (61, 43), (30, 90), (40, 52)])
@pytest.mark.parametrize("channels", [1, 2, 3, 20])
def test_resize_is_antialiased_bicubic(rng: np.random.Generator, size: tuple[int, int], channels: int) -> None:
    images = torch.from_numpy(rng.integers(0, 256, (3, channels, 40, 52), dtype=np.uint8))
    resized = transforms.resize(images, size)
    assert resized.dtype == torch.uint8
    assert resized.is_contiguous()
    assert np.abs(resized.numpy() - _reference_resize(images, size)).max() <= 1.5  # two roundings


def test_resize_of_a_view_leaves_the_image_alone(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 50, 60)
    for clip in (rgb, flow, rgb.contiguous(memory_format=torch.channels_last)):
        before = clip.clone()
        part = clip[..., 5:45, 7:50]
        assert torch.equal(transforms.resize(part, (24, 24)), transforms.resize(part.clone(), (24, 24)))
        assert torch.equal(clip, before)


def test_crops_follow_the_official_distribution() -> None:
    rng = np.random.default_rng(3)
    height, width, size = 256, 340, 224
    crops = [transforms.draw_crop(height, width, size, rng) for _ in range(3000)]
    heights, widths = np.array([c.height for c in crops]), np.array([c.width for c in crops])
    assert (heights.min(), heights.max()) == (168, 256)
    assert (widths.min(), widths.max()) == (168, 280)
    # 168 ... 280 uniformly, what exceeds the image's height is cut: 24/112 of the draws
    assert abs((heights == 256).mean() - 24.5 / 112) < 0.03
    assert abs(widths.mean() - 224) < 2
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.06
    assert abs(np.mean([c.flip for c in crops]) - 0.5) < 0.04


def test_crop_positions_are_corner_regions_only() -> None:
    rng = np.random.default_rng(4)
    crops = [transforms.draw_crop(1000, 1200, 100, rng) for _ in range(4000)]
    down = np.array([c.top / (1000 - c.height) for c in crops])
    right = np.array([c.left / (1200 - c.width) for c in crops])
    first, last = (down <= 0.25) & (right <= 0.25), (down >= 0.748) & (right >= 0.748)
    assert np.all(first | last)
    assert abs(first.mean() - 0.5) < 0.04
    assert len(np.unique(down.round(2))) >= 40  # twenty positions in each region
    assert down.max() == 1.0
    assert right.min() == 0.0


def test_crop_stays_inside_a_small_image() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        crop = transforms.draw_crop(30, 200, 96, rng)
        assert crop.height == 30
        assert crop.top == 0
        assert 0 <= crop.left <= 200 - crop.width


def test_same_generator_same_crop() -> None:
    draws = [transforms.draw_crop(256, 340, 224, np.random.default_rng(7)) for _ in range(2)]
    assert draws[0] == draws[1]


def test_train_transform_moves_both_modalities_alike(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 60, 80)
    flow[:, 1:4] = rgb  # v, u and v channels with the content of red, green and blue
    for seed in range(8):
        new_rgb, new_flow = transforms.TrainTransform(40)(rgb, flow, np.random.default_rng(seed))
        assert new_rgb is not None
        assert new_flow is not None
        assert new_rgb.shape == (3, 3, 40, 40)
        assert new_flow.shape == (3, 20, 40, 40)
        crop = transforms.draw_crop(60, 80, 40, np.random.default_rng(seed))
        green = 255 - new_rgb[:, 1] if crop.flip else new_rgb[:, 1]
        for ours, theirs in ((new_rgb[:, 0], new_flow[:, 1]), (green, new_flow[:, 2]), (new_rgb[:, 2], new_flow[:, 3])):
            assert (ours.int() - theirs.int()).abs().max() <= 1  # torch rounds 3- and 4-channel images alike or by one


def test_apply_crop_against_numpy(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 60, 80)
    crop = transforms.Crop(top=7, left=21, height=33, width=50, flip=True)
    new_rgb, new_flow = transforms.apply_crop(rgb, flow, crop, 40)
    assert new_rgb is not None
    assert new_flow is not None
    expected_rgb = _reference_resize(rgb[..., 7:40, 21:71], (40, 40))[..., ::-1]
    expected_flow = _reference_resize(flow[..., 7:40, 21:71], (40, 40))[..., ::-1].copy()
    expected_flow[:, 0::2] = 255 - expected_flow[:, 0::2]
    assert np.abs(new_rgb.numpy() - expected_rgb).max() <= 1.5
    assert np.abs(new_flow.numpy() - expected_flow).max() <= 1.5


def test_mirror_turns_zero_displacement_into_127(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 8, 9)
    flow[0, 0], flow[0, 1] = 128, 128
    before = flow.clone()
    new_rgb, new_flow = transforms.mirror_clip(rgb, flow)
    assert new_rgb is not None
    assert new_flow is not None
    assert torch.equal(flow, before)
    assert np.array_equal(new_rgb.numpy(), rgb.numpy()[..., ::-1])
    assert np.all(new_flow[0, 0].numpy() == 127)
    assert np.all(new_flow[0, 1].numpy() == 128)
    assert np.array_equal(new_flow[:, 2].numpy(), 255 - flow[:, 2].numpy()[..., ::-1])
    assert np.array_equal(new_flow[:, 3].numpy(), flow[:, 3].numpy()[..., ::-1])


def test_mirror_of_single_fields_and_of_stacks_agree(rng: np.random.Generator) -> None:
    _, flow = _clip(rng, 8, 9)
    fields = transforms.mirror_clip(None, flow.reshape(-1, 2, 8, 9))[1]
    stacks = transforms.mirror_clip(None, flow)[1]
    assert fields is not None
    assert stacks is not None
    assert torch.equal(fields.reshape(flow.shape), stacks)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((256, 340), (256, 340)), ((128, 340), (224, 340)), ((256, 500), (256, 448)), ((100, 900), (224, 448))],
)
def test_clamp_sides(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert transforms.clamp_sides(size, 224) == expected


def test_test_transform_keeps_the_whole_frame(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 30, 90)
    new_rgb, new_flow = transforms.TestTransform(40)(rgb, flow)
    assert new_rgb is not None
    assert new_flow is not None
    assert new_rgb.shape[-2:] == new_flow.shape[-2:] == (40, 80)
    assert np.abs(new_rgb.numpy() - _reference_resize(rgb, (40, 80))).max() <= 1.5
    assert np.abs(new_flow.numpy() - _reference_resize(flow, (40, 80))).max() <= 1.5


def test_different_sizes_are_cut_at_the_top_left(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 50, 60)
    new_rgb, new_flow = transforms.TestTransform(40)(rgb[..., :44, :], flow[..., :58])
    assert new_rgb is not None
    assert new_flow is not None
    assert torch.equal(new_rgb, rgb[..., :44, :58])
    assert torch.equal(new_flow, flow[..., :44, :58])


@pytest.mark.parametrize("transform", [transforms.TrainTransform(24), transforms.TestTransform(24)])
def test_one_modality_alone_is_transformed_as_in_the_pair(
    rng: np.random.Generator, transform: transforms.Transform
) -> None:
    rgb, flow = _clip(rng, 30, 40)
    both = transform(rgb, flow, np.random.default_rng(1))
    for alone, pair in (
        (transform(rgb, None, np.random.default_rng(1))[0], both[0]),
        (transform(None, flow, np.random.default_rng(1))[1], both[1]),
    ):
        assert alone is not None
        assert pair is not None
        assert torch.equal(alone, pair)


def test_size_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 0"):
        transforms.TrainTransform(0)
