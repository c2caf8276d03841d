"""The whole algorithm in torch: against the CPU kernel, over batches and devices, and its refusals."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.flow.params import TVL1Params
from stmulnet.flow.tvl1 import tvl1
from stmulnet.flow.tvl1_torch import tvl1_torch, tvl1_torch_pairs

Frames = NDArray[np.uint8]
Flow = NDArray[np.float32]


def moving_clip(rng: np.random.Generator, count: int, *, height: int = 48, width: int = 66) -> Frames:
    """(count, H, W): a texture that shifts, turns and grows, by more in every frame."""
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (height + 40, width + 40)), (0, 0), 2.0)
    texture = (noise - noise.min()) / np.ptp(noise) * 255
    frames = []
    for t in range(count):
        motion = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), 0.8 * t, 1 + 0.01 * t), np.float64)
        motion[:, 2] += np.array([1.1 * t, -0.3 * t * t])
        moved = cv2.warpAffine(texture, motion, (width + 40, height + 40), flags=cv2.INTER_CUBIC)
        frames.append(moved[20:-20, 20:-20].clip(0, 255).round().astype(np.uint8))
    return np.stack(frames)


def endpoint_error(a: Flow, b: Flow) -> NDArray[np.float32]:
    """Distance in px between two (N, 2, H, W) fields, (N, H, W)."""
    return np.asarray(np.hypot(*np.moveaxis(a - b, 1, 0)))


@pytest.mark.parametrize(("height", "width"), [(48, 66), (67, 49), (18, 50)])  # the last has fewer than 5 levels
def test_agrees_with_the_cpu_kernel(rng: np.random.Generator, height: int, width: int) -> None:
    frames = moving_clip(rng, 4, height=height, width=width)
    flow = tvl1_torch(frames, device="cpu")
    assert flow.shape == (3, 2, height, width)
    assert flow.dtype == np.float32
    error = endpoint_error(flow, tvl1(frames))
    assert np.median(error) < 0.005
    assert error.mean() < 0.05


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -2)])
def test_known_shift_has_the_right_sign_and_axis(rng: np.random.Generator, dx: int, dy: int) -> None:
    large = moving_clip(rng, 1, height=70, width=80)[0]
    frames = np.stack([large[10:60, 10:70], large[10 - dy : 60 - dy, 10 - dx : 70 - dx]])
    flow = tvl1_torch(frames, device="cpu", params=dataclasses.replace(TVL1Params(), outer_iterations=2))
    np.testing.assert_allclose(np.median(flow[0], axis=(1, 2)), [dx, dy], atol=0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 0.05, "warps": 1, "outer_iterations": 1},
        {"lambda_": 0.02, "warps": 2},
        {"theta": 0.8, "warps": 2},
        {"scales": 2},
        {"scale_step": 0.5},
        {"scale_step": 0.99, "scales": 3, "warps": 1},
        {"inner_iterations": 7, "outer_iterations": 2},
        {"median_size": 3, "epsilon": 0.1},
        {"median_size": 1, "warps": 1},
        {"epsilon": 0.0, "warps": 1, "outer_iterations": 1},
    ],
)
def test_parameters_mean_the_same_as_the_cpu_kernels(rng: np.random.Generator, change: dict[str, Any]) -> None:
    frames = moving_clip(rng, 3)[1:]
    params = dataclasses.replace(TVL1Params(), **change)
    flow = tvl1_torch(frames, device="cpu", params=params)
    difference = np.median(endpoint_error(flow, tvl1(frames, params=params)))
    effect = np.median(endpoint_error(flow, tvl1(frames)))
    assert difference < 0.003
    assert difference < effect / 4


def test_identical_frames_have_no_flow(rng: np.random.Generator) -> None:
    assert np.abs(tvl1_torch(moving_clip(rng, 1).repeat(2, axis=0), device="cpu")).max() < 1e-6


@pytest.fixture(scope="module")
def clip() -> Frames:
    """(6, 40, 52, 3) with pairs that need very different numbers of iterations, in memory that is not contiguous."""
    rng = np.random.default_rng(5)
    frames = np.stack([moving_clip(rng, 6, height=40, width=52) for _ in range(3)], axis=-1)
    frames[2] = frames[1]  # stops at once
    frames[5] = rng.integers(0, 256, (40, 52, 3))  # chaos
    return np.asfortranarray(frames)


QUICK = TVL1Params(scales=3, warps=2)


@pytest.fixture(scope="module")
def clip_flow(clip: Frames) -> Flow:
    return tvl1_torch(clip, device="cpu", params=QUICK)


def test_rgb_is_turned_to_gray_as_for_the_cpu_kernel(clip: Frames, clip_flow: Flow) -> None:
    gray = np.stack([cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in clip])
    np.testing.assert_array_equal(tvl1_torch(gray.astype(np.uint8), device="cpu", params=QUICK), clip_flow)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_each_pair_is_its_own_whatever_the_batch(clip: Frames, clip_flow: Flow, batch_size: int) -> None:
    flow = tvl1_torch(clip, device="cpu", batch_size=batch_size, params=QUICK)
    np.testing.assert_allclose(flow[:-1], clip_flow[:-1], atol=0.01)
    assert not flow[1].any()


def test_is_deterministic_and_leaves_the_frames_alone(clip: Frames, clip_flow: Flow) -> None:
    before = clip.copy()
    np.testing.assert_array_equal(tvl1_torch(clip, device="cpu", params=QUICK), clip_flow)
    np.testing.assert_array_equal(clip, before)


def test_frames_that_cannot_be_written_are_read(clip: Frames) -> None:
    frames = np.broadcast_to(clip[:1, :, ::-1], (2, *clip.shape[1:]))
    assert not tvl1_torch(frames, device="cpu").any()


def test_pairs_need_not_be_neighbours(clip: Frames, clip_flow: Flow) -> None:
    order = [3, 0, 1]
    flow = tvl1_torch_pairs(clip[order], clip[[n + 1 for n in order]], device="cpu", batch_size=2, params=QUICK)
    np.testing.assert_allclose(flow, clip_flow[order], atol=0.01)


def test_work_ends_when_all_pairs_have_stopped(clip: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs that have stopped are looked for every 5 iterations, and leave the batch."""
    from stmulnet.flow import tvl1_torch_steps as steps

    sizes: list[int] = []
    iterate_once = steps.iterate_once

    def counted(flow: torch.Tensor, *arguments: Any) -> Any:
        sizes.append(len(flow))
        return iterate_once(flow, *arguments)

    monkeypatch.setattr(steps, "iterate_once", counted)
    params = TVL1Params(scales=1, warps=1)
    tvl1_torch(clip[1:3], device="cpu", params=params)
    assert sizes == [1] * 5
    sizes.clear()
    tvl1_torch(clip, device="cpu", params=params)
    assert sizes[:5] == [5] * 5
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[5] < 5
    assert all(sizes.count(size) % 5 == 0 for size in sizes)


