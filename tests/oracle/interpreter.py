"""Files in the official MatConvNet layout, read and evaluated layer by layer with NumPy alone.

It knows layer classes, not networks: whatever a file wires together is computed as MatConvNet computes it in test mode.

Axes: given and returned arrays are (y, x, channel, frame), frames of one video next to each other; inside, x is
(frame, y, x, channel). Filters are (y, x, in, out).
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike
from scipy.io import loadmat
from tests.oracle.files import INPUT_STD, Array, Layer, Net, Param

# ---- reading ----


def read(path: Path) -> Net:
    """The network of a MAT-file, wrapped in `net` or not; absent optional fields get MatConvNet's defaults."""
    content = loadmat(path, struct_as_record=False)
    fields = content["net"][0, 0].__dict__ if "net" in content else content
    layers = [
        Layer(
            name=str(layer.name[0]),
            type=str(layer.type[0]),
            inputs=_texts(layer.inputs),
            outputs=_texts(layer.outputs),
            params=_texts(layer.params),
            block=from_matlab(layer.block),
        )
        for layer in fields["layers"].ravel()
    ]
    params = [
        Param(
            name=str(param.name[0]),
            value=param.value,
            learning_rate=float(getattr(param, "learningRate", np.ones(1)).item()),
            weight_decay=float(getattr(param, "weightDecay", np.ones(1)).item()),
        )
        for param in fields["params"].ravel()
    ]
    return Net(layers, params, from_matlab(fields["meta"]))


def _texts(cells: Array) -> list[str]:
    return [str(cell[0]) for cell in cells.ravel()] if cells.dtype == object else [str(text) for text in cells.ravel()]


def from_matlab(value: Any) -> Any:
    """The reverse of files.to_matlab."""
    if hasattr(value, "_fieldnames"):
        return {name: from_matlab(getattr(value, name)) for name in value._fieldnames}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == object:
        is_struct = value.size == 1 and hasattr(value.item(), "_fieldnames")
        return from_matlab(value.item()) if is_struct else [from_matlab(item) for item in value.ravel()]
    if value.dtype.kind == "U":
        return str(value.item()) if value.size else ""
    if value.size == 0:
        return None
    if value.size == 1:
        return bool(value.item()) if value.dtype == np.uint8 else value.item()
    return tuple(value.ravel().tolist()) if value.ndim == 2 and len(value) == 1 else value


# ---- layers; x is (frame, y, x, channel) ----


def conv2d(x: Array, filters: Array, bias: Array | None, *, stride: Sequence[int], pad: Sequence[int]) -> Array:
    """vl_nnconv: cross-correlation over zero padding [top, bottom, left, right], output sizes rounded down."""
    size_y, size_x, channels, out = filters.shape
    if channels != x.shape[3]:
        raise ValueError(f"filters for {channels} channels meet {x.shape[3]}; groups are not supported")
    x = np.pad(x, ((0, 0), (pad[0], pad[1]), (pad[2], pad[3]), (0, 0))) if any(pad) else x
    matrix = filters.reshape(-1, out)
    if size_y == size_x == 1:
        y = x[:, :: stride[0], :: stride[1]] @ matrix
    else:
        windows = sliding_window_view(x, (size_y, size_x), (1, 2))[:, :: stride[0], :: stride[1]]
        y = np.empty((*windows.shape[:3], out), x.dtype)
        for frame, patches in enumerate(windows):  # one frame at a time bounds the memory
            columns = patches.transpose(0, 1, 3, 4, 2).reshape(-1, len(matrix))
            y[frame] = (columns @ matrix).reshape(y.shape[1:])
    if bias is not None:
        y += bias
    return y


def pool2d(
    x: Array, method: str, *, size: Sequence[int], stride: Sequence[int], pad: Sequence[int] = (0, 0, 0, 0)
) -> Array:
    """vl_nnpool: padding never wins a maximum, and an average counts only the values inside."""
    if method not in ("max", "avg"):
        raise ValueError(f"pooling method {method!r}")
    padding = ((0, 0), (pad[0], pad[1]), (pad[2], pad[3]), (0, 0))
    if method == "max":
        return _reduce(np.pad(x, padding, constant_values=-np.inf), np.maximum, size, stride)
    total = _reduce(np.pad(x, padding), np.add, size, stride)
    inside = np.pad(np.ones((1, *x.shape[1:3], 1), x.dtype), padding)
    return total / _reduce(inside, np.add, size, stride)


