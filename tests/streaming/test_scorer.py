"""Windows of a stream against the test protocol on exactly their frames."""

import copy
import re
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.conftest import TinyProject
from tests.films import single_stream

from stmulnet.datasets import sampling
from stmulnet.errors import ConfigError, VideoDecodeError, VideoTooShortError
from stmulnet.evaluation.protocol import VideoScores, video_scores
from stmulnet.flow.estimate import estimate_flow
from stmulnet.flow.quantize import to_uint8
from stmulnet.models.checkpoint import load_model
from stmulnet.models.optimize import optimize
from stmulnet.predictor import VideoPredictor
from stmulnet.predictor.overlapping import OverlappingClips
from stmulnet.streaming import fields
from stmulnet.streaming.scorer import WindowScorer
from stmulnet.streaming.windows import Windowing
from stmulnet.video.io import iter_frames, write_video

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def film() -> Frames:
    """75 frames of a texture that drifts and sways, 64x72."""
    rng = np.random.default_rng(11)
    texture = np.kron(rng.integers(0, 256, (13, 30, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
    left = [2 * t + int(3 * np.sin(t / 4)) + 4 for t in range(75)]
    return np.stack([texture[t // 2 : t // 2 + 64, x : x + 72] for t, x in enumerate(left)])


@pytest.fixture(scope="module")
def predictor(tiny_project: TinyProject) -> VideoPredictor:
    return VideoPredictor(tiny_project.weights, threads=2, num_frames=6, flow_backend="dis")


def expected_scores(predictor: VideoPredictor, clip: Frames, count: int) -> VideoScores:
    """The test protocol, written down anew: all flow of the clip, then its stacks."""
    times = np.array(sampling.test_frames(len(clip), count))
    rgb = torch.from_numpy(clip[times - 1].transpose(0, 3, 1, 2).copy())
    flow = to_uint8(estimate_flow(clip, backend=predictor.flow_backend))
    stacks = np.stack([flow[np.array(sampling.flow_numbers(t)) - 1].reshape(20, *clip.shape[1:3]) for t in times])
    return video_scores(optimize(predictor.model, dtype=torch.float32), rgb, torch.from_numpy(stacks))


@pytest.mark.parametrize(
    ("frames", "stride", "count"),
    [(20, 8, 6), (20, 8, 25), (30, 30, 5), (15, 29, 6), (40, 3, 5), (75, 10, 6), (200, 10, 6)],
)
def test_scores_are_those_of_the_cut_clip(
    predictor: VideoPredictor, film: Frames, frames: int, stride: int, count: int
) -> None:
    scored = list(WindowScorer(predictor, Windowing(frames, stride, count)).windows(iter(film)))
    assert scored[-1].window.last == 75 or stride == 29
    for window, scores in ((each.window, each.scores) for each in scored):
        expected = expected_scores(predictor, film[window.first - 1 : window.last], count)
        for name in ("appearance", "motion", "fused"):
            np.testing.assert_array_equal(getattr(scores, name), getattr(expected, name), err_msg=f"{window} {name}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("frames", "stride"), [(31, 8), (41, 6), (36, 10)])
def test_windows_that_sample_the_same_frames_share_them(
    tiny_project: TinyProject, film: Frames, frames: int, stride: int, dtype: torch.dtype
) -> None:
    """But for the last window, moved back: its frames are not known before."""
    network = optimize(load_model(tiny_project.weights), dtype=dtype)
    predictor = VideoPredictor(network, threads=2, num_frames=6, flow_backend="dis")
    windowing = Windowing(frames, stride, 6)
    seen: list[int] = []
    network.get_submodule("motion.conv1").register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    scored = list(WindowScorer(predictor, windowing).windows(iter(film)))
    new: list[int] = []
    known: set[int] = set()
    for times in (windowing.sampled(each.window) for each in scored):
        new += [len(set(times) - known)] * 2  # original and mirrored
        known |= set(times)
    assert scored[-1].window.first % stride != 1
    assert len(seen) == len(new)
    assert seen[:-2] == new[:-2]
    assert sum(seen) < len(new) * 6
    alone = list(WindowScorer(predictor, windowing, share=False).windows(iter(film)))
    assert [each.window for each in alone] == [each.window for each in scored]
    for found, wanted in zip(scored, alone, strict=True):
        for name in ("appearance", "motion", "fused"):
            expected = getattr(wanted.scores, name)
            np.testing.assert_allclose(
                getattr(found.scores, name), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
            )


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # importing the compiler
def test_a_compiled_network_shares_nothing(predictor: VideoPredictor) -> None:
    network = copy.deepcopy(predictor.model)
    network.compile()  # nothing happens before its first clip
    assert OverlappingClips().scorer(network, times=range(1, 7), upcoming=[]) is network


def test_a_whole_file_as_one_window_is_its_prediction(tiny_project: TinyProject) -> None:
    video = sorted(tiny_project.videos.rglob("*.avi"))[4]
    for jpeg in (False, True):
        predictor = VideoPredictor(tiny_project.weights, threads=1, jpeg=jpeg)
        (only,) = WindowScorer(predictor, Windowing(100, 50)).windows(iter_frames(video))
        np.testing.assert_array_equal(only.scores.fused, predictor(video).scores.fused)


def test_a_cut_file_is_predicted_alike(
    predictor: VideoPredictor, film: Frames, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut out by itself and encoded, a window gives nearly the same scores: the encoder is not lossless."""
    path = tmp_path_factory.mktemp("cut") / "cut.mp4"
    write_video(path, film[16:36])
    expected = predictor(path).scores.fused
    scored = list(WindowScorer(predictor, Windowing(20, 8, 6)).windows(iter(film)))
    assert scored[2].window == (17, 36)
    assert np.abs(scored[2].scores.fused - expected).max() < 0.3 * expected.std()


def test_each_frame_is_taken_once_and_each_field_computed_once(
    predictor: VideoPredictor, film: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    pairs: list[int] = []
    number_of = {frame.tobytes(): number for number, frame in enumerate(film, start=1)}

    def counting() -> Iterator[Frames]:
        nonlocal taken
        for frame in film:
            taken += 1
            yield frame

    def estimate(frames: Frames, **options: Any) -> NDArray[np.float32]:
        pairs.extend(number_of[frame.tobytes()] for frame in frames[:-1])
        return estimate_flow(frames, **options)

    monkeypatch.setattr(fields, "estimate_flow", estimate)
    windowing = Windowing(20, 8, 6)
    steps = list(WindowScorer(predictor, windowing).steps(counting()))
    assert taken == 75
    assert [step.frame.number for step in steps if step.frame] == list(range(1, 76))
    assert len(pairs) == len(set(pairs)) == 74
    pairs.clear()
    apart = Windowing(12, 40, 5)
    assert len(list(WindowScorer(predictor, apart).windows(iter(film)))) == 2
    assert sorted(pairs) == [*range(1, 12), *range(41, 52)]  # nothing for the frames between the windows
    pairs.clear()
    list(WindowScorer(predictor, apart, all_flow=True).windows(iter(film)))
    assert sorted(pairs) == list(range(1, 75))


def test_frames_of_another_size_are_resized(tiny_project: TinyProject, predictor: VideoPredictor, film: Frames) -> None:
    large = np.repeat(np.repeat(film[:30], 2, axis=1), 2, axis=2)
    step = next(WindowScorer(predictor, Windowing(20, 8, 6)).steps(iter(large)))
    assert step.frame is not None
    assert step.frame.image.shape == (64, 72, 3)


def test_memory_holds_one_window(predictor: VideoPredictor, film: Frames) -> None:
    """Of a long stream of arrays, only those of one window, and of those that wait, are alive."""
    gone = taken = most = 0

    def let_go() -> None:
        nonlocal gone
        gone += 1

    def long_stream() -> Iterator[Frames]:
        nonlocal taken
        for number in range(400):
            frame = film[number % 75].copy()
            weakref.finalize(frame, let_go)
            taken += 1
            yield frame

    for _ in WindowScorer(predictor, Windowing(20, 100, 5)).steps(long_stream()):
        most = max(most, taken - gone)
    assert most <= 20 + 32 + 2 * 4 * predictor.threads + 4


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_single_streams(tiny_project: TinyProject, film: Frames, stream: str) -> None:
    model = single_stream(stream, tiny_project.class_names)
    predictor = VideoPredictor(model, threads=1, num_frames=5, flow_backend="dis")
    scored = list(WindowScorer(predictor, Windowing(20, 20, 5)).windows(iter(film)))
    assert [each.window.last for each in scored] == [20, 40, 60, 75]
    assert all((each.scores.appearance is None) == (stream == "motion") for each in scored)
    assert all((each.scores.motion is None) == (stream == "appearance") for each in scored)


def test_example_of_the_documents(tiny_project: TinyProject, film: Frames, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "timeline.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = {"model": load_model(tiny_project.weights), "frames": iter(film[:30])}
    exec(compile(code, "timeline.md", "exec"), names)
    assert capsys.readouterr().out.startswith("1 30 ")


def test_too_short(predictor: VideoPredictor, film: Frames) -> None:
    scorer = WindowScorer(predictor, Windowing(20, 8, 6))
    with pytest.raises(VideoTooShortError, match="the video has 10 frames"):
        list(scorer.windows(iter(film[:10])))
    with pytest.raises(VideoTooShortError, match="the video has 0 frames"):
        list(scorer.windows(iter([])))
    assert [each.window for each in scorer.windows(iter(film[:11]))] == [(1, 11)]


def test_errors_pass_through_the_thread_and_end_it(predictor: VideoPredictor, film: Frames) -> None:
    def damaged() -> Iterator[Frames]:
        yield from film[:40]
        raise VideoDecodeError("clip.avi: damaged after 40 frames")

    windows = WindowScorer(predictor, Windowing(12, 8, 6)).windows(damaged())
    assert [next(windows).window.last for _ in range(4)] == [12, 20, 28, 36]
    with pytest.raises(VideoDecodeError, match="damaged after 40 frames"):
        next(windows)
    assert "timeline" not in {thread.name for thread in threading.enumerate()}


def test_wrong_frames(predictor: VideoPredictor, film: Frames) -> None:
    scorer = WindowScorer(predictor, Windowing(12, 8, 6))
    with pytest.raises(ConfigError, match=r"frame 13 is uint8 \(60, 72, 3\), the first \(64, 72, 3\)"):
        list(scorer.windows([*film[:12], film[12][:60]]))
    with pytest.raises(ConfigError, match=r"frame 1 is float64 \(64, 72, 3\)"):
        list(scorer.windows([film[0].astype(float)]))


def test_frames_the_network_cannot_take(predictor: VideoPredictor) -> None:
    with pytest.raises(ConfigError, match="frames must be 5 to 1000 for this network"):
        WindowScorer(predictor, Windowing(20, 8, 4))
