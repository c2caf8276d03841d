"""Warping for TV-L1: the second frame and its gradient, looked up along the flow, and the data term from them.

The interpolation is OpenCV's remap with INTER_CUBIC and zeros outside the image, at the exact position (OpenCV 5;
OpenCV 4 rounds positions to 1/32 px). It is done here because remap takes twice as long: here position and
weights are shared by the three images, and nothing but the data term is written.

Axes: H x W pixels, rows first. Flow and data lie as tvl1_kernels.py says.

    target  (3, 4 + H + 4, 4 + W + 4)  frame, gradient in x, gradient in y; a margin of zeros all around
"""

import numpy as np
from numpy.typing import NDArray

from stmulnet.flow.compiled import compiled

Array = NDArray[np.float32]
Weights = tuple[np.float32, np.float32, np.float32, np.float32]

MARGIN = 4  # zeros around the target: a pixel that looks far outside finds its 4 x 4 taps there

_FLOAT_EPSILON = np.float32(np.finfo(np.float32).eps)
_CUBIC = np.float32(-0.75)  # the free parameter of the kernel, as in OpenCV
_ONE, _TWO, _THREE, _FOUR = (np.float32(number) for number in (1, 2, 3, 4))
_FIVE, _EIGHT = np.float32(5), np.float32(8)
_BEFORE = np.float32(MARGIN - 1)
# Unsigned, like every index of a tap: for signed ones numba adds a test for counting from the end, a quarter more time.
_1, _2, _3 = np.uintp(1), np.uintp(2), np.uintp(3)


@compiled
def _cubic_weights(t: np.float32) -> Weights:
    # Weights of the taps at -1, 0, 1, 2 for a position t after tap 0; the formulas of OpenCV's interpolateCubic.
    before, after = t + _ONE, _ONE - t
    w0 = ((_CUBIC * before - _FIVE * _CUBIC) * before + _EIGHT * _CUBIC) * before - _FOUR * _CUBIC
    w1 = ((_CUBIC + _TWO) * t - (_CUBIC + _THREE)) * t * t + _ONE
    w2 = ((_CUBIC + _TWO) * after - (_CUBIC + _THREE)) * after * after + _ONE
    return w0, w1, w2, _ONE - w0 - w1 - w2


@compiled
def _positions(flow: Array, y: int, weights: Array, starts: NDArray[np.int32], row: np.int32) -> None:
    # Where each pixel of row y looks: weights in x (4) and in y (4), and the index of the first tap.
    height, width = flow.shape[1] - 2, weights.shape[1]
    low, high_x, high_y = -_THREE, np.float32(width + 1), np.float32(height + 1)
    for x in range(width):
        position_x, position_y = np.float32(x) + flow[0, y + 1, x], np.float32(y) + flow[1, y + 1, x]
        left, top = np.floor(position_x), np.floor(position_y)
        weights[0, x], weights[1, x], weights[2, x], weights[3, x] = _cubic_weights(position_x - left)
        weights[4, x], weights[5, x], weights[6, x], weights[7, x] = _cubic_weights(position_y - top)
        column = np.int32(min(max(left, low), high_x) + _BEFORE)
        line = np.int32(min(max(top, low), high_y) + _BEFORE)
        starts[x] = line * row + column


@compiled
def _along_row(plane: Array, start: np.uintp, w: Weights) -> np.float32:
    taps: tuple[np.float32, ...] = (plane[start], plane[start + _1], plane[start + _2], plane[start + _3])
    return w[0] * taps[0] + w[1] * taps[1] + w[2] * taps[2] + w[3] * taps[3]


@compiled
def _look_up(plane: Array, start: np.uintp, row: np.uintp, wx: Weights, wy: Weights) -> np.float32:
    above = wy[0] * _along_row(plane, start, wx) + wy[1] * _along_row(plane, start + row, wx)
    return above + wy[2] * _along_row(plane, start + _2 * row, wx) + wy[3] * _along_row(plane, start + _3 * row, wx)


@compiled
def warp(image: Array, target: Array, flow: Array, data: Array) -> None:
    """Linearise the brightness difference between two frames around ``flow``.

    Args:
        image: First frame, (H, W).
        target: Second frame and its gradient with a margin of zeros, what ``target_planes`` wrote.
        flow: Where to look, 2 planes (1 + H + 1, row), px.
        data: Written: 4 planes.
    """
    height, width = image.shape
    planes = target.reshape(3, -1)
    frame, gradient_x, gradient_y = planes[0], planes[1], planes[2]
    row = np.uintp(target.shape[2])
    w, starts = np.empty((8, width), np.float32), np.empty(width, np.int32)
    for y in range(height):
        line = y + 1  # of the planes: the first one is zeros
        _positions(flow, y, w, starts, np.int32(target.shape[2]))
        for x in range(width):
            start = np.uintp(starts[x])
            wx, wy = (w[0, x], w[1, x], w[2, x], w[3, x]), (w[4, x], w[5, x], w[6, x], w[7, x])
            value = _look_up(frame, start, row, wx, wy)
            grad_x = _look_up(gradient_x, start, row, wx, wy)
            grad_y = _look_up(gradient_y, start, row, wx, wy)
            data[0, line, x] = grad_x
            data[1, line, x] = grad_y
            # Where the gradient vanishes the step is multiplied by it: any finite inverse gives zero.
            data[2, line, x] = _ONE / max(grad_x * grad_x + grad_y * grad_y, _FLOAT_EPSILON)
            data[3, line, x] = value - grad_x * flow[0, line, x] - grad_y * flow[1, line, x] - image[y, x]
