"""What the verbs that make a predictor have in common."""

from pathlib import Path
from typing import Annotated, Any, TypedDict

from stmulnet.commands.shared_options import Default
from stmulnet.predictor import VideoPredictor
from stmulnet.predictor.presets import Precision, Preset, check_positive


class PredictorOptions(TypedDict, total=False):
    """Options of a predictor, for `predict`, `timeline` and `live`.

    Attributes:
        preset: paper is the official protocol; fast takes fewer frames, DIS flow, bf16 where the processor has it, and
            no mirrored view. The next four options replace parts of it.
        frames: Frames sampled per video or window (paper 25, fast 10).
        flow_backend: Implementation of the optical flow: tvl1 (paper; on the CPU), tvl1-torch (the same on the device,
            for a GPU), opencv (the reference, far slower) or dis (fast; another algorithm, far faster).
        precision: float32 (paper) or bf16 (fast).
        mirrored: Whether the scores of the mirrored frames are averaged in (paper true, fast false).
        threads: Threads for decoding and for the flow; one per processor core by default.
        device: auto, cpu, cuda or cuda:N, for the network and for tvl1-torch.
    """

    preset: Annotated[Preset, Default("paper")]
    frames: Annotated[int | None, Default(None)]
    flow_backend: Annotated[str | None, Default(None)]
    precision: Annotated[Precision | None, Default(None)]
    mirrored: Annotated[bool | None, Default(None)]
    threads: Annotated[int | None, Default(None)]
    device: Annotated[str, Default("auto")]


def make_predictor(weights: Path, *, frames: int | None = None, **options: Any) -> VideoPredictor:
    """The predictor of a verb.

    Args:
        weights: Of the network.
        frames: What the verbs call the ``num_frames`` of a predictor.
        **options: Further arguments of `VideoPredictor`.

    Raises:
        ConfigError: Options that are out of range; it has the names that verbs give them.
    """
    check_positive(frames=frames)
    return VideoPredictor(weights, num_frames=frames, **options)
