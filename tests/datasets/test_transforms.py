"""Crops, flips and resizing against references in NumPy float64."""

import numpy as np
import pytest
import torch
from tests.oracle.imresize import imresize, limited
from torch import Tensor

from stmulnet.datasets import transforms
from stmulnet.datasets.calls import LoaderCall
from stmulnet.datasets.resize import resize_crops
from stmulnet.errors import ConfigError

AUGMENTATIONS: tuple[transforms.Augmentation, ...] = ("f25noCtr", "borders25", "multiScaleRegular")


def _clip(rng: np.random.Generator, height: int, width: int, count: int = 3) -> tuple[Tensor, Tensor]:
    """RGB and flow stacks of smooth random images that use the whole range of values."""
    coarse = rng.integers(0, 256, (count, 23, 6, 7)).astype(np.float32)
    images = torch.nn.functional.interpolate(torch.from_numpy(coarse), (height, width), mode="bilinear")
    images = images.round().to(torch.uint8)
    return images[:, :3].contiguous(), images[:, 3:].contiguous()


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


def test_the_table_of_placements_is_the_official_one() -> None:
    """Two meshes of 20 x 20, .75 to 1 and 0 to .25, once as they are and once mirrored."""
    meshes = [np.meshgrid(np.linspace(first, first + 0.25, 20)) * 2 for first in (0.75, 0.0)]
    official = {(a, b, flip) for rows, columns in meshes for a in rows for b in columns for flip in (False, True)}
    ours = [transforms.placement(entry) for entry in range(1600)]
    assert len(set(ours)) == len(official) == transforms.NUM_PLACEMENTS == 1600
    difference = np.array(sorted(ours), float) - np.array(sorted(official), float)
    assert np.abs(difference).max() < 1e-15


@pytest.mark.parametrize(("height", "width"), [(256, 340), (240, 320), (170, 500), (150, 160)])
def test_sides_and_corner_of_a_crop(height: int, width: int) -> None:
    for seed in range(200):
        entry = seed * 8 % 1600 + seed % 8
        crop = transforms.draw_crop(height, width, 224, np.random.default_rng(seed), entry=entry)
        wanted = 224 * (0.75 + 0.5 * np.random.default_rng(seed).random(2))
        sides = np.floor(np.minimum(wanted, (height, width)) + 0.5)
        assert (crop.height, crop.width) == tuple(sides)
        down, right, flip = transforms.placement(entry)
        room = (height, width) - sides
        assert (crop.top, crop.left, crop.flip) == (int(room[0] * down), int(room[1] * right), flip)


class _SidesOf(np.random.Generator):
    """A generator whose ``random`` gives what leads to the wanted crop sides at input size 224."""

    def __init__(self, *sides: int) -> None:
        super().__init__(np.random.PCG64(0))
        self.sides = sides

    def random(self, *args: object, **options: object) -> object:  # type: ignore[override]
        return (np.array(self.sides) / 224 - 0.75) * 2


def test_a_crop_of_exactly_the_input_size_lies_at_the_top_left_unless_repaired() -> None:
    entry = 1599  # bottom right
    assert transforms.draw_crop(256, 340, 224, _SidesOf(224, 224), entry=entry) == (0, 0, 224, 224, True)
    repaired = transforms.draw_crop(256, 340, 224, _SidesOf(224, 224), entry=entry, repaired=True)
    assert repaired == (32, 116, 224, 224, True)
    for sides in ((224, 225), (223, 224)):
        crop = transforms.draw_crop(256, 340, 224, _SidesOf(*sides), entry=entry)
        assert crop == (256 - sides[0], 340 - sides[1], *sides, True)


