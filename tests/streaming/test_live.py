"""Live recognition with sources, flow and networks that are slow on purpose."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.conftest import TinyProject

from stmulnet.errors import ConfigError, VideoDecodeError, VideoTooShortError
from stmulnet.evaluation.protocol import VideoScores
from stmulnet.flow.estimate import estimate_flow
from stmulnet.flow.quantize import to_uint8
from stmulnet.models.optimize import optimize
from stmulnet.predictor import VideoPredictor
from stmulnet.streaming import fields
from stmulnet.streaming.fields import FieldMaker
from stmulnet.streaming.live import LiveRecogniser, paced
from stmulnet.streaming.rolling import Arrived

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def predictor(tiny_project: TinyProject) -> VideoPredictor:
    return VideoPredictor(tiny_project.weights, threads=1, num_frames=5, flow_backend="dis")


@pytest.fixture(scope="module")
def texture() -> Frames:
    rng = np.random.default_rng(2)
    small = rng.integers(0, 256, (12, 40, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), dtype=np.uint8))


def drifting(texture: Frames, count: int, *, step: int = 1) -> Iterator[Frames]:
    """Frames of a texture that moves to the left by ``step`` px per frame."""
    for number in range(count):
        left = number * step % (texture.shape[1] - 64)
        yield texture[:64, left : left + 64].copy()


def live_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("live-")}


def instant(monkeypatch: pytest.MonkeyPatch, *, flow_sec: float = 0.0, network_sec: float = 0.0) -> None:
    """Flow and network that take a given time and compute nothing."""

    def estimate(frames: Frames, **options: Any) -> NDArray[np.float32]:
        time.sleep(flow_sec * (len(frames) - 1))
        return np.zeros((len(frames) - 1, 2, *frames.shape[1:3]), np.float32)

    def score(*arguments: Any) -> VideoScores:
        time.sleep(network_sec)
        return VideoScores(None, None, np.arange(6.0))

    monkeypatch.setattr(fields, "estimate_flow", estimate)
    monkeypatch.setattr(VideoPredictor, "score_frames", score)


def test_without_hurry_nothing_is_dropped_and_scores_are_those_of_the_window(
    predictor: VideoPredictor, texture: Frames
) -> None:
    recogniser = LiveRecogniser(predictor, window_sec=60.0, stride_sec=0.2)
    film = list(drifting(texture, 24))
    (answer,) = recogniser.answers(paced(film, 20.0))
    assert (answer.frames, answer.dropped, answer.window_frames) == (24, 0, 24)
    expected = predictor_scores(predictor, np.stack(film))
    np.testing.assert_array_equal(answer.scores.fused, expected.fused)
    assert answer.label == predictor.class_names[int(expected.fused.argmax())]
    assert answer.time_s == pytest.approx(23 / 20, abs=0.5)
    assert answer.latency_ms > 0
    assert live_threads() == set()


def predictor_scores(predictor: VideoPredictor, clip: Frames) -> VideoScores:
    """The test protocol on all frames, in one go."""
    from stmulnet.datasets import sampling
    from stmulnet.evaluation.protocol import video_scores

    times = sampling.test_frames(len(clip), predictor.num_frames)
    flow = to_uint8(estimate_flow(clip, backend=predictor.flow_backend))
    stacks = np.stack([flow[t - 6 : t + 4].reshape(20, *clip.shape[1:3]) for t in times])
    rgb = torch.from_numpy(clip[np.array(times) - 1].transpose(0, 3, 1, 2).copy())
    return video_scores(optimize(predictor.model, dtype=torch.float32), rgb, torch.from_numpy(stacks))


def test_slow_flow_drops_frames_and_does_not_lag(
    predictor: VideoPredictor, texture: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 frames/s, flow for 25: most are dropped, and the last answer is as prompt as the first."""
    instant(monkeypatch, flow_sec=0.04)
    recogniser = LiveRecogniser(predictor, window_sec=0.5, stride_sec=0.1)
    answers = list(recogniser.answers(paced(drifting(texture, 300), 100.0)))
    assert recogniser.arrived == 300
    assert recogniser.dropped > 100
    assert len(answers) >= 3
    # It takes 0.16 s, or more on a busy machine; without drops the backlog at the end would be 9 s.
    assert all(answer.latency_ms < 3000 for answer in answers)


