"""A network to a MatConvNet file, laid out as the authors' scripts leave it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.constants import FLOW_CHANNELS
from stmulnet.errors import CheckpointError
from stmulnet.models.config import ModelConfig
from stmulnet.models.layers import Layer, official_layers
from stmulnet.models.matconvnet.file import MatLayer, MatNet, MatParam, write_mat
from stmulnet.models.matconvnet.forms import CONVOLUTIONS, to_official
from stmulnet.models.multiplier import RGB_CHANNELS, Network
from stmulnet.models.resnet import BN_EPS

Array = NDArray[Any]


def export_mat(model: Network, path: str | Path) -> None:
    """Write a network as the authors' scripts lay it out; `import_mat` is the inverse.

    Raises:
        CheckpointError: The network has something that such a file cannot say.
    """
    path = Path(path)
    model.check_savable(path)
    if path.suffix.lower() != ".mat":
        raise CheckpointError(f"{path}: MatConvNet files end in .mat; give the file that suffix")
    config, state = model.config, {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if config.head_pool == "global":
        raise CheckpointError(
            f"{path}: head_pool 'global' has no layer in MatConvNet files, whose average has a fixed window"
        )
    if any((state[name] != 1).any() for name in ("rgb_std", "flow_std")):
        raise CheckpointError(
            f"{path}: the network divides its images by a standard deviation, which MatConvNet files cannot say"
        )
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f"{path}: tensor {bad[0]} holds values that are not finite")
    layers = official_layers(model, config)
    net = MatNet(
        layers=[*(_mat_layer(layer, state) for layer in layers), *_losses(layers)],
        params=[param for layer in layers for param in _mat_params(layer, state)],
        mean=_average_image(config, state),
        image_size=(config.input_size, config.input_size, FLOW_CHANNELS if config.motion else RGB_CHANNELS),
        class_names=model.class_names,
    )
    write_mat(net, path)


def _mat_layer(layer: Layer, state: Mapping[str, Tensor]) -> MatLayer:
    block: dict[str, Any] = {
        name: np.array([[np.inf if item == "all" else item for item in value]], float)
        if isinstance(value, list)
        else value
        for name, value in layer.block.items()
    }
    if layer.type in CONVOLUTIONS:
        shape = to_official(layer.type, state[f"{layer.module}.weight"]).shape
        block = {"size": np.array([shape], float), **block}
    defaults: dict[str, dict[str, Any]] = {
        "BatchNorm": {"epsilon": BN_EPS},
        "ReLU": {"useShortCircuit": False, "leak": 0.0},  # true would overwrite what a connection still reads
        "Scale": {"size": np.array([[1, 1, state[f"{layer.module}.weight"].numel()]], float), "hasBias": True}
        if layer.type == "Scale"
        else {},
        "Mul": {"backPropInput": np.array([[1.0, 1.0]])},
    }
    return MatLayer(
        layer.name,
        layer.type,
        list(layer.inputs),
        [layer.output],
        list(layer.params),
        block | defaults.get(layer.type, {}),
    )


def _mat_params(layer: Layer, state: Mapping[str, Tensor]) -> list[MatParam]:
    """Parameters in the files' form, with the factors of setLrWd.m; what is added later keeps 1 and 1."""
    values = [state[f"{layer.module}.{name}"] for name in ("weight", "bias")[: len(layer.params)]]
    late = layer.name.endswith("_Time") or layer.type == "Scale"
    if layer.type in CONVOLUTIONS:
        arrays = [to_official(layer.type, values[0]).numpy(), *(value[:, None].numpy() for value in values[1:])]
        factors = [(1.0, 1.0), (1.0, 1.0) if late else (2.0, 0.0)]
    elif layer.type == "BatchNorm":
        mean, variance = state[f"{layer.module}.running_mean"], state[f"{layer.module}.running_var"]
        sigma = (variance.double() + BN_EPS).sqrt().to(mean.dtype)
        arrays = [*(value[:, None].numpy() for value in values), torch.stack([mean, sigma], 1).numpy()]
        factors = [(2.0, 0.0), (1.0, 0.0), (0.05, 0.0)]
    else:
        arrays, factors = [value[None, None].numpy() for value in values], [(1.0, 1.0)] * 2
    return [MatParam(name, array, *pair) for name, array, pair in zip(layer.params, arrays, factors, strict=False)]


def _losses(layers: list[Layer]) -> list[MatLayer]:
    """A loss and an error per classifier, as the training scripts leave them."""
    scores = [layer.output for layer in layers if layer.output.startswith("fc1000")]
    losses = [
        MatLayer(f"loss_{name}", "Loss", [name, "label"], [f"objective_{name}"], block={"loss": "softmaxlog"})
        for name in scores
    ]
    # The name is the script's: 'err1_' and the last eight letters of the loss's.
    errors = [
        MatLayer(
            f"err1_{loss.name[-8:]}", "Loss", loss.inputs, [f"error_{loss.inputs[0]}"], block={"loss": "classerror"}
        )
        for loss in losses
    ]
    return losses + errors


def _average_image(config: ModelConfig, state: Mapping[str, Tensor]) -> Array:
    means = [state["flow_mean"]] * (config.motion is not None) + [state["rgb_mean"]] * (config.appearance is not None)
    return torch.cat(means)[None, None].numpy()
