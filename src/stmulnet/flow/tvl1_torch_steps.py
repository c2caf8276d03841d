"""The steps of TV-L1 as functions of torch tensors, many pairs at a time, the same on every device.

They are those of the CPU kernel (tvl1.py, tvl1_kernels.py, tvl1_warp.py), which has OpenCV's numbers. None looks at
values from Python, so none waits for the device; `torch.compile` fuses `iterate_once` into three sweeps over memory.

Axes: N pairs of frames, h x w pixels of a pyramid level. All images are float32:

    flow            (N, 2, h, w)   displacement in x and in y, px
    dual_x, dual_y  (N, 2, h, w)   dual variable of both components: its part in x, and in y; zero in the last column
                                   of dual_x and in the last row of dual_y
    target          (N, 3, h', w')  second frame, its gradient in x and in y; zeros below and on the right
    weights         (3, N, 1, 1)   lambda * theta, theta, tau / theta; all zero for a pair that has stopped
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

_FLOAT_EPSILON = torch.finfo(torch.float32).eps


class DataTerm(NamedTuple):
    """The brightness difference between two frames, linearised around a flow.

    Attributes:
        gradient: (N, 2, h, w) gradient of the warped second frame in x and in y.
        inverse: (N, h, w) -1 / squared norm of the gradient.
        residual: (N, h, w) the part of the difference that does not depend on the flow (rho_c of the paper).
    """

    gradient: Tensor
    inverse: Tensor
    residual: Tensor


def gray(frames: Tensor) -> Tensor:
    """Turn frames (T, h, w) or RGB frames (T, h, w, 3), uint8, to gray (T, h, w) float32, 0..255, as OpenCV does."""
    if frames.ndim == 3:
        return frames.float()
    red, green, blue = frames.int().unbind(-1)
    return ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).float()


def resize(images: Tensor, size: tuple[int, int], steps: tuple[float, float]) -> Tensor:
    """Interpolate linearly like ``cv2.INTER_LINEAR``, without smoothing first.

    Args:
        images: (..., h, w).
        size: Rows and columns of the result.
        steps: Pixels of the input per pixel of the result, in y and in x.

    Returns:
        (..., *size).
    """
    for axis, length, step in zip((-2, -1), size, steps, strict=True):
        # float64, on the CPU: not every device has it.
        position = (torch.arange(length, dtype=torch.float64) + 0.5) * step - 0.5
        position = position.clamp(0, images.shape[axis] - 1)
        low = position.floor().long()
        high = (low + 1).clamp(max=images.shape[axis] - 1)
        share = (position - low).float().to(images.device)
        if axis == -2:
            share = share[:, None]
        before, after = (images.index_select(axis, index.to(images.device)) for index in (low, high))
        images = torch.lerp(before, after, share)
    return images


def target_planes(images: Tensor) -> Tensor:
    """Stack images and their central differences, halved one-sided ones at the border, for ``warp``.

    Args:
        images: Second frames, (N, h, w).

    Returns:
        (N, 3, h', w'): zeros below and on the right fill the sides up to the next power of two.
    """
    height, width = images.shape[1:]
    padded = pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    in_x = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    in_y = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    return pad(
        torch.stack((images, in_x, in_y), dim=1), (0, _power_of_two(width) - width, 0, _power_of_two(height) - height)
    )


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()


def warp(first: Tensor, target: Tensor, flow: Tensor) -> DataTerm:
    """Look the target up along the flow, bicubic with a = -0.75 and zeros outside, and linearise the difference.

    Args:
        first: First frames, (N, h, w).
        target: What ``target_planes`` made of the second frames.
        flow: Where to look.

    Returns:
        The data term.
    """
    columns = torch.arange(first.shape[2], dtype=flow.dtype, device=flow.device)
    rows = torch.arange(first.shape[1], dtype=flow.dtype, device=flow.device)[:, None]
    # grid_sample counts from -1 to 1 over the outer edges. With sides of powers of two its arithmetic finds whole
    # pixels exactly; otherwise frames that are identical would differ by rounding, and at the border move by 0.1 px.
    x = (2 * (flow[:, 0] + columns) + 1) / target.shape[3] - 1
    y = (2 * (flow[:, 1] + rows) + 1) / target.shape[2] - 1
    warped = grid_sample(target, torch.stack((x, y), dim=-1), "bicubic", "zeros", align_corners=False)
    gradient = warped[:, 1:].contiguous()
    # Where the gradient vanishes the step is multiplied by it: any finite inverse gives zero.
    inverse = -1 / gradient.square().sum(1).clamp_(min=_FLOAT_EPSILON)
    residual = warped[:, 0] - (gradient * flow).sum(1) - first
    return DataTerm(gradient, inverse, residual)


def iterate_once(
    flow: Tensor, dual_x: Tensor, dual_y: Tensor, data: DataTerm, weights: Tensor, stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do one primal-dual iteration; pairs whose weights are zero stay as they are.

    Args:
        flow: The flow so far.
        dual_x: Dual variable, part in x.
        dual_y: Dual variable, part in y.
        data: What ``warp`` gave.
        weights: See the top of this file.
        stop: Mean over pixels and components of the squared update of the flow at which a pair stops, px^2.

    Returns:
        flow, dual_x, dual_y, and the weights of the next iteration: zero for pairs that have stopped.
    """
    bound, theta, rate = weights
    # The three cases of the paper's threshold are one clamp of -rho / |grad|^2.
    rho = torch.addcmul(data.residual, data.gradient[:, 0], flow[:, 0]).addcmul_(data.gradient[:, 1], flow[:, 1])
    step = rho.mul_(data.inverse).clamp_(-bound, bound)
    divergence = (dual_x + dual_y).sub_(pad(dual_x[..., :-1], (1, 0))).sub_(pad(dual_y[..., :-1, :], (0, 0, 1, 0)))
    change = divergence.mul_(theta[:, None]).addcmul_(step[:, None], data.gradient)
    flow = flow + change
    weights = weights * (change.square_().mean((1, 2, 3)) > stop)[:, None, None]
    # Forward differences, zero across the border.
    u_x = pad(flow[..., 1:] - flow[..., :-1], (0, 1)).mul_(rate[:, None])
    u_y = pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1)).mul_(rate[:, None])
    scale = (u_x * u_x).addcmul_(u_y, u_y).sqrt_().add_(1)
    return flow, u_x.add_(dual_x).div_(scale), u_y.add_(dual_y).div_(scale), weights


