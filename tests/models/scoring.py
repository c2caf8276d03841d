"""Small networks in the authors' layout, the scores they must give, and how far a model is from them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.oracle import files, interpreter, surgery

from stmulnet.models.multiplier import Network, TwoStreamOutput

Array = NDArray[Any]
FRAMES, HEIGHT, WIDTH = 7, 57, 70  # 2 x 3 positions before the spatial average
POOL5 = (2.0, 2.0)  # instead of 7 x 7: the same in less time
SMALL: dict[str, Any] = {"units": (2, 2, 2, 3), "width": 4, "num_classes": 5}


def bases(image: dict[str, Any] | None = None, flow: dict[str, Any] | None = None, **both: Any) -> tuple[Any, Any]:
    """An image and a flow base stream with activations of ordinary size."""
    pair = []
    for seed, (kind, options) in enumerate((("img", image), ("flow", flow))):
        net = files.base_stream(kind, seed=seed + 3, **{**SMALL, **both, **(options or {})})  # type: ignore[arg-type]
        net.layers[net.index("pool5")].block["poolSize"] = POOL5
        interpreter.calibrate(net, seed, size=64, frames=1)
        pair.append(net)
    return pair[0], pair[1]


def st_mulnet(image: dict[str, Any] | None = None, flow: dict[str, Any] | None = None, **switches: Any) -> files.Net:
    both = {name: switches.pop(name) for name in ("block", "geometry", "units") if name in switches}
    net = surgery.st_mulnet(*bases(image, flow, **both), **switches)
    surgery.perturb_temporal(net, 9)
    interpreter.calibrate(net, 5, size=64, frames=5)
    return net


def whole_state() -> files.Net:
    """Not official: the gated sum becomes the appearance state, as it does in the motion stream."""
    net = st_mulnet(stages=(2, 4))
    for stage in (2, 4):
        gate, old, name = (
            net.layer(f"res{stage}a_relu_spatial_sum"),
            f"res{stage}a_relu_spatial_sum",
            f"res{stage}a_spatial_sum",
        )
        gate.name, gate.outputs = name, [name]
        net.layer(f"res{stage}a_relu_spatial").inputs = [name]
        for layer in net.layers:
            layer.inputs = [f"res{stage}ax_spatial" if source == old else source for source in layer.inputs]
    interpreter.calibrate(net, 5, size=64, frames=5)
    return net


def st_resnet(stage2: bool) -> files.Net:
    net = surgery.st_resnet_stage1(*bases())
    surgery.perturb_temporal(net, 9)
    interpreter.calibrate(net, 5, size=64, frames=5)
    return surgery.st_resnet_stage2(net) if stage2 else net


def make_clip() -> tuple[Array, Array]:
    """RGB (T, y, x, 3) and flow (T, y, x, 20), uint8."""
    rng = np.random.default_rng(31)
    coarse = rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 23))[:, ::4, ::4].repeat(4, 1).repeat(4, 2)
    video = np.clip(coarse[:, :HEIGHT, :WIDTH] + rng.integers(-20, 21, (FRAMES, HEIGHT, WIDTH, 23)), 0, 255).astype(
        np.uint8
    )
    return video[..., :3], video[..., 3:]


def tensor(images: Array) -> torch.Tensor:
    """(T, y, x, C) to (1, T, C, y, x)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)[None]


def scored(model: Network, rgb: Array, flow: Array) -> TwoStreamOutput:
    with torch.inference_mode():
        given = {"appearance": tensor(rgb), "motion": tensor(flow)}
        out: TwoStreamOutput = model(*(given[stream] for stream in model.config.streams))
    return out


def reference(net: files.Net, rgb: Array, flow: Array, dtype: Any = np.float64) -> dict[str, Array]:
    """Scores before averaging by stream, (K, W, h, w)."""
    streams = {"fc1000_spatial": "appearance", "fc1000_temporal": "motion"}
    if all(layer.name != "conv1_spatial" for layer in net.layers):
        streams = {"fc1000": "motion" if net.params[0].value.shape[2] == 20 else "appearance"}
    inputs = interpreter.network_inputs(
        net,
        rgb=rgb if "appearance" in streams.values() else None,
        flow=flow if "motion" in streams.values() else None,
    )
    values = interpreter.evaluate(net, inputs, len(rgb), keep=list(streams), dtype=dtype)
    return {stream: values[name].transpose(2, 3, 0, 1) for name, stream in streams.items()}


def worst_error(model: Network, rgb: Array, flow: Array, want: dict[str, Array]) -> float:
    """Largest difference of scores before averaging, relative to the largest score of the stream."""
    out = scored(model, rgb, flow)
    maps = {"appearance": out.appearance_map, "motion": out.motion_map}
    assert {stream for stream, scores in maps.items() if scores is not None} == want.keys()
    errors = []
    for stream, expected in want.items():
        got = maps[stream]
        assert got is not None
        assert got.shape[1:] == expected.shape
        assert expected.std() > 1e-3  # scores that the images decide about
        errors.append(np.abs(got[0].numpy() - expected).max() / np.abs(expected).max())
    return float(max(errors))
