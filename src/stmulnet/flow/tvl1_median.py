"""The median filter of TV-L1: what cv2.medianBlur computes, in half the time, on images laid out for the loops.

Windows share their columns: each column of five is sorted once. A window merges two pairs of columns, keeps what can be
its median, and finds that with the fifth column. The networks are Batcher's; what a caller does not use of their
results is not computed. Names a, b, ... and the places of a tuple ascend.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.flow.compiled import compiled

Array = NDArray[np.float32]
F = np.float32
Two = tuple[F, F]
Four = tuple[F, F, F, F]
Five = tuple[F, F, F, F, F]
Six = tuple[F, F, F, F, F, F]
Ten = tuple[F, F, F, F, F, F, F, F, F, F]

_1, _2, _3, _4 = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)


@compiled
def _sort2(a: F, b: F) -> Two:
    return min(a, b), max(a, b)


@compiled
def _sort5(a: F, b: F, c: F, d: F, e: F) -> Five:
    a, b = _sort2(a, b)
    d, e = _sort2(d, e)
    c, e = _sort2(c, e)
    c, d = _sort2(c, d)
    b, e = _sort2(b, e)
    a, d = _sort2(a, d)
    a, c = _sort2(a, c)
    b, d = _sort2(b, d)
    b, c = _sort2(b, c)
    return a, b, c, d, e


@compiled
def _merge2(a: Two, b: Two) -> Four:
    first, second = _sort2(a[0], b[0])
    third, fourth = _sort2(a[1], b[1])
    second, third = _sort2(third, second)
    return first, second, third, fourth


@compiled
def _merge3(a: tuple[F, F, F], b: tuple[F, F, F]) -> Six:
    even = _merge2((a[0], a[2]), (b[0], b[2]))
    odd = _sort2(a[1], b[1])
    return even[0], *_sort2(odd[0], even[1]), *_sort2(odd[1], even[2]), even[3]


@compiled
def _merge5(a: Five, b: Five) -> Ten:
    even = _merge3((a[0], a[2], a[4]), (b[0], b[2], b[4]))
    odd = _merge2((a[1], a[3]), (b[1], b[3]))
    middle = *_sort2(odd[0], even[1]), *_sort2(odd[1], even[2]), *_sort2(odd[2], even[3]), *_sort2(odd[3], even[4])
    return even[0], *middle, even[5]


@compiled
def _middle_of_20(a: Ten, b: Ten) -> Six:
    # Numbers 7 to 12, from 0: with five more, only these can be in the middle of 25.
    even = _merge5((a[0], a[2], a[4], a[6], a[8]), (b[0], b[2], b[4], b[6], b[8]))
    odd = _merge5((a[1], a[3], a[5], a[7], a[9]), (b[1], b[3], b[5], b[7], b[9]))
    return *_sort2(odd[3], even[4]), *_sort2(odd[4], even[5]), *_sort2(odd[5], even[6])


@compiled
def _middle_of_11(a: Six, b: Five) -> F:
    # Number 5, from 0: i of b are below it, and then 5 - i of a.
    low = min(max(a[0], b[4]), max(a[1], b[3]), max(a[2], b[2]))
    return min(low, max(a[3], b[1]), max(a[4], b[0]), a[5])


@compiled
def _column(c: Array, x: Any) -> Five:  # one of them, of five sorted numbers
    return c[0, x], c[1, x], c[2, x], c[3, x], c[4, x]


@compiled
def _sort_columns(image: Array, y: int, height: int, width: int, columns: Array) -> None:
    y0, y1, y3, y4 = max(y - 2, 1), max(y - 1, 1), min(y + 1, height), min(y + 2, height)
    for x in range(np.uintp(image.shape[1])):
        column = _sort5(image[y0, x], image[y1, x], image[y, x], image[y3, x], image[y4, x])
        to = x + _2
        columns[0, to], columns[1, to], columns[2, to], columns[3, to], columns[4, to] = column
    for rank in range(5):
        columns[rank, 0] = columns[rank, 1] = columns[rank, 2]
        columns[rank, width + 2] = columns[rank, width + 3] = columns[rank, width + 1]


@compiled
def _medians(columns: Array, out: Array, y: int) -> None:
    for x in range(np.uintp(out.shape[1])):
        left = _merge5(_column(columns, x), _column(columns, x + _1))
        right = _merge5(_column(columns, x + _2), _column(columns, x + _3))
        out[y, x] = _middle_of_11(_middle_of_20(left, right), _column(columns, x + _4))


@compiled
def median5(image: Array, out: Array, width: int, columns: Array) -> None:
    """Write the medians of windows of 5 x 5 pixels, those at the border repeated outside.

    Args:
        image: A plane (1 + H + 1, row).
        out: Another one for the result.
        width: Pixels of a row.
        columns: (5, row + 4) room for the columns of a row, sorted.
    """
    height = image.shape[0] - 2
    for y in range(1, height + 1):
        _sort_columns(image, y, height, width, columns)
        _medians(columns, out, y)
        out[y, width:] = F(0)
