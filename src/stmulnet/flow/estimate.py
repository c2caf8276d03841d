"""Optical flow by name of the implementation, and the record of how a flow was computed."""

import dataclasses
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from stmulnet.constants import FLOW_BOUND_PX, FLOW_ZERO_LEVEL
from stmulnet.errors import ConfigError
from stmulnet.flow.dis import dis, dis_parameters
from stmulnet.flow.pairs import Flow, Gray, Solver, map_pairs
from stmulnet.flow.tvl1 import TVL1Params, tvl1

_PARAMS = TVL1Params()


def opencv_tvl1(frames: NDArray[np.uint8], *, threads: int = 1) -> Flow:
    """Compute TV-L1 flow with OpenCV's own DualTVL1OpticalFlow: the reference for ``tvl1``, and far slower.

    Arguments, result and errors are those of ``tvl1``.
    """
    return map_pairs(frames, lambda gray: gray, _opencv_solver, threads=threads)


def _opencv_solver() -> Solver[Gray]:
    algorithm = cv2.optflow.DualTVL1OpticalFlow.create(
        tau=_PARAMS.tau,
        lambda_=_PARAMS.lambda_,
        theta=_PARAMS.theta,
        nscales=_PARAMS.scales,
        warps=_PARAMS.warps,
        epsilon=_PARAMS.epsilon,
        innnerIterations=_PARAMS.inner_iterations,  # spelt so by OpenCV
        outerIterations=_PARAMS.outer_iterations,
        scaleStep=_PARAMS.scale_step,
        gamma=0.0,
        medianFiltering=_PARAMS.median_size,
        useInitialFlow=False,
    )

    def solve(first: Gray, second: Gray, out: Flow) -> None:
        out[:] = np.moveaxis(algorithm.calc(first, second, np.empty((*first.shape, 2), np.float32)), 2, 0)

    return solve


def _tvl1_torch(frames: NDArray[np.uint8], *, device: str, compile: bool) -> Flow:
    from stmulnet.flow.tvl1_torch import tvl1_torch  # here, since torch takes seconds to import

    return tvl1_torch(frames, device=device, compile=compile)


def _tvl1_parameters() -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in dataclasses.asdict(_PARAMS).items()}


class _Backend(NamedTuple):
    """One implementation, and what the record says of it; with ``by_torch`` it takes a device instead of threads."""

    estimate: Callable[..., Flow]
    algorithm: str
    parameters: Callable[[], dict[str, Any]]
    libraries: dict[str, str]  # besides OpenCV and NumPy
    by_torch: bool = False
    pairs_per_call: int = 32


_BACKENDS = {
    "tvl1": _Backend(tvl1, "TV-L1", _tvl1_parameters, {"numba": numba.__version__}),
    "tvl1-torch": _Backend(
        _tvl1_torch,
        "TV-L1",
        _tvl1_parameters,
        {"torch": metadata.version("torch")},
        by_torch=True,
        pairs_per_call=128,  # the slowest pair of a batch decides, so fewer leave a GPU idle
    ),
    "opencv": _Backend(opencv_tvl1, "TV-L1", _tvl1_parameters, {}),
    "dis": _Backend(dis, "DIS", dis_parameters, {}),
}


def estimate_flow(
    frames: NDArray[np.uint8], *, backend: str = "tvl1", threads: int = 1, device: str = "auto", compile: bool = False
) -> Flow:
    """Compute the optical flow between neighbouring frames with the named implementation.

    Args:
        frames: (T, H, W) gray or (T, H, W, 3) RGB, uint8, 0..255, T >= 2, sides of at least 16 px.
        backend: ``"tvl1"`` (the package's own, on the CPU), ``"tvl1-torch"`` (the same for a GPU),
            ``"opencv"`` (OpenCV's TV-L1, the reference) or ``"dis"`` (another and far faster algorithm, see
            `stmulnet.flow.dis`).
        threads: Pairs of frames in work at the same time; not for tvl1-torch, which takes a batch of them at once.
        device: For tvl1-torch alone: a device of torch, or ``"auto"``, CUDA where there is one. The others run on the
            CPU.
        compile: For tvl1-torch alone: fuse its inner loop, see `stmulnet.flow.tvl1_torch`.

    Returns:
        (T-1, 2, H, W) float32, px: displacement in x, then in y, from frame t to frame t + 1.

    Raises:
        ConfigError: If the backend is unknown, or frames, threads or device are not as above.
    """
    _check_backend(backend)
    chosen = _BACKENDS[backend]
    if chosen.by_torch:
        return chosen.estimate(frames, device=device, compile=compile)
    return chosen.estimate(frames, threads=threads)


def pairs_per_call(backend: str) -> int:
    """How many pairs of a long clip to give ``estimate_flow`` at a time: enough for its speed, and no memory wasted.

    Args:
        backend: A name that ``estimate_flow`` takes.

    Raises:
        ConfigError: If the backend is unknown.
    """
    _check_backend(backend)
    return _BACKENDS[backend].pairs_per_call


def takes_device(backend: str) -> bool:
    """Whether torch computes a backend, on a device that one process should have for itself.

    Args:
        backend: A name that ``estimate_flow`` takes.

    Raises:
        ConfigError: If the backend is unknown.
    """
    _check_backend(backend)
    return _BACKENDS[backend].by_torch


def flow_record(backend: str) -> dict[str, Any]:
    """Describe how ``backend`` computes flow and how it is stored: equal records mean comparable flow.

    Args:
        backend: A name that ``estimate_flow`` takes.

    Returns:
        Values JSON can hold: algorithm, backend, parameters, bound and rounding of the 8-bit form, library versions.

    Raises:
        ConfigError: If the backend is unknown.
    """
    _check_backend(backend)
    chosen = _BACKENDS[backend]
    return {
        "algorithm": chosen.algorithm,
        "backend": backend,
        "parameters": chosen.parameters(),
        "bound_px": FLOW_BOUND_PX,
        "rounding": "half up",
        "zero_level": FLOW_ZERO_LEVEL,
        "libraries": {"opencv": cv2.__version__, "numpy": np.__version__, **chosen.libraries},
    }


def _check_backend(backend: str) -> None:
    if backend not in _BACKENDS:
        raise ConfigError(f"no flow backend {backend!r}; choose one of: {', '.join(_BACKENDS)}")
