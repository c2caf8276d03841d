"""The whole algorithm: against OpenCV's, on known motion, over thread counts, and its refusals."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import stmulnet
from stmulnet.errors import ConfigError
from stmulnet.flow.tvl1 import TVL1Params, tvl1

Frames = NDArray[np.uint8]


def texture(rng: np.random.Generator, height: int, width: int, sigma: float = 2.0) -> NDArray[np.float32]:
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (height, width)), (0, 0), sigma)
    return np.asarray((noise - noise.min()) / np.ptp(noise) * 255, np.float32)


def shifted_pair(rng: np.random.Generator, dx: float, dy: float, *, height: int = 72, width: int = 100) -> Frames:
    """A texture, and the same texture moved right by dx and down by dy pixels."""
    large = texture(rng, height + 40, width + 40)
    motion = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    moved = cv2.warpAffine(large, motion, (width + 40, height + 40), flags=cv2.INTER_CUBIC)
    return np.stack([image[20:-20, 20:-20].clip(0, 255).round().astype(np.uint8) for image in (large, moved)])


def opencv(frames: Frames, **options: Any) -> NDArray[np.float32]:
    """(T-1, 2, H, W) by OpenCV with its own defaults; frames (T, H, W)."""
    fields = []
    for first, second in itertools.pairwise(frames):
        algorithm = cv2.optflow.DualTVL1OpticalFlow.create(**options)
        fields.append(algorithm.calc(first, second, np.empty((*first.shape, 2), np.float32)).transpose(2, 0, 1))
    return np.stack(fields)


def endpoint_error(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance in px between two (..., 2, H, W) fields, (..., H, W)."""
    return np.asarray(np.hypot(*np.moveaxis(a - b, -3, 0)))


@pytest.mark.parametrize(("dx", "dy"), [(3.0, 0.0), (0.0, 2.0), (-2.5, 1.5), (0.4, -0.3)])
def test_known_shift_has_the_right_sign_and_axis(rng: np.random.Generator, dx: float, dy: float) -> None:
    flow = tvl1(shifted_pair(rng, dx, dy))
    assert flow.shape == (1, 2, 72, 100)
    assert flow.dtype == np.float32
    np.testing.assert_allclose(np.median(flow[0], axis=(1, 2)), [dx, dy], atol=0.05)


# Where a shift brings new content in at the border, TV-L1 is chaotic: OpenCV with tau changed by 1e-6 differs from
# itself by 0.01 px in the mean and 0.004 px in the median on these textures. Hence the tolerances.


@pytest.mark.parametrize(("dx", "dy"), [(1.3, -0.7), (-3.5, 2.2)])
@pytest.mark.parametrize(("height", "width"), [(64, 93), (97, 64), (18, 50)])  # the last has fewer than 5 levels
def test_agrees_with_opencv_on_shifts(rng: np.random.Generator, dx: float, dy: float, height: int, width: int) -> None:
    frames = shifted_pair(rng, dx, dy, height=height, width=width)
    error = endpoint_error(tvl1(frames), opencv(frames))
    assert np.median(error) < 0.005
    assert error.mean() < 0.05


def test_agrees_with_opencv_on_turning_and_growing_texture(rng: np.random.Generator) -> None:
    first = texture(rng, 120, 160)
    motion = cv2.getRotationMatrix2D((80, 60), 2.0, 1.03)
    second = cv2.warpAffine(first, motion, (160, 120), borderMode=cv2.BORDER_REFLECT)
    frames = np.stack([first, np.asarray(second)]).astype(np.uint8)
    assert endpoint_error(tvl1(frames), opencv(frames)).mean() < 0.005


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"tau": 0.05, "warps": 1, "outer_iterations": 1}, {"tau": 0.05, "warps": 1, "outerIterations": 1}),
        ({"lambda_": 0.02}, {"lambda_": 0.02}),
        ({"theta": 0.8}, {"theta": 0.8}),
        ({"scales": 2, "warps": 1}, {"nscales": 2, "warps": 1}),
        ({"scale_step": 0.5, "warps": 1}, {"scaleStep": 0.5, "warps": 1}),
        ({"inner_iterations": 5, "outer_iterations": 2}, {"innnerIterations": 5, "outerIterations": 2}),
        ({"median_size": 3, "epsilon": 0.1}, {"medianFiltering": 3, "epsilon": 0.1}),
        ({"median_size": 1, "warps": 1}, {"medianFiltering": 1, "warps": 1}),
    ],
)
def test_parameters_mean_the_same_as_opencvs(
    rng: np.random.Generator, change: dict[str, Any], options: dict[str, Any]
) -> None:
    frames = shifted_pair(rng, 3.7, -2.1)
    flow = tvl1(frames, params=dataclasses.replace(TVL1Params(), **change))
    difference = np.median(endpoint_error(flow, opencv(frames, **options)))
    effect = np.median(endpoint_error(flow, tvl1(frames)))
    assert difference < 0.003
    assert difference < effect / 4


