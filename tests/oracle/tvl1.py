"""The steps of TV-L1 in plain NumPy, float64, one pair, written from OpenCV's tvl1flow.cpp step by step, unfused.

Axes: H x W pixels, rows first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

L_T, THETA, TAUT = 0.15 * 0.3, 0.3, 0.25 / 0.3  # lambda * theta, theta, tau / theta of OpenCV's defaults


def forward_gradient(image: Array) -> tuple[Array, Array]:
    dx, dy = np.zeros_like(image), np.zeros_like(image)
    dx[:, :-1] = image[:, 1:] - image[:, :-1]
    dy[:-1] = image[1:] - image[:-1]
    return dx, dy


def divergence(v1: Array, v2: Array) -> Array:
    out = v1 + v2
    out[:, 1:] -= v1[:, :-1]
    out[1:] -= v2[:-1]
    return out


def reference_iteration(u: Array, p: Array, grad: Array, rho_c: Array) -> tuple[Array, Array, float]:
    """estimateV, divergence, estimateU, forwardGradient, estimateDualVariables; all arrays float64."""
    norm = (grad**2).sum(axis=0)
    rho = rho_c + (grad * u).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.where(norm > np.finfo(np.float32).eps, -rho / norm, 0.0)
    step = np.select([rho < -L_T * norm, rho > L_T * norm], [np.full_like(rho, L_T), np.full_like(rho, -L_T)], middle)
    v = u + step * grad
    new_u = np.stack([v[i] + THETA * divergence(p[2 * i], p[2 * i + 1]) for i in range(2)])
    new_p = np.empty_like(p)
    for i in range(2):
        dx, dy = forward_gradient(new_u[i])
        scale = 1.0 + TAUT * np.hypot(dx, dy)
        new_p[2 * i], new_p[2 * i + 1] = (p[2 * i] + TAUT * dx) / scale, (p[2 * i + 1] + TAUT * dy) / scale
    return new_u, new_p, float(((new_u - u) ** 2).sum())


def central_differences(image: Array) -> Array:
    """(3, H, W): the image, its difference in x and in y, halved one-sided ones at the border."""
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    return np.stack([image, (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2])


def cubic_lookup(plane: Array, x: Array, y: Array) -> Array:
    """Keys' cubic convolution with a = -0.75, as a sum over all pixels; zero outside the plane."""

    def weight(distance: Array) -> Array:
        a, d = -0.75, np.abs(distance)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        return np.select([d <= 1, d < 2], [near, far], 0.0)

    in_x = weight(x[..., None] - np.arange(plane.shape[1]))  # (H, W, columns)
    in_y = weight(y[..., None] - np.arange(plane.shape[0]))  # (H, W, rows)
    return np.asarray(np.einsum("hwr,hwc,rc->hw", in_y, in_x, plane))
