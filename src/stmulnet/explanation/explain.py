"""Everything that explains the answer for one video, in arrays."""

# T frames, K classes, h x w positions of a stage's map

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.evaluation.metrics import softmax
from stmulnet.evaluation.protocol import VideoScores
from stmulnet.explanation.cam import Stage, grad_cam, require_captum
from stmulnet.explanation.gates import Maps, Target, gate_maps, receiving_streams
from stmulnet.explanation.importance import Drops, frame_importance
from stmulnet.models.config import ModelConfig
from stmulnet.models.folding import fold_batchnorm
from stmulnet.models.optimize import optimize
from stmulnet.predictor import PreparedVideo, VideoPredictor

GATE_PREFIX: dict[Target, str] = {"appearance": "gate", "motion": "gate_into_motion"}  # of names


@dataclass(frozen=True)
class Explanation:
    """Why a network gives a video the score of a class.

    Attributes:
        video: Name of the file.
        target: The class in question, 0-based.
        class_names: K names.
        scores: Raw scores of the video, as predicted: averaged over all views. The rest is about the video as it is.
        prepared: What the network saw.
        gates: By receiving stream, what came through the connection, see `gate_maps`; empty without connection.
        cams: By stream, which places speak for the class, see `grad_cam`.
        cam_stage: Where ``cams`` were taken.
        drops: How far the score falls without each frame, see `frame_importance`.
        config: The network.
        settings: How the video was prepared and scored, in words.
    """

    video: str
    target: int
    class_names: list[str]
    scores: VideoScores
    prepared: PreparedVideo
    gates: dict[Target, Maps]
    cams: dict[str, NDArray[np.float32]]
    cam_stage: Stage
    drops: Drops
    config: ModelConfig
    settings: str

    @property
    def label(self) -> str:
        """Name of the class in question."""
        return self.class_names[self.target]

    @property
    def predicted(self) -> str:
        """Name of the class with the highest score."""
        return self.class_names[int(self.scores.fused.argmax())]

    @property
    def probability(self) -> float:
        """Of the class in question, 0..1."""
        return float(softmax(self.scores.fused)[self.target])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name: times, gate_res2, gate_into_motion_res2, cam_<stream>, fall_<hidden>_<score>, ..."""
        found: dict[str, NDArray[Any]] = {"times": np.array(self.prepared.times)}
        for into, maps in self.gates.items():
            found |= {f"{GATE_PREFIX[into]}_{stage}": values for stage, values in maps.items()}
        found |= {f"cam_{stream}": values for stream, values in self.cams.items()}
        for hidden, falls in self.drops.items():
            found |= {f"fall_{hidden}_{score}": values for score, values in falls.items()}
        return found


def explain_video(
    predictor: VideoPredictor, video: str | Path, *, target: str | None = None, cam_stage: Stage = "res5"
) -> Explanation:
    """Explain the answer for one video.

    Args:
        predictor: Prepares the video and has the network.
        video: What the predictor takes: a file, a folder of frames.
        target: Name of the class to explain; None: the predicted one.
        cam_stage: Stage of the Grad-CAM.

    Raises:
        MissingExtraError: captum is not installed.
        ConfigError: No such class, or an optimised network.
        VideoDecodeError: The video cannot be decoded completely.
        VideoTooShortError: It has fewer than 11 frames.
    """
    require_captum()
    if predictor.model.fused:
        raise ConfigError("the network was optimised, which leaves no layers to look at; give the one it was made from")
    wanted = None if target is None else class_number(target, predictor.class_names)
    prepared, model = predictor.prepare(video), fold_batchnorm(predictor.model)
    scores = predictor.predict_prepared(prepared).scores
    number = int(scores.fused.argmax()) if wanted is None else wanted
    gates = {into: gate_maps(model, prepared, into=into) for into in receiving_streams(model)}
    cams = grad_cam(model, prepared, number, stage=cam_stage)
    # Not the predictor's own, which is float32 for the answer: these are many passes, and bf16 halves their time for a
    # percent of their figures.
    fast = optimize(model, device=predictor.device, inplace=True)
    return Explanation(
        video=Path(video).name,
        target=number,
        class_names=predictor.class_names,
        scores=scores,
        prepared=prepared,
        gates=gates,
        cams=cams,
        cam_stage=cam_stage,
        drops=frame_importance(fast, prepared, number),
        config=model.config,
        settings=predictor.preset,
    )


def class_number(name: str, class_names: list[str]) -> int:
    """The number of a class, 0-based.

    Raises:
        ConfigError: There is none of that name; says which are near.
    """
    if name in class_names:
        return class_names.index(name)
    near = difflib.get_close_matches(name, class_names, n=3, cutoff=0.5) or class_names[:5]
    raise ConfigError(f"the network has no class {name!r}; it has {len(class_names)}, such as {', '.join(near)}")
