"""Whatever a video comes from and however it is read, the scores are the same; nothing is left running."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.conftest import TinyProject
from tests.fileserver import serve
from tests.films import write_drifting

from stmulnet.datasets.sampling import test_frames as sampled_frames
from stmulnet.errors import ConfigError, VideoDecodeError, VideoTooShortError
from stmulnet.predictor import Prediction, VideoPredictor, reading
from stmulnet.video.inputs import FrameSource
from stmulnet.video.io import read_frames


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames of a drifting texture, larger than the network wants them."""
    return write_drifting(tmp_path_factory.mktemp("drifting") / "drift.avi", 60, height=72, width=96)


@pytest.fixture(scope="module")
def predictor(tiny_project: TinyProject) -> VideoPredictor:
    """Few frames: the stacks leave gaps in the flow."""
    return VideoPredictor(tiny_project.weights, num_frames=5, threads=2, allow_addresses=True)


@pytest.fixture(scope="module")
def fused(predictor: VideoPredictor, drifting: Path) -> np.ndarray:
    return predictor(drifting).scores.fused


class Counted(FrameSource):
    """Frames in memory whose announced number may be wrong."""

    def __init__(self, frames: np.ndarray, hint: int | None, *, is_live: bool = False) -> None:
        self.name = "counted"
        self.is_live = is_live
        self.passes = 0
        self.open = True
        self._frames, self._hint = frames, hint

    @property
    def num_frames_hint(self) -> int | None:
        return self._hint

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[np.ndarray]:
        assert short_side == 64
        self.passes += 1
        yield from self._frames

    def close(self) -> None:
        self.open = False


@pytest.fixture(scope="module")
def frames(drifting: Path) -> np.ndarray:
    return read_frames(drifting, short_side=64)


def test_file_array_images_and_address_agree(
    predictor: VideoPredictor, drifting: Path, fused: np.ndarray, tmp_path: Path
) -> None:
    decoded = read_frames(drifting)
    for number, frame in enumerate(decoded, start=1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame[:, :, ::-1])
    with serve() as server:
        server.files = {"drift.avi": drifting.read_bytes()}
        for given in (decoded, tmp_path, str(drifting), f"{server.address}/drift.avi"):
            prediction = predictor(given)
            np.testing.assert_array_equal(prediction.scores.fused, fused)
            assert prediction.num_frames == 60


def test_flow_is_that_of_the_whole_video(predictor: VideoPredictor, frames: np.ndarray) -> None:
    """However it was cut into tasks: the fields of each stack, in order u v u v, beside its frame."""
    from stmulnet.flow import quantize, tvl1

    complete = quantize.to_uint8(tvl1.tvl1(frames))
    prepared = predictor.prepare(Counted(frames, 60))
    assert prepared.times == sampled_frames(60, 5)
    assert prepared.flow is not None
    assert prepared.rgb is not None
    for time, image, stack in zip(prepared.times, prepared.rgb.numpy(), prepared.flow.numpy(), strict=True):
        np.testing.assert_array_equal(image, frames[time - 1].transpose(2, 0, 1))
        np.testing.assert_array_equal(stack, complete[time - 6 : time + 4].reshape(20, *frames.shape[1:3]))


@pytest.mark.parametrize("hint", [None, 5, 11, 37, 59, 60, 61, 500])
@pytest.mark.parametrize("kept_bytes", [2**30, 10])
def test_announced_number_of_frames_decides_nothing(
    predictor: VideoPredictor,
    frames: np.ndarray,
    fused: np.ndarray,
    hint: int | None,
    kept_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", kept_bytes)
    source = Counted(frames, hint)
    np.testing.assert_array_equal(predictor(source).scores.fused, fused)
    assert source.passes == (1 if hint == 60 or kept_bytes > 10 else 2)
    assert source.open  # it was given, so it is not ours to close


def test_live_sources_are_watched_for_a_while(tiny_project: TinyProject, frames: np.ndarray) -> None:
    def endless() -> Iterator[np.ndarray]:
        while True:
            yield from frames

    source = Counted(endless(), None, is_live=True)  # type: ignore[arg-type]
    prediction = VideoPredictor(tiny_project.weights, num_frames=5, threads=1, live_seconds=0.01)(source)
    assert prediction.num_frames >= 11
    with pytest.raises(ConfigError, match="live_seconds must be above 0, got 0"):
        VideoPredictor(tiny_project.weights, live_seconds=0)


def test_live_sources_must_fit_into_memory(
    predictor: VideoPredictor, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", 10)
    with pytest.raises(VideoDecodeError, match="counted: its frames need more than 0 MiB"):
        predictor(Counted(frames, None, is_live=True))


def test_many_videos_in_order_with_their_errors(
    predictor: VideoPredictor, drifting: Path, frames: np.ndarray, fused: np.ndarray, tmp_path: Path
) -> None:
    given: list[Any] = [drifting, tmp_path / "nowhere.avi", frames[:10], frames, drifting]
    outcomes = list(predictor.predict_many(iter(given)))
    assert all(video is expected for (video, _), expected in zip(outcomes, given, strict=True))
    kinds = [type(outcome) for _, outcome in outcomes]
    assert kinds == [Prediction, VideoDecodeError, VideoTooShortError, Prediction, Prediction]
    for _, outcome in outcomes:
        if isinstance(outcome, Prediction):
            np.testing.assert_array_equal(outcome.scores.fused, fused)
            assert outcome.seconds["total"] >= sum(outcome.seconds[name] for name in ("decode", "flow", "network"))
    assert not left_behind()


def test_addresses_need_permission(tiny_project: TinyProject) -> None:
    predictor = VideoPredictor(tiny_project.weights)
    with pytest.raises(ConfigError, match="addresses are not opened here"):
        predictor("http://127.0.0.1/x.mp4")


def left_behind() -> set[str]:
    names = {thread.name.split("_")[0] for thread in threading.enumerate()}
    return names & {"prepare", "flow", "live"}


class Broken(Counted):
    """Something goes wrong that is nobody's fault but ours."""

    def frames(self, short_side: int | None = None, threads: int = 1) -> Iterator[np.ndarray]:
        yield from self._frames[:20]
        raise ZeroDivisionError("broken")


def test_other_errors_come_through_as_they_are(predictor: VideoPredictor, frames: np.ndarray) -> None:
    with pytest.raises(ZeroDivisionError, match="broken"):
        predictor(Broken(frames, 60))
    videos: list[Any] = [frames, Broken(frames, 60), frames]
    with pytest.raises(ZeroDivisionError, match="broken"):
        list(predictor.predict_many(videos))
    assert not left_behind()


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_leaving_early_leaves_nothing_running(
    predictor: VideoPredictor, drifting: Path, error: type[BaseException]
) -> None:
    outcomes = predictor.predict_many([drifting] * 50)
    next(outcomes)
    with pytest.raises(error):
        outcomes.throw(error)  # type: ignore[attr-defined]
    assert not left_behind()
