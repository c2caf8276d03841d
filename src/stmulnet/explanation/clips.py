"""What every explanation needs of a network and a prepared video."""

# N videos (here 1), T frames, C channels, H x W pixels

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from stmulnet.constants import STREAMS
from stmulnet.errors import ConfigError
from stmulnet.models.multiplier import Network
from stmulnet.predictor import PreparedVideo


def network_clips(model: Network, prepared: PreparedVideo) -> list[Tensor]:
    """The inputs of ``model``, (1, T, C, H, W) each, where the model is.

    Raises:
        ConfigError: The video was prepared for a network with other streams.
    """
    clips = dict(zip(STREAMS, (prepared.rgb, prepared.flow), strict=True))
    wanted = [clips[stream] for stream in model.config.streams]
    found = [clip[None].to(model.rgb_mean.device) for clip in wanted if clip is not None]
    if len(found) < len(wanted):
        raise ConfigError(
            f"the network has the streams {', '.join(model.config.streams)}, but the video was prepared for another "
            "one; prepare it with this network's VideoPredictor"
        )
    return found


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode and with parameters that ask for no gradients; both as before afterwards.

    Without gradients of parameters, autograd keeps only what lies between the tensor in question and the score.
    """
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module in training:  # one by one: some may have been in evaluation mode, as frozen BatchNorm is
            module.training = True


def scored_class(model: Network, target: int) -> int:
    """``target`` itself, if the network has such a class.

    Raises:
        ConfigError: It has not.
    """
    if not 0 <= target < model.config.num_classes:
        raise ConfigError(f"class numbers of this network are 0 to {model.config.num_classes - 1}, got {target}")
    return target
