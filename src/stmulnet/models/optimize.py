"""The same network, faster, for inference alone."""

import torch
from torch import Tensor, nn

from stmulnet.errors import ConfigError
from stmulnet.models.config import STAGES
from stmulnet.models.folding import fold_batchnorm
from stmulnet.models.fused import FusedConv, FusedUnit, packs
from stmulnet.models.multiplier import MultiplierNetwork, Network
from stmulnet.models.resnet import Stream

DTYPES = (torch.float32, torch.bfloat16)


def optimize(
    model: Network,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    compile: bool = False,
    inplace: bool = False,
) -> Network:
    """A copy of a network that gives the same scores, several times as fast, and can do nothing else.

    BatchNorm is folded into the convolutions; on CPUs oneDNN computes convolution, bias, sum and ReLU in one pass over
    memory, from weights in its own order; 8-bit clips go to the network's type without copies in between. Features are
    computed in ``dtype``; the average over positions and the classifier in float32.

    Deviation D13: scores differ from the plain network's by rounding: float32 by about 1e-6 of the largest, bfloat16
    by about 1e-2 (docs/PERFORMANCE.md has the shares of videos with the same answer).

    Args:
        model: A network; not changed, but with ``inplace``.
        device: Where the copy computes.
        dtype: ``torch.float32`` or ``torch.bfloat16``; None: `fast_dtype` of the device.
        compile: Whether `torch.compile` does the work, for devices and versions of torch without the fused calls, which
            are faster: it needs a C++ compiler and some 20 seconds at the first clip of each shape.
        inplace: Whether ``model`` itself becomes that network, for callers that need it no longer.

    Returns:
        A network in evaluation mode, called as ``model``; `activations` and saving are refused.

    Raises:
        ConfigError: Another ``dtype``, or a network of this function.
    """
    if model.fused:
        raise ConfigError("the network is optimised already")
    device = torch.device(device)
    dtype = dtype or fast_dtype(device)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be torch.float32 or torch.bfloat16, got {dtype}")
    packed = not compile and device.type == "cpu" and packs(dtype)
    network = fold_batchnorm(model, inplace=inplace).to(device)
    for name in network.config.streams:
        _optimize_stream(network, name, dtype, packed=packed)
    if isinstance(network, MultiplierNetwork):
        network.into_appearance.to(dtype)
        network.into_motion.to(dtype)
    network.fused = True
    if compile:
        network.compile(options={"freezing": True} if device.type == "cpu" else None)
    return network


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bfloat16 where the processor multiplies it in hardware (AVX-512 BF16, AMX, CUDA from Ampere on), else float32."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return torch.bfloat16 if any(check() for check in checks if check) else torch.float32


def computed_in(network: Network) -> torch.dtype:
    """The type in which a network of `optimize` computes."""
    return next(module.dtype for module in network.modules() if isinstance(module, FusedConv))


def _optimize_stream(network: Network, name: str, dtype: torch.dtype, *, packed: bool) -> None:
    stream = network.get_submodule(name)
    assert isinstance(stream, Stream)
    _fold_division(network, stream, "rgb" if name == "appearance" else "flow", dtype)
    stream.conv1 = FusedConv(stream.conv1.to(dtype), relu=True, packed=packed)  # type: ignore[assignment]
    stream.conv1_relu = nn.Identity()  # type: ignore[assignment]
    for stage in STAGES:
        units = stream.get_submodule(f"res{stage}")
        assert isinstance(units, nn.ModuleDict)
        for index, (unit_name, unit) in enumerate(list(units.items())):
            read = index == 0 and f"res{stage}" in getattr(network, f"into_{name}", ())
            units[unit_name] = FusedUnit(unit.to(dtype), sum_is_read=read, packed=packed)  # type: ignore[arg-type]
    stream.head.pool5 = nn.Sequential(_ToFloat32(), stream.head.pool5)  # type: ignore[assignment]


def _fold_division(network: Network, stream: Stream, what: str, dtype: torch.dtype) -> None:
    """Let conv1 divide by the standard deviation; means that ``dtype`` holds exactly are subtracted in it."""
    mean, std = getattr(network, f"{what}_mean"), getattr(network, f"{what}_std")
    stream.conv1.weight.div_(std[:, None, None])
    if bool((mean.to(dtype) == mean).all()):  # 8-bit levels minus a whole number are exact in bfloat16
        setattr(network, f"{what}_mean", mean.to(dtype))


class _ToFloat32(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()
