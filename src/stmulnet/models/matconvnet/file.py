"""A DagNN in a MATLAB file (version 5): layers and parameters on this side, structs and cells on the other.

Layout: saveobj.m of MatConvNet. Fields that only some versions write may be missing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stmulnet.errors import CheckpointError
from stmulnet.files import atomic_path
from stmulnet.models.matconvnet.mat5 import Other, read_variables

PACKAGE = "dagnn."  # of MatConvNet's layer classes

Entry = TypeVar("Entry")


@dataclass
class MatLayer:
    """One entry of ``net.layers``; ``type`` without its package."""

    name: str
    type: str
    inputs: list[str]
    outputs: list[str]
    params: list[str] = field(default_factory=list)
    block: dict[str, Any] = field(default_factory=dict)


@dataclass
class MatParam:
    """One entry of ``net.params``; learning rate and weight decay are factors (setLrWd.m)."""

    name: str
    value: NDArray[Any]
    learning_rate: float = 1.0
    weight_decay: float = 1.0


@dataclass
class MatNet:
    """What a file holds, as far as a network needs it."""

    layers: list[MatLayer]
    params: list[MatParam]
    mean: NDArray[Any] | None = None  # meta.normalization.averageImage
    image_size: tuple[float, ...] | None = None  # height, width, channels; as the file has them
    class_names: list[str] | None = None


def read_mat(path: Path) -> MatNet:
    """Read the network of a file, with or without the ``net`` around it; other variables are left alone.

    Raises:
        CheckpointError: Not a MATLAB file of version 5, damaged, or without a network.
    """
    _check_signature(path)
    try:
        variables = read_variables(path, ("net", "layers", "params", "meta"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged, or not a MATLAB file of version 5: {error}. Remove the file and get it "
            "again, from where it came or with `stmulnet weights fetch`"
        ) from error
    net = _struct(variables["net"]) if "net" in variables else variables
    if net.get("layers") is None or net.get("params") is None:
        found = "net with " * ("net" in variables) + (", ".join(net) or "nothing")
        raise CheckpointError(
            f"{path}: holds no DagNN, which has layers and params (in net or by themselves); it holds {found}"
        )
    try:
        return _understand(net)
    except ValueError as error:
        raise CheckpointError(f"{path}: not as MatConvNet saves a DagNN: {error}") from error


def _check_signature(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(520)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if b"\x89HDF" in start:
        raise CheckpointError(
            f"{path}: a MATLAB 7.3 file; in MATLAB, load it and save it again with save(file, 'net', '-v7')"
        )
    if not start.startswith(b"MATLAB 5.0 MAT-file"):
        raise CheckpointError(f"{path}: not a MATLAB file of version 5{_guess(start)}")


def _guess(start: bytes) -> str:
    """What a file that starts so may be."""
    if start[8:9] == b"{":
        return "; it looks like a safetensors file: give it the suffix .safetensors"
    if len(start) >= 20 and int.from_bytes(start[:4], "little") <= 52:  # the type of a variable
        return ", perhaps one of version 4; in MATLAB, load it and save it again with save(file, 'net', '-v7')"
    return "; an interrupted download or an error page of a server? Get it again"


def _understand(net: dict[str, Any]) -> MatNet:
    meta = _struct(net.get("meta"))
    normalization, classes = _struct(meta.get("normalization")), _struct(meta.get("classes"))
    mean, size = (_optional_numbers(normalization, name) for name in ("averageImage", "imageSize"))
    return MatNet(
        layers=_entries("layer", net["layers"], _layer),
        params=_entries("parameter", net["params"], _param),
        mean=mean,
        image_size=None if size is None else tuple(map(float, size.ravel())),
        class_names=_texts(classes.get("name")) or None,
    )


def _entries(what: str, array: Any, understand: Callable[[dict[str, Any]], Entry]) -> list[Entry]:
    """The entries of a struct array, counted as in MATLAB where one is not understood."""
    found = []
    for number, entry in enumerate(array if isinstance(array, list) else [array], start=1):
        try:
            found.append(understand(_struct(entry)))
        except KeyError as error:
            raise ValueError(f"{what} {number} has no field {error}") from error
        except ValueError as error:
            raise ValueError(f"{what} {number}: {error}") from error
    return found


def _layer(entry: dict[str, Any]) -> MatLayer:
    return MatLayer(
        name=_text(entry["name"]),
        type=_text(entry["type"]).removeprefix(PACKAGE),
        inputs=_texts(entry["inputs"]),
        outputs=_texts(entry["outputs"]),
        params=_texts(entry.get("params")),
        block=_struct(entry.get("block")),
    )


def _param(entry: dict[str, Any]) -> MatParam:
    name = _text(entry["name"])
    return MatParam(name, _numbers(name, entry["value"]))


def _numbers(name: str, value: Any) -> NDArray[Any]:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be an array of real numbers, is {in_words(value)}")
    return value


def in_words(value: Any) -> str:
    """What something read from a file is, for messages."""
    if isinstance(value, np.ndarray):
        return "an array of complex numbers" if value.dtype.kind == "c" else f"an array of shape {value.shape}"
    if isinstance(value, str):
        return f"the text {value[:50]!r}"
    return value.what if isinstance(value, Other) else "a cell or struct"


def _optional_numbers(fields: dict[str, Any], name: str) -> NDArray[Any] | None:
    value = fields.get(name)
    return None if value is None or is_empty(value) else _numbers(name, value)


def is_empty(value: Any) -> bool:
    """Whether something read from a file is MATLAB's [], {} or ''."""
    return not value.size if isinstance(value, np.ndarray) else value in ([], "")


