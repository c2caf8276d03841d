"""A DagNN in a MATLAB file (version 5): plain Python on this side, structs and cells on the other.

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

PACKAGE = "dagnn."  # of MatConvNet's layer classes
NO_NUMBERS = {"c": "complex numbers", "O": "a cell or struct", "U": "text"}  # by NumPy's kind of type

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
    from scipy.io import loadmat, whosmat

    try:
        names = {name for name, _, _ in whosmat(path)}
        wanted = ["net"] if "net" in names else ["layers", "params", "meta"]
        content = loadmat(path, variable_names=wanted, struct_as_record=False)
    except Exception as error:  # SciPy's reader meets damage with whatever error comes first
        raise CheckpointError(f"{path}: damaged, or not a MATLAB file ({type(error).__name__}: {error})") from error
    net = _struct(content["net"]) if "net" in names else {name: content.get(name) for name in wanted}
    if net.get("layers") is None or net.get("params") is None:
        found = f"net with {', '.join(net) or 'no fields'}" if "net" in names else ", ".join(sorted(names)) or "nothing"
        raise CheckpointError(
            f"{path}: holds no DagNN, which has layers and params (in net or by themselves); it holds {found}"
        )
    try:
        return _understand(net)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
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
        raise CheckpointError(f"{path}: not a MATLAB file; an interrupted download or an error page of a server?")


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
    for number, entry in enumerate(np.asarray(array, dtype=object).ravel(), start=1):
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
        found = NO_NUMBERS.get(value.dtype.kind, str(value.dtype)) if hasattr(value, "dtype") else type(value).__name__
        raise ValueError(f"{name} must be an array of real numbers, is {found}")
    return value


def _optional_numbers(fields: dict[str, Any], name: str) -> NDArray[Any] | None:
    value = fields.get(name)
    return None if value is None or not np.asarray(value).size else _numbers(name, value)


def _struct(value: Any) -> dict[str, Any]:
    """Fields of a 1x1 struct; nothing for what is none."""
    while isinstance(value, np.ndarray):
        if value.size != 1:
            return {}
        value = value.ravel()[0]
    return {name: getattr(value, name) for name in getattr(value, "_fieldnames", ())}


def _text(value: Any) -> str:
    array = np.asarray(value)
    if array.size == 0:
        return ""
    if array.dtype.kind != "U" or array.size != 1:
        raise ValueError(f"a name was expected, found {str(value)[:50]}")
    return str(array.ravel()[0])


def _texts(value: Any) -> list[str]:
    """A cell of strings, or a single string."""
    if value is None or not np.asarray(value).size:
        return []
    array = np.asarray(value)
    return [_text(array)] if array.dtype.kind == "U" and array.size == 1 else [_text(item) for item in array.ravel()]


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
