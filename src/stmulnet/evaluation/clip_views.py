"""The views of a test video: the clips that are scored one by one, and whose scores are averaged.

All of them are cut from the frames of the official protocol: whole, each side limited to [input size, 2 x input size].
Frames that are stored with a short side of 256 pixels for inputs of 224, as is usual, are not changed by that.
"""

# T frames, C channels, H x W pixels, S pixels of the network's input side

from collections.abc import Callable, Iterator
from typing import Literal

from torch import Tensor

from stmulnet.constants import TRAIN_FRAMES
from stmulnet.errors import ConfigError
from stmulnet.mirror import mirror_clip

ViewsName = Literal["official", "center", "ten_crop", "clips"]
Clip = tuple[Tensor | None, Tensor | None]
ViewMaker = Callable[[Tensor | None, Tensor | None], Iterator[Clip]]

CLIP_FRAMES = TRAIN_FRAMES  # per clip of the views "clips" (official, with temporalFullConvTest off: nFramesPerVid)


def view_maker(name: ViewsName, size: int) -> ViewMaker:
    """What makes the views of a clip.

    ========== ======= ====================================================================================
    name       views   what
    ========== ======= ====================================================================================
    official   2       the whole frame; original and mirrored (cnn_train_dag.m:340-420)
    center     1       the S x S pixels in the centre, from row (H - S) // 2 and column (W - S) // 2; not mirrored
    ten_crop   10      S x S pixels in the four corners and in the centre; original, then mirrored
    clips      2 T/5   frames c, c + T/5, c + 2 T/5, ... for every c < T/5; original, then mirrored: what the official
                       code does with temporalFullConvTest off and nFramesPerVid = 5
    ========== ======= ====================================================================================

    Args:
        name: One of the above.
        size: S, pixels.

    Returns:
        A function of frames (T, 3, H, W) and flow stacks (T, 20, H, W), uint8, either of which may be None.
    """
    if name == "center":
        return lambda rgb, flow: iter([_crop(rgb, flow, size, _CENTRE)])
    if name == "ten_crop":
        return lambda rgb, flow: _also_mirrored([_crop(rgb, flow, size, place) for place in (*_CORNERS, _CENTRE)])
    if name == "clips":
        return lambda rgb, flow: _also_mirrored(_interleaved(rgb, flow))
    return official_views


def official_views(rgb: Tensor | None, flow: Tensor | None) -> Iterator[Clip]:
    """The views of the official protocol: the whole clip as it is, and mirrored."""
    return _also_mirrored([(rgb, flow)])


def check_frames(name: ViewsName, frames: int) -> int:
    """Frames that the network sees at once.

    Raises:
        ConfigError: The number of frames does not make whole clips.
    """
    if name != "clips":
        return frames
    if frames < CLIP_FRAMES or frames % CLIP_FRAMES:
        raise ConfigError(f"views clips score {CLIP_FRAMES} frames at once: frames must be a multiple, got {frames}")
    return CLIP_FRAMES


def in_words(name: ViewsName, frames: int) -> str:
    """The protocol of some views, for results."""
    averaged = "original and mirrored, raw scores averaged"
    return {
        "official": f"{frames} frames, whole frame, {averaged}",
        "center": f"{frames} frames, centre crop",
        "ten_crop": f"{frames} frames, four corners and centre, {averaged}",
        "clips": f"{frames} frames in clips of {CLIP_FRAMES}, whole frame, {averaged}",
    }[name]


_CENTRE = (0.5, 0.5)
_CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


def _also_mirrored(clips: list[Clip]) -> Iterator[Clip]:
    yield from clips
    for clip in clips:
        yield mirror_clip(*clip)


def _crop(rgb: Tensor | None, flow: Tensor | None, size: int, place: tuple[float, float]) -> Clip:
    """S x S pixels at a place given as shares of the way that the crop can be moved down and right, rounded down."""
    height, width = next(clip.shape[-2:] for clip in (rgb, flow) if clip is not None)
    if min(height, width) < size:
        raise ConfigError(f"crops of {size} pixels need frames of that size or larger, got {width}x{height}")
    top, left = (int((side - size) * share) for side, share in zip((height, width), place, strict=True))
    rows, columns = slice(top, top + size), slice(left, left + size)
    return (None if rgb is None else rgb[..., rows, columns]), (None if flow is None else flow[..., rows, columns])


def _interleaved(rgb: Tensor | None, flow: Tensor | None) -> list[Clip]:
    frames = next(len(clip) for clip in (rgb, flow) if clip is not None)
    count = frames // check_frames("clips", frames)
    return [
        (None if rgb is None else rgb[first::count], None if flow is None else flow[first::count])
        for first in range(count)
    ]
