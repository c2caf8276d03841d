"""The compiled loops of TV-L1 except for warping: what OpenCV offers in no single call.

Axes: H x W pixels, rows first; a leading axis holds several images. All arrays are C-contiguous float32:

    flow    (2, H, W)       u1, u2: displacement in x and in y, px
    dual    (4, 1 + H, W)   p11, p12: dual variable of u1 in x and in y; p21, p22: that of u2; the first row is
                            zero, so that every row has one above it
    data    (4, H, W)       gradient of the warped frame in x and in y, 1 / its squared norm, constant residual rho_c
    target  (3, 4 + H + 4, 4 + W + 4)  frame, gradient in x, gradient in y; a margin of zeros all around

Names follow Zach, Pock, Bischof (DAGM 2007) and OpenCV's optflow/src/tvl1flow.cpp.
"""

import numpy as np
from numpy.typing import NDArray

from stmulnet.flow.compiled import compiled, load_or_compile
from stmulnet.flow.tvl1_warp import MARGIN, warp

Array = NDArray[np.float32]

COMPILE_SEC = 10  # about, on one slow core; for the notice only

_HALF, _ONE = np.float32(0.5), np.float32(1.0)


@compiled
def _update_flow(flow: Array, dual: Array, data: Array, y: int, l_t: np.float32, theta: np.float32) -> float:
    # Data term: the three cases of the paper's threshold are one clamp of -rho / |grad|^2 to +-l_t.
    # Column 0 stands alone: its backward difference has no left neighbour, and without it the loop vectorises.
    rho = data[3, y, 0] + data[0, y, 0] * flow[0, y, 0] + data[1, y, 0] * flow[1, y, 0]
    step = min(max(-rho * data[2, y, 0], -l_t), l_t)
    change1 = step * data[0, y, 0] + theta * (dual[0, y + 1, 0] + dual[1, y + 1, 0] - dual[1, y, 0])
    change2 = step * data[1, y, 0] + theta * (dual[2, y + 1, 0] + dual[3, y + 1, 0] - dual[3, y, 0])
    flow[0, y, 0] += change1
    flow[1, y, 0] += change2
    error = change1 * change1 + change2 * change2
    for x in range(1, flow.shape[2]):
        rho = data[3, y, x] + data[0, y, x] * flow[0, y, x] + data[1, y, x] * flow[1, y, x]
        step = min(max(-rho * data[2, y, x], -l_t), l_t)
        divergence1 = dual[0, y + 1, x] - dual[0, y + 1, x - 1] + dual[1, y + 1, x] - dual[1, y, x]
        divergence2 = dual[2, y + 1, x] - dual[2, y + 1, x - 1] + dual[3, y + 1, x] - dual[3, y, x]
        change1 = step * data[0, y, x] + theta * divergence1
        change2 = step * data[1, y, x] + theta * divergence2
        flow[0, y, x] += change1
        flow[1, y, x] += change2
        error += change1 * change1 + change2 * change2
    return float(error)


@compiled
def _update_dual(u: Array, p_x: Array, p_y: Array, y: int, below: int, taut: np.float32) -> None:
    last = u.shape[1] - 1
    for x in range(last):
        u_x, u_y = u[y, x + 1] - u[y, x], u[below, x] - u[y, x]
        scale = _ONE / (_ONE + taut * np.sqrt(u_x * u_x + u_y * u_y))
        p_x[y + 1, x] = (p_x[y + 1, x] + taut * u_x) * scale
        p_y[y + 1, x] = (p_y[y + 1, x] + taut * u_y) * scale
    # Forward differences are zero across the border, so p_x of the last column stays zero.
    u_y = u[below, last] - u[y, last]
    p_y[y + 1, last] = (p_y[y + 1, last] + taut * u_y) / (_ONE + taut * abs(u_y))


@compiled
def iterate(flow: Array, dual: Array, data: Array, weights: Array, max_iterations: int, stop: float) -> float:
    """Do primal-dual iterations in place until the summed squared update of the flow is at most ``stop``.

    One sweep is one iteration: a row of the flow, then the dual of the row above it, whose forward differences
    are complete by then. Row y of the flow reads the dual of rows y and y - 1 before either changes.

    Args:
        flow: u1, u2; changed.
        dual: p11, p12, p21, p22; changed. The first row, and the last column of p11 and p21, must be zero.
        data: What ``warp`` wrote.
        weights: (3,) lambda * theta, theta, tau / theta.
        max_iterations: Upper bound, at least 1.
        stop: Threshold on the sum over pixels, px^2.

    Returns:
        The sum of squared updates in the last iteration, px^2.
    """
    height = flow.shape[1]
    l_t, theta, taut = weights[0], weights[1], weights[2]
    # Whole planes and row numbers, not views of rows: views made in the loop are counted references, and cost half.
    u1, u2 = flow[0], flow[1]
    p11, p12, p21, p22 = dual[0], dual[1], dual[2], dual[3]
    error = 0.0
    for _ in range(max_iterations):
        error = 0.0
        for y in range(height):
            error += _update_flow(flow, dual, data, y, l_t, theta)
            if y > 0:
                _update_dual(u1, p11, p12, y - 1, y, taut)
                _update_dual(u2, p21, p22, y - 1, y, taut)
        # Nothing is below the last row: it is its own neighbour, which makes the difference zero.
        _update_dual(u1, p11, p12, height - 1, height - 1, taut)
        _update_dual(u2, p21, p22, height - 1, height - 1, taut)
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
    (iterate, "float64(f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4[::1], int64, float64)"),
    (target_planes, "void(f4[:,::1], f4[:,:,::1])"),
    (warp, "void(f4[:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,:,::1])"),
)


def prepare_kernels() -> None:
    """Load the compiled kernels, or compile them, which takes seconds and is said on stderr.

    ``tvl1`` does it by itself. Call it in a parent process before starting workers: they then find a filled cache.
    """
    load_or_compile(_SIGNATURES, "the TV-L1 kernel", seconds=COMPILE_SEC)
