"""The test protocol over a validation list during training, and weights that know how good they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from stmulnet import distributed
from stmulnet.constants import STREAMS
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.loading import ClipLoader
from stmulnet.evaluation.protocol import VideoScores, video_scores
from stmulnet.models.checkpoint import save_model
from stmulnet.models.multiplier import Network
from stmulnet.training.config import TrainConfig
from stmulnet.training.history import Row
from stmulnet.training.processes import sum_over_processes

_SCORES = ("fused", *STREAMS)


def validate(
    fabric: Fabric,
    model: Network,
    videos: TwoStreamDataset,
    *,
    workers: int,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Row:
    """Top-1 accuracy of the scores and, of two streams, of each; every video counts once, in one of the processes.

    Args:
        fabric: Where to compute.
        model: The network; afterwards in training mode as before.
        videos: The list, sampled and sized for the test protocol.
        workers: Loader processes.
        is_stopping: Whether this process is to break off; the figures are then to be thrown away.
    """
    training = model.training
    model.eval()
    correct = torch.zeros(len(_SCORES), dtype=torch.float64, device=fabric.device)
    mine = distributed.share(len(videos))
    loader = ClipLoader(videos, batch_size=None, order=mine, workers=workers, ahead=1) if mine else ()
    for sample in loader:
        if is_stopping():
            break
        given = (clip if clip.numel() else None for clip in (sample.rgb, sample.flow))
        with fabric.autocast():
            # Not model(...): compiled, it would be compiled anew for every size of image.
            scores = video_scores(model.forward, *given, device=fabric.device)
        correct += torch.tensor(_right(scores, sample.label), dtype=torch.float64, device=fabric.device)
    model.train(training)
    shares = (sum_over_processes(fabric, correct) / len(videos)).tolist()
    names = ["val_top1", *(f"val_top1_{stream}" for stream in _SCORES[1:])]
    both = len(model.config.streams) == 2
    return dict(zip(names, shares, strict=True)) if both else {names[0]: shares[0]}


def _right(scores: VideoScores, label: int) -> list[float]:
    of_stream = [getattr(scores, stream) for stream in _SCORES]
    return [float(values is not None and int(values.argmax()) == int(label)) for values in of_stream]


def metric(config: TrainConfig, epochs: int, top1: float) -> dict[str, Any]:
    """How good weights are, for their header."""
    videos = "hold-out of the training list" if config.holdout else "validation list"
    return {
        "top1": top1,
        "list": f"{videos} of split {config.split}",
        "protocol": f"test protocol, {config.validation_frames} frames, original and mirrored",
        "epochs": epochs,
    }


def save_weights(model: Network, path: Path, config: TrainConfig, epochs: int, top1: float) -> None:
    """Save weights that were the best so far; their header says by which list they were chosen."""
    metadata = dict(model.metadata)
    model.metadata = metadata | {"metric": metric(config, epochs, top1) | {"chosen_by": True}}
    save_model(model, path)
    model.metadata = metadata
