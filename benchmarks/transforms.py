"""Time and accuracy of the training transform on one clip, on one thread, against torch's own bicubic resize.

    OMP_NUM_THREADS=1 python benchmarks/transforms.py [--fields N]

The clip is synthetic: 5 frames of 256 x 340 and the distinct flow fields of their stacks (50 at strides of 10 and
more). Times are of the processor, not of the clock, and medians.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stmulnet.datasets.transforms import TrainTransform, resize

HEIGHT, WIDTH, SIZE = 256, 340, 224
CROPS = ((168, 168), (224, 200), (256, 280))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=50, help="distinct flow fields of the clip")
    fields = parser.parse_args().fields
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(rng.integers(0, 256, (5, HEIGHT, WIDTH, 3), np.uint8)).permute(0, 3, 1, 2)
    flow = torch.from_numpy(rng.integers(0, 256, (fields, 2, HEIGHT, WIDTH), np.uint8))
    transform = TrainTransform(SIZE)

    def clips() -> None:
        for seed in range(20):
            transform(frames, flow, np.random.default_rng(seed))

    print(f"crop, resize, flip of 5 frames and {fields} fields: {milliseconds(clips) / 20:.1f} ms per clip")
    for height, width in CROPS:
        part = flow[..., :height, :width]
        ours, theirs = (milliseconds(partial(function, part)) for function in (resized, by_torch))
        print(f"{height} x {width} to {SIZE} x {SIZE}, the fields: {ours:.1f} ms, torch (uint8) {theirs:.1f} ms")
    exact = F.interpolate(flow[:2].double(), (SIZE, SIZE), mode="bicubic", antialias=True)[..., 4:-4, 4:-4].clamp(
        0, 255
    )
    for name, function in (("ours", resized), ("torch (uint8)", by_torch)):
        error = (function(flow[:2])[..., 4:-4, 4:-4].double() - exact).abs().max()
        print(f"largest difference from a float64 resize, without border, noise: {name} {error:.2f} grey levels")


def resized(images: Tensor) -> Tensor:
    return resize(images, (SIZE, SIZE))


def by_torch(images: Tensor) -> Tensor:
    """The quickest form: planes in groups of four, interleaved."""
    planes = images.reshape(-1, 4, *images.shape[-2:]).contiguous(memory_format=torch.channels_last)
    return F.interpolate(planes, (SIZE, SIZE), mode="bicubic", antialias=True).reshape(*images.shape[:2], SIZE, SIZE)


def milliseconds(function: Callable[[], object]) -> float:
    function()
    times = []
    for _ in range(7):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return 1e3 * float(np.median(times))


if __name__ == "__main__":
    main()
