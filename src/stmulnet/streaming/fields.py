"""Frames with their flow, frame by frame: every frame is taken once, every field computed at most once."""

# H x W pixels; frame numbers are 1-based, flow field i leads from frame i to frame i + 1

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.flow.estimate import estimate_flow, pairs_per_call, takes_device
from stmulnet.flow.quantize import to_uint8
from stmulnet.predictor import VideoPredictor, consecutive_runs
from stmulnet.video.io import resize_short_side

Image = NDArray[np.uint8]


class FlowFrame(NamedTuple):
    """A frame and the flow that leads to it.

    Attributes:
        number: Of the frame.
        image: RGB (H, W, 3), uint8.
        field: Field ``number - 1`` (2, H, W), 8 bit; None for the first frame, and where it is not needed.
    """

    number: int
    image: Image
    field: Image | None


class FieldMaker:
    """Computes 8-bit flow fields as a predictor does.

    Args:
        predictor: Gives the flow backend, threads and device, and whether images go through JPEG.
    """

    def __init__(self, predictor: VideoPredictor) -> None:
        self._predictor = predictor
        self.needed = predictor.flow_record is not None
        backend, threads = predictor.flow_backend, predictor.threads
        # Few at a time on the CPU: whoever stops has to wait for them.
        self.pairs_per_call = pairs_per_call(backend) if takes_device(backend) else 4 * threads

    def __call__(self, frames: NDArray[np.uint8], *, gaps: NDArray[np.int64] | None = None) -> Iterator[Image]:
        """Fields between neighbours of a run of frames.

        Args:
            frames: (T, H, W, 3), T >= 2.
            gaps: (T-1,) distances in frames of the source; the displacements are divided by them. None: all 1.

        Yields:
            T-1 fields (2, H, W), 8 bit.
        """
        predictor = self._predictor
        flow_px = estimate_flow(
            frames, backend=predictor.flow_backend, threads=predictor.threads, device=str(predictor.device)
        )
        if gaps is not None:
            flow_px = flow_px / gaps.astype(np.float32)[:, None, None, None]
        for field in to_uint8(flow_px):
            yield np.stack([predictor.stored(plane) for plane in field])


def with_flow(
    frames: Iterable[Image], make_fields: FieldMaker, needs: Callable[[int], bool], *, short_side: int
) -> Iterator[FlowFrame]:
    """Give frames their flow.

    Args:
        frames: RGB (H, W, 3), uint8, all of one size.
        make_fields: Computes the flow, of several pairs in parallel.
        needs: Whether the field of a number is wanted.
        short_side: Frames of another short side are resized to this one.

    Raises:
        ConfigError: Frames of another kind or of several sizes.
    """
    source = checked_frames(frames, short_side)
    last: list[Image] = []
    number = 0  # of the last frame
    while more := list(islice(source, make_fields.pairs_per_call)):
        run = [*last, *more]
        start = number + 1 - len(last)  # number of the first frame of the run
        wanted = [field for field in range(start, start + len(run) - 1) if make_fields.needed and needs(field)]
        fields = compute_fields({start + place: image for place, image in enumerate(run)}, wanted, make_fields)
        for image in more:
            number += 1
            yield FlowFrame(number, image, fields.pop(number - 1, None))
        last = [more[-1]]


def compute_fields(images: dict[int, Image], wanted: list[int], make_fields: FieldMaker) -> dict[int, Image]:
    """The wanted fields, ascending, of numbered frames."""
    fields: dict[int, Image] = {}
    for first, last in consecutive_runs(wanted):
        run = np.stack([images[number] for number in range(first, last + 2)])
        fields.update(zip(range(first, last + 1), make_fields(run), strict=True))
    return fields


def checked_frames(frames: Iterable[Image], short_side: int) -> Iterator[Image]:
    """The frames, (H, W, 3) uint8, resized where their short side is another one; arguments as in `with_flow`."""
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames, start=1):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != (shape or frame.shape):
            raise ConfigError(
                f"frames must be uint8 (H, W, 3), all of one size; frame {number} is {frame.dtype} {frame.shape}"
                + (f", the first {shape}" if shape else "")
            )
        shape = frame.shape
        yield resize_short_side(frame, short_side)
