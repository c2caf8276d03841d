"""A network that starts from the weights of another, whole one: a second stage of training, or another data set."""

from pathlib import Path

import torch

from stmulnet.errors import ConfigError
from stmulnet.models.checkpoint import load_model
from stmulnet.models.multiplier import Network
from stmulnet.models.sources import disagree, plain, read_record

_SHOWN = 3  # names in a message


@torch.no_grad()
def start_from(model: Network, path: str | Path, *, allow_mismatch: bool = False) -> Network:
    """Give a network the weights of a file; what has no weights (pooling, dropout, crops) stays its own.

    Args:
        model: The network; changed in place.
        path: A ``.safetensors`` file of this package, a MatConvNet file of the authors, or the name of a fetched one.
        allow_mismatch: With other classes than the file's, start with new classifiers, and say so.

    Returns:
        The network.

    Raises:
        CheckpointError: The file is missing or damaged.
        ConfigError: Its network has other layers, or other classes.
    """
    source = load_model(path)
    file = Path(path)
    wanted, given = model.state_dict(), source.state_dict()
    if not _same_classes(model, source):
        disagree(
            f"{path} knows {_classes(source)}, this training {_classes(model)}",
            "the classifiers are then new ones",
            allow_mismatch,
        )
        for tensors in (wanted, given):
            for name in [name for name in tensors if ".head.fc." in name]:
                del tensors[name]
    different = sorted(
        {name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape}
        | wanted.keys() ^ given.keys()
    )
    if different:
        shown = ", ".join(different[:_SHOWN])
        raise ConfigError(
            f"{path} holds another network than the one to train, they differ in {len(different)} tensors ({shown}, "
            "...): give the same network and network_options as it was made with (`stmulnet weights verify` shows them)"
        )
    for name, tensor in wanted.items():
        tensor.copy_(given[name])
    streams = model.config.streams
    model.metadata["provenance"] = {stream: read_record(file, source.metadata, stream) for stream in streams}
    return model


def _same_classes(model: Network, source: Network) -> bool:
    if model.config.num_classes != source.config.num_classes:
        return False
    if model.class_names is None or source.class_names is None:
        return True
    pairs = zip(model.class_names, source.class_names, strict=True)
    return all(plain(ours) == plain(theirs) for ours, theirs in pairs)


def _classes(network: Network) -> str:
    names = network.class_names
    return f"{network.config.num_classes} classes" + (f" ({names[0]}, ...)" if names else "")
