"""Every layer of a file against the network it is said to be.

Variables and layers may have any names; wiring, types, shapes, strides, pads and windows must be the network's.
"""

from collections.abc import Iterable, Mapping

from stmulnet.errors import CheckpointError
from stmulnet.models.layers import Layer
from stmulnet.models.matconvnet.file import MatLayer
from stmulnet.models.matconvnet.graph import Graph, numbers, options, pads, pair, text

# Options that come after a layer's own properties, and would win.
OVERRIDING = {"dilate", "epsilon", "leak", "method", "moments", "pad", "stride"}

Shapes = Mapping[str, tuple[int, ...]]


def match_layers(graph: Graph, wanted: list[Layer], shapes: Shapes) -> list[tuple[Layer, MatLayer]]:
    """Pair the layers of a network with those of a file.

    Args:
        graph: The file.
        wanted: The network's layers (`official_layers`).
        shapes: (y, x, in, out) of each convolution's filter by layer name.

    Raises:
        CheckpointError: A layer or parameter is missing, differs, or is left over; says which and how.
    """
    variables = _images(graph, wanted, shapes)
    pairs: list[tuple[Layer, MatLayer]] = []
    used: set[int] = set()
    waiting = list(wanted)
    while waiting:
        ready = [layer for layer in waiting if all(name in variables for name in layer.inputs)]
        assert ready, "the network's own list is wired wrongly"
        for layer in ready:
            found = _find(graph, layer, [variables[name] for name in layer.inputs], used, shapes.get(layer.name))
            used.add(id(found))
            variables[layer.output] = found.outputs[0]
            pairs.append((layer, found))
        waiting = [layer for layer in waiting if layer.output not in variables]
    _check_all_used(graph, used, (name for _, found in pairs for name in found.params))
    return pairs


def _images(graph: Graph, wanted: list[Layer], shapes: Shapes) -> dict[str, str]:
    """What the network and the file call the images: told apart by their channels."""
    by_channels = {graph.filter_shape(root)[2]: root.inputs[0] for root in graph.roots}
    first = [layer for layer in wanted if layer.module.endswith(".conv1")]
    return {layer.inputs[0]: by_channels[shapes[layer.name][2]] for layer in first}


def _find(graph: Graph, layer: Layer, inputs: list[str], used: set[int], shape: tuple[int, ...] | None) -> MatLayer:
    """The file's layer of the right type that reads the right variables, in any order: sums and products commute."""
    candidates = [
        other
        for other in graph.read_by(inputs[0], layer.type)
        if sorted(other.inputs) == sorted(inputs) and id(other) not in used
    ]
    if not candidates:
        read = [f"{other.name} ({other.type})" for other in graph.readers.get(inputs[0], [])]
        raise CheckpointError(
            f"no {layer.type} reads {' and '.join(inputs)}, as {layer.name} does in the network its other layers "
            f"form; {inputs[0]} is read by {', '.join(read) or 'nothing'}"
        )
    fitting = [other for other in candidates if shape is None or graph.filter_shape(other) == shape]
    if not fitting:
        raise CheckpointError(
            f"layer {candidates[0].name}: parameter {candidates[0].params[0]} has shape "
            f"{graph.filter_shape(candidates[0])}, needs {shape}"
        )
    _check_properties(layer, fitting[0])
    return fitting[0]


def _check_properties(layer: Layer, found: MatLayer) -> None:
    if len(found.params) != len(layer.params):
        raise CheckpointError(f"layer {found.name} has {len(found.params)} parameters, needs {len(layer.params)}")
    if overriding := sorted(options(found) & OVERRIDING):
        raise CheckpointError(f"layer {found.name} ({found.type}): opts sets {overriding[0]}, which its property must")
    wanted, given = _wanted(layer), _given(layer, found)
    for name, value in wanted.items():
        if given[name] != value:
            raise CheckpointError(f"layer {found.name} ({found.type}): {name} is {given[name]}, needs {value}")


def _wanted(layer: Layer) -> dict[str, object]:
    block = layer.block
    if layer.type == "ReLU":
        return {"leak": [0]}
    if layer.type == "DropOut":
        return {"rate": [block["rate"]]}
    if layer.type in ("Conv", "ConvTime"):
        return {"pad": block["pad"], "stride": block["stride"], "dilate": [1, 1], "hasBias": [block["hasBias"]]}
    if layer.type == "Scale":
        return {"hasBias": [True]}
    if layer.type in ("Pooling", "PoolTime"):
        size = [float("inf") if side == "all" else side for side in block["poolSize"]]
        return {"pad": block["pad"], "stride": block["stride"], "poolSize": size, "method": block["method"]}
    return {}


def _given(layer: Layer, found: MatLayer) -> dict[str, object]:
    """What the file says, older versions' defaults for what it does not say."""
    return {
        "leak": numbers(found, "leak", [0]),
        "rate": numbers(found, "rate", [0.5]),
        "pad": pads(found),
        "stride": pair(found, "stride"),
        "dilate": pair(found, "dilate"),
        "hasBias": numbers(found, "hasBias", [len(layer.params) > 1]),  # if false, MatConvNet leaves a bias out
        "poolSize": pair(found, "poolSize"),
        "method": text(found, "method", "max"),
    }


def _check_all_used(graph: Graph, used: set[int], params: Iterable[str]) -> None:
    left = [f"{layer.name} ({layer.type})" for layer in graph.layers if id(layer) not in used]
    if left:
        raise CheckpointError(f"layers that no network of this package has: {', '.join(left[:5])} ({len(left)} in all)")
    unused = sorted(graph.shapes.keys() - set(params))
    if unused:
        raise CheckpointError(f"parameters that no layer uses: {', '.join(unused[:5])} ({len(unused)} in all)")
