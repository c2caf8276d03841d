"""Grad-CAM: which places of which frames speak for a class, stream by stream (Selvaraju et al., ICCV 2017)."""

# T frames, C channels, h x w positions of a stage's map

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.errors import MissingExtraError
from stmulnet.explanation.clips import at_rest, network_clips, scored_class
from stmulnet.models.multiplier import Network
from stmulnet.models.resnet import Stream
from stmulnet.predictor import PreparedVideo

Stage = Literal["res2", "res3", "res4", "res5"]


def grad_cam(
    model: Network, prepared: PreparedVideo, target: int, *, stage: Stage = "res5"
) -> dict[str, NDArray[np.float32]]:
    """Which places raise the fused raw score of a class, in each stream.

    With A the features behind the last ReLU of a stage, the map of a frame is ``ReLU(sum over channels w A)``, where w
    is the gradient of the score with respect to A, averaged over the frame's positions. The gradient is that of the
    whole clip at once, since temporal convolutions and pooling mix frames: a frame that no temporal maximum comes from
    has an empty map. Maps of different frames of a stream can be compared, those of different streams cannot.

    Args:
        model: Network. Hooks are set meanwhile: no other thread may run it.
        prepared: What it sees of a video, see ``VideoPredictor.prepare``.
        target: The class, 0-based.
        stage: Where to look: ``"res5"`` has the most meaning and the fewest positions; memory for the gradient grows
            towards ``"res2"``.

    Returns:
        By stream ("appearance", "motion") a map (T, h, w), 0 or more.

    Raises:
        MissingExtraError: captum is not installed.
        ConfigError: No such class, or the video was prepared for another network.
    """
    require_captum()
    from captum.attr import LayerGradCam

    scored_class(model, target)
    clips = network_clips(model, prepared)

    def fused(*clips: Tensor) -> Tensor:
        scores: Tensor = model(*clips).fused
        return scores

    maps = {}
    with at_rest(model), torch.enable_grad():  # of no parameter: autograd starts at the layer
        for name in model.config.streams:
            stream: Stream = model.get_submodule(name)  # type: ignore[assignment]
            layer = stream.units(int(stage[-1]))[-1].relu
            found = LayerGradCam(fused, layer).attribute(tuple(clips), target, relu_attributions=True)
            maps[name] = found.detach()[:, 0].float().cpu().numpy()
    return maps


def require_captum() -> None:
    """Say at once what is missing.

    Raises:
        MissingExtraError: captum is not installed.
    """
    try:
        import captum.attr  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Grad-CAM", "explain") from error
