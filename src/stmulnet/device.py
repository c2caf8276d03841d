"""Where a network runs, from the word on the command line."""

import torch

from stmulnet.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device for a name.

    Args:
        name: ``"auto"`` (CUDA where there is one, else the CPU) or a device of torch, such as ``"cuda:1"``

    Raises:
        ConfigError: No such device in this machine or build of torch.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA answers with AssertionError
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # followed by all devices that torch may ever know
            reason = "no such kind of device"
        raise ConfigError(f"device {name!r} is not usable ({reason}); use auto, cpu, cuda or cuda:N") from error
    return device
