"""What is known of a video before and after the network has seen it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.evaluation.protocol import VideoScores
from stmulnet.rendering import rankings_html

Ranking = list[tuple[str, float]]
_NOT_IN_JSON = ("scores", "features")


@dataclass(frozen=True)
class Prediction:
    """The answer for one video.

    Attributes:
        label: Name of the class with the highest fused score.
        score: Its probability, 0..1: softmax of the fused raw scores. The protocol itself averages raw scores.
        top_k: (class, probability) of the best classes by the fused score, best first.
        appearance: The same by the appearance stream alone; None without that stream.
        motion: The same by the motion stream alone; None without that stream.
        num_frames: Frames of the video.
        preset: The settings that decide about the scores, in words.
        flow_record: How the flow was computed; None if the network needs none.
        seconds: Time spent on ``decode``, on ``flow`` (beyond that of decoding, during which it is computed already),
            on ``network``, and in ``total``.
        scores: Raw scores of all classes.
        settings: The same as ``preset``, for programs.
        features: By stream what its classifier sees, (C,) float64, averaged over positions, windows and views; empty
            unless asked for.
    """

    label: str
    score: float
    top_k: Ranking
    appearance: Ranking | None
    motion: Ranking | None
    num_frames: int
    preset: str
    flow_record: dict[str, Any] | None
    seconds: dict[str, float]
    scores: VideoScores
    settings: dict[str, Any] = field(default_factory=dict)
    features: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; raw scores and features are left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _NOT_IN_JSON}
        for name in ("top_k", "appearance", "motion"):
            if values[name] is not None:
                values[name] = [{"label": label, "score": score} for label, score in values[name]]
        return values

    def _repr_html_(self) -> str:
        streams = {"appearance stream": self.appearance, "motion stream": self.motion}
        rankings = {title: ranking for title, ranking in streams.items() if ranking is not None}
        if len(rankings) == 2:
            rankings = {"both streams": self.top_k, **rankings}
        times = ", ".join(f"{name} {value:.2f} s" for name, value in self.seconds.items())
        return rankings_html(rankings, [f"{self.num_frames} frames of video; {times}", self.preset])


@dataclass(frozen=True)
class PreparedVideo:
    """What the network sees of one video.

    Attributes:
        times: Numbers of the T sampled frames, 1-based; those of short videos repeat.
        rgb: Frames (T, 3, H, W), uint8; None without appearance stream.
        flow: Stacks (T, 20, H, W), uint8; None without motion stream.
        num_frames: Frames of the video.
    """

    times: list[int]
    rgb: Tensor | None
    flow: Tensor | None
    num_frames: int
