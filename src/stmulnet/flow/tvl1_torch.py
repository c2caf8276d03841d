"""TV-L1 optical flow on any device of torch: the algorithm and numbers of the CPU kernel, many pairs at a time.

Every pair keeps its own stop test, after every iteration, as in OpenCV's tvl1flow.cpp; it runs on the device. Iteration
counts fixed beforehand would need no test, but the test is part of the result: on real clips most warps end after 3 to
30 iterations, and flow that is iterated further, or less far, is another one, by 0.21 px in the mean at 300 iterations
per warp and by 0.28 px at 30 (benchmarks/flow_torch.py --schedules). A pair that has stopped stays in the batch
unchanged, its weights zero, until the host looks, every ``_CHECK_EVERY`` iterations, and goes on with the others.

Only the order of the arithmetic differs from the CPU kernel's, and so results differ as those of the CPU kernel do with
tau changed by a millionth. Another size of batch, or another device, may change the last digits.

Axes: T frames, N pairs of them, H x W pixels; h x w pixels of a pyramid level. Layouts are in tvl1_torch_steps.py.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.device import choose_device
from stmulnet.errors import ConfigError
from stmulnet.flow import tvl1_torch_steps as steps
from stmulnet.flow.frames import MIN_SIDE_PX, check_frames
from stmulnet.flow.params import TVL1Params

# Pixels in work at a time, about 400 bytes each. On a GPU 3 GB, which is 92 pairs of 340x256: enough of them that the
# few that need all 300 iterations cost little. On the CPU a few pairs, so that they stay near the cache.
_BATCH_PIXELS = 8_000_000
_BATCH_PIXELS_CPU = 400_000
_CHECK_EVERY = 5  # iterations; on real clips 7 % of the work goes into pairs that have stopped and still wait

_DEFAULTS = TVL1Params()

State = tuple[Tensor, Tensor, Tensor]  # flow, dual_x, dual_y


def tvl1_torch(
    frames: NDArray[np.uint8],
    *,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    params: TVL1Params = _DEFAULTS,
    compile: bool = False,
) -> NDArray[np.float32]:
    """Compute the optical flow between neighbouring frames of a clip with torch.

    Args:
        frames: (T, H, W) gray or (T, H, W, 3) RGB, uint8, 0..255, T >= 2, sides of at least 16 px.
        device: A device of torch, or ``"auto"``: CUDA where there is one, else the CPU.
        batch_size: Pairs in work at a time; by default as many as fill about 3 GB on a GPU.
        params: The numbers of the algorithm.
        compile: Whether `torch.compile` fuses the inner loop. It needs a compiler (on a GPU, Triton) and up to a
            minute or two at first use, and moves a fifth of the bytes.

    Returns:
        (T-1, 2, H, W) float32, px: ``[t, 0]`` is the displacement in x (to the right), ``[t, 1]`` in y (down)
        from frame t to frame t + 1.

    Raises:
        ConfigError: If frames, device or batch_size are not as above.
    """
    check_frames(frames)
    solver = _Solver(device, params, compile)
    flow = np.empty((len(frames) - 1, 2, *frames.shape[1:3]), np.float32)
    for start, end in solver.batches(len(flow), frames.shape[1:3], batch_size):
        pyramid = solver.pyramid(frames[start : end + 1])
        flow[start:end] = solver([level[:-1] for level in pyramid], [level[1:] for level in pyramid]).cpu().numpy()
    return flow


def tvl1_torch_pairs(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    *,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    params: TVL1Params = _DEFAULTS,
    compile: bool = False,
) -> NDArray[np.float32]:
    """Compute the optical flow of pairs of frames that need not be neighbours, nor of one video.

    Args:
        first: (N, H, W) gray or (N, H, W, 3) RGB, uint8, 0..255, N >= 1, sides of at least 16 px.
        second: The frames to which the first ones move, in the same shape.
        device: As for ``tvl1_torch``.
        batch_size: As for ``tvl1_torch``.
        params: As for ``tvl1_torch``.
        compile: As for ``tvl1_torch``.

    Returns:
        (N, 2, H, W) float32, px: displacement in x, then in y, from ``first[n]`` to ``second[n]``.

    Raises:
        ConfigError: If frames, device or batch_size are not as above.
    """
    for frames in (first, second):
        check_frames(frames, at_least=1)
    if first.shape != second.shape:
        raise ConfigError(f"first frames of shape {first.shape} need second ones in the same shape, got {second.shape}")
    solver = _Solver(device, params, compile)
    flow = np.empty((len(first), 2, *first.shape[1:3]), np.float32)
    for start, end in solver.batches(len(first), first.shape[1:3], batch_size):
        pyramids = solver.pyramid(first[start:end]), solver.pyramid(second[start:end])
        flow[start:end] = solver(*pyramids).cpu().numpy()
    return flow


class _Solver:
    """Flow between batches of frames given as pyramids, finest level first.

    Args:
        device: Where to compute.
        params: The numbers of the algorithm.
        compile: Whether to fuse the inner loop.
    """

    def __init__(self, device: str | torch.device, params: TVL1Params, compile: bool) -> None:
        self._device = choose_device(str(device))
        self._params = params
        self._iterate_once = _fused(steps.iterate_once) if compile else steps.iterate_once
        self._median_filter = _fused(steps.median_filter) if compile else steps.median_filter
        numbers = [params.lambda_ * params.theta, params.theta, params.tau / params.theta]
        self._weights = torch.tensor(numbers, device=self._device).reshape(3, 1, 1, 1)
        self._stop = params.epsilon**2 / 2  # the mean over both components is half their sum
        inner = params.inner_iterations
        self._counts = [min(_CHECK_EVERY, inner - done) for done in range(0, inner, _CHECK_EVERY)]

    def batches(self, pairs: int, size: tuple[int, ...], batch_size: int | None) -> Iterator[tuple[int, int]]:
        """First pair, and the one after the last, of each batch."""
        if batch_size is None:
            pixels = _BATCH_PIXELS_CPU if self._device.type == "cpu" else _BATCH_PIXELS
            batch_size = max(1, pixels // (size[0] * size[1]))
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1 pair, got {batch_size}")
        return ((start, min(start + batch_size, pairs)) for start in range(0, pairs, batch_size))

    def pyramid(self, frames: NDArray[np.uint8]) -> list[Tensor]:
        """Gray images (T, h, w) float32 of every level, on the device."""
        levels = [steps.gray(torch.tensor(np.ascontiguousarray(frames), device=self._device))]
        scale = self._params.scale_step
        while len(levels) < self._params.scales:
            height, width = (round(side * scale) for side in levels[-1].shape[1:])  # halves to even, as OpenCV does
            if min(height, width) < MIN_SIDE_PX:
                break
            levels.append(steps.resize(levels[-1], (height, width), (1 / scale, 1 / scale)))
        return levels

    @torch.inference_mode()
    def __call__(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Flow (N, 2, H, W) from the first to the second frames."""
        flow = torch.zeros((len(first[-1]), 2, *first[-1].shape[1:]), device=self._device)
        for index in reversed(range(len(first))):
            self._refine(first[index], second[index], flow)
            if index > 0:
                flow = self._upscale(flow, *first[index - 1].shape[1:])
        return flow

    def _upscale(self, flow: Tensor, height: int, width: int) -> Tensor:
        steps_px = flow.shape[2] / height, flow.shape[3] / width
        return steps.resize(flow, (height, width), steps_px) * (1 / self._params.scale_step)

    def _refine(self, images: Tensor, target_images: Tensor, flow: Tensor) -> None:
        """Improve ``flow`` so that the target images, looked up along it, resemble ``images``."""
        target = steps.target_planes(target_images)
        dual_x, dual_y = torch.zeros_like(flow), torch.zeros_like(flow)  # the warps go on with the dual they find
        for _ in range(self._params.warps):
            self._minimise((flow, dual_x, dual_y), steps.warp(images, target, flow))

    def _minimise(self, state: State, data: steps.DataTerm) -> None:
        """Iterate until every pair has stopped; its flow and dual variables are written into ``state``."""
        results, numbers = state, torch.arange(len(state[0]), device=self._device)
        for _ in range(self._params.outer_iterations):
            state = (self._median_filter(state[0], self._params.median_size), *state[1:])
            for count in self._counts:
                state, going = self._iterate(state, data, count)
                if not going.all():
                    _write(results, numbers, state, ~going)
                    numbers, *rest = _select((numbers, *state, *data), going)
                    state, data = (rest[0], rest[1], rest[2]), steps.DataTerm(*rest[3:])
                if not len(numbers):
                    return
        _write(results, numbers, state, torch.ones(len(numbers), dtype=torch.bool))

    def _iterate(self, state: State, data: steps.DataTerm, count: int) -> tuple[State, Tensor]:
        """Iterate ``count`` times; tell, on the host, which pairs have not stopped."""
        weights = self._weights.repeat(1, len(state[0]), 1, 1)
        for _ in range(count):
            flow, dual_x, dual_y, weights = self._iterate_once(*state, data, weights, self._stop)
            state = flow, dual_x, dual_y
        return state, weights[0, :, 0, 0].cpu() > 0  # the only place where the host waits for the device


def _select(tensors: Sequence[Tensor], which: Tensor) -> list[Tensor]:
    index = which.nonzero()[:, 0].to(tensors[0].device)
    return [tensor.index_select(0, index) for tensor in tensors]


def _write(results: State, numbers: Tensor, state: State, which: Tensor) -> None:
    places, *parts = _select((numbers, *state), which)
    for result, part in zip(results, parts, strict=True):
        result.index_copy_(0, places, part)


@functools.cache
def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)  # sizes of levels and batches vary
