"""What the package is held against, ready to run; importable, so that other processes can make it."""

from pathlib import Path

import torch
from benchmarks.apart import Run
from benchmarks.baselines.conv3d import Conv3dNetwork

from stmulnet.commands.bench import full_network, training_step
from stmulnet.commands.contests import clips
from stmulnet.models.multiplier import MultiplierNetwork, Network
from stmulnet.predictor import VideoPredictor


def as_conv3d(network: Network) -> Conv3dNetwork:
    """The network in 3-D layers, with the memory format that is usual for them."""
    assert isinstance(network, MultiplierNetwork)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # torch's hints lack it alone
    return Conv3dNetwork(network)


def conv3d_forward(size: tuple[int, int, int]) -> Run:
    """One clip through the network in 3-D layers."""
    network = full_network()
    batch, conv3d = clips(network.config, 1, *size), as_conv3d(network).eval()

    def run(*_: object) -> None:
        with torch.inference_mode():
            conv3d(*batch)

    return run


def conv3d_step() -> Run:
    """A training step of the network in 3-D layers."""
    return training_step(bf16=False, wrap=as_conv3d)


def usual(video: Path) -> Run:
    """Prediction the usual way: the same protocol with OpenCV's flow and the network in 3-D layers."""
    predictor = VideoPredictor(full_network(), flow_backend="opencv")
    predictor._scorer = as_conv3d(full_network()).eval()  # type: ignore[assignment]
    return lambda: predictor(video)
