"""How the images of TV-L1 lie in memory: rows that start at multiples of 16 numbers, with zeros around the pixels.

    row 0        zeros
    row 1 + y    pixels 0 ... W-1 of image row y, then 1 to 16 zeros
    row 1 + H    zeros

So every pixel has a left neighbour (a zero of the row before) and a right one, and loops run over whole rows one after
the other, in steps of 16 numbers, without a rest: on AVX-512, that is half the time of the loops. The kernels keep the
zeros as they are.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LANE = 16  # numbers that a processor with AVX-512 takes at once, one line of its cache


def make_planes(count: int, height: int, width: int) -> Array:
    """Zeros (count, 1 + height + 1, row) for images of height x width pixels."""
    row = (width // LANE + 1) * LANE
    size = count * (height + 2) * row
    room = np.zeros(size + LANE, np.float32)
    start = -(room.ctypes.data // room.itemsize) % LANE  # NumPy's arrays begin anywhere in a line
    return room[start : start + size].reshape(count, height + 2, row)


def pixels(planes: Array, width: int) -> Array:
    """The images in planes, a view (count, height, width)."""
    return planes[:, 1:-1, :width]