def test_a_slow_network_answers_less_often_about_the_newest_window(
    predictor: VideoPredictor, texture: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant(monkeypatch, network_sec=0.3)
    recogniser = LiveRecogniser(predictor, window_sec=0.5, stride_sec=0.05)
    answers = list(recogniser.answers(paced(drifting(texture, 200), 100.0)))
    assert 2 <= len(answers) <= 7  # 2 s by 0.3 s; a queue of windows would have had 30, and 7 s of lag at the end
    assert all(300 <= answer.latency_ms < 3000 for answer in answers)
    assert all(answer.window_frames <= 51 for answer in answers)


def test_displacements_over_dropped_frames_are_divided_by_the_gap(texture: Frames, tiny_project: TinyProject) -> None:
    """At 1 px per frame, flow over gaps of 3 and 2 frames is that of neighbours."""
    predictor = VideoPredictor(tiny_project.weights, threads=1, num_frames=5)
    recogniser = LiveRecogniser(predictor)
    film = list(drifting(texture, 7))
    run = [Arrived(number, 0.0, film[number - 1]) for number in (1, 2, 5, 7)]
    first, *others = recogniser._fields(run)
    assert first is None
    for field in others:
        assert field is not None
        inner = field[:, 12:-12, 12:-12].astype(float)
        expected = to_uint8(np.array([-1.0, 0.0]))
        np.testing.assert_allclose(np.median(inner, axis=(1, 2)), expected, atol=1)
    (undivided,) = FieldMaker(predictor)(np.stack([film[1], film[4]]))
    assert abs(float(np.median(undivided[0])) - float(to_uint8(np.array(-3.0)))) <= 1


def test_leaving_ends_the_threads(predictor: VideoPredictor, texture: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    instant(monkeypatch)
    closed = []

    def endless() -> Iterator[Frames]:
        try:
            while True:
                yield from paced(drifting(texture, 1000), 200.0)
        finally:
            closed.append(True)

    with closing(LiveRecogniser(predictor, window_sec=0.1).answers(endless())) as answers:
        next(answers)
        assert live_threads() == {"live-capture", "live-flow"}
    assert live_threads() == set()
    assert closed == [True]


def test_errors_of_the_source_and_of_the_flow_arrive(
    predictor: VideoPredictor, texture: Frames, tiny_project: TinyProject
) -> None:
    def breaking() -> Iterator[Frames]:
        yield from drifting(texture, 12)
        raise VideoDecodeError("camera 0: unplugged")

    with pytest.raises(VideoDecodeError, match="unplugged"):
        list(LiveRecogniser(predictor).answers(breaking()))
    assert live_threads() == set()
    tiny = VideoPredictor(tiny_project.weights, threads=1, num_frames=5, flow_backend="dis")
    tiny.short_side = 20
    with pytest.raises(ConfigError, match="too small for DIS flow"):
        list(LiveRecogniser(tiny).answers(drifting(texture, 40)))
    assert live_threads() == set()


def test_too_few_frames(predictor: VideoPredictor, texture: Frames) -> None:
    with pytest.raises(VideoTooShortError, match="only 10 frames came"):
        list(LiveRecogniser(predictor).answers(paced(drifting(texture, 10), 20.0)))


@pytest.mark.parametrize(("window", "stride"), [(0.0, 1.0), (-1.0, 1.0), (4.0, -1.0), (float("nan"), 1.0)])
def test_lengths_out_of_range(predictor: VideoPredictor, window: float, stride: float) -> None:
    with pytest.raises(ConfigError, match="a rolling window must be longer than 0 s"):
        LiveRecogniser(predictor, window_sec=window, stride_sec=stride)


def test_pace() -> None:
    start = time.monotonic()
    assert len(list(paced(np.zeros((11, 2, 2, 3), np.uint8), 50.0))) == 11
    assert time.monotonic() - start >= 0.2
