"""TV-L1 optical flow on the CPU: OpenCV's algorithm and numbers, an order of magnitude faster.

Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007, as implemented by
DualTVL1OpticalFlow in OpenCV's optflow/src/tvl1flow.cpp: pyramid, warps, median filter, stop test and border rules
are the same. Only the order of the arithmetic differs (one fused sweep per iteration, float32, products with a
reciprocal). So results agree to rounding; large erratic motion amplifies that, as it does between two runs of
OpenCV's own with tau changed by a millionth.

Deviation D9: the official flow images were computed by OpenCV 2.4 on a GPU; these are not the same bit by bit.

Axes: T frames, H x W pixels; h x w pixels of a pyramid level. The layouts of flow, dual, data and target are in
tvl1_kernels.py.
"""

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from stmulnet.flow import tvl1_kernels as kernels
from stmulnet.flow.frames import MIN_SIDE_PX
from stmulnet.flow.pairs import map_pairs
from stmulnet.flow.params import TVL1Params as TVL1Params
from stmulnet.flow.tvl1_median import median5
from stmulnet.flow.tvl1_planes import make_planes, pixels
from stmulnet.flow.tvl1_warp import MARGIN, warp

Array = NDArray[np.float32]
Pyramid = Sequence[Array]  # (h, w) gray images 0..255, finest first


_DEFAULTS = TVL1Params()


def tvl1(frames: NDArray[np.uint8], *, threads: int = 1, params: TVL1Params = _DEFAULTS) -> Array:
    """Compute the optical flow between neighbouring frames of a clip.

    The result does not depend on the number of threads.

    Args:
        frames: (T, H, W) gray or (T, H, W, 3) RGB, uint8, 0..255, T >= 2, sides of at least 16 px.
        threads: Pairs of frames in work at the same time.
        params: The numbers of the algorithm.

    Returns:
        (T-1, 2, H, W) float32, px: ``[t, 0]`` is the displacement in x (to the right), ``[t, 1]`` in y (down)
        from frame t to frame t + 1.

    Raises:
        ConfigError: If frames or threads are not as above.
    """
    return map_pairs(
        frames, lambda gray: _pyramid(gray, params), lambda: _PairSolver(frames.shape[1:3], params), threads=threads
    )


def _pyramid(gray: NDArray[np.uint8], params: TVL1Params) -> Pyramid:
    levels = [gray.astype(np.float32)]
    while len(levels) < params.scales:
        step = params.scale_step
        level = cv2.resize(levels[-1], None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        if min(level.shape) < MIN_SIDE_PX:
            break
        levels.append(cast(Array, level))
    return levels


class _PairSolver:
    """Flow between two frames given as pyramids; keeps its buffers from pair to pair.

    Args:
        size: Height and width of the finest level.
        params: The numbers of the algorithm.
    """

    def __init__(self, size: tuple[int, ...], params: TVL1Params) -> None:
        kernels.prepare_kernels()
        self._params = params
        shapes = [image.shape for image in _pyramid(np.zeros(size, np.uint8), params)]
        self._levels = [_Level(shape, params) for shape in shapes]

    def __call__(self, first: Pyramid, second: Pyramid, out: Array) -> None:
        """Write the flow (2, H, W) from the first to the second frame into ``out``."""
        self._levels[-1].flow[:] = 0.0
        for index in reversed(range(len(self._levels))):
            self._levels[index].refine(first[index], second[index])
            if index > 0:
                self._upscale(self._levels[index].flow, self._levels[index - 1].flow)
        out[:] = self._levels[0].flow

    def _upscale(self, coarse: Array, fine: Array) -> None:
        height, width = fine.shape[1:]
        for source, destination in zip(coarse, fine, strict=True):
            cv2.resize(source, (width, height), dst=destination, interpolation=cv2.INTER_LINEAR)
        fine *= np.float32(1.0 / self._params.scale_step)


class _Level:
    """One pyramid level: its buffers, and the flow as it is being refined.

    Args:
        size: Height and width of the level.
        params: The numbers of the algorithm.
    """

    def __init__(self, size: tuple[int, ...], params: TVL1Params) -> None:
        self._params = params
        self._weights = np.array([params.lambda_ * params.theta, params.theta, params.tau / params.theta], np.float32)
        self._stop = float(params.epsilon**2 * size[0] * size[1])
        self._height, self._width = size
        self._flow, self._filtered = make_planes(2, *size), make_planes(2, *size)
        self._dual, self._data = make_planes(4, *size), make_planes(4, *size)
        self._columns = np.zeros((5, self._flow.shape[2] + 4), np.float32)
        self._target = np.zeros((3, self._height + 2 * MARGIN, self._width + 2 * MARGIN), np.float32)

    @property
    def flow(self) -> Array:
        """(2, h, w), px; a view."""
        return pixels(self._flow, self._width)

    def refine(self, image: Array, target_image: Array) -> None:
        """Improve ``flow`` so that ``target_image``, looked up along it, resembles ``image``."""
        kernels.target_planes(target_image, self._target)
        self._dual.fill(0.0)  # once per level: the warps go on with the dual they find
        for _ in range(self._params.warps):
            warp(image, self._target, self._flow, self._data)
            self._minimise()

    def _minimise(self) -> None:
        for _ in range(self._params.outer_iterations):
            self._median_filter()
            error = kernels.iterate(
                self._flow,
                self._dual,
                self._data,
                self._width,
                self._weights,
                self._params.inner_iterations,
                self._stop,
            )
            if error <= self._stop:
                break

    def _median_filter(self) -> None:
        size = self._params.median_size
        if size == 1:
            return
        for plane, filtered in zip(self._flow, self._filtered, strict=True):
            if size == 5:
                median5(plane, filtered, self._width, self._columns)
            else:
                inside = np.s_[1:-1, : self._width]
                cv2.medianBlur(plane[inside], size, dst=filtered[inside])
        self._flow, self._filtered = self._filtered, self._flow