def median_filter(images: Tensor, size: int) -> Tensor:
    """Take the median of size x size pixels (1, 3 or 5), the border pixels repeated outside, as cv2.medianBlur does.

    Minima and maxima of whole images: columns are sorted, neighbouring columns merged (both shared by the windows
    that contain them), then the middle of the window's sorted lists is found; 90 operations for 5 x 5.

    Args:
        images: (N, C, h, w).
        size: Side of the window.

    Returns:
        (N, C, h, w).
    """
    if size == 1:
        return images
    height, width = images.shape[-2:]
    padded = pad(images, (size // 2,) * 4, mode="replicate")
    column = _sort([padded[..., row : row + height, :] for row in range(size)])
    pair = _merge([image[..., :-1] for image in column], [image[..., 1:] for image in column])

    def at(images: list[Tensor], offset: int) -> list[Tensor]:
        return [image[..., offset : offset + width] for image in images]

    # Of all columns but the last, sorted, only these ranks can hold the median of the window.
    middle = size * size // 2
    ranks = range(middle - size, middle + 1)
    candidates = _merge(at(pair, 0), at(pair, 2) if size == 5 else [], ranks)
    return _merge(candidates, at(column, size - 1), [size])[0]


def _sort(images: list[Tensor]) -> list[Tensor]:
    half = len(images) // 2
    return images if half == 0 else _merge(_sort(images[:half]), _sort(images[half:]))


def _merge(a: list[Tensor], b: list[Tensor], ranks: Iterable[int] | None = None) -> list[Tensor]:
    """Merge two lists that ascend at every pixel, with Batcher's odd-even network; of all ranks or of some."""
    wanted = list(range(len(a) + len(b)) if ranks is None else ranks)
    merged = _merge_ranks(a, b, set(wanted))
    return [merged[rank] for rank in wanted]


def _merge_ranks(a: list[Tensor], b: list[Tensor], ranks: set[int]) -> dict[int, Tensor]:
    if not a or not b:
        return {rank: (a or b)[rank] for rank in ranks}
    if len(a) == len(b) == 1:
        return {rank: torch.maximum(a[0], b[0]) if rank else torch.minimum(a[0], b[0]) for rank in ranks}
    # Members at even and at odd places are merged; then each odd one is compared with the even one after it.
    odd = _merge_ranks(a[1::2], b[1::2], {(rank - 1) // 2 for rank in ranks} & _places(a[1::2], b[1::2]))
    even = _merge_ranks(a[::2], b[::2], {(rank + 1) // 2 for rank in ranks} & _places(a[::2], b[::2]))
    merged = {}
    for rank in ranks:
        pair = [part[place] for part, place in ((odd, (rank - 1) // 2), (even, (rank + 1) // 2)) if place in part]
        if len(pair) == 2:
            merged[rank] = torch.minimum(*pair) if rank % 2 else torch.maximum(*pair)
        else:
            merged[rank] = pair[0]  # the first, and sometimes the last, have no partner
    return merged


def _places(a: list[Tensor], b: list[Tensor]) -> set[int]:
    return set(range(len(a) + len(b)))