def test_multi_scale_crops_are_corners_and_centre() -> None:
    rng = np.random.default_rng(6)
    crops = [transforms.draw_multi_scale_crop(256, 341, 224, rng, repaired=True) for _ in range(4000)]
    sides = {side: np.mean([crop.height == side for crop in crops]) for side in (256, 224, 192, 168)}
    assert sum(sides.values()) == pytest.approx(1)
    assert max(sides.values()) - min(sides.values()) < 0.05
    assert len({(crop.height, crop.width) for crop in crops}) == 16
    # Where crops are lower and narrower than the image the five places differ.
    places = []
    for crop in (crop for crop in crops if crop.height < 256):
        down, right = 256 - crop.height, 341 - crop.width
        named = {(0, 0): 0, (down, right): 1, (0, right): 2, (down, 0): 3}
        named[(int(np.floor((down + 1) / 2)), int(np.floor((right + 1) / 2)))] = 4
        places.append(named[(crop.top, crop.left)])
    assert np.bincount(places, minlength=5) / len(places) == pytest.approx(np.full(5, 0.2), abs=0.03)
    assert np.mean([crop.flip for crop in crops]) == pytest.approx(0.5, abs=0.03)


def test_one_in_sixteen_multi_scale_crops_has_the_input_size_and_lies_at_the_top_left() -> None:
    rng = np.random.default_rng(7)
    crops = [transforms.draw_multi_scale_crop(256, 340, 224, rng) for _ in range(3000)]
    exact = [crop for crop in crops if (crop.height, crop.width) == (224, 224)]
    assert len(exact) / len(crops) == pytest.approx(1 / 16, abs=0.015)
    assert {(crop.top, crop.left) for crop in exact} == {(0, 0)}
    assert {crop.flip for crop in exact} == {False, True}


def test_multi_scale_crops_follow_the_input_size_and_stay_inside_the_image() -> None:
    rng = np.random.default_rng(8)
    crops = [transforms.draw_multi_scale_crop(120, 200, 112, rng) for _ in range(500)]
    assert {crop.width for crop in crops} == {128, 112, 96, 84}
    assert {crop.height for crop in crops} == {120, 112, 96, 84}
    assert all(0 <= crop.top <= 120 - crop.height and 0 <= crop.left <= 200 - crop.width for crop in crops)


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
            assert torch.equal(ours, theirs)


def _crops_of_call(transform: transforms.TrainTransform, size: int, seed: int = 9) -> list[transforms.Crop]:
    """The crops of the videos of one loader call in images of 1000 x 1200; their own generators differ."""
    calls = [LoaderCall(earlier=(50,) * place, rng=np.random.default_rng(seed)) for place in range(size)]
    return [transform.draw(1000, 1200, np.random.default_rng([seed, i]), call) for i, call in enumerate(calls)]


def _entry(crop: transforms.Crop) -> tuple[int, int, bool]:
    """Row and column of the position in the table, 0 ... 39, and flip."""
    steps = []
    for corner, room in ((crop.top, 1000 - crop.height), (crop.left, 1200 - crop.width)):
        share = (corner + 0.5) / room
        steps.append(round(share / 0.25 * 19) if share < 0.5 else 20 + round((share - 0.75) / 0.25 * 19))
    return steps[0], steps[1], crop.flip


def test_videos_of_a_call_have_distinct_placements() -> None:
    whole_table = {_entry(crop) for crop in _crops_of_call(transforms.TrainTransform(100), 1600)}
    assert len(whole_table) == 1600
    # Drawn one by one, some of 400 out of 1600 are bound to be the same: 350 distinct ones are expected.
    assert len({_entry(crop) for crop in _crops_of_call(transforms.TrainTransform(100, repaired=True), 400)}) < 380


def test_borders25_gives_all_videos_of_a_call_one_placement_and_sides_of_their_own() -> None:
    for seed in range(5):
        crops = _crops_of_call(transforms.TrainTransform(100, "borders25"), 6, seed)
        assert len({_entry(crop) for crop in crops}) == 1
        assert len({(crop.height, crop.width) for crop in crops}) == 6
    assert len({_entry(_crops_of_call(transforms.TrainTransform(100, "borders25"), 1, s)[0]) for s in range(40)}) > 30
    assert len({_entry(crop) for crop in _crops_of_call(transforms.TrainTransform(100, "borders25", True), 6)}) > 1


