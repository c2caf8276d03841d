import numpy as np
import pytest
import torch

from stmulnet import create_model
from stmulnet.explanation.pictures import enlarged, flow_at_frames, frame_images, full_glow, glow_scale, overlay


def test_overlay_glows_where_the_map_is_high(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    values = np.zeros((5, 8), dtype=np.float32)
    values[1, 4] = 2.0
    image = overlay(values, frame, stage="res3", full=2.0)
    assert image.shape == frame.shape
    assert image.dtype == np.uint8
    far = image[18:, :26].astype(int)
    np.testing.assert_array_equal(far[..., 0], far[..., 1])  # grey
    np.testing.assert_allclose(far[..., 2], 0.55 * (frame[18:, :26] @ [0.299, 0.587, 0.114]), atol=0.51)
    assert image[1 * 8 + 2, 4 * 8 + 2].tolist() == [252, 255, 164]  # the last colour of inferno


def test_maps_are_linear_between_their_positions() -> None:
    large = enlarged(np.array([[0.0, 4.0]], dtype=np.float32), 3, 9, stage="res2")
    np.testing.assert_allclose(large, [[0, 0, 0, 1, 2, 3, 4, 4, 4]] * 3)
    rng = np.random.default_rng(2)
    values = rng.random((3, 2))
    large = enlarged(values, 50, 40, stage="res4")
    np.testing.assert_allclose(large[[2, 18, 34]][:, [2, 18]], values, rtol=1e-6)
    np.testing.assert_allclose(large[10, 6], (0.75 * (values[0, 0] + values[1, 0]) + 0.25 * values[:2, 1].sum()) / 2)


@pytest.mark.parametrize("stage", ["res2", "res3", "res4", "res5"])
def test_positions_lie_where_they_look(stage: str) -> None:
    """The pixels that a position depends on, by gradients, have the position's place in the frame as their middle."""
    units = (2, 1, 1, 1)
    model = create_model("appearance_resnet50", 2, units=units, width_mult=1 / 32, input_size=32, head_pool="global")
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)  # no ReLU shuts, nothing cancels
    stream = model.requires_grad_(False).eval().get_submodule("appearance")
    stream.pool1 = torch.nn.AvgPool2d(3, stride=2, ceil_mode=True)  # a maximum has one gradient, here all count
    size = 512
    image = torch.full((1, 3, size, size), 1.0, requires_grad=True)
    x = stream.stem(image)  # type: ignore[operator]
    for number in range(2, int(stage[-1]) + 1):
        for unit in stream.units(number):  # type: ignore[operator]
            x = unit.relu(unit(x, 1))
    row, column = x.shape[2] // 2, x.shape[3] // 2 - 1
    x[0, :, row, column].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).numpy() > 0
    values = np.zeros(x.shape[2:])
    values[row, column] = 1
    top = np.unravel_index(enlarged(values, size, size, stage=stage).argmax(), (size, size))
    middle = [(np.flatnonzero(seen.any(axis)).min() + np.flatnonzero(seen.any(axis)).max()) / 2 for axis in (1, 0)]
    np.testing.assert_allclose(top, middle, atol=2)


def test_full_glow_ignores_the_last_percent() -> None:
    maps = np.ones((1, 20, 20), dtype=np.float32)
    maps[0, 0, :3] = 50
    assert full_glow(maps) == 1
    assert full_glow(np.zeros((1, 3, 3), dtype=np.float32)) == 1
    lone = np.zeros((1, 20, 20), dtype=np.float32)
    lone[0, 0, 0] = 3
    assert full_glow(lone) == 3


def test_scale_runs_from_the_dim_frame_to_the_full_glow() -> None:
    scale = glow_scale(50, 4)
    assert scale[0, 0].tolist() == [70, 70, 70]
    assert scale[3, -1].tolist() == [252, 255, 164]


def test_frames_and_the_flow_that_leaves_them(rng: np.random.Generator) -> None:
    rgb = torch.from_numpy(rng.integers(0, 256, (2, 3, 5, 7), dtype=np.uint8))
    assert frame_images(rgb)[1, 4, 6].tolist() == rgb[1, :, 4, 6].tolist()
    flow = torch.full((2, 20, 5, 7), 128, dtype=torch.uint8)
    flow[0, 10], flow[1, 11], flow[0, 9] = 255, 0, 7  # u and v of field t; field t-1 is not shown
    px = flow_at_frames(flow)
    assert px.shape == (2, 2, 5, 7)
    assert px[0, 0, 0, 0] == pytest.approx(20, abs=0.08)
    assert px[1, 1, 0, 0] == pytest.approx(-20, abs=0.08)
    assert not px[0, 1].any()
    assert not px[1, 0].any()
