"""Resizing against the definition of MATLAB's imresize, written out in NumPy float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracle.imresize import contributions, imresize, limited
from torch import Tensor

from stmulnet.datasets.resize import resize, resize_crops
from stmulnet.video.io import iter_frames


def check(images: Tensor, size: tuple[int, int], antialias: bool = True) -> None:
    resized = resize(images, size, antialias=antialias)
    assert resized.dtype == torch.uint8
    assert resized.is_contiguous()
    assert resized.shape == (*images.shape[:2], *size)
    # Half a level is the rounding; the rest is float32.
    assert np.abs(resized.numpy() - limited(imresize(images, size, antialias))).max() < 0.501


def noise(rng: np.random.Generator, *shape: int) -> Tensor:
    """Extremes more often than not: passes that round or limit in between would show."""
    levels = rng.integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(np.where(rng.random(shape) < 0.5, rng.choice(np.array([0, 255], np.uint8), shape), levels))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(24, 24), (61, 43), (30, 90), (40, 53), (39, 52), (7, 400), (1, 1)])
@pytest.mark.parametrize("channels", [1, 2, 3, 20])
def test_resize_is_the_definition(
    rng: np.random.Generator, size: tuple[int, int], channels: int, antialias: bool
) -> None:
    check(noise(rng, 3, channels, 40, 52), size, antialias)


@pytest.mark.parametrize(
    "size", [(168, 168), (256, 280), (224, 197), (251, 224), (168, 280), (225, 223), (240, 320), (128, 171)]
)
def test_official_crops_and_test_sizes(rng: np.random.Generator, size: tuple[int, int]) -> None:
    check(noise(rng, 1, 2, *size), (224, 224))
    check(noise(rng, 1, 3, *size), (224, 224), antialias=False)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3)])
def test_images_smaller_than_the_kernel(rng: np.random.Generator, size: tuple[int, int]) -> None:
    check(noise(rng, 2, 3, *size), (11, 5))
    check(noise(rng, 2, 2, *size), (1, 2))


@given(sides=st.tuples(*[st.integers(1, 70)] * 4), antialias=st.booleans(), seed=st.integers(0, 2**32))
def test_any_size_to_any_size(sides: tuple[int, int, int, int], antialias: bool, seed: int) -> None:
    check(noise(np.random.default_rng(seed), 1, 3, *sides[:2]), sides[2:], antialias)


def test_real_frames(shared_dir: Path) -> None:
    clip = sorted((shared_dir / "data" / "clips").rglob("*.avi"))[0]
    frame = next(iter(iter_frames(clip, short_side=256)))
    check(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None, :, 3:231, 5:196], (224, 224))


def test_a_constant_image_stays_constant() -> None:
    for level in (0, 1, 128, 255):
        assert torch.all(resize(torch.full((1, 2, 37, 53), level, dtype=torch.uint8), (24, 80)) == level)


def test_border_pixels_are_mirrored() -> None:
    """A step at the border shows whether the kernel is cut there (and its weights scaled up) or the image mirrored."""
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., 0] = 255
    row = resize(image, (8, 16))[0, 0, 0].numpy()
    indices, weights = contributions(8, 16, True)
    assert row[0] == np.floor(limited(np.asarray((weights[0] * 255)[indices[0] == 0].sum())) + 0.5) == 255
    assert row.tolist() == np.floor(limited(imresize(image, (8, 16)))[0, 0, 0] + 0.5).tolist()


@pytest.mark.parametrize("channels", [2, 3])
def test_any_memory_layout(rng: np.random.Generator, channels: int) -> None:
    images = noise(rng, 3, channels, 40, 52)
    interleaved = images.contiguous(memory_format=torch.channels_last)
    for part in (images[..., 5:45, 7:50], interleaved[..., 5:45, 7:50], images[::2], images.transpose(-1, -2)):
        before = part.clone()
        assert torch.equal(resize(part, (24, 30)), resize(before.contiguous(), (24, 30)))
        assert torch.equal(part, before)


def test_the_size_it_has_changes_nothing(rng: np.random.Generator) -> None:
    images = noise(rng, 2, 3, 9, 11).contiguous(memory_format=torch.channels_last)
    assert torch.equal(resize(images, (9, 11)), images)
    assert resize(images, (9, 11)).is_contiguous()


@pytest.mark.parametrize("antialias", [True, False])
def test_crops_of_a_batch_are_resized_alike(rng: np.random.Generator, antialias: bool) -> None:
    sizes = [(280, 168), (224, 224), (171, 253), (40, 31), (3, 2)]
    clips = [noise(rng, 2, 3, *size) for size in sizes]
    batch = resize_crops(clips, 224, antialias=antialias)
    assert batch.shape == (5, 2, 3, 224, 224)
    assert batch.dtype == torch.uint8
    for clip, resized in zip(clips, batch, strict=True):
        assert np.abs(resized.numpy() - limited(imresize(clip, (224, 224), antialias))).max() < 0.501
        assert (resized != resize(clip, (224, 224), antialias=antialias)).float().mean() < 1e-3
    assert torch.equal(batch[1], clips[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_crops_are_resized_on_a_gpu(rng: np.random.Generator) -> None:
    clip = noise(rng, 2, 20, 171, 253)
    (resized,) = resize_crops([clip.cuda()], 224)
    assert resized.device.type == "cuda"
    assert np.abs(resized.cpu().numpy() - limited(imresize(clip, (224, 224)))).max() < 0.501
