"""Frames and fields of one video to the clips of the test protocol."""

# T frames, H x W pixels; numbers of frames and fields are 1-based

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.constants import FLOW_CHANNELS
from stmulnet.datasets.sampling import flow_numbers
from stmulnet.datasets.transforms import TestTransform

Image = NDArray[np.uint8]


def consecutive_runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last number of each run without a gap in an ascending list."""
    breaks = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
    starts, ends = [0, *breaks], [*breaks, len(numbers)]
    return [(numbers[start], numbers[end - 1]) for start, end in zip(starts, ends, strict=True) if end > start]


def protocol_clips(
    times: Sequence[int], frames: dict[int, Image] | None, fields: dict[int, Image] | None, transform: TestTransform
) -> tuple[Tensor | None, Tensor | None]:
    """Build the tensors of the test protocol.

    Args:
        times: T frame numbers; they may repeat (short videos).
        frames: Number -> RGB frame (H, W, 3), uint8; None for a network without appearance stream.
        fields: Number -> flow field (2, H, W), uint8; None for a network without motion stream.
        transform: Limits the sides; applied once to each frame and field.

    Returns:
        Frames (T, 3, H', W') and stacks (T, 20, H', W'), uint8.
    """
    distinct, frame_at = np.unique(times, return_inverse=True)
    needed, field_at = np.unique([flow_numbers(t) for t in times], return_inverse=True)
    rgb = None if frames is None else _tensor([frames[number].transpose(2, 0, 1) for number in distinct.tolist()])
    flow = None if fields is None else _tensor([fields[number] for number in needed.tolist()])
    rgb, flow = transform(rgb, flow)
    if rgb is not None:
        rgb = rgb[torch.from_numpy(frame_at)]
    if flow is not None:
        flow = flow[torch.from_numpy(field_at).reshape(-1)].reshape(len(times), FLOW_CHANNELS, *flow.shape[-2:])
    return rgb, flow


def _tensor(images: list[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images))
