"""Filters in the files' order of axes and in ours.

Files: (y, x, in, out), over time (1, t, in, out). Here: (out, in, y, x), over time (out, in, t, 1).
"""

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from stmulnet.models.matconvnet.graph import four_axes

CONVOLUTIONS = ("Conv", "ConvTime")


def to_official(kind: str, weight: Tensor) -> Tensor:
    """Ours to theirs."""
    return weight.permute(3, 2, 1, 0) if kind == "ConvTime" else weight.permute(2, 3, 1, 0)


def from_official(kind: str, value: NDArray[Any]) -> NDArray[Any]:
    """Theirs to ours."""
    value = value.reshape(four_axes(value.shape))
    return value.transpose(3, 2, 1, 0) if kind == "ConvTime" else value.transpose(3, 2, 0, 1)