def test_flow_base_crops_share_nothing() -> None:
    transform = transforms.TrainTransform(100, "multiScaleRegular")
    alone = [transform.draw(1000, 1200, np.random.default_rng([9, i])) for i in range(6)]
    assert _crops_of_call(transform, 6) == alone


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_transform_in_a_call_applies_the_crop_it_draws(
    rng: np.random.Generator, augmentation: transforms.Augmentation
) -> None:
    transform = transforms.TrainTransform(40, augmentation)
    rgb, flow = _clip(rng, 60, 80)
    for seed in range(4):
        call, same = (LoaderCall((20, 30), np.random.default_rng(seed)) for _ in range(2))
        pair = transform.in_call(call)(rgb, flow, np.random.default_rng(seed + 50))
        crop = transform.draw(60, 80, np.random.default_rng(seed + 50), same)
        antialias = augmentation != "multiScaleRegular"
        expected = transforms.apply_crop(rgb, flow, crop, 40, antialias=antialias)
        for ours, theirs in zip(pair, expected, strict=True):
            assert ours is not None
            assert theirs is not None
            assert torch.equal(ours, theirs)
        part = rgb[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        want = limited(imresize(part, (40, 40), antialias))[..., :: -1 if crop.flip else 1]
        assert pair[0] is not None
        assert np.abs(pair[0].numpy() - want).max() < 0.501


def test_apply_crop_against_numpy(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 60, 80)
    crop = transforms.Crop(top=7, left=21, height=33, width=50, flip=True)
    new_rgb, new_flow = transforms.apply_crop(rgb, flow, crop, 40)
    assert new_rgb is not None
    assert new_flow is not None
    expected_rgb = limited(imresize(rgb[..., 7:40, 21:71], (40, 40)))[..., ::-1]
    expected_flow = limited(imresize(flow[..., 7:40, 21:71], (40, 40)))[..., ::-1].copy()
    expected_flow[:, 0::2] = 255 - expected_flow[:, 0::2]
    assert np.abs(new_rgb.numpy() - expected_rgb).max() < 0.501
    assert np.abs(new_flow.numpy() - expected_flow).max() < 0.501


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_crops_can_be_resized_later(rng: np.random.Generator, augmentation: transforms.Augmentation) -> None:
    rgb, flow = _clip(rng, 60, 80)
    antialias = transforms.antialiases(augmentation)
    flips = set()
    for seed in range(6):
        whole = transforms.TrainTransform(40, augmentation)(rgb, flow, np.random.default_rng(seed))
        cut = transforms.TrainTransform(40, augmentation, resized=False)(rgb, flow, np.random.default_rng(seed))
        crop = transforms.TrainTransform(40, augmentation).draw(60, 80, np.random.default_rng(seed))
        flips.add(crop.flip)
        for wanted, clip in zip(whole, cut, strict=True):
            assert wanted is not None
            assert clip is not None
            assert clip.shape[-2:] == (crop.height, crop.width)
            difference = wanted.short() - resize_crops([clip], 40, antialias=antialias)[0].short()
            assert difference.abs().max() <= 1
            assert (difference != 0).float().mean() < 0.01  # mirrored before or after it is rounded
    assert flips == {True, False}


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
    assert np.abs(new_rgb.numpy() - limited(imresize(rgb, (40, 80)))).max() < 0.501
    assert np.abs(new_flow.numpy() - limited(imresize(flow, (40, 80)))).max() < 0.501


def test_different_sizes_are_cut_at_the_top_left(rng: np.random.Generator) -> None:
    rgb, flow = _clip(rng, 50, 60)
    new_rgb, new_flow = transforms.TestTransform(40)(rgb[..., :44, :], flow[..., :58])
    assert new_rgb is not None
    assert new_flow is not None
    assert torch.equal(new_rgb, rgb[..., :44, :58])
    assert torch.equal(new_flow, flow[..., :44, :58])


@pytest.mark.parametrize(
    "transform", [*(transforms.TrainTransform(24, name) for name in AUGMENTATIONS), transforms.TestTransform(24)]
)
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


def test_senseless_arguments_are_refused() -> None:
    for transform in (transforms.TrainTransform, transforms.TestTransform):
        with pytest.raises(ConfigError, match="got 0"):
            transform(0)
    with pytest.raises(ConfigError, match="f25noCtr, borders25, multiScaleRegular, got 'f25'"):
        transforms.TrainTransform(224, "f25")  # type: ignore[arg-type]