def test_identical_frames_have_no_flow(rng: np.random.Generator) -> None:
    frame = texture(rng, 40, 50).astype(np.uint8)
    assert np.abs(tvl1(np.stack([frame, frame]))).max() < 1e-6


def test_rgb_is_turned_to_gray_as_by_opencv(rng: np.random.Generator) -> None:
    planes = np.stack([shifted_pair(rng, 2.0, 1.0) for _ in range(3)], axis=-1)
    gray = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in planes]).astype(np.uint8)
    np.testing.assert_array_equal(tvl1(planes), tvl1(gray))


@pytest.fixture
def clip(rng: np.random.Generator) -> Frames:
    """Six frames, each moved by another step, cut from memory that is not contiguous."""
    large = texture(rng, 100, 120).round().astype(np.uint8)
    return np.stack([large[10 + k * k // 4 :, 12 - 2 * k :][:60, :90] for k in range(6)], axis=-1).transpose(2, 0, 1)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_do_not_alter_the_result(clip: Frames, threads: int) -> None:
    np.testing.assert_array_equal(tvl1(clip, threads=threads), tvl1(clip))


def test_each_field_belongs_to_its_pair(clip: Frames) -> None:
    flow = tvl1(clip)
    for index in range(5):
        np.testing.assert_array_equal(flow[index : index + 1], tvl1(clip[index : index + 2]))


def test_is_deterministic_and_leaves_the_frames_alone(clip: Frames) -> None:
    before = clip.copy()
    np.testing.assert_array_equal(tvl1(clip), tvl1(clip))
    np.testing.assert_array_equal(clip, before)


def test_opencvs_thread_setting_is_restored(clip: Frames) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        tvl1(clip[:2], threads=2)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_is_a_public_name() -> None:
    assert stmulnet.tvl1 is tvl1


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((3, 32, 32), np.float32), r"dtype float32 and shape \(3, 32, 32\); allowed is uint8"),
        (np.zeros((32, 32), np.uint8), r"shape \(32, 32\)"),
        (np.zeros((3, 32, 32, 4), np.uint8), r"shape \(3, 32, 32, 4\)"),
        (np.zeros((1, 32, 32), np.uint8), "at least 2 frames, got 1"),
        (np.zeros((3, 15, 40, 3), np.uint8), "40x15 px are too small .* at least 16 px"),
        ([[0]], "must be a NumPy array, got list"),
    ],
)
def test_bad_frames_are_refused(frames: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tvl1(frames)


def test_bad_thread_count_is_refused(clip: Frames) -> None:
    with pytest.raises(ConfigError, match="threads must be at least 1, got 0"):
        tvl1(clip, threads=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, "tau must be between 0.001 and 1000, got 0.0"),
        ({"theta": float("nan")}, "theta must be between 0.001 and 1000, got nan"),
        ({"scale_step": 1.0}, "scale_step must be at least 0.1 and below 1, got 1.0"),
        ({"warps": 0}, "warps must be an integer of at least 1, got 0"),
        ({"epsilon": -1.0}, "epsilon must be at least 0"),
        ({"median_size": 7}, r"median_size must be 1 \(no filter\), 3 or 5, got 7"),
    ],
)
def test_bad_parameters_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TVL1Params(**change)


def test_agrees_with_opencv_on_a_real_clip(shared_dir: Path) -> None:
    path = shared_dir / "data" / "clips" / "arid6" / "Walk" / "v_Walk_g10_c03.mp4"
    with av.open(str(path)) as container:
        decoded = container.decode(video=0)
        frames = np.stack([next(decoded).to_ndarray(format="gray") for _ in range(3)]).astype(np.uint8)
    assert frames.shape == (3, 240, 320)
    assert endpoint_error(tvl1(frames), opencv(frames)).mean() < 0.01
