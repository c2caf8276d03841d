"""A network in the authors' layout, ways to change it, and the check that it is then refused."""

import copy
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.oracle import files, surgery
from tests.oracle.files import Layer, Net

from stmulnet import load_model
from stmulnet.errors import CheckpointError
from stmulnet.models.matconvnet import import_mat
from stmulnet.models.matconvnet.file import MatLayer, MatNet, MatParam

Array = NDArray[Any]
Change = Callable[[Net], Any]
SMALL: dict[str, Any] = {"units": (2, 3, 1, 1), "width": 2, "num_classes": 5, "mean_image": False}
STREAMS = ("spatial", "temporal")


@functools.cache
def _published() -> Net:
    image = files.base_stream("img", **SMALL)
    return surgery.st_mulnet(image, files.base_stream("flow", dropout=0.8, **SMALL), stages=(2, 3))


def published() -> Net:
    """A network as STMulNet.m makes it, which may be changed."""
    return copy.deepcopy(_published())


def refused(net: Net, message: str, path: Path, **options: Any) -> None:
    files.write(net, path, compress=False, **options)
    refused_file(path, message)


def refused_file(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"(?s)^{re.escape(str(path))}: .*{message}"):
        load_model(path)


def as_read(net: Net) -> MatNet:
    """What `read_mat` gives for the file of a network, in a fraction of the time."""
    normalization = net.meta["normalization"]
    return MatNet(
        layers=[
            MatLayer(
                layer.name,
                layer.type.removeprefix("dagnn."),
                list(layer.inputs),
                list(layer.outputs),
                list(layer.params),
                {name: as_read_value(item) for name, item in layer.block.items()},
            )
            for layer in net.layers
        ],
        params=[MatParam(param.name, np.asarray(param.value, np.float32)) for param in net.params],
        mean=normalization["averageImage"],
        image_size=normalization["imageSize"],
        class_names=net.meta["classes"]["name"],
    )


def as_read_value(item: Any) -> Any:
    if isinstance(item, list):
        return [as_read_value(part) for part in item]
    if isinstance(item, str):
        return item
    return np.zeros((0, 0)) if item is None else np.atleast_2d(np.asarray(item, float))


def assert_refused(change: Change, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the published network is refused once it is changed, without the time that a file takes."""
    net = published()
    change(net)
    monkeypatch.setattr("stmulnet.models.matconvnet.importer.read_mat", lambda _: as_read(net))
    with pytest.raises(CheckpointError, match=f"(?s)^some.mat: .*{message}"):
        import_mat("some.mat")


# ---- changes, one at a time ----


def value(name: str, change: Callable[[Array], Array]) -> Change:
    """Change the values of a parameter."""

    def apply(net: Net) -> None:
        net.param(name).value = change(net.param(name).value)

    return apply


def put(name: str, number: float, at: int = 0) -> Change:
    """Put one number into a parameter."""

    def change(values: Array) -> Array:
        values = values.copy()
        values.flat[at] = number
        return values

    return value(name, change)


def says(layer: str, **properties: Any) -> Change:
    """Change properties of a layer."""
    return lambda net: net.layer(layer).block.update(properties)


def both_say(layer: str, **properties: Any) -> Change:
    """Change properties of a layer in both streams; ``{}`` in its name is the stream's."""
    return lambda net: [net.layer(layer.format(stream)).block.update(properties) for stream in STREAMS]


def reads(layer: str, *inputs: str) -> Change:
    return lambda net: setattr(net.layer(layer), "inputs", list(inputs))


def becomes(layer: str, kind: str) -> Change:
    return lambda net: setattr(net.layer(layer), "type", kind)


def without(layer: str) -> Change:
    return lambda net: net.layers.pop(net.index(layer))


def added(*layers: Layer) -> Change:
    return lambda net: net.layers.extend(layers)


def means(**fields: Any) -> Change:
    return lambda net: net.meta["normalization"].update(fields)


def all_of(*changes: Change) -> Change:
    return lambda net: [change(net) for change in changes]
