"""Full-size weight files in both forms: seconds to write and read, and what comes back.

    python benchmarks/weights.py [NETWORK ...]

Networks are random; running statistics are those of one clip, so that scores are of ordinary size.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import stmulnet
from stmulnet.models.matconvnet import export_mat
from stmulnet.models.multiplier import Network
from stmulnet.models.resnet import Unit

NETWORKS = ["st_mulnet_resnet50", "st_mulnet_resnet50_resnet152"]


def main(names: list[str]) -> None:
    print(
        f"{'network':<30} {'file':<12} {'MB':>5} {'write s':>8} {'read s':>7}  tensors that differ, largest score error"
    )
    for name in names:
        torch.manual_seed(0)
        model = stmulnet.create_model(name, 101)
        clip = [
            torch.randint(*levels, (1, 5, channels, 224, 224)) for channels, levels in ((3, (0, 256)), (20, (118, 139)))
        ]
        calibrate(model, clip)
        for suffix, write in ((".mat", export_mat), (".safetensors", stmulnet.save_model)):
            report(name, suffix, write, model, clip)


def calibrate(model: Network, clip: list[torch.Tensor]) -> None:
    """Residual branches of a fifth of the state's size, statistics of the clip: errors do not grow with depth."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, Unit):
            torch.nn.init.constant_(module.last_bn.weight, 0.2)
    with torch.no_grad():
        model.train()(*clip)
    model.eval()


def report(
    name: str, suffix: str, write: Callable[[Network, Path], Any], model: Network, clip: list[torch.Tensor]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        start = time.perf_counter()
        write(model, path)
        written = time.perf_counter()
        again = stmulnet.load_model(path)
        read = time.perf_counter()
        size = path.stat().st_size / 1e6
    old, new = model.state_dict(), again.state_dict()
    # .mat files hold sigma: variances come back to within a rounding; batches are not counted there.
    differ = [
        key for key in old if "num_batches" not in key and not torch.allclose(new[key], old[key], rtol=3e-7, atol=0)
    ]
    with torch.inference_mode():
        wanted, got = model(*clip).fused, again(*clip).fused
    error = float((got - wanted).abs().max() / wanted.abs().max())
    seconds = f"{written - start:>8.1f} {read - written:>7.2f}"
    print(f"{name:<30} {suffix:<12} {size:>5.0f} {seconds}  {len(differ)}, {error:.1e}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or NETWORKS)
