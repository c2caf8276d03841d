"""What the network says of parts of a video, from what it has seen already: no frame or flow field is read again."""

# T sampled frames, K classes

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmulnet.evaluation.metrics import softmax
from stmulnet.predictor import PreparedVideo, VideoPredictor

FRAMES = 5  # of the sampled ones, as many as a training clip has
MOST = 6  # together they cost little more than the video as a whole


@dataclass(frozen=True)
class Moment:
    """A part of a video: its first and last frame, 1-based, and the probabilities (K,) of the classes in it."""

    first: int
    last: int
    probabilities: NDArray[np.float64]


def score_moments(predictor: VideoPredictor, video: PreparedVideo) -> list[Moment]:
    """Score runs of neighbouring sampled frames, evenly spread, as if each were a video by itself.

    Args:
        predictor: Has prepared the video.
        video: What its network saw.
    """
    needed = max(FRAMES, predictor.config.min_frames)
    order = in_order(video.times)
    if len(order) < needed:  # so short that frames repeat: no parts of it can be told apart
        order = np.arange(len(video.times))
        needed = len(order)
    starts = np.unique(np.linspace(0, len(order) - needed, min(MOST, len(order) // needed + 1)).round().astype(int))
    moments = []
    for start in starts.tolist():
        part = order[start : start + needed]
        rgb, flow = (clip if clip is None else clip[part] for clip in (video.rgb, video.flow))
        times = [video.times[index] for index in part]
        scores = predictor.predict_prepared(PreparedVideo(times, rgb, flow, video.num_frames)).scores
        moments.append(Moment(min(times), max(times), softmax(scores.fused)))
    return moments


def in_order(times: list[int]) -> NDArray[np.int64]:
    """Indices of the distinct sampled frames, earliest first: those of short videos repeat."""
    return np.unique(times, return_index=True)[1]
