import numpy as np
import pytest
import torch

from stmulnet.explanation.pictures import enlarged, flow_at_frames, frame_images, full_glow, glow_scale, overlay


def test_overlay_glows_where_the_map_is_high(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (36, 54, 3), dtype=np.uint8)
    values = np.zeros((4, 6), dtype=np.float32)
    values[1, 4] = 2.0
    image = overlay(values, frame, full=2.0)
    assert image.shape == frame.shape
    assert image.dtype == np.uint8
    far = image[23:, :27].astype(int)
    np.testing.assert_array_equal(far[..., 0], far[..., 1])  # grey
    np.testing.assert_allclose(far[..., 2], 0.55 * (frame[23:, :27] @ [0.299, 0.587, 0.114]), atol=0.51)
    assert image[13, 40].tolist() == [252, 255, 164]  # the last colour of inferno, at the middle of position (1, 4)


def test_maps_are_enlarged_about_the_middle_of_their_positions() -> None:
    large = enlarged(np.array([[0.0, 4.0]], dtype=np.float32), (2, 8))
    np.testing.assert_allclose(large, [[0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]] * 2)


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
