"""What the page shows, as HTML."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stmulnet import create_model
from stmulnet.explanation.gates import gate_maps
from stmulnet.predictor import Prediction, PreparedVideo, VideoPredictor
from stmulnet.serving import panels
from stmulnet.serving.examples import make_examples
from stmulnet.serving.moments import FRAMES, Moment, in_order, score_moments
from stmulnet.serving.preview import SHORT_SIDE_PX, playable, write_preview
from stmulnet.video.io import iter_frames, probe, write_video

TINY: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 1 / 32, "input_size": 64, "head_pool": "global"}


@pytest.fixture(scope="module")
def prepared(predictor: VideoPredictor, a_video: Path) -> PreparedVideo:
    return predictor.prepare(a_video)


@pytest.fixture(scope="module")
def long_video(predictor: VideoPredictor, tmp_path_factory: pytest.TempPathFactory) -> PreparedVideo:
    """25 distinct frames."""
    video = make_examples(tmp_path_factory.mktemp("examples"))[0].video
    return predictor.prepare(video)


@pytest.fixture(scope="module")
def prediction(predictor: VideoPredictor, prepared: PreparedVideo) -> Prediction:
    return predictor.predict_prepared(prepared)


def test_a_prepared_video_gets_the_same_answer(
    predictor: VideoPredictor, prediction: Prediction, a_video: Path
) -> None:
    whole = predictor(a_video)
    np.testing.assert_array_equal(prediction.scores.fused, whole.scores.fused)
    assert prediction.top_k == whole.top_k
    assert prediction.num_frames == whole.num_frames


def test_the_answer_has_a_bar_for_each_class_and_stream(prediction: Prediction) -> None:
    page = panels.answer(prediction, "tiny")
    assert page.count('class="st-bar"') == 15
    assert f'data-testid="label">{prediction.label}</h2>' in page
    widths = [float(width) for width in re.findall(r"width: ([\d.]+)%", page)]
    assert widths[:5] == [round(100 * score, 1) for _, score in prediction.top_k]


def test_one_stream_alone_has_one_group(tmp_path: Path, a_video: Path) -> None:
    model = create_model("motion_resnet50", 2, class_names=["a", "b"], **TINY)
    single = VideoPredictor(model, threads=1, num_frames=5)
    video = single.prepare(a_video)
    assert panels.answer(single.predict_prepared(video), "x").count("<h3>") == 1
    page = panels.seen(video, model)
    assert "<strong>Motion</strong>" in page
    assert "<strong>Appearance</strong>" not in page
    assert page.count("<img ") == 5 + 1  # and the wheel


def test_names_are_text_and_not_html() -> None:
    evil = "<script>alert(1)</script>"
    assert "<script" not in panels.player("clips/x.mp4", evil, evil, 1.0)
    assert "<script" not in panels.no_video(evil)
    assert "<script" not in panels.problem(evil)
    assert "<script" not in panels.over_time([Moment(1, 20, np.array([1.0]))], [evil], 20)


def test_what_was_seen_shows_frames_flow_and_gates(predictor: VideoPredictor, prepared: PreparedVideo) -> None:
    gates = gate_maps(predictor.model, prepared)
    page = panels.seen(prepared, predictor.model, gates)
    titles = re.findall(r"<strong>(.*?)</strong>", page)
    assert titles == ["Appearance", "Motion", "Gate at res3", "Gate at res4", "Gate at res5"]
    columns = len(re.findall("st-frame", page))
    assert page.count('<img src="data:image/jpeg') == 5 * columns
    assert f"frame {prepared.times[0]}<" in page
    assert f"frame {prepared.times[-1]}<" in page


def test_moments_are_scored_as_if_each_were_a_video(predictor: VideoPredictor, long_video: PreparedVideo) -> None:
    moments = score_moments(predictor, long_video)
    assert len(moments) == 6
    assert (moments[0].first, moments[-1].last) == (long_video.times[0], long_video.times[-1])
    assert long_video.rgb is not None
    assert long_video.flow is not None
    part = slice(8, 8 + FRAMES)  # starts: 0, 4, 8, 12, 16, 20
    assert (moments[2].first, moments[2].last) == (long_video.times[8], long_video.times[12])
    rgb, flow = long_video.rgb[None, part], long_video.flow[None, part]
    mirrored = flow.flip(-1).clone()
    mirrored[:, :, ::2] = 255 - mirrored[:, :, ::2]
    with torch.inference_mode():
        outputs = [predictor.model(rgb, flow), predictor.model(rgb.flip(-1), mirrored)]
    fused = torch.stack([output.fused for output in outputs]).mean(dim=0)[0].double()
    np.testing.assert_allclose(moments[2].probabilities, fused.softmax(dim=0).numpy(), atol=1e-5)


def test_frames_that_repeat_are_taken_once_and_in_order(predictor: VideoPredictor, prepared: PreparedVideo) -> None:
    assert len(set(prepared.times)) < len(prepared.times)
    assert [prepared.times[index] for index in in_order(prepared.times)] == sorted(set(prepared.times))
    assert [(moment.first, moment.last) for moment in score_moments(predictor, prepared)] == [(6, 10), (7, 11)]


def test_a_video_of_too_few_frames_is_one_moment(
    predictor: VideoPredictor, prepared: PreparedVideo, prediction: Prediction
) -> None:
    same = [6] * len(prepared.times)
    still = PreparedVideo(same, prepared.rgb, prepared.flow, prepared.num_frames)
    (moment,) = score_moments(predictor, still)
    assert (moment.first, moment.last) == (6, 6)
    assert moment.probabilities.max() == pytest.approx(prediction.score)


def test_leading_classes_come_first_and_parts_have_their_lengths() -> None:
    shares = ([0.1, 0.7, 0.2], [0.1, 0.6, 0.3], [0.8, 0.1, 0.1])
    spans = ((1, 20), (21, 40), (41, 60))
    moments = [Moment(*span, np.array(share)) for span, share in zip(spans, shares, strict=True)]
    page = panels.over_time(moments, ["a", "b", "c"], 60)
    assert re.findall(r'class="st-name" title="(.)"', page) == ["b", "a", "c"]
    assert re.findall(r"flex: ([\d.]+)", page)[:3] == ["20.500", "20.000", "19.500"]
    assert re.findall(r"opacity: ([\d.]+)", page)[:3] == ["0.700", "0.600", "0.100"]


@pytest.mark.parametrize(("size", "expected"), [((480, 720), (360, 540)), ((61, 91), (62, 92))])
def test_a_preview_is_small_h264_of_the_same_frames(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    frames = [np.full((*size, 3), 20 * t, np.uint8) for t in range(12)]
    write_video(tmp_path / "a.avi", frames, fps=12, codec="mpeg4")
    info = probe(tmp_path / "a.avi")
    assert not playable(tmp_path / "a.avi", info)
    write_preview(tmp_path / "a.avi", info, tmp_path / "b.mp4")
    preview = probe(tmp_path / "b.mp4")
    assert (preview.codec, preview.fps) == ("h264", 12)
    assert playable(tmp_path / "b.mp4", preview)
    assert min(preview.height, preview.width) <= SHORT_SIDE_PX
    shown = list(iter_frames(tmp_path / "b.mp4"))
    assert len(shown) == 12
    assert abs(float(shown[9].mean()) - 180) < 6
    assert abs(preview.height - expected[0]) <= 1
    assert abs(preview.width - expected[1]) <= 1
