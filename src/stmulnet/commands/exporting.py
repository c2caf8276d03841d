"""A network as a file for other programs: traced, written with its metadata, opened again."""

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim, ExportedProgram

from stmulnet.constants import TRAIN_FRAMES
from stmulnet.errors import ConfigError, MissingExtraError
from stmulnet.models.exportable import Exportable, input_names, min_frames, min_side, output_names
from stmulnet.models.multiplier import Network
from stmulnet.models.verify import random_clips

Arrays = list[NDArray[np.float32]]
Runner = Callable[..., Arrays]  # clips, one array per stream, to the outputs by order

METADATA_FILE = "stmulnet.json"  # in a .pt2 file
AXES = {0: "N", 1: "T", 3: "H", 4: "W"}
_EXPORTER_WARNINGS = (
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),  # torch copies a program by what it warns of
    (UserWarning, "No complete tensor found in the group"),  # it does not take weights in channels_last for whole ones
)


def trace(network: Network) -> ExportedProgram:
    """One graph of the network for any N, T, H, W, within limits.

    Args:
        network: Any network of this package, on the CPU.

    Returns:
        The program; it takes the clips one by one, (N, T, C, H, W) uint8.

    Raises:
        ConfigError: The streams fit each other at some sizes only.
    """
    if network.config.joins_geometries:
        raise ConfigError(
            "the streams of this network differ in geometry and are connected, so that they fit each other at some "
            "sizes only; files are for any size: export a network whose streams have one geometry"
        )
    # Otherwise every size that could be 1 makes a case of its own, and a single clip would be refused.
    from torch.fx.experimental import _config as symbolic_shapes

    exportable = Exportable(network).eval()
    config = network.config
    limits = {0: 1, 1: min_frames(config), 3: min_side(config), 4: min_side(config)}
    sizes = {axis: Dim(name, min=limits[axis]) for axis, name in AXES.items()}
    side = min_side(config) + 29  # with a remainder at every stride
    clips = random_clips(config, (2, limits[1] + 1, side, side + 32), seed=0)
    with _quiet(), symbolic_shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(exportable, tuple(clips), dynamic_shapes=((sizes,) * len(clips),))


def metadata(network: Network) -> dict[str, Any]:
    """What a program needs to know about the file: JSON-able."""
    from stmulnet import __version__

    config = network.config
    return {
        "stmulnet": __version__,
        "inputs": {
            name: f"uint8 (N, T, {20 if name == 'flow' else 3}, H, W), T >= {min_frames(config)}, "
            f"H and W >= {min_side(config)}, trained with {config.input_size}; means are subtracted inside"
            for name in input_names(config)
        },
        "class_names": network.class_names,
        "config": config.to_dict(),
        "preprocessing": network.metadata.get("preprocessing"),
    }


def write_onnx(program: ExportedProgram, network: Network, path: Path) -> None:
    """Write an ONNX file; every field of `metadata` is an entry of its metadata, as JSON."""
    import onnx

    inputs, outputs = input_names(network.config), output_names(network.config)
    with _quiet():
        written = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
    assert written is not None
    model: onnx.ModelProto = written.model_proto
    _name_axes(model)
    for key, value in metadata(network).items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def write_torch_export(program: ExportedProgram, network: Network, path: Path) -> None:
    """Write a ``.pt2`` file; `metadata` is the extra file ``stmulnet.json`` in it."""
    with _quiet():
        torch.export.save(program, path, extra_files={METADATA_FILE: json.dumps(metadata(network), ensure_ascii=False)})


def open_onnx(path: Path) -> Runner:
    """Run an ONNX file with ONNX Runtime, on as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait take others' time
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *clips: session.run(None, dict(zip(names, map(np.asarray, clips), strict=True)))


def open_torch_export(path: Path) -> Runner:
    """Run a ``.pt2`` file with torch."""
    with _quiet():
        module = torch.export.load(path).module()

    def run(*clips: Tensor) -> Arrays:
        with torch.inference_mode():
            return [output.numpy() for output in module(*clips)]

    return run


def eager(network: torch.nn.Module, outputs: list[str]) -> Runner:
    """Run a network of this package as the exported files are run."""

    def run(*clips: Tensor) -> Arrays:
        with torch.inference_mode():
            output = network(*clips)
        return [getattr(output, name).numpy() for name in outputs]

    return run


def check_extra() -> None:
    """See that what ONNX files need is there.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (the exporter of torch writes with it)
    except ImportError as error:
        raise MissingExtraError("export to ONNX", "export") from error
    assert onnx.__version__
    assert onnxruntime.__version__


def clip_frames(network: Network) -> int:
    """Frames of a clip as in training, or as many as the network needs."""
    return max(TRAIN_FRAMES, min_frames(network.config))


def _name_axes(model: Any) -> None:
    """Call the free sizes N, T, H and W in place of the exporter's symbols."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    names = {shape[axis].dim_param: name for axis, name in AXES.items()}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(r"\w+", lambda match: names.get(match[0], match[0]), size.dim_param)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what the exporter says about itself; anything else is still said."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")  # that torchvision is missing
    level = logger.level
    with warnings.catch_warnings():
        for category, message in _EXPORTER_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