def _reduce(x: Array, operation: np.ufunc, size: Sequence[int], stride: Sequence[int]) -> Array:
    rows, columns = ((x.shape[1 + i] - size[i]) // stride[i] + 1 for i in range(2))
    if rows < 1 or columns < 1:
        raise ValueError(f"a window of {tuple(size)} does not fit into {x.shape[1:3]}")
    result: Array | None = None
    for dy in range(size[0]):
        for dx in range(size[1]):
            part = x[:, dy : dy + (rows - 1) * stride[0] + 1 : stride[0]]
            part = part[:, :, dx : dx + (columns - 1) * stride[1] + 1 : stride[1]]
            result = part.copy() if result is None else operation(result, part, out=result)
    assert result is not None
    return result


def batch_norm(x: Array, factor: Array, offset: Array, moments: Array) -> Array:
    """vl_nnbnorm with given moments [mean, sigma]; sigma is a standard deviation that has epsilon in it."""
    mean, sigma = moments.reshape(-1, 2).T
    return (x - mean) * (factor / sigma) + offset


def softmax(x: Array) -> Array:
    e: Array = np.exp(x - x.max(3, keepdims=True))
    return np.asarray(e / e.sum(3, keepdims=True))


def _over_time(operation: Callable[[Array], Array], x: Array, videos: int) -> Array:
    """Apply a spatial operation to images with all positions along y and time along x, one per video."""
    frames, height, width, channels = x.shape
    images = x.reshape(videos, frames // videos, height * width, channels).swapaxes(1, 2)
    images = operation(images)
    if images.shape[1] != height * width:
        raise ValueError("a layer over time must leave the positions alone")
    return images.swapaxes(1, 2).reshape(-1, height, width, images.shape[3])


def thin_frames(x: Array, frames: int, videos: int) -> Array:
    """dagnn.Sum's choice of `frames` of each video's frames: round(linspace(1, T, frames))."""
    length = len(x) // videos
    chosen = np.linspace(1, length, frames) if frames > 1 else np.full(1, length)  # linspace(1, T, 1) is T in MATLAB
    indices = np.floor(chosen + 0.5).astype(int) - 1
    return x.reshape(videos, length, *x.shape[1:])[:, indices].reshape(-1, *x.shape[1:])


# ---- layers by class: (block, inputs, params, number of videos) -> output ----

Block = Mapping[str, Any]
Operation = Callable[[Block, list[Array], list[Array], int], Array]


def _pair(block: Block, name: str) -> list[int]:
    value = [int(v) for v in np.ravel(block.get(name, 1))]
    return value * 2 if len(value) == 1 else value


def _pad(block: Block) -> list[int]:
    """[top, bottom, left, right] from 1, 2 (vertical, horizontal) or 4 numbers."""
    value = [int(v) for v in np.ravel(block.get("pad", 0))]
    return [value[i * len(value) // 4] for i in range(4)]


def _filters_and_bias(block: Block, params: list[Array]) -> tuple[Array, Array | None]:
    filters = params[0].reshape(params[0].shape + (1,) * (4 - params[0].ndim))
    if _pair(block, "dilate") != [1, 1]:
        raise ValueError("dilated filters are not supported")
    has_bias = block.get("hasBias", True) and len(params) > 1
    return filters, params[1].ravel() if has_bias else None


def _conv(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    filters, bias = _filters_and_bias(block, params)
    return conv2d(inputs[0], filters, bias, stride=_pair(block, "stride"), pad=_pad(block))


def _conv_time(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    return _over_time(lambda images: _conv(block, [images], params, videos), inputs[0], videos)


def _batch_norm(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    return batch_norm(inputs[0], params[0].ravel(), params[1].ravel(), params[2])


def _relu(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    opts = block.get("opts") or []
    leak = dict(zip(opts[::2], opts[1::2], strict=True)).get("leak", block.get("leak", 0.0))
    x = inputs[0]
    return np.maximum(x, 0) + x.dtype.type(leak) * np.minimum(x, 0) if leak else np.maximum(x, 0)


def _pooling(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    size = _pair(block, "poolSize")
    return pool2d(inputs[0], block["method"], size=size, stride=_pair(block, "stride"), pad=_pad(block))


def _pool_time(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    rows, frames = block["poolSize"]
    frames = len(inputs[0]) // videos if math.isinf(frames) else frames
    return _over_time(lambda x: _pooling({**block, "poolSize": (rows, frames)}, [x], [], videos), inputs[0], videos)


def _sum(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    frames = min(map(len, inputs)) // videos
    if block.get("pickTemporalCentre", True):
        inputs = [x if len(x) == frames * videos else thin_frames(x, frames, videos) for x in inputs]
    return _combine(np.add, inputs)


def _mul(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    return _combine(np.multiply, inputs)


def _combine(operation: np.ufunc, inputs: list[Array]) -> Array:
    if len({x.shape for x in inputs}) > 1:
        raise ValueError(f"inputs of different shapes: {[x.shape for x in inputs]}")
    result = inputs[0]
    for x in inputs[1:]:
        result = operation(result, x)
    return result


def _scale(block: Block, inputs: list[Array], params: list[Array], videos: int) -> Array:
    y = inputs[0] * params[0].ravel()
    return y + params[1].ravel() if block.get("hasBias", True) else y


OPERATIONS: dict[str, Operation] = {
    "dagnn.Conv": _conv,
    "dagnn.ConvTime": _conv_time,
    "dagnn.BatchNorm": _batch_norm,
    "dagnn.ReLU": _relu,
    "dagnn.Pooling": _pooling,
    "dagnn.PoolTime": _pool_time,
    "dagnn.Sum": _sum,
    "dagnn.Mul": _mul,
    "dagnn.Scale": _scale,
    "dagnn.DropOut": lambda block, inputs, params, videos: inputs[0],
    "dagnn.SoftMax": lambda block, inputs, params, videos: softmax(inputs[0]),
}


# ---- evaluation ----


def evaluate(
    net: Net,
    inputs: Mapping[str, Array],
    frames_per_video: int,
    *,
    dtype: DTypeLike = np.float64,
    keep: Collection[str] | None = None,
) -> dict[str, Array]:
    """Values of variables, under their own names and under those of the layers that make them.

    Args:
        net: The network; loss layers are ignored.
        inputs: Input variables, (y, x, channel, frame), means already subtracted.
        frames_per_video: Frames of each video; all videos together fill the last axis.
        dtype: Type of all arithmetic.
        keep: Layers or variables to compute and return, None for all.

    Returns:
        Arrays (y, x, channel, frame).
    """
    frames = {value.shape[3] for value in inputs.values()}
    videos, rest = divmod(max(frames), frames_per_video)
    if len(frames) > 1 or rest:
        raise ValueError(f"inputs of {sorted(frames)} frames are not videos of {frames_per_video}")
    values = {name: np.asarray(x, dtype).transpose(3, 0, 1, 2) for name, x in inputs.items()}
    params = {param.name: param.value for param in net.params}
    order = _order(net, set(inputs), keep)
    readers = _count(name for layer in order for name in layer.inputs)
    result: dict[str, Array] = {}
    for layer in order:
        weights = [np.asarray(params[name], dtype) for name in layer.params]
        sources = [values[name] for name in layer.inputs]
        (output,) = layer.outputs
        values[output] = OPERATIONS[layer.type](layer.block, sources, weights, videos)
        for name in {layer.name, output} if keep is None else {layer.name, output} & set(keep):
            result[name] = values[output].transpose(1, 2, 3, 0)
        _release(layer, readers, values)
    return result


def calibrate(
    net: Net,
    seed: int,
    *,
    size: int = 112,
    frames: int = 3,
    inputs: Mapping[str, Array] | None = None,
    frames_per_video: int | None = None,
) -> None:
    """Make all activations of ordinary size: BatchNorm moments near, but not at, those of example inputs.

    Without it a network multiplies its errors of scale from unit to unit; with means near zero the input also keeps
    mattering in depth.

    Args:
        net: The network to change.
        seed: Seed of the deviations from the exact moments.
        size: Height and width of the random video that is taken without `inputs`.
        frames: Its length.
        inputs: As for `evaluate`.
        frames_per_video: As for `evaluate`; None: all frames are one video.
    """
    rng = np.random.default_rng(seed)
    inputs = _random_videos(net, rng, size, frames) if inputs is None else inputs
    order = _order(net, set(inputs), [layer.name for layer in net.layers if layer.type == "dagnn.BatchNorm"])
    params = {param.name: param for param in net.params}
    values = {name: np.asarray(x, np.float32).transpose(3, 0, 1, 2) for name, x in inputs.items()}
    videos = len(next(iter(values.values()))) // frames_per_video if frames_per_video else 1
    readers = _count(name for layer in order for name in layer.inputs)
    for layer in order:
        sources = [values[name] for name in layer.inputs]
        if layer.type == "dagnn.BatchNorm":
            params[layer.params[2]].value = _moments_near(sources[0], rng)
        weights = [np.asarray(params[name].value, np.float32) for name in layer.params]
        values[layer.outputs[0]] = OPERATIONS[layer.type](layer.block, sources, weights, videos)
        _release(layer, readers, values)


def _moments_near(x: Array, rng: np.random.Generator) -> Array:
    """[mean, sigma] (channel, 2) near those of x; channels without spread get a tenth of the average one."""
    channels = x.reshape(-1, x.shape[3]).astype(np.float64)
    spread = np.hypot(channels.std(0), 0.1 * channels.std())
    mean = channels.mean(0) + spread * rng.normal(0, 0.3, x.shape[3])
    return np.stack([mean, spread * rng.uniform(0.7, 1.4, x.shape[3])], 1).astype(np.float32)


def _random_videos(net: Net, rng: np.random.Generator, size: int, frames: int) -> dict[str, Array]:
    """Blobs and noise around zero (y, x, channel, frame) for every input."""
    videos = {}
    for layer in net.layers:
        if layer.inputs[0] in ("input", "input_flow"):
            channels = net.param(layer.params[0]).value.shape[2]
            coarse = rng.standard_normal((-(-size // 8), -(-size // 8), channels, frames), np.float32)
            blobs = coarse.repeat(8, 0).repeat(8, 1)[:size, :size]
            noise = rng.standard_normal((size, size, channels, frames), np.float32)
            videos[layer.inputs[0]] = INPUT_STD * (0.6 * blobs + 0.8 * noise)
    return videos


def _release(layer: Layer, readers: dict[str, int], values: dict[str, Array]) -> None:
    """Forget what no later layer reads."""
    for name in layer.inputs:
        readers[name] -= 1
        if not readers[name]:
            values.pop(name, None)


def _order(net: Net, given: set[str], keep: Collection[str] | None) -> list[Layer]:
    """Layers that `keep` needs, each after those whose outputs it reads."""
    layers = [layer for layer in net.layers if layer.type != "dagnn.Loss"]
    makers = {name: layer for layer in layers for name in layer.outputs}
    wanted = layers if keep is None else [_maker(layers, name) for name in keep]
    order: list[Layer] = []
    done, open_layers = set(given), set[str]()
    stack = wanted[::-1]
    while stack:
        layer = stack[-1]
        missing = [name for name in layer.inputs if name not in done]
        if layer.outputs[0] in done:
            stack.pop()
        elif not missing:
            order.append(stack.pop())
            done.update(layer.outputs)
        elif layer.name in open_layers or missing[0] not in makers:
            raise ValueError(f"layer {layer.name}: {missing} cannot be computed (no input given, or a cycle)")
        else:
            open_layers.add(layer.name)
            stack += [makers[name] for name in missing if name in makers]
    return order


def _maker(layers: list[Layer], name: str) -> Layer:
    for layer in layers:
        if name == layer.name or name in layer.outputs:
            return layer
    raise ValueError(f"no layer or variable {name}")


def _count(names: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


# ---- videos ----


def network_inputs(
    net: Net, rgb: Array | None = None, flow: Array | None = None, *, mirror: bool = False
) -> dict[str, Array]:
    """Input variables for frames of one size, the file's own means subtracted.

    Args:
        net: A base stream (variable `input`) or a fused network (`input` and `input_flow`).
        rgb: Frames (T, y, x, 3), 0..255.
        flow: Flow stacks (T, y, x, 20), 0..255, u and v taking turns.
        mirror: Mirror every channel and replace u by 255 - u.
    """
    mean = np.asarray(net.meta["normalization"]["averageImage"], np.float64).mean((0, 1))
    arrays = {"flow": None if flow is None else flow.astype(np.float64), "rgb": rgb}
    if mirror and arrays["flow"] is not None:
        arrays["flow"][..., 0::2] = 255.0 - arrays["flow"][..., 0::2]
    fused = any("input_flow" in layer.inputs for layer in net.layers)
    names = {"flow": "input_flow" if fused else "input", "rgb": "input"}
    means = {"flow": mean[:20], "rgb": mean[-3:]}
    result = {}
    for kind, frames in arrays.items():
        if frames is not None:
            centred = frames[:, :, ::-1] - means[kind] if mirror else frames - means[kind]
            result[names[kind]] = centred.transpose(1, 2, 3, 0)
    return result


def protocol_scores(net: Net, rgb: Array, flow: Array, *, dtype: DTypeLike = np.float64) -> dict[str, Array]:
    """Test protocol on one video: all frames in one pass, original and mirrored, positions and windows averaged.

    Returns:
        "spatial", "temporal": raw scores (class,) of each stream; "score": their mean.
    """
    names = {stream: f"fc1000_{stream}" for stream in ("spatial", "temporal")}
    passes = [
        evaluate(net, network_inputs(net, rgb, flow, mirror=mirror), len(rgb), dtype=dtype, keep=list(names.values()))
        for mirror in (False, True)
    ]
    scores = {stream: np.mean([p[name].mean((0, 1, 3)) for p in passes], 0) for stream, name in names.items()}
    return {**scores, "score": (scores["spatial"] + scores["temporal"]) / 2}
