"""A MatConvNet file to a network.

Axes: filters are (y, x, in, out) in the files and (out, in, y, x) here; over time (1, t, in, out) and (out, in, t, 1).
The moments of a BatchNorm are (C, 2): mean and sigma = sqrt(variance + eps); running statistics here hold variances.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmulnet.class_names import CLASS_NAMES
from stmulnet.constants import FLOW_CHANNELS, FLOW_ZERO_LEVEL, RGB_MEAN
from stmulnet.errors import CheckpointError, WeightFileWarning
from stmulnet.models.config import ModelConfig
from stmulnet.models.layers import Layer, official_layers
from stmulnet.models.matconvnet.file import MatLayer, MatNet, read_mat
from stmulnet.models.matconvnet.forms import CONVOLUTIONS, from_official, to_official
from stmulnet.models.matconvnet.graph import Graph
from stmulnet.models.matconvnet.infer import infer_config
from stmulnet.models.matconvnet.match import match_layers
from stmulnet.models.multiplier import RGB_CHANNELS, Network, build_empty, fill
from stmulnet.models.provenance import check_names, read_provenance
from stmulnet.models.resnet import BN_EPS

# The files' smallest standard deviation is sqrt(eps). A tenth of it still comes out of single precision, where the
# variance is stored without eps; less is damage.
MIN_SIGMA = 0.1 * BN_EPS**0.5

Array = NDArray[Any]


def import_mat(path: str | Path, *, dtype: torch.dtype = torch.float32) -> Network:
    """Build the network of a MatConvNet file: a base stream, an ST-MulNet or an ST-ResNet.

    The network follows from the file's layers, wiring and parameter shapes; every layer and every parameter is
    accounted for. Data set and split come from the file's name, for the record only.

    Args:
        path: A ``.mat`` file (version 5) as `DagNN.saveobj` writes it, with or without the variable ``net`` around it.
        dtype: Of the weights; the files hold singles.

    Returns:
        The network, in evaluation mode; its scores are those of MatConvNet.

    Raises:
        CheckpointError: Damaged, not finite, or no network of this package; says where that shows.
    """
    path = Path(path)
    net, provenance = read_mat(path), read_provenance(path)
    try:
        graph = Graph(net)
        config = infer_config(net, graph)
        model = build_empty(config, _class_names(net, config, provenance))
        layers = official_layers(model, config)
        pairs = match_layers(graph, layers, _filter_shapes(model, layers))
        tensors = _tensors(pairs, {param.name: param.value for param in net.params}, model.state_dict(), dtype)
        tensors |= {name: torch.from_numpy(value).to(dtype) for name, value in _means(path, net, config).items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.metadata = {"provenance": provenance}
    for problem in check_names(provenance, config):
        warnings.warn(f"{path}: {problem}", WeightFileWarning, stacklevel=3)
    return fill(model, tensors)


def _filter_shapes(network: Network, layers: list[Layer]) -> dict[str, tuple[int, ...]]:
    """(y, x, in, out) of the filters by layer name."""
    shapes = {}
    for layer in layers:
        if layer.type in CONVOLUTIONS:
            shapes[layer.name] = to_official(layer.type, network.get_parameter(f"{layer.module}.weight")).shape
    return {name: tuple(shape) for name, shape in shapes.items()}


def _tensors(
    pairs: list[tuple[Layer, MatLayer]], values: Mapping[str, Array], wanted: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for layer, found in pairs:
        for attribute, official, array in _arrays(layer, found, values):
            name = f"{layer.module}.{attribute}"
            try:
                tensors[name] = _fitting(array, tuple(wanted[name].shape), dtype)
            except ValueError as error:
                raise CheckpointError(f"layer {found.name}: parameter {official} {error}") from error
        if layer.type == "BatchNorm":
            tensors[f"{layer.module}.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
    return tensors


def _arrays(layer: Layer, found: MatLayer, values: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
    """Our module's attribute, the parameter's name in the file, and its values."""
    names, given = found.params, [values[name] for name in found.params]
    if layer.type in CONVOLUTIONS:
        given[0] = from_official(layer.type, given[0])
    yield from zip(("weight", "bias"), names, given, strict=False)
    if layer.type == "BatchNorm":
        mean, variance = _statistics(found, given[2], channels=given[0].size)
        yield "running_mean", names[2], mean
        yield "running_var", names[2], variance


def _statistics(layer: MatLayer, moments: Array, *, channels: int) -> tuple[Array, Array]:
    """Mean and variance of a BatchNorm; sigma already contains eps (BatchNorm.m, utils/layers.py)."""
    if moments.shape != (channels, 2):
        raise CheckpointError(f"parameter {layer.params[2]} has shape {moments.shape}, needs {(channels, 2)}")
    sigma = moments[:, 1].astype(np.float64)
    if (sigma < MIN_SIGMA).any():
        raise CheckpointError(
            f"parameter {layer.params[2]}: the smallest standard deviation is {sigma.min():g}; with eps in it, "
            f"{BN_EPS**0.5:.2g} is the least"
        )
    return moments[:, 0], sigma**2 - BN_EPS


def _fitting(array: Array, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """``array`` with ``shape``; vectors are stored as C x 1, 1 x C or C (setLrWd.m squeezes them)."""
    if len(shape) == 1 and array.size == shape[0] and max(array.shape, default=1) == array.size:
        array = array.ravel()
    if array.shape != shape:
        raise ValueError(f"has shape {array.shape}, needs {shape}")
    tensor = torch.from_numpy(np.asarray(array, order="C" if array.ndim == 1 else "K")).to(dtype)
    if not torch.isfinite(tensor).all():  # after the conversion, in which doubles can overflow
        raise ValueError("holds values that are not finite")
    return tensor


def _means(path: Path, net: MatNet, config: ModelConfig) -> dict[str, Array]:
    """The mean per channel: 20 of flow, then 3 of RGB (STMulNet.m:172-180); of an RGB image, its average."""
    sizes = {"motion": FLOW_CHANNELS, "appearance": RGB_CHANNELS}
    sizes = {stream: size for stream, size in sizes.items() if stream in config.streams}
    means: dict[str, Array] = {
        "rgb_mean": np.array(RGB_MEAN),
        "rgb_std": np.ones(RGB_CHANNELS),
        "flow_mean": np.full(FLOW_CHANNELS, float(FLOW_ZERO_LEVEL)),
        "flow_std": np.ones(FLOW_CHANNELS),
    }
    if net.mean is None:
        problem = "no meta.normalization.averageImage; the official means (128, and ImageNet's colour) are used"
        warnings.warn(f"{path}: {problem}", WeightFileWarning, stacklevel=4)
        return means
    with np.errstate(over="ignore"):  # doubles that single precision does not hold
        finite = np.isfinite(net.mean.astype(np.float32)).all()
    if not finite:
        raise CheckpointError("meta.normalization.averageImage holds values that are not finite")
    mean, channels = net.mean.astype(np.float64), sum(sizes.values())
    mean = mean.mean((0, 1)) if mean.ndim == 3 else mean.ravel()
    if mean.shape != (channels,):
        raise CheckpointError(f"meta.normalization.averageImage has shape {net.mean.shape}, needs {channels} channels")
    if "motion" in sizes:
        means["flow_mean"] = mean[:FLOW_CHANNELS]
    if "appearance" in sizes:
        means["rgb_mean"] = mean[-RGB_CHANNELS:]
    return means


def _class_names(net: MatNet, config: ModelConfig, provenance: Mapping[str, Any]) -> list[str] | None:
    """Names in the file; official files may still list ImageNet's, then those of the data set the name says."""
    if net.class_names is not None and len(net.class_names) == config.num_classes:
        return net.class_names
    names = CLASS_NAMES.get(provenance["dataset"], ())
    return list(names) if len(names) == config.num_classes else None
