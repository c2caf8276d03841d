"""The same network by ONNX Runtime on the CPU, float32, BatchNorm folded, for one size of clip."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from stmulnet.models.folding import fold_batchnorm
from stmulnet.models.multiplier import Network


class _Fused(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = fold_batchnorm(network)

    def forward(self, rgb: Tensor, flow: Tensor) -> Tensor:
        scores: Tensor = self.network(rgb, flow).fused
        return scores


def onnx_network(network: Network, batch: list[Tensor], folder: Path) -> Callable[..., object]:
    """Export a two-stream network and open it with as many threads as torch has.

    Args:
        network: The network.
        batch: Clips of the size that it will get.
        folder: For the file.
    """
    onnxruntime = import_module("onnxruntime")  # it ships no type hints
    path = folder / "network.onnx"
    torch.onnx.export(
        _Fused(network).eval(), tuple(batch), path, input_names=["rgb", "flow"], dynamo=True, verbose=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda rgb, flow: session.run(None, {"rgb": rgb.numpy(), "flow": flow.numpy()})