def real_frames(shared_dir: Path, name: str, start: int, count: int) -> Frames:
    with av.open(str(shared_dir / "data" / "clips" / name)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames[start : start + count]).astype(np.uint8)


CLIPS = (
    "arid6/Walk/v_Walk_g10_c03.mp4",
    "arid6/Jump/v_Jump_g11_c01.mp4",
    "UCF-101/Biking/v_Biking_g10_c02.avi",
    "UCF-101/BoxingSpeedBag/v_BoxingSpeedBag_g04_c04.avi",
    "hmdb51/shoot_bow/6arrowswithin30seconds_shoot_bow_f_nm_np1_fr_med_3.avi",
)


@pytest.mark.parametrize("name", CLIPS[::2], ids=lambda name: Path(name).stem[:16])
def test_agrees_with_the_cpu_kernel_on_real_crops(shared_dir: Path, name: str) -> None:
    frames = real_frames(shared_dir, name, 10, 3)[:, 60:140, 90:190]
    assert endpoint_error(tvl1_torch(frames, device="cpu"), tvl1(frames)).mean() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS, ids=lambda name: Path(name).stem[:16])
def test_agrees_with_the_cpu_kernel_on_real_clips(shared_dir: Path, name: str) -> None:
    frames = real_frames(shared_dir, name, 20, 3)
    assert endpoint_error(tvl1_torch(frames, device="cpu"), tvl1(frames)).mean() < 0.05


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # in torch, as it loads its compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_is_the_same_but_for_rounding(rng: np.random.Generator) -> None:
    first, second = moving_clip(rng, 2, height=64, width=80)[:, None].repeat(4, axis=1)
    params = TVL1Params(scales=2)  # two sizes, and equal pairs, which stop together: more cases compile longer
    flow = tvl1_torch_pairs(first, second, device="cpu", params=params, compile=True)
    np.testing.assert_allclose(flow, tvl1_torch_pairs(first, second, device="cpu", params=params), atol=0.01)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", [False, True])
def test_cuda_agrees_with_the_cpu(rng: np.random.Generator, compile: bool) -> None:
    frames = moving_clip(rng, 9, height=120, width=160)
    error = endpoint_error(tvl1_torch(frames, device="cuda", compile=compile), tvl1(frames))
    assert np.median(error) < 0.005
    assert error.mean() < 0.05


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((3, 32, 32), np.float32), r"dtype float32 and shape \(3, 32, 32\); allowed is uint8"),
        (np.zeros((3, 32, 32, 4), np.uint8), r"shape \(3, 32, 32, 4\)"),
        (np.zeros((1, 32, 32), np.uint8), "at least 2 frames, got 1"),
        (np.zeros((3, 15, 40, 3), np.uint8), "40x15 px are too small .* at least 16 px"),
        (torch.zeros(3, 32, 32), "must be a NumPy array, got Tensor"),
    ],
)
def test_bad_frames_are_refused(frames: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tvl1_torch(frames, device="cpu")


def test_bad_batch_size_and_device_are_refused(clip: Frames) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1 pair, got 0"):
        tvl1_torch(clip, device="cpu", batch_size=0)
    with pytest.raises(ConfigError, match="device 'abacus' is not usable"):
        tvl1_torch(clip, device="abacus")


def test_pairs_that_do_not_fit_are_refused(clip: Frames) -> None:
    with pytest.raises(ConfigError, match=r"shape \(3, 40, 52, 3\) need second ones in the same shape, got \(2, 40"):
        tvl1_torch_pairs(clip[:3], clip[:2], device="cpu")
    with pytest.raises(ConfigError, match="at least 1 frames, got 0"):
        tvl1_torch_pairs(clip[:0], clip[:0], device="cpu")


def test_needs_torch_and_numpy_alone() -> None:
    heavy = ("scipy", "cv2", "av", "numba", "lightning", "jsonargparse", "rich", "matplotlib", "jinja2", "simplejpeg")
    code = f"import sys; sys.modules.update(dict.fromkeys({heavy}))\nfrom stmulnet.flow.tvl1_torch import tvl1_torch\n"
    code += "import numpy as np\nassert not tvl1_torch(np.zeros((2, 16, 16), np.uint8), device='cpu').any()"
    subprocess.run([sys.executable, "-c", code], check=True)
