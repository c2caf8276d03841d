"""The compiled loops against plain NumPy in float64 (tests/oracle/tvl1.py)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.oracle.tvl1 import L_T, TAUT, THETA, central_differences, cubic_lookup, reference_iteration

from stmulnet.flow import tvl1_kernels as kernels
from stmulnet.flow.tvl1_median import median5
from stmulnet.flow.tvl1_planes import LANE, make_planes, pixels
from stmulnet.flow.tvl1_warp import MARGIN, warp

Array = NDArray[np.floating[Any]]

H, W = 23, 37
WEIGHTS = np.array([L_T, THETA, TAUT], np.float32)


def random_problem(
    rng: np.random.Generator, *, gradient: float, size: tuple[int, int] = (H, W)
) -> tuple[Array, Array, Array, Array]:
    flow = rng.normal(0, 2, (2, *size))
    dual = rng.uniform(-0.7, 0.7, (4, *size))
    dual[[0, 2], :, -1] = 0  # no difference across the right border
    grad = rng.normal(0, gradient, (2, *size))
    grad[:, 3:6, 4:9] = 0  # a flat patch
    return flow, dual, grad, rng.normal(0, 3, size)


def planes_of(images: Array) -> kernels.Array:
    planes = make_planes(*images.shape)
    pixels(planes, images.shape[2])[:] = images
    return planes


def kernel_arrays(flow: Array, dual: Array, grad: Array, rho_c: Array) -> tuple[kernels.Array, ...]:
    inverse = 1 / np.maximum((grad**2).sum(axis=0), np.finfo(np.float32).eps)
    return planes_of(flow), planes_of(dual), planes_of(np.stack([grad[0], grad[1], inverse, rho_c]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, LANE - 1), (7, LANE), (3, 100)])
def test_planes_are_aligned_rows_with_zeros_around_the_pixels(height: int, width: int) -> None:
    planes = make_planes(3, height, width)
    assert planes.ctypes.data % (4 * LANE) == 0
    assert planes.shape[:2] == (3, height + 2)
    assert planes.shape[2] % LANE == 0
    assert width < planes.shape[2] <= width + LANE
    pixels(planes, width)[:] = 1
    assert planes.sum() == 3 * height * width


@pytest.mark.parametrize("gradient", [0.5, 5.0, 50.0])  # small: mostly clamped steps; large: mostly not
@pytest.mark.parametrize("iterations", [1, 2, 7])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 16), (16, 15), (17, 33), (23, 37), (40, 47)])
def test_iterations_match_numpy(
    rng: np.random.Generator, gradient: float, iterations: int, height: int, width: int
) -> None:
    problem = random_problem(rng, gradient=gradient, size=(height, width))
    flow, dual, data = kernel_arrays(*problem)
    error = kernels.iterate(flow, dual, data, width, WEIGHTS, iterations, -1.0)
    expected_flow, expected_dual, grad, rho_c = problem
    for _ in range(iterations):
        expected_flow, expected_dual, expected_error = reference_iteration(expected_flow, expected_dual, grad, rho_c)
    np.testing.assert_allclose(pixels(flow, width), expected_flow, atol=2e-5)
    np.testing.assert_allclose(pixels(dual, width), expected_dual, atol=2e-5)
    np.testing.assert_allclose(error, expected_error, rtol=1e-4)


def test_what_is_zero_around_the_pixels_stays_so(rng: np.random.Generator) -> None:
    flow, dual, data = kernel_arrays(*random_problem(rng, gradient=5.0))
    kernels.iterate(flow, dual, data, W, WEIGHTS, 5, -1.0)
    assert not pixels(dual, W)[[0, 2], :, -1].any()
    for planes in (flow, dual):
        pixels(planes, W)[:] = 0
        assert not planes.any()


def test_iterations_stop_at_the_threshold(rng: np.random.Generator) -> None:
    _, _, grad, rho_c = random_problem(rng, gradient=5.0)
    problem = (np.zeros((2, H, W)), np.zeros((4, H, W)), grad, rho_c)
    errors, flows = [], []
    for iterations in range(1, 40):
        flow, dual, data = kernel_arrays(*problem)
        errors.append(kernels.iterate(flow, dual, data, W, WEIGHTS, iterations, -1.0))
        flows.append(flow)
    expected = next(index for index, error in enumerate(errors) if error <= errors[-1])
    assert expected > 5
    flow, dual, data = kernel_arrays(*problem)
    assert kernels.iterate(flow, dual, data, W, WEIGHTS, 1000, errors[-1]) == errors[expected]
    np.testing.assert_array_equal(flow, flows[expected])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 16), (16, 31), (23, 37)])
@pytest.mark.parametrize("levels", [3, 10**6])  # many that are equal; none
def test_median_matches_numpy(rng: np.random.Generator, height: int, width: int, levels: int) -> None:
    image = rng.integers(-levels, levels, (height, width)).astype(np.float32)
    planes = planes_of(image[None])
    out = make_planes(1, height, width)
    out[:, 1:-1] = np.nan
    median5(planes[0], out[0], width, np.empty((5, planes.shape[2] + 4), np.float32))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, 2, mode="edge"), (5, 5))
    np.testing.assert_array_equal(pixels(out, width)[0], np.median(windows, axis=(2, 3)))
    pixels(out, width)[:] = 0
    assert not out.any()
    if min(height, width) >= 3:
        np.testing.assert_array_equal(cv2.medianBlur(image, 5), np.median(windows, axis=(2, 3)))


def target_of(image: Array) -> kernels.Array:
    target = np.zeros((3, H + 2 * MARGIN, W + 2 * MARGIN), np.float32)
    kernels.target_planes(image.astype(np.float32), target)
    return target


def test_target_holds_image_and_central_differences_in_a_margin_of_zeros(rng: np.random.Generator) -> None:
    image = rng.uniform(0, 255, (H, W))
    target = target_of(image)
    inner = target[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    np.testing.assert_allclose(inner, central_differences(image), atol=2e-5)
    inner[:] = 0
    assert not target.any()


@pytest.mark.parametrize("spread", [0.0, 0.4, 6.0, 1000.0])  # in place, nearby, across the border, far outside
def test_warp_matches_numpy(rng: np.random.Generator, spread: float) -> None:
    image, target_image = rng.uniform(0, 255, (2, H, W))
    target_image[8:14, 10:17] = 80.0  # no gradient inside
    flow = rng.normal(0, spread, (2, H, W)).astype(np.float32) if spread else np.zeros((2, H, W), np.float32)
    planes = make_planes(4, H, W)
    warp(image.astype(np.float32), target_of(target_image), planes_of(flow), planes)
    data = pixels(planes, W).copy()
    pixels(planes, W)[:] = 0
    assert not planes.any()
    rows, columns = np.mgrid[:H, :W].astype(np.float32)
    x, y = (columns + flow[0]).astype(np.float64), (rows + flow[1]).astype(np.float64)
    value, grad_x, grad_y = (cubic_lookup(plane, x, y) for plane in central_differences(target_image))
    np.testing.assert_allclose(data[0], grad_x, atol=1e-3)
    np.testing.assert_allclose(data[1], grad_y, atol=1e-3)
    norm = np.maximum(data[0].astype(np.float64) ** 2 + data[1] ** 2, np.finfo(np.float32).eps)
    np.testing.assert_allclose(data[2], 1 / norm, rtol=1e-5)
    np.testing.assert_allclose(data[3], value - grad_x * flow[0] - grad_y * flow[1] - image, atol=2e-2, rtol=1e-4)


def test_warp_looks_up_as_opencvs_remap(rng: np.random.Generator) -> None:
    target_image = rng.uniform(0, 255, (H, W)).astype(np.float32)
    # OpenCV 4 rounds positions to 1/32 px; at multiples of that every version agrees.
    flow = (rng.integers(-200, 201, (2, H, W)) / 32).astype(np.float32)
    planes = make_planes(4, H, W)
    warp(np.zeros((H, W), np.float32), target_of(target_image), planes_of(flow), planes)
    data = pixels(planes, W)
    rows, columns = np.mgrid[:H, :W].astype(np.float32)
    images = [plane.astype(np.float32) for plane in central_differences(target_image)]
    value, grad_x, grad_y = (cv2.remap(plane, columns + flow[0], rows + flow[1], cv2.INTER_CUBIC) for plane in images)
    np.testing.assert_allclose(data[0], grad_x, atol=1e-3)
    np.testing.assert_allclose(data[1], grad_y, atol=1e-3)
    np.testing.assert_allclose(data[3], value - grad_x * flow[0] - grad_y * flow[1], atol=2e-2)


def test_a_constant_shift_solves_the_linear_problem() -> None:
    """The sign convention: data say that the image moved by (2, -1); iterating finds that."""
    rng = np.random.default_rng(3)
    grad = np.asarray(cv2.GaussianBlur(rng.normal(0, 200, (H, W, 2)), (0, 0), 1.5), np.float64).transpose(2, 0, 1)
    rho_c = -(2.0 * grad[0] - 1.0 * grad[1])
    flow, dual, data = kernel_arrays(np.zeros((2, H, W)), np.zeros((4, H, W)), grad, rho_c)
    kernels.iterate(flow, dual, data, W, WEIGHTS, 2000, -1.0)
    np.testing.assert_allclose(np.median(pixels(flow, W), axis=(1, 2)), [2.0, -1.0], atol=0.02)


FRESH_PROCESS = """
import numpy as np
from stmulnet.flow.tvl1 import tvl1
frames = np.random.default_rng(1).integers(0, 256, (2, 20, 24), np.uint8)
print(float(np.abs(tvl1(frames)).sum()))
"""


def start_fresh_process(cache: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", FRESH_PROCESS],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_compilation_is_announced_once_and_cached_for_workers_that_start_together(tmp_path: Path) -> None:
    together = [start_fresh_process(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in together]
    assert [process.returncode for process in together] == [0, 0], outputs
    assert "compiling the TV-L1 kernel" in outputs[0][1] + outputs[1][1]
    later = start_fresh_process(tmp_path)
    output, messages = later.communicate(timeout=120)
    assert (output, messages) == (outputs[0][0], "")
    assert outputs[1][0] == output