def _struct(value: Any) -> dict[str, Any]:
    """Fields of a 1x1 struct, also in a cell; nothing for what is none."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a name was expected, found {in_words(value)}")
    return value


def _texts(value: Any) -> list[str]:
    """A cell of strings, or a single string."""
    if value is None or is_empty(value):
        return []
    return [_text(item) for item in value] if isinstance(value, list) else [_text(value)]


def write_mat(net: MatNet, path: Path) -> None:
    """Write the variable ``net`` as saveobj.m lays it out, compressed; an existing file is replaced in one step."""
    from scipy.io import savemat

    variables = dict.fromkeys(name for layer in net.layers for name in (*layer.inputs, *layer.outputs))
    struct = {
        "vars": _struct_array([{"name": name, "precious": False} for name in variables]),
        "params": _struct_array(
            [
                {"name": p.name, "value": p.value, "learningRate": p.learning_rate, "weightDecay": p.weight_decay}
                for p in net.params
            ]
        ),
        "layers": _struct_array([_layer_fields(layer) for layer in net.layers]),
        "meta": _meta_fields(net),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        savemat(file, {"net": struct}, do_compression=True, long_field_names=True, oned_as="row")


def _layer_fields(layer: MatLayer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": PACKAGE + layer.type,
        "inputs": _cell(layer.inputs),
        "outputs": _cell(layer.outputs),
        "params": _cell(layer.params),
        "block": layer.block,
    }


def _meta_fields(net: MatNet) -> dict[str, Any]:
    assert net.mean is not None
    assert net.image_size is not None
    normalization = {
        "imageSize": np.array([net.image_size], float),
        "averageImage": net.mean,
        "interpolation": "bilinear",
        "keepAspect": True,
        "border": np.array([[256.0 - side for side in net.image_size[:2]]]),
        "rgbVariance": np.zeros((0, 0)),
    }
    meta: dict[str, Any] = {"normalization": normalization}
    if net.class_names:
        meta["classes"] = {"name": _cell(net.class_names)}
    return meta


def _cell(items: Iterable[Any]) -> NDArray[Any]:
    items = list(items)
    cell = np.empty((1, len(items)) if items else (0, 0), dtype=object)
    for index, item in enumerate(items):
        cell[0, index] = item
    return cell


def _struct_array(entries: list[dict[str, Any]]) -> NDArray[Any]:
    array = np.empty((1, len(entries)), dtype=[(name, object) for name in entries[0]])
    for index, entry in enumerate(entries):
        array[0, index] = tuple(entry.values())
    return array
