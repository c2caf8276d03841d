"""Where a run computes, alone or with other processes, and how it is asked to stop."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from stmulnet import distributed
from stmulnet.console import notice
from stmulnet.device import choose_device
from stmulnet.errors import ConfigError, StmulnetError

logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # it says what was asked for, a line each
_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def check_device(device: str, precision: str, batchnorm: str) -> torch.device:
    """The device of a name, if it can do what is asked for; the arguments of `start_fabric`.

    Raises:
        ConfigError: There is no such device, or it cannot.
    """
    chosen = choose_device(device)
    if precision == "fp16" and chosen.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; on a CPU use bf16 or float32")
    if batchnorm == "sync" and chosen.type == "cpu":
        raise ConfigError("batchnorm sync needs GPUs: torch has no such BatchNorm for a CPU; use official")
    processes, here = distributed.expected(), _on_this_machine()
    if processes > 1 and chosen.type == "cuda":
        if device not in ("auto", "cuda"):
            raise ConfigError(f"device {device!r} is one GPU for {processes} processes: use cuda, each takes one")
        if here > torch.cuda.device_count():
            raise ConfigError(
                f"{here} processes on a machine with {torch.cuda.device_count()} GPUs: start one per GPU, or use "
                "device cpu"
            )
    return chosen


def _on_this_machine() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def start_fabric(device: str, precision: str, batchnorm: str) -> Fabric:
    """Connect with the other processes, if torchrun has started any, and choose this one's device.

    Args:
        device: auto, cpu, cuda or cuda:N. With several processes each GPU of a machine has one of them.
        precision: float32, bf16 or fp16.
        batchnorm: official, frozen or sync.

    Raises:
        ConfigError: There is no such device, or it cannot do what is asked for.
    """
    chosen = check_device(device, precision, batchnorm)
    processes, here = distributed.expected(), _on_this_machine()
    devices: int | list[int] = here
    if processes == 1 and chosen.type == "cuda":
        devices = [chosen.index or 0]
    fabric = Fabric(
        accelerator=chosen.type,
        devices=devices,
        num_nodes=processes // here,
        # Gradients are summed by us, once per update: hooks would want all processes to make as many backward passes.
        strategy=DDPStrategy() if processes > 1 else "auto",
        precision=_PRECISIONS[precision],
    )
    fabric.launch()
    return fabric


def sum_over_processes(fabric: Fabric, tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors; the tensor itself where there is one process."""
    if fabric.world_size == 1:
        return tensor
    summed = fabric.all_reduce(tensor, reduce_op="sum")
    assert isinstance(summed, Tensor)
    return summed


def check_alike(number: int, what: str) -> None:
    """Refuse processes that do not start from the same.

    Args:
        number: Of this process; the same in all, if they are alike.
        what: Of which it is a check sum, for the message.

    Raises:
        StmulnetError: In every process.
    """
    if len(set(distributed.gather(number))) > 1:
        raise StmulnetError(
            f"the processes have different {what} to start from: all need the same files, the same kind of processor "
            "and the same libraries"
        )


def sum_gradients(fabric: Fabric, parameters: list[torch.nn.Parameter]) -> None:
    """Replace the gradients by their sums over the processes, of which some may have none."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = sum_over_processes(fabric, torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for parameter, gradient, part in zip(parameters, gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))
        parameter.grad = gradient


class StopRequest:
    """Remembers Ctrl-C and the end signal of a job scheduler until the update at hand is done, or the next video."""

    def __init__(self) -> None:
        self.received = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Take signals while the context lasts; a second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, _number: int, _frame: FrameType | None) -> Any:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
        notice("stopping: an update is finished and saved first, a validation is broken off; once more stops at once")
