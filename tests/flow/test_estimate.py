import json

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.flow.estimate import estimate_flow, flow_record, pairs_per_call
from stmulnet.flow.tvl1 import tvl1
from stmulnet.flow.tvl1_torch import tvl1_torch


@pytest.fixture
def frames(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(4, 48, 60, 3): a blurred colour texture moving right by 2 and up by 1 px per frame."""
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (70, 80, 3)), (0, 0), 2.0)
    large = ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)
    return np.stack([large[8 + t : 56 + t, 10 - 2 * t : 70 - 2 * t] for t in range(4)])


def test_default_backend_is_the_packages_own(frames: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(estimate_flow(frames), tvl1(frames))
    np.testing.assert_array_equal(estimate_flow(frames, backend="tvl1", threads=2), tvl1(frames))


def test_backends_agree_in_layout_and_values(frames: NDArray[np.uint8]) -> None:
    reference = estimate_flow(frames, backend="opencv")
    assert reference.shape == (3, 2, 48, 60)
    assert reference.dtype == np.float32
    np.testing.assert_allclose(np.median(reference, axis=(0, 2, 3)), [2.0, -1.0], atol=0.1)
    assert np.hypot(*np.moveaxis(estimate_flow(frames) - reference, 1, 0)).mean() < 0.01
    np.testing.assert_array_equal(estimate_flow(frames, backend="opencv", threads=2), reference)


def test_opencv_backend_runs_with_opencvs_defaults(frames: NDArray[np.uint8]) -> None:
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:2])
    expected = cv2.optflow.DualTVL1OpticalFlow.create().calc(first, second, np.empty((48, 60, 2), np.float32))
    np.testing.assert_array_equal(estimate_flow(frames[:2], backend="opencv")[0], np.moveaxis(expected, 2, 0))


def test_unknown_backend_is_refused(frames: NDArray[np.uint8]) -> None:
    with pytest.raises(ConfigError, match="no flow backend 'farneback'; choose one of: tvl1, tvl1-torch, opencv, dis"):
        estimate_flow(frames, backend="farneback")
    for function in (flow_record, pairs_per_call):
        with pytest.raises(ConfigError, match="no flow backend 'x'"):
            function("x")


def test_dis_is_opencvs_fast_preset(frames: NDArray[np.uint8]) -> None:
    flow = estimate_flow(frames, backend="dis")
    assert flow.shape == (3, 2, 48, 60)
    np.testing.assert_allclose(np.median(flow, axis=(0, 2, 3)), [2.0, -1.0], atol=0.15)
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[1:3])
    preset = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    expected = preset.calc(first, second, np.zeros((48, 60, 2), np.float32))
    np.testing.assert_array_equal(flow[1], np.moveaxis(expected, 2, 0))
    np.testing.assert_array_equal(estimate_flow(frames, backend="dis", threads=2), flow)


@pytest.mark.parametrize("backend", ["tvl1", "opencv", "dis"])
def test_a_pair_does_not_depend_on_those_before_it(rng: np.random.Generator, backend: str) -> None:
    noise = rng.integers(0, 256, (4, 40, 52), np.uint8)
    frames = np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in noise]).astype(np.uint8)
    whole = estimate_flow(frames, backend=backend)
    for t in range(3):
        np.testing.assert_array_equal(estimate_flow(frames[t : t + 2], backend=backend)[0], whole[t])


@pytest.mark.parametrize("size", [(32, 32), (32, 400), (45, 33)])
def test_dis_takes_small_frames(rng: np.random.Generator, size: tuple[int, int]) -> None:
    flow = estimate_flow(rng.integers(0, 256, (3, *size), dtype=np.uint8), backend="dis")
    assert flow.shape == (2, 2, *size)
    assert np.isfinite(flow).all()


def test_dis_refuses_what_it_would_crash_on(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match=r"frames of 200x31 px are too small for DIS flow: .* at least 32 px"):
        estimate_flow(rng.integers(0, 256, (2, 31, 200), dtype=np.uint8), backend="dis")
    with pytest.raises(ConfigError, match=r"shape \(4,\)"):
        estimate_flow(np.zeros(4, np.uint8), backend="dis")


def test_record_of_dis_is_another_one() -> None:
    record = flow_record("dis")
    assert json.loads(json.dumps(record)) == record
    assert (record["algorithm"], record["backend"], record["parameters"]["preset"]) == ("DIS", "dis", "fast")
    assert "numba" not in record["libraries"]


def test_torch_backend_is_the_same_algorithm_with_a_record_of_its_own(frames: NDArray[np.uint8]) -> None:
    flow = estimate_flow(frames, backend="tvl1-torch", device="cpu", threads=2)
    np.testing.assert_array_equal(flow, tvl1_torch(frames, device="cpu"))
    assert np.hypot(*np.moveaxis(flow - estimate_flow(frames), 1, 0)).mean() < 0.01
    record, of_kernel = flow_record("tvl1-torch"), flow_record("tvl1")
    assert record["libraries"]["torch"] == torch.__version__
    assert {name for name in record if record[name] != of_kernel[name]} == {"backend", "libraries"}


def test_a_gpu_gets_more_pairs_at_once() -> None:
    assert pairs_per_call("tvl1-torch") > pairs_per_call("tvl1") >= 1


def test_torch_backend_refuses_a_device_that_is_not_there(frames: NDArray[np.uint8]) -> None:
    with pytest.raises(ConfigError, match="device 'abacus' is not usable"):
        estimate_flow(frames, backend="tvl1-torch", device="abacus")


@pytest.mark.parametrize("backend", ["tvl1", "tvl1-torch", "opencv"])
def test_record_is_json_and_names_everything_that_alters_the_result(backend: str) -> None:
    record = flow_record(backend)
    assert json.loads(json.dumps(record)) == record
    assert record["backend"] == backend
    assert record["bound_px"] == 20.0
    assert record["rounding"] == "half up"
    assert record["parameters"]["lambda"] == 0.15
    assert record["libraries"]["opencv"] == cv2.__version__
    assert flow_record(backend) == record


def test_record_differs_between_backends() -> None:
    assert flow_record("tvl1") != flow_record("opencv")
