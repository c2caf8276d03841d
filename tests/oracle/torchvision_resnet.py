"""ResNets in torchvision's form, written from its definition (resnet.py, v1.5), with none of the package's code.

A state dict of random values by torchvision's names, and the scores it gives.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
State = dict[str, Tensor]


def random_state(
    depth: int, classes: int = 1000, *, width: int = 64, seed: int = 0, units: tuple[int, ...] = ()
) -> State:
    """Values of ordinary size by torchvision's names, in its order; ``units`` other than those of the depth."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def conv(name: str, outputs: int, inputs: int, size: int) -> None:
        scale = (2 / (inputs * size * size)) ** 0.5
        state[f"{name}.weight"] = scale * torch.randn(outputs, inputs, size, size, generator=generator)

    def bn(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.bias"] = 0.2 * torch.randn(channels, generator=generator)
        state[f"{name}.running_mean"] = 0.2 * torch.randn(channels, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", width, 3, 7)
    bn("bn1", width)
    inputs = width
    for layer, count in enumerate(units or UNITS[depth], 1):
        inside = width * 2 ** (layer - 1)
        sizes = (1, 3, 1) if depth >= 50 else (3, 3)
        outputs = inside * 4 if depth >= 50 else inside
        for index in range(count):
            name, channels = f"layer{layer}.{index}", [inputs, *[inside] * (len(sizes) - 1), outputs]
            for number, size in enumerate(sizes, 1):
                conv(f"{name}.conv{number}", channels[number], channels[number - 1], size)
                bn(f"{name}.bn{number}", channels[number])
            if index == 0 and (layer > 1 or inputs != outputs):
                conv(f"{name}.downsample.0", outputs, inputs, 1)
                bn(f"{name}.downsample.1", outputs)
            inputs = outputs
    state["fc.weight"] = torch.randn(classes, inputs, generator=generator) / inputs**0.5
    state["fc.bias"] = torch.randn(classes, generator=generator)
    return state


def features(state: State, x: Tensor) -> Tensor:
    """(N, C, H, W), normalised, to the averaged features (N, 2048), in float64."""
    weights = {name: tensor.double() for name, tensor in state.items()}

    def conv_bn(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        weight = weights[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance = weights[f"{bn}.running_mean"], weights[f"{bn}.running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{bn}.weight"], weights[f"{bn}.bias"], eps=1e-5)

    x = F.max_pool2d(F.relu(conv_bn(x.double(), "conv1", "bn1", 2)), 3, 2, 1)
    for layer in (1, 2, 3, 4):
        index = 0
        while f"layer{layer}.{index}.conv1.weight" in weights:
            unit, stride = f"layer{layer}.{index}", 2 if layer > 1 and index == 0 else 1
            shortcut = x
            if f"{unit}.downsample.0.weight" in weights:
                shortcut = conv_bn(x, f"{unit}.downsample.0", f"{unit}.downsample.1", stride)
            if f"{unit}.conv3.weight" in weights:
                x = F.relu(conv_bn(x, f"{unit}.conv1", f"{unit}.bn1"))
                x = F.relu(conv_bn(x, f"{unit}.conv2", f"{unit}.bn2", stride))
                x = conv_bn(x, f"{unit}.conv3", f"{unit}.bn3")
            else:
                x = F.relu(conv_bn(x, f"{unit}.conv1", f"{unit}.bn1", stride))
                x = conv_bn(x, f"{unit}.conv2", f"{unit}.bn2")
            x = F.relu(x + shortcut)
            index += 1
    return x.mean((2, 3))


def scores(state: State, images: Tensor) -> Tensor:
    """(N, 3, H, W) in 0..255 to logits (N, K), as torchvision's transforms and network do."""
    x = (images.double() - (255 * MEAN).double()[:, None, None]) / (255 * STD).double()[:, None, None]
    return F.linear(features(state, x), state["fc.weight"].double(), state["fc.bias"].double())
