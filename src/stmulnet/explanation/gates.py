"""What the connection between the streams lets through, place by place.

Axes: T frames, C channels, H' x W' positions of a stage (a quarter of the frame's sides at res2, a 32nd at res5).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stmulnet.errors import ConfigError
from stmulnet.explanation.clips import at_rest, network_clips
from stmulnet.models.config import FusionConfig
from stmulnet.models.fusion import Gate
from stmulnet.models.multiplier import MultiplierNetwork, Network
from stmulnet.predictor import PreparedVideo

Target = Literal["appearance", "motion"]
Maps = dict[str, NDArray[np.float32]]


def gate_maps(model: Network, prepared: PreparedVideo, *, into: Target | None = None) -> Maps:
    """How strongly one stream acts on the other, at every place of every frame.

    With S the sum that the first unit of a stage makes in the receiving stream, *before* its ReLU, and M the state of
    the other stream there, after its ReLU (and after its scaling, if the network has one), the map is

    * for a product ``P = M * S``: ``sum over channels |P| / sum over channels |S|``, the factor by which the gate
      multiplies the features of this place, each channel weighted by how strong it is. 0: the gate is shut; 1: all
      passes as it is; more: amplified;
    * for a sum ``M + S``: ``sum over channels |M| / sum over channels |S|``, how much is added in relation to what is
      there. 0: nothing.

    Places where S is 0 in all channels have nothing to let through and count as 0. In the official network M is the
    motion, S the appearance (STMulNet.m:239-305), and the product is read by the next residual branch.

    Args:
        model: Network of two connected streams. Hooks are set meanwhile: no other thread may run it.
        prepared: What it sees of a video, see ``VideoPredictor.prepare``.
        into: Receiving stream, ``"appearance"`` or ``"motion"``; None: appearance, where that receives anything.

    Returns:
        By connected stage (``"res2"`` ... ``"res5"``) a map (T, H', W'), 0 or more.

    Raises:
        ConfigError: The network has no such connection, or the video was prepared for another network.
    """
    receiving = receiving_streams(model)
    if not receiving:
        raise ConfigError("the network's streams are not connected, so there is no gate to look at")
    if into is not None and into not in receiving:
        raise ConfigError(f"nothing enters the {into} stream of this network, only the {receiving[0]} stream")
    clips = network_clips(model, prepared)
    gates = model.get_submodule(f"into_{into or receiving[0]}")
    with at_rest(model), torch.inference_mode(), _watched(gates) as maps:
        model(*clips)
    return maps


def receiving_streams(model: Network) -> list[Target]:
    """The streams that the other one acts on; empty without connection."""
    fusion = model.config.fusion
    if not isinstance(model, MultiplierNetwork) or fusion is None:
        return []
    present: dict[Target, bool] = {"appearance": fusion.into_appearance, "motion": fusion.into_motion}
    return [stream for stream, receives in present.items() if receives]


def connection_in_words(fusion: FusionConfig, into: Target) -> str:
    """What the map of a connection shows, in one sentence."""
    other = "motion" if into == "appearance" else "appearance"
    if fusion.operation == "multiply":
        return (
            f"the factor by which {other} multiplies the {into} features of a place: 0 shuts them off, 1 lets them pass"
        )
    return f"how much {other} adds to the {into} features of a place: 0 is nothing, 1 as much as is there"


@contextmanager
def _watched(gates: nn.Module) -> Iterator[Maps]:
    """Collect the maps of all gates of a forward pass of one video."""
    maps: Maps = {}

    def keep(stage: str, gate: Gate, inputs: tuple[Tensor, Tensor], joined: Tensor) -> None:
        own_sum, other_state = inputs
        arriving = joined if gate.operation == "multiply" else _scaled(gate, other_state)
        maps[stage] = _ratio(arriving, own_sum).float().cpu().numpy()

    def watch(stage: str, gate: nn.Module) -> Any:
        return gate.register_forward_hook(lambda module, inputs, output: keep(stage, module, inputs, output))

    hooks = [watch(stage, gate) for stage, gate in gates.named_children()]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _scaled(gate: Gate, other_state: Tensor) -> Tensor:
    return other_state if gate.scale is None else gate.scale(other_state)


def _ratio(arriving: Tensor, own_sum: Tensor) -> Tensor:
    """Two tensors (T, C, H', W') to (T, H', W')."""
    present = own_sum.abs().sum(dim=1)
    return torch.where(present > 0, arriving.abs().sum(dim=1) / present, 0)
