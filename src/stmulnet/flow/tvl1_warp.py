"""Warping for TV-L1: the second frame and its gradient, looked up along the flow, and the data term from them.

The interpolation is OpenCV's remap with INTER_CUBIC and zeros outside the image, at the exact position (OpenCV 5;
OpenCV 4 rounds positions to 1/32 px). It is done here because remap was a third of the whole time: here the taps
are shared by the three images, four lanes wide, and nothing but the data term is written.

Axes: H x W pixels, rows first. The layouts of target, flow and data are in tvl1_kernels.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # ships no hints
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from stmulnet.flow.compiled import compiled

Array = NDArray[np.float32]

MARGIN = 4  # zeros around the target: a pixel that looks far outside finds its 4 x 4 taps there
LANES = 4  # floats per pixel of the target: image, gradient in x, gradient in y, unused

_FLOAT_EPSILON = np.float32(np.finfo(np.float32).eps)
_CUBIC = np.float32(-0.75)  # the free parameter of the kernel, as in OpenCV
_ONE, _TWO, _THREE, _FOUR = (np.float32(number) for number in (1, 2, 3, 4))
_FIVE, _EIGHT = np.float32(5), np.float32(8)
_BEFORE = np.float32(MARGIN - 1)


def _build_sample(_typing: Any, target: Any, start: Any, row: Any, wx: Any, wy: Any) -> tuple[Any, Callable[..., Any]]:
    """Sum ``wy[i] * wx[j] * target[start + i * row + j * LANES :][:LANES]`` over 4 x 4 taps; a tuple of LANES floats.

    Written in LLVM's vector types, because numba does not vectorise over the lanes by itself (a third of the speed).
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane, vector = ir.IntType(32), ir.VectorType(ir.FloatType(), LANES)
        nothing = ir.Constant(vector, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
        array, start_, row_, wx_, wy_ = args
        make = make_array(signature.args[0])  # type: ignore[no-untyped-call]  # as all of numba's code generation
        data = make(context, builder, array).data

        def spread(number: Any) -> Any:
            first = builder.insert_element(nothing, number, ir.Constant(lane, 0))
            return builder.shuffle_vector(first, nothing, everywhere)

        def pixel(i: int, j: int) -> Any:
            index = builder.add(start_, builder.mul(row_, ir.Constant(row_.type, i)))
            index = builder.add(index, ir.Constant(index.type, j * LANES))
            return builder.load(builder.bitcast(builder.gep(data, [index]), vector.as_pointer()), align=4)

        def weighted_sum(weights: Any, values: list[Any]) -> Any:
            total = ir.Constant(vector, [0.0] * LANES)
            for index, value in enumerate(values):
                product = builder.fmul(spread(builder.extract_value(weights, index)), value, flags=("fast",))
                total = builder.fadd(total, product, flags=("fast",))
            return total

        total = weighted_sum(wy_, [weighted_sum(wx_, [pixel(i, j) for j in range(4)]) for i in range(4)])
        lanes = [builder.extract_element(total, ir.Constant(lane, index)) for index in range(LANES)]
        return cgutils.pack_array(builder, lanes)  # type: ignore[no-untyped-call]

    four_floats = types.UniTuple(types.float32, LANES)  # type: ignore[no-untyped-call]
    return four_floats(target, types.intp, types.intp, wx, wy), generate


_sample: Any = intrinsic(_build_sample)


@compiled
def _cubic_weights(t: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    # Weights of the taps at -1, 0, 1, 2 for a position t after tap 0; the formulas of OpenCV's interpolateCubic.
    before, after = t + _ONE, _ONE - t
    w0 = ((_CUBIC * before - _FIVE * _CUBIC) * before + _EIGHT * _CUBIC) * before - _FOUR * _CUBIC
    w1 = ((_CUBIC + _TWO) * t - (_CUBIC + _THREE)) * t * t + _ONE
    w2 = ((_CUBIC + _TWO) * after - (_CUBIC + _THREE)) * after * after + _ONE
    return w0, w1, w2, _ONE - w0 - w1 - w2


@compiled
def _positions(flow: Array, y: int, weights: Array, starts: NDArray[np.int32], row: np.int32) -> None:
    # Where each pixel of row y looks: weights in x (4) and in y (4), and the index of the first tap's first lane.
    height, width = flow.shape[1:]
    low, high_x, high_y = -_THREE, np.float32(width + 1), np.float32(height + 1)
    for x in range(width):
        position_x, position_y = np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x]
        left, top = np.floor(position_x), np.floor(position_y)
        weights[0, x], weights[1, x], weights[2, x], weights[3, x] = _cubic_weights(position_x - left)
        weights[4, x], weights[5, x], weights[6, x], weights[7, x] = _cubic_weights(position_y - top)
        column = np.int32(min(max(left, low), high_x) + _BEFORE)
        line = np.int32(min(max(top, low), high_y) + _BEFORE)
        starts[x] = line * row + column * np.int32(LANES)


@compiled
def _linearise(image: Array, sampled: Array, flow: Array, data: Array, y: int) -> None:
    for x in range(image.shape[1]):
        grad_x, grad_y = sampled[1, x], sampled[2, x]
        data[0, y, x] = grad_x
        data[1, y, x] = grad_y
        # Where the gradient vanishes the step is multiplied by it: any finite inverse gives zero.
        data[2, y, x] = _ONE / max(grad_x * grad_x + grad_y * grad_y, _FLOAT_EPSILON)
        data[3, y, x] = sampled[0, x] - grad_x * flow[0, y, x] - grad_y * flow[1, y, x] - image[y, x]


@compiled
def warp(image: Array, target: Array, flow: Array, data: Array) -> None:
    """Linearise the brightness difference between two frames around ``flow``.

    Args:
        image: First frame, (H, W).
        target: Second frame and its gradient with a margin of zeros, what ``target_planes`` wrote.
        flow: Where to look, (2, H, W), px.
        data: Written: (4, H, W).
    """
    height, width = image.shape
    lanes = target.reshape(-1)
    row = LANES * target.shape[1]
    weights, starts = np.empty((8, width), np.float32), np.empty(width, np.int32)
    sampled = np.empty((3, width), np.float32)
    for y in range(height):
        _positions(flow, y, weights, starts, np.int32(row))
        for x in range(width):
            wx = (weights[0, x], weights[1, x], weights[2, x], weights[3, x])
            wy = (weights[4, x], weights[5, x], weights[6, x], weights[7, x])
            values = _sample(lanes, np.intp(starts[x]), row, wx, wy)
            sampled[0, x], sampled[1, x], sampled[2, x] = values[0], values[1], values[2]
        _linearise(image, sampled, flow, data, y)
