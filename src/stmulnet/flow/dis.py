"""Optical flow by OpenCV's DIS: twenty and more times as fast as TV-L1, and another flow.

Its fields differ from those of TV-L1 by more than half a pixel where things move: networks trained on one flow lose
accuracy on the other. The record of the flow says which it is.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.flow.pairs import Flow, Gray, Solver, map_pairs

# Of OpenCV's presets the one nearest to TV-L1 on real clips; "medium" takes five times as long and is not nearer.
_PRESET = cv2.DISOPTICAL_FLOW_PRESET_FAST
_MIN_SIDE_PX = 32  # OpenCV 5.0 reads beyond its memory where the height is smaller and the width three times as large


def dis(frames: NDArray[np.uint8], *, threads: int = 1) -> Flow:
    """Compute optical flow with OpenCV's DISOpticalFlow (dense inverse search, Kroeger et al. 2016), preset "fast".

    Arguments, result and errors are those of ``tvl1``, but both sides of the frames need at least 32 px.
    """
    if np.ndim(frames) >= 3 and min(frames.shape[1:3]) < _MIN_SIDE_PX:
        height, width = frames.shape[1:3]
        raise ConfigError(
            f"frames of {width}x{height} px are too small for DIS flow: both sides need at least {_MIN_SIDE_PX} px; "
            "enlarge them first"
        )
    return map_pairs(frames, lambda gray: gray, _solver, threads=threads)


def dis_parameters() -> dict[str, Any]:
    """The parameters of the preset, as OpenCV reports them."""
    algorithm = cv2.DISOpticalFlow.create(_PRESET)
    return {
        "preset": "fast",
        "finest_scale": algorithm.getFinestScale(),
        "patch_size": algorithm.getPatchSize(),
        "patch_stride": algorithm.getPatchStride(),
        "gradient_descent_iterations": algorithm.getGradientDescentIterations(),
        "variational_refinement_iterations": algorithm.getVariationalRefinementIterations(),
        "mean_normalization": algorithm.getUseMeanNormalization(),
        "spatial_propagation": algorithm.getUseSpatialPropagation(),
    }


def _solver() -> Solver[Gray]:
    def solve(first: Gray, second: Gray, out: Flow) -> None:
        # A new one for each pair: OpenCV's starts from what it found for the pair before, so that the flow of a pair
        # would depend on where a clip is cut. None, not an empty array: that would be taken as a flow to start from.
        algorithm = cv2.DISOpticalFlow.create(_PRESET)
        out[:] = np.moveaxis(algorithm.calc(first, second, None), 2, 0)  # type: ignore[call-overload]

    return solve
