"""The steps of the torch implementation against plain NumPy in float64 (tests/oracle/tvl1.py), and OpenCV's functions.

Axes: N pairs, h x w pixels.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.oracle.tvl1 import L_T, TAUT, THETA, central_differences, cubic_lookup, reference_iteration
from torch import Tensor

from stmulnet.flow import tvl1_torch_steps as steps

Array = NDArray[np.floating[Any]]

N, H, W = 3, 23, 37
NEVER = -1.0  # a threshold that no update falls below


def tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def test_gray_is_opencvs(rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (4, 100, 120, 3), np.uint8)
    expected = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    gray = steps.gray(torch.from_numpy(frames))
    assert gray.dtype == torch.float32
    np.testing.assert_array_equal(gray, expected)
    np.testing.assert_array_equal(steps.gray(torch.from_numpy(expected)), expected)


@pytest.mark.parametrize(("height", "width"), [(64, 93), (97, 64), (17, 50)])
@pytest.mark.parametrize("scale", [0.8, 0.5, 0.37])
def test_resize_is_opencvs(rng: np.random.Generator, height: int, width: int, scale: float) -> None:
    image = rng.uniform(0, 255, (height, width)).astype(np.float32)
    expected = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    size = round(height * scale), round(width * scale)
    smaller = steps.resize(tensor(image)[None], size, (1 / scale, 1 / scale))[0]
    np.testing.assert_allclose(smaller, expected, atol=1e-4)
    larger = steps.resize(smaller, (height, width), (size[0] / height, size[1] / width))
    expected = cv2.resize(expected, (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(larger, expected, atol=1e-4)


def test_target_planes_match_numpy(rng: np.random.Generator) -> None:
    images = rng.uniform(0, 255, (N, H, W))
    planes = steps.target_planes(tensor(images))
    assert planes.shape == (N, 3, 32, 64)
    expected = np.stack([central_differences(image) for image in images])
    np.testing.assert_allclose(planes[..., :H, :W], expected, atol=2e-5)
    assert not planes[..., H:, :].any()
    assert not planes[..., W:].any()


def test_warp_finds_whole_pixels_exactly(rng: np.random.Generator) -> None:
    images = tensor(rng.uniform(0, 255, (2, 100, 341)))
    target = steps.target_planes(images)
    assert not steps.warp(images, target, torch.zeros(2, 2, 100, 341)).residual.any()
    moved = steps.warp(
        images[..., 30:].contiguous(), target, torch.tensor([30.0, 0]).reshape(1, 2, 1, 1).repeat(2, 1, 100, 311)
    )
    torch.testing.assert_close(moved.gradient, target[:, 1:, :100, 30:341], rtol=0, atol=0)


@pytest.mark.parametrize("spread", [0.0, 0.4, 6.0, 1000.0])  # in place, nearby, across the border, far outside
def test_warp_matches_numpy(rng: np.random.Generator, spread: float) -> None:
    first, second = rng.uniform(0, 255, (2, N, H, W))
    second[:, 8:14, 10:17] = 80.0  # no gradient inside
    flow = rng.normal(0, 1, (N, 2, H, W)).astype(np.float32) * np.float32(spread)
    data = steps.warp(tensor(first), steps.target_planes(tensor(second)), tensor(flow))
    rows, columns = np.mgrid[:H, :W]
    for n in range(N):
        x, y = columns + flow[n, 0].astype(np.float64), rows + flow[n, 1].astype(np.float64)
        value, *gradient = (cubic_lookup(plane, x, y) for plane in central_differences(second[n]))
        np.testing.assert_allclose(data.gradient[n], gradient, atol=3e-3)
        norm = (data.gradient[n].double() ** 2).sum(0)
        np.testing.assert_allclose(data.inverse[n], -1 / norm.clamp(min=torch.finfo(torch.float32).eps), rtol=1e-5)
        residual = value - (np.stack(gradient) * flow[n]).sum(axis=0) - first[n]
        # The position is off by rounding, the more the farther it is; times the gradient, times the flow.
        np.testing.assert_allclose(data.residual[n], residual, atol=3e-2 + 3e-3 * spread)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_median_is_exact(rng: np.random.Generator, size: int) -> None:
    flow = rng.normal(0, 3, (N, 2, H, W)).round(1).astype(np.float32)  # rounded: some values are equal
    filtered = steps.median_filter(tensor(flow), size)
    padded = np.pad(flow, ((0, 0), (0, 0), *((size // 2, size // 2),) * 2), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    np.testing.assert_array_equal(filtered, np.median(windows, axis=(4, 5)))
    np.testing.assert_array_equal(filtered[1, 0], cv2.medianBlur(flow[1, 0], size))


def test_median_of_5_by_5_takes_few_operations(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    calls: list[str] = []

    def counted(name: str) -> Callable[[Tensor, Tensor], Tensor]:
        function = getattr(torch, name)
        return lambda a, b: calls.append(name) or function(a, b)  # type: ignore[func-returns-value]

    for name in ("minimum", "maximum"):
        monkeypatch.setattr(torch, name, counted(name))
    steps.median_filter(tensor(rng.normal(0, 1, (1, 2, 9, 9))), 5)
    assert len(calls) <= 90  # a network that shares nothing between windows has 190


def random_problem(
    rng: np.random.Generator, *, gradient: float
) -> tuple[tuple[Tensor, Tensor, Tensor], steps.DataTerm, list[tuple[Array, Array, Array, Array]]]:
    """State and data term of N pairs; and the same of each pair as the reference takes it."""
    flow, dual = rng.normal(0, 2, (N, 2, H, W)), rng.uniform(-0.7, 0.7, (N, 4, H, W))
    dual[:, [0, 2], :, -1] = 0  # p11, p12, p21, p22: no difference across the right border, nor across the lower one
    dual[:, [1, 3], -1] = 0
    grad, rho_c = rng.normal(0, gradient, (N, 2, H, W)), rng.normal(0, 3, (N, H, W))
    grad[..., 3:6, 4:9] = 0  # a flat patch
    inverse = -1 / np.maximum((grad**2).sum(axis=1), np.finfo(np.float32).eps)
    state = tensor(flow), tensor(dual[:, [0, 2]]), tensor(dual[:, [1, 3]])
    data = steps.DataTerm(tensor(grad), tensor(inverse), tensor(rho_c))
    return state, data, list(zip(flow, dual, grad, rho_c, strict=True))


def weights_of(*going: bool) -> Tensor:
    return torch.tensor([L_T, THETA, TAUT]).reshape(3, 1, 1, 1) * torch.tensor(going).reshape(-1, 1, 1)


@pytest.mark.parametrize("gradient", [0.5, 5.0, 50.0])  # small: mostly clamped steps; large: mostly not
@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_iterations_match_numpy(rng: np.random.Generator, gradient: float, iterations: int) -> None:
    (flow, dual_x, dual_y), data, pairs = random_problem(rng, gradient=gradient)
    weights = weights_of(True, True, True)
    for _ in range(iterations):
        flow, dual_x, dual_y, weights = steps.iterate_once(flow, dual_x, dual_y, data, weights, NEVER)
    for n, (u, p, grad, rho_c) in enumerate(pairs):
        for _ in range(iterations):
            u, p, _ = reference_iteration(u, p, grad, rho_c)
        np.testing.assert_allclose(flow[n], u, atol=3e-5)
        np.testing.assert_allclose(dual_x[n], p[[0, 2]], atol=3e-5)
        np.testing.assert_allclose(dual_y[n], p[[1, 3]], atol=3e-5)


def test_a_pair_stops_where_its_own_update_is_small(rng: np.random.Generator) -> None:
    state, data, pairs = random_problem(rng, gradient=5.0)
    squares = [reference_iteration(*pair)[2] / (2 * H * W) for pair in pairs]  # mean over pixels and components
    order = np.argsort(squares)
    stop = (squares[order[0]] + squares[order[1]]) / 2
    *_, weights = steps.iterate_once(*state, data, weights_of(True, True, True), stop)
    expected = [n != order[0] for n in range(N)]
    torch.testing.assert_close(weights, weights_of(*expected))


def test_stopped_pairs_stay_as_they_are_bit_by_bit(rng: np.random.Generator) -> None:
    state, data, _ = random_problem(rng, gradient=5.0)
    weights = weights_of(True, False, True)
    *after, weights = steps.iterate_once(*state, data, weights, NEVER)
    for part_after, part in zip(after, state, strict=True):
        torch.testing.assert_close(part_after[1], part[1], rtol=0, atol=0)
        assert (part_after[0] != part[0]).float().mean() > 0.9
    # Others do not notice.
    flow, dual_x, dual_y = (part[2:] for part in state)
    third = steps.DataTerm(*(part[2:] for part in data))
    alone, *_ = steps.iterate_once(flow, dual_x, dual_y, third, weights_of(True), NEVER)
    torch.testing.assert_close(alone[0], after[0][2])


def test_no_step_waits_for_the_device() -> None:
    """On the device "meta" tensors have no values: a step that looked at one would fail."""
    images, flow = torch.empty(N, H, W, device="meta"), torch.empty(N, 2, H, W, device="meta")
    data = steps.warp(images, steps.target_planes(images), flow)
    result = steps.iterate_once(flow, flow, flow, data, torch.empty(3, N, 1, 1, device="meta"), 1e-4)
    assert [part.shape for part in result] == [*(flow.shape,) * 3, (3, N, 1, 1)]
    assert steps.median_filter(flow, 5).shape == flow.shape
    assert steps.resize(flow, (30, 47), (0.8, 0.8)).shape == (N, 2, 30, 47)


@pytest.mark.slow
def test_the_inner_loop_is_one_graph_for_all_sizes(rng: np.random.Generator) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def record(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    iterate: Any = torch.compile(steps.iterate_once, dynamic=True, fullgraph=True, backend=record)
    median: Any = torch.compile(steps.median_filter, dynamic=True, fullgraph=True, backend=record)
    for pairs, height, width in ((5, 20, 30), (4, 19, 17), (7, 40, 31)):
        flow, dual_x, dual_y, gradient = (tensor(rng.normal(0, 1, (pairs, 2, height, width))) for _ in range(4))
        inverse, residual = (tensor(rng.normal(0, 1, (pairs, height, width))) for _ in range(2))
        data = steps.DataTerm(gradient, -inverse.abs(), residual)
        arguments = flow, dual_x, dual_y, data, weights_of(*[True] * pairs), 1e-4
        torch.testing.assert_close(iterate(*arguments), steps.iterate_once(*arguments))
        torch.testing.assert_close(median(flow, 5), steps.median_filter(flow, 5))
    assert len(graphs) == 2
