import colorsys

import numpy as np
import pytest

from stmulnet.evaluation.flow_colours import flow_colours, flow_wheel, full_colour_speed


def test_against_colorsys(rng: np.random.Generator) -> None:
    flow = rng.normal(scale=3, size=(2, 2, 5, 7)).astype(np.float32)
    colours = flow_colours(flow, full_px=4.0)
    assert colours.shape == (2, 5, 7, 3)
    for n, y, x in np.ndindex(2, 5, 7):
        u, v = (float(value) for value in flow[n, :, y, x])
        angle = np.arctan2(v, u) / (2 * np.pi)
        expected = colorsys.hsv_to_rgb(angle % 1.0, min(1.0, np.hypot(u, v) / 4.0), 1.0)
        np.testing.assert_allclose(colours[n, y, x], 255 * np.array(expected), atol=0.51)


def test_standstill_is_white_and_rightward_is_red() -> None:
    flow = np.zeros((2, 1, 2), dtype=np.float32)
    flow[0, 0, 1] = 9.0
    assert flow_colours(flow, full_px=9.0).tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_wheel_shows_directions_on_the_background() -> None:
    wheel = flow_wheel(65, background=7)
    assert wheel[0, 0].tolist() == [7, 7, 7]
    right, left = wheel[32, 63].astype(int), wheel[32, 1].astype(int)
    assert right[0] > right[1] + 200
    assert left[1] > left[0] + 200
    assert left[2] > left[0] + 200


def test_full_colour_speed_is_a_high_percentile_but_not_below_one() -> None:
    flow = np.zeros((2, 10, 100))
    assert full_colour_speed(flow) == 1.0
    flow[0, :, :2], flow[1, :, :2] = 3.0, -4.0
    assert full_colour_speed(flow) == pytest.approx(5.0)
