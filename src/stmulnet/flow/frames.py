"""What optical flow is computed from: the check of a clip's frames.

Axes: T frames, H x W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError

MIN_SIDE_PX = 16  # OpenCV's TV-L1 makes no pyramid level smaller than this


def check_frames(frames: NDArray[np.uint8], *, at_least: int = 2) -> None:
    """Refuse anything but enough frames of 8 bit, large enough for a pyramid.

    Args:
        frames: (T, H, W) gray or (T, H, W, 3) RGB, uint8, sides of at least 16 px.
        at_least: Smallest T.

    Raises:
        ConfigError: If frames are not as above.
    """
    allowed = "allowed is uint8 of shape (T, H, W) or (T, H, W, 3), RGB"
    if not isinstance(frames, np.ndarray):
        raise ConfigError(f"frames must be a NumPy array, got {type(frames).__name__}; {allowed}")
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)):
        raise ConfigError(f"frames have dtype {frames.dtype} and shape {frames.shape}; {allowed}")
    if len(frames) < at_least:
        raise ConfigError(f"optical flow needs at least {at_least} frames, got {len(frames)}")
    height, width = frames.shape[1:3]
    if min(height, width) < MIN_SIDE_PX:
        raise ConfigError(
            f"frames of {width}x{height} px are too small for optical flow: "
            f"both sides need at least {MIN_SIDE_PX} px; enlarge them first"
        )
