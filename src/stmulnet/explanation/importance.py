"""How much each frame counts: the score of a class without it.

Axes: N versions of a clip, T frames (folded: N*T), C channels, H x W pixels, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.console import progress
from stmulnet.explanation.clips import at_rest, network_clips, scored_class
from stmulnet.models.config import STAGES
from stmulnet.models.multiplier import INPUTS, MultiplierNetwork, Network, TwoStreamOutput, joint_output
from stmulnet.models.resnet import Stream
from stmulnet.models.sharing import time_reach
from stmulnet.predictor import PreparedVideo

Drops = dict[str, dict[str, NDArray[np.float32]]]


def frame_importance(model: Network, prepared: PreparedVideo, target: int) -> Drops:
    """How far the raw score of a class falls when a frame is hidden, with a progress bar.

    Hidden means: its RGB image, its flow stack or both are replaced by the mean that the network subtracts, so that it
    sees a uniform grey or no motion. Where a short video repeats frames, all copies are hidden together. Only what a
    frame can change is computed anew; the scores are those of the whole pass.

    Args:
        model: Network; one made fast for inference gives the same, up to rounding, in less time.
        prepared: What it sees of a video, see ``VideoPredictor.prepare``.
        target: The class, 0-based.

    Returns:
        By what is hidden ("rgb", "flow", "both"; a single stream has its one input) and by score ("appearance",
        "motion", "fused") the fall (T,): score of the video as it is minus score without the frame. Positive: the
        frame speaks for the class; negative: against it.

    Raises:
        ConfigError: No such class, or the video was prepared for another network.
    """
    scored_class(model, target)
    clips = network_clips(model, prepared)
    versions = hidden_versions(model)
    frames = sorted(set(prepared.times))
    falls: dict[int, NDArray[np.float32]] = {}
    with at_rest(model), torch.inference_mode(), progress(len(frames), "importance", "frames") as advance:
        replay = Replay(model, clips)
        whole = _class_scores(replay.output, target)
        for frame in frames:
            places = [place for place, time in enumerate(prepared.times) if time == frame]
            hidden = replay.without(places, list(versions.values()))
            falls[frame] = (whole - _class_scores(hidden, target)).float().numpy()
            advance(1)
    table = np.stack([falls[time] for time in prepared.times])  # (T, N, scores)
    scores = [*model.config.streams, *(["fused"] if len(model.config.streams) == 2 else [])]
    return {
        version: {score: table[:, row, column] for column, score in enumerate(scores)}
        for row, version in enumerate(versions)
    }


def hidden_versions(model: Network) -> dict[str, tuple[bool, ...]]:
    """By name, which of the network's inputs are hidden."""
    if len(model.config.streams) == 2:
        return {"rgb": (True, False), "flow": (False, True), "both": (True, True)}
    return {INPUTS[model.config.streams[0]]: (True,)}


class Span(NamedTuple):
    """Frames from ``first`` up to, without, ``end``; 0-based."""

    first: int
    end: int

    def widened(self, reach: int, frames: int) -> "Span":
        """With ``reach`` more frames at both ends, as far as the clip's ``frames`` allow."""
        return Span(max(0, self.first - reach), min(frames, self.end + reach))


class Replay:
    """One clip through a network in evaluation mode, stage by stage, repeated with some frames hidden.

    A hidden frame changes a stage's features only as far as its temporal convolutions reach. So each stage runs on
    the changed frames and as many unchanged ones beside them as it takes to make them right; the others are kept from
    the first pass.
    """

    def __init__(self, model: Network, clips: Sequence[Tensor]) -> None:
        self.model = model
        self.frames = clips[0].shape[1]
        self.streams: list[Stream] = [model.get_submodule(name) for name in model.config.streams]  # type: ignore[misc]
        model.check(*clips)
        folded = [model.fold(clip, INPUTS[name]) for name, clip in zip(model.config.streams, clips, strict=True)]
        states = [stream.stem(clip) for stream, clip in zip(self.streams, folded, strict=True)]
        self.neutral = [
            stream.stem(torch.zeros_like(clip[:1])) for stream, clip in zip(self.streams, folded, strict=True)
        ]
        self.states = [states]  # what enters res2, res3, res4, res5, the head; each stream (T, C, H, W)
        for stage in STAGES:
            inputs = [state.clone() for state in self.states[-1]]  # a stage may work in place
            self.states.append(self._stage(stage, inputs, self.frames))
        self.output = self._head(self.states[-1])

    def without(self, places: Sequence[int], versions: Sequence[tuple[bool, ...]]) -> TwoStreamOutput:
        """Scores of N versions of the clip.

        Args:
            places: The frames to hide, 0-based.
            versions: Per version, whether each stream's input is hidden there.
        """
        changed = Span(min(places), max(places) + 1)
        hidden = [place - changed.first for place in places]
        blocks = []  # per stream the changed frames (N, t, C, H, W)
        for index, (state, neutral) in enumerate(zip(self.states[0], self.neutral, strict=True)):
            block = state[changed.first : changed.end].repeat(len(versions), 1, 1, 1, 1)
            for version, hides in enumerate(versions):
                if hides[index]:
                    block[version, hidden] = neutral
            blocks.append(block)
        for stage, states in zip(STAGES, self.states, strict=False):
            reach = time_reach(self.model.config, stage)
            after = changed.widened(reach, self.frames)
            run = after.widened(reach, self.frames)
            inputs = [_placed(state, block, changed, run) for state, block in zip(states, blocks, strict=True)]
            outputs = self._stage(stage, inputs, run.end - run.first)
            wanted = slice(after.first - run.first, after.end - run.first)
            blocks = [output.reshape(len(versions), -1, *output.shape[1:])[:, wanted] for output in outputs]
            changed = after
        whole = Span(0, self.frames)
        return self._head(
            [_placed(state, block, changed, whole) for state, block in zip(self.states[-1], blocks, strict=True)]
        )

    def _stage(self, stage: int, states: Sequence[Tensor], frames: int) -> list[Tensor]:
        if isinstance(self.model, MultiplierNetwork):
            return list(self.model.stage(stage, states[0], states[1], frames))
        return [self.streams[0].stage(stage, states[0], frames)]

    def _head(self, states: Sequence[Tensor]) -> TwoStreamOutput:
        logits = {
            name: stream.head(state, self.frames)
            for name, stream, state in zip(self.model.config.streams, self.streams, states, strict=True)
        }
        return joint_output(logits.get("appearance"), logits.get("motion"))


def _placed(state: Tensor, block: Tensor, changed: Span, run: Span) -> Tensor:
    """The frames ``run`` of the clip (T, C, H, W), once for each of N blocks, which takes its place: (N*t, ...)."""
    frames = state[run.first : run.end].repeat(len(block), 1, 1, 1, 1)
    frames[:, changed.first - run.first : changed.end - run.first] = block
    return frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _class_scores(output: TwoStreamOutput, target: int) -> Tensor:
    """(N, scores): the class's score of each stream, and the fused one where there are two."""
    present = [scores for scores in (output.appearance, output.motion) if scores is not None]
    columns = present if len(present) == 1 else [*present, output.fused]
    return torch.stack([scores[:, target].double().cpu() for scores in columns], dim=1)
