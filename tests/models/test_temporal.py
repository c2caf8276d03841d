"""Temporal layers against loops over frames in NumPy."""

import numpy as np
import pytest
import torch

from stmulnet.errors import ConfigError
from stmulnet.models.config import TemporalPoolConfig
from stmulnet.models.temporal import (
    TAPS,
    InsertedTemporalConv,
    TemporalPool,
    fold_time,
    unfold_time,
)


def folded(rng: np.random.Generator, videos: int, frames: int, channels: int = 4) -> torch.Tensor:
    x = torch.from_numpy(rng.normal(size=(videos * frames, channels, 3, 5)))
    return x.contiguous(memory_format=torch.channels_last)


def test_folding_is_a_view_and_its_own_inverse(rng: np.random.Generator) -> None:
    x = folded(rng, 2, 6)
    unfolded = unfold_time(x, 6)
    assert unfolded.data_ptr() == x.data_ptr()
    assert unfolded.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(unfolded[1, :, 2].numpy(), x[8].flatten(1).numpy())
    assert torch.equal(fold_time(unfolded, 3, 5), x)


def test_temporal_convolution_equals_a_loop_over_frames(rng: np.random.Generator) -> None:
    layer = InsertedTemporalConv(4).double()
    torch.nn.init.normal_(layer.weight)
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    x = folded(rng, 2, 6)
    got = layer(x, 6).detach().numpy().reshape(2, 6, 4, 3, 5)
    weight, frames = layer.weight.detach().numpy()[..., 0], x.numpy().reshape(2, 6, 4, 3, 5)
    for n in range(2):
        for t in range(6):
            want = layer.bias.detach().numpy()[:, None, None] * np.ones((4, 3, 5))
            for k in (-1, 0, 1):
                if 0 <= t + k < 6:
                    want = want + np.einsum("oc,chw->ohw", weight[:, :, k + 1], frames[n, t + k])
            np.testing.assert_allclose(got[n, t], want, atol=1e-12)


@pytest.mark.parametrize("init", TAPS)
def test_start_mixes_frames_but_never_channels(init: str, rng: np.random.Generator) -> None:
    layer = InsertedTemporalConv(4, init).double()
    layer.reset_identity()
    x = folded(rng, 1, 5)
    got = layer(x, 5).detach().numpy()
    padded = np.concatenate([np.zeros_like(x[:1]), x.numpy(), np.zeros_like(x[:1])])
    want = sum(tap * padded[k : k + 5] for k, tap in enumerate(TAPS[init]))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(("kind", "stride"), [("max", 1), ("max", 2), ("avg", 1)])
def test_pooling_over_frames(kind: str, stride: int, rng: np.random.Generator) -> None:
    pool = TemporalPool(TemporalPoolConfig(kind, 5, stride))  # type: ignore[arg-type] # the parametrised values
    x = folded(rng, 2, 9)
    got = pool(x, 9).numpy()
    reduce = np.max if kind == "max" else np.mean
    frames = x.numpy().reshape(2, 9, 4, 3, 5)
    want = np.stack([reduce(frames[n, t : t + 5], axis=0) for n in range(2) for t in range(0, 5, stride)])
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_too_few_frames_for_the_window(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="over 5 frames needs at least as many, got 4"):
        TemporalPool(TemporalPoolConfig())(folded(rng, 1, 4), 4)
