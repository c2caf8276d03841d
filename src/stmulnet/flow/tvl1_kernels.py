"""The compiled loops of TV-L1 except for warping: what OpenCV offers in no single call.

All arrays are planes of float32 (tvl1_planes.py), H x W pixels and the zeros around them:

    flow    2   u1, u2: displacement in x and in y, px
    dual    4   p11, p12: dual variable of u1 in x and in y; p21, p22: that of u2; p11, p21 zero in the last column
    data    4   gradient of the warped frame in x and in y, 1 / its squared norm, constant residual rho_c

Names follow Zach, Pock, Bischof (DAGM 2007) and OpenCV's optflow/src/tvl1flow.cpp.
"""

import numpy as np
from numpy.typing import NDArray

from stmulnet.flow.compiled import compiled, load_or_compile
from stmulnet.flow.tvl1_median import median5
from stmulnet.flow.tvl1_warp import MARGIN, warp

Array = NDArray[np.float32]

COMPILE_SEC = 10  # about, on one slow core; for the notice only

ROWS = 16  # swept together: loops long enough, and few enough numbers that they stay in the processor's second cache

_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)
_1 = np.uintp(1)


@compiled
def _update_flow(
    flow: Array, dual: Array, data: Array, start: int, end: int, row: int, l_t: np.float32, theta: np.float32
) -> float:
    # Data term: the three cases of the paper's threshold are one clamp of -rho / |grad|^2 to +-l_t.
    u1, u2, p11, p12, p21, p22 = flow[0], flow[1], dual[0], dual[1], dual[2], dual[3]
    grad_x, grad_y, inverse, rho_c = data[0], data[1], data[2], data[3]
    above = np.uintp(row)
    error = _ZERO
    for i in range(np.uintp(start), np.uintp(end)):
        rho = rho_c[i] + grad_x[i] * u1[i] + grad_y[i] * u2[i]
        step = min(max(-rho * inverse[i], -l_t), l_t)
        change1 = step * grad_x[i] + theta * (p11[i] - p11[i - _1] + p12[i] - p12[i - above])
        change2 = step * grad_y[i] + theta * (p21[i] - p21[i - _1] + p22[i] - p22[i - above])
        u1[i] += change1
        u2[i] += change2
        error += change1 * change1 + change2 * change2
    return float(error)


@compiled
def _update_dual(u: Array, p_x: Array, p_y: Array, start: int, end: int, row: int, taut: np.float32) -> None:
    below = np.uintp(row)
    for i in range(np.uintp(start), np.uintp(end)):
        u_x, u_y = u[i + _1] - u[i], u[i + below] - u[i]
        scale = _ONE / (_ONE + taut * np.sqrt(u_x * u_x + u_y * u_y))
        p_x[i] = (p_x[i] + taut * u_x) * scale
        p_y[i] = (p_y[i] + taut * u_y) * scale


@compiled
def _update_dual_rows(
    u: Array, p_x: Array, p_y: Array, first: int, end: int, row: int, below: int, width: int, taut: np.float32
) -> None:
    # Forward differences are zero across the right border; so the last pixel of a row is not what the loop makes of it,
    # nor is what it puts between the last zero of a row and the first pixel of the next.
    edge = np.empty(ROWS, np.float32)
    for y in range(first, end):
        i = y * row + width - 1
        u_y = u[i + below] - u[i]
        edge[y - first] = (p_y[i] + taut * u_y) / (_ONE + taut * abs(u_y))
    _update_dual(u, p_x, p_y, first * row, end * row, below, taut)
    for y in range(first, end):
        i = y * row + width - 1
        p_x[i], p_y[i], p_x[(y + 1) * row - 1] = _ZERO, edge[y - first], _ZERO


@compiled
def iterate(
    flow: Array, dual: Array, data: Array, width: int, weights: Array, max_iterations: int, stop: float
) -> float:
    """Do primal-dual iterations in place until the summed squared update of the flow is at most ``stop``.

    One sweep is one iteration: some rows of the flow, then the dual of the rows whose forward differences are complete
    by then, all but the last of them. A row of the flow reads the dual of its own row and of that above before either
    changes.

    Args:
        flow: u1, u2; changed.
        dual: p11, p12, p21, p22; changed.
        data: What ``warp`` wrote.
        width: Pixels of a row.
        weights: (3,) lambda * theta, theta, tau / theta.
        max_iterations: Upper bound, at least 1.
        stop: Threshold on the sum over pixels, px^2.

    Returns:
        The sum of squared updates in the last iteration, px^2.
    """
    end, row = flow.shape[1] - 1, flow.shape[2]  # rows 1 ... end - 1 are pixels
    l_t, theta, taut = weights[0], weights[1], weights[2]
    flow, dual, data = flow.reshape(2, -1), dual.reshape(4, -1), data.reshape(4, -1)
    error = 0.0
    for _ in range(max_iterations):
        error = 0.0
        done = 1
        for first in range(1, end, ROWS):
            last = min(first + ROWS, end) - 1
            error += _update_flow(flow, dual, data, first * row, (last + 1) * row, row, l_t, theta)
            _update_dual_rows(flow[0], dual[0], dual[1], done, last, row, row, width, taut)
            _update_dual_rows(flow[1], dual[2], dual[3], done, last, row, row, width, taut)
            done = last
        # Nothing is below the last row: it is its own neighbour, which makes the difference zero.
        _update_dual_rows(flow[0], dual[0], dual[1], done, end, row, 0, width, taut)
        _update_dual_rows(flow[1], dual[2], dual[3], done, end, row, 0, width, taut)
        if error <= stop:
            break
    return error


@compiled
def target_planes(image: Array, target: Array) -> None:
    """Write an image (H, W) and its central differences (halved one-sided ones at the border) into ``target``.

    Only the pixels inside the margin are written; the margin must be zero.
    """
    height, width = image.shape
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            target[0, y + MARGIN, x + MARGIN] = image[y, x]
            target[1, y + MARGIN, x + MARGIN] = _HALF * (image[y, right] - image[y, left])
            target[2, y + MARGIN, x + MARGIN] = _HALF * (image[below, x] - image[above, x])


_SIGNATURES = (
    (iterate, "float64(f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], int64, f4[::1], int64, float64)"),
    (median5, "void(f4[:,::1], f4[:,::1], int64, f4[:,::1])"),
    (target_planes, "void(f4[:,::1], f4[:,:,::1])"),
    (warp, "void(f4[:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,:,::1])"),
)


def prepare_kernels() -> None:
    """Load the compiled kernels, or compile them, which takes seconds and is said on stderr.

    ``tvl1`` does it by itself. Call it in a parent process before starting workers: they then find a filled cache.
    """
    load_or_compile(_SIGNATURES, "the TV-L1 kernel", seconds=COMPILE_SEC)
