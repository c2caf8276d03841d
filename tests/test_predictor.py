import copy
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tests.conftest import TinyProject
from tests.films import write_drifting

from stmulnet.datasets import transforms
from stmulnet.datasets.annotations import load_annotation
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.sampling import UniformFrames
from stmulnet.errors import CheckpointError, ConfigError, VideoDecodeError, VideoTooShortError
from stmulnet.evaluation.protocol import video_scores
from stmulnet.models.checkpoint import load_model
from stmulnet.models.optimize import optimize
from stmulnet.models.zoo import create_model
from stmulnet.predictor import VideoPredictor, consecutive_runs, presets
from stmulnet.video.extract import extract_videos
from stmulnet.video.io import write_video


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 frames of a drifting texture: with few sampled frames the stacks leave gaps in the flow."""
    return write_drifting(tmp_path_factory.mktemp("long") / "drift.avi", 70, height=64, width=80)


def short_video(path: Path, num_frames: int) -> Path:
    rng = np.random.default_rng(num_frames)
    write_video(path, rng.integers(0, 256, size=(num_frames, 64, 64, 3), dtype=np.uint8), codec="mpeg4")
    return path


def stored_scores(project: TinyProject, dataset: Path, video: str, num_frames: int) -> np.ndarray:
    """Scores the way of the stored data set: JPEG files, TwoStreamDataset, protocol, the network of `evaluate`."""
    model = optimize(load_model(project.weights), dtype=torch.float32)
    annotation = load_annotation(project.dataset / "annotations" / "annot01.json")
    videos = TwoStreamDataset(
        annotation,
        dataset / "images",
        dataset / "flows",
        subset="validation",
        sampling=UniformFrames(num_frames),
        transform=transforms.TestTransform(model.config.input_size),
    )
    index = [record.video for record in videos.records].index(video)
    return video_scores(model, videos[index].rgb, videos[index].flow).fused


@pytest.mark.parametrize("number", [0, 5])
def test_through_jpeg_equals_extract_and_evaluate(tiny_project: TinyProject, number: int) -> None:
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[number]
    prediction = VideoPredictor(tiny_project.weights, jpeg=True, threads=1)(video)
    expected = stored_scores(tiny_project, tiny_project.dataset, video.stem, 25)
    np.testing.assert_array_equal(prediction.scores.fused, expected)


def test_scores_are_those_of_the_plain_network_up_to_rounding(tiny_project: TinyProject) -> None:
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[3]
    predictor = VideoPredictor(tiny_project.weights, threads=1)
    prepared = predictor.prepare(video)
    expected = video_scores(load_model(tiny_project.weights), prepared.rgb, prepared.flow).fused
    found = predictor.predict_prepared(prepared).scores.fused
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    assert not predictor.model.fused  # what gate maps are taken from


def test_without_jpeg_scores_are_close(tiny_project: TinyProject) -> None:
    """Within a quarter of the spread of the scores, here at 64 pixels, where JPEG does the most harm."""
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[3]
    prediction = VideoPredictor(tiny_project.weights, threads=1)(video)
    expected = stored_scores(tiny_project, tiny_project.dataset, video.stem, 25)
    difference = np.abs(prediction.scores.fused - expected)
    assert 0 < difference.max() < 0.25 * expected.std()


def test_flow_by_torch_gives_nearly_the_same_scores(tiny_project: TinyProject) -> None:
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[3]
    scores = [
        VideoPredictor(tiny_project.weights, device="cpu", threads=1, flow_backend=backend)(video).scores.fused
        for backend in ("tvl1", "tvl1-torch")
    ]
    assert np.abs(scores[0] - scores[1]).max() < 0.05 * scores[0].std()


def test_gaps_between_stacks(tiny_project: TinyProject, long_video: Path, tmp_path: Path) -> None:
    """Five of 70 frames: flow is computed for five separate runs, the scores are those of the complete extraction."""
    extract_videos(long_video.parent, tmp_path / "data", short_side=64, workers=1)
    model = optimize(load_model(tiny_project.weights), dtype=torch.float32)
    annotation = tmp_path / "annot01.json"
    entry = {"drift": {"set": "validation", "label": 1, "nframes": 70}}
    labels = {str(number): name for number, name in enumerate(tiny_project.class_names, start=1)}
    annotation.write_text(json.dumps({"labels": labels, "training": {}, "validation": entry}))
    videos = TwoStreamDataset(
        annotation,
        tmp_path / "data" / "images",
        tmp_path / "data" / "flows",
        subset="validation",
        sampling=UniformFrames(5),
        transform=transforms.TestTransform(64),
    )
    prediction = VideoPredictor(tiny_project.weights, num_frames=5, jpeg=True, threads=2)(long_video)
    expected = video_scores(model, videos[0].rgb, videos[0].flow)
    np.testing.assert_array_equal(prediction.scores.fused, expected.fused)
    assert prediction.num_frames == 70


def test_prediction_fields(tiny_project: TinyProject) -> None:
    video = next(tiny_project.videos.rglob("*.avi"))
    prediction = VideoPredictor(tiny_project.weights, top=3, threads=1)(str(video))
    fused = prediction.scores.fused
    shares = np.exp(fused) / np.exp(fused).sum()
    assert prediction.label == tiny_project.class_names[int(fused.argmax())]
    assert prediction.score == pytest.approx(shares.max())
    assert [name for name, _ in prediction.top_k] == [tiny_project.class_names[i] for i in np.argsort(-fused)[:3]]
    assert prediction.appearance is not None
    assert prediction.motion is not None
    assert len(prediction.appearance) == len(prediction.motion) == 3
    assert prediction.num_frames == 16
    assert prediction.preset == "25 frames, short side 64, original and mirrored, tvl1 flow"
    assert prediction.flow_record is not None
    assert prediction.flow_record["algorithm"] == "TV-L1"
    assert set(prediction.seconds) == {"decode", "flow", "network", "total"}
    assert prediction.seconds["total"] >= prediction.seconds["decode"] + prediction.seconds["flow"]
    assert json.loads(json.dumps(prediction.to_dict()))["top_k"][0]["label"] == prediction.label


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_single_stream(tiny_project: TinyProject, stream: str) -> None:
    options: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}
    model = create_model(f"{stream}_resnet50", 6, class_names=tiny_project.class_names, **options)
    model.metadata = {"preprocessing": {"frames": {"short_side": 64}}}
    prediction = VideoPredictor(model, threads=1)(next(tiny_project.videos.rglob("*.avi")))
    assert (prediction.appearance is None) == (stream == "motion")
    assert (prediction.motion is None) == (stream == "appearance")
    assert (prediction.flow_record is None) == (stream == "appearance")


def test_shortest_video(tiny_project: TinyProject, tmp_path: Path) -> None:
    predictor = VideoPredictor(tiny_project.weights, threads=1)
    assert predictor(short_video(tmp_path / "eleven.avi", 11)).num_frames == 11
    with pytest.raises(VideoTooShortError, match=r"ten.avi: the video has 10 frames, at least 11"):
        predictor(short_video(tmp_path / "ten.avi", 10))


def test_missing_file_and_weights(tiny_project: TinyProject, tmp_path: Path) -> None:
    with pytest.raises(VideoDecodeError, match="no such file"):
        VideoPredictor(tiny_project.weights)(tmp_path / "nowhere.avi")
    with pytest.raises(CheckpointError, match="no such weight file"):
        VideoPredictor(tmp_path / "nowhere.safetensors")


def test_refused_arguments(tiny_project: TinyProject) -> None:
    with pytest.raises(ConfigError, match="frames must be 5 to 1000 for this network"):
        VideoPredictor(tiny_project.weights, num_frames=4)
    with pytest.raises(ConfigError, match="threads must be 1 or more, got 0"):
        VideoPredictor(tiny_project.weights, threads=0)
    with pytest.raises(ConfigError, match="backend"):
        VideoPredictor(tiny_project.weights, flow_backend="farneback")
    with pytest.raises(ConfigError, match="class names"):
        VideoPredictor(create_model("appearance_resnet50", 8, units=(1, 1, 1, 1), width_mult=0.125))
    with pytest.raises(ConfigError, match="device 'toaster' is not usable"):
        VideoPredictor(tiny_project.weights, device="toaster")


def test_other_flow_than_in_training_is_said(tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    VideoPredictor(tiny_project.weights, flow_backend="opencv")
    assert "trained with tvl1 flow and now gets opencv flow" in capsys.readouterr().err


def test_presets(tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(**options: Any) -> tuple[Any, ...]:
        found = VideoPredictor(tiny_project.weights, **options).settings
        return found.num_frames, found.flow_backend, found.precision, found.mirrored

    for has_bf16, fast in ((True, "bf16"), (False, "float32")):
        dtype = torch.bfloat16 if has_bf16 else torch.float32
        monkeypatch.setattr(presets, "fast_dtype", lambda device, dtype=dtype: dtype)
        assert settings() == (25, "tvl1", "float32", True)
        assert settings(preset="fast") == (10, "dis", fast, False)
        assert settings(preset="fast", num_frames=7, flow_backend="tvl1", mirrored=True) == (7, "tvl1", fast, True)
        assert settings(precision="bf16") == (25, "tvl1", "bf16", True)
        assert settings(preset="fast", precision="float32") == (10, "dis", "float32", False)


def test_fast_is_the_protocol_with_less(tiny_project: TinyProject) -> None:
    """In float32 the fast preset is one view of ten frames with DIS flow, exactly."""
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[3]
    prediction = VideoPredictor(tiny_project.weights, preset="fast", precision="float32", threads=1)(video)
    prepared = VideoPredictor(tiny_project.weights, num_frames=10, flow_backend="dis", threads=1).prepare(video)
    assert prepared.rgb is not None
    assert prepared.flow is not None
    with torch.inference_mode():
        output = load_model(tiny_project.weights)(prepared.rgb[None], prepared.flow[None])
    np.testing.assert_allclose(prediction.scores.fused, output.fused[0].double().numpy(), rtol=1e-4, atol=1e-5)
    assert prediction.preset == "10 frames, short side 64, not mirrored, dis flow"


def test_bf16_is_near_float32_and_said(tiny_project: TinyProject) -> None:
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[3]
    exact, rounded = (
        VideoPredictor(tiny_project.weights, num_frames=6, precision=precision, threads=1)(video)
        for precision in ("float32", "bf16")
    )
    difference = np.abs(exact.scores.fused - rounded.scores.fused)
    assert 0 < difference.max() < 0.05 * np.abs(exact.scores.fused).max()
    assert rounded.preset == "6 frames, short side 64, original and mirrored, tvl1 flow, bf16"
    assert rounded.settings == {
        "num_frames": 6,
        "flow_backend": "tvl1",
        "precision": "bf16",
        "mirrored": True,
        "short_side": 64,
        "jpeg": False,
    }


def test_optimised_networks_count_as_they_are(tiny_project: TinyProject) -> None:
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[3]
    for dtype, precision in ((torch.float32, "float32"), (torch.bfloat16, "bf16")):
        network = optimize(load_model(tiny_project.weights), dtype=dtype)
        predictor = VideoPredictor(network, num_frames=6, features=True, threads=1)
        assert predictor.settings.precision == precision
        prediction = predictor(video)
        other = VideoPredictor(tiny_project.weights, num_frames=6, threads=1)(video).scores.fused
        np.testing.assert_allclose(prediction.scores.fused, other, atol=0.05 * np.abs(other).max())
        assert prediction.scores.motion is not None
        fc = network.get_submodule("motion.head.fc")
        assert isinstance(fc, torch.nn.Conv2d)
        assert fc.bias is not None
        scores = fc.weight.detach().double().numpy()[:, :, 0, 0] @ prediction.features["motion"]
        np.testing.assert_allclose(scores + fc.bias.detach().numpy(), prediction.scores.motion, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="the network was optimised for bf16, not for float32"):
        VideoPredictor(network, precision="float32")


def test_only_networks_that_the_caller_holds_are_copied(
    tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_model(tiny_project.weights)
    copying = Mock(wraps=copy)
    monkeypatch.setattr("stmulnet.models.folding.copy", copying)
    VideoPredictor(tiny_project.weights)
    copying.deepcopy.assert_not_called()
    assert VideoPredictor(network).model is network
    copying.deepcopy.assert_called_once_with(network)
    assert not network.fused


def test_features_are_the_means_of_what_the_classifiers_see(tiny_project: TinyProject) -> None:
    """In NumPy from the pooled maps of both views; the classifier's weights turn them into the scores."""
    video = sorted(tiny_project.videos.rglob("*_g01_*.avi"))[3]
    predictor = VideoPredictor(tiny_project.weights, num_frames=7, features=True, threads=1)
    prediction, prepared = predictor(video), predictor.prepare(video)
    model = load_model(tiny_project.weights)
    assert prepared.rgb is not None
    assert prepared.flow is not None
    mirrored = prepared.flow.flip(-1)
    mirrored[:, 0::2] = 255 - mirrored[:, 0::2]
    views = [(prepared.rgb, prepared.flow), (prepared.rgb.flip(-1), mirrored)]
    for stream, name in (("appearance", "pool5_spatial"), ("motion", "pool5_temporal")):
        with torch.inference_mode():
            maps = [model.activations(rgb[None], flow[None], [name])[name].double().numpy() for rgb, flow in views]
        expected = np.mean([pooled[0].mean(axis=(2, 3)).mean(axis=0) for pooled in maps], axis=0)  # (1, W, C, h, w)
        features = prediction.features[stream]
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
        fc = model.get_submodule(f"{stream}.head.fc")
        assert isinstance(fc, torch.nn.Conv2d)
        assert fc.bias is not None
        weight, bias = (tensor.detach().double().numpy() for tensor in (fc.weight, fc.bias))
        scores = weight[:, :, 0, 0] @ expected + bias
        np.testing.assert_allclose(getattr(prediction.scores, stream), scores, rtol=1e-4, atol=1e-4)
    assert VideoPredictor(tiny_project.weights, threads=1)(video).features == {}


def test_runs() -> None:
    assert consecutive_runs([3, 4, 5, 9, 11, 12]) == [(3, 5), (9, 9), (11, 12)]
    assert consecutive_runs([7]) == [(7, 7)]
    assert consecutive_runs([]) == []


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(tiny_project: TinyProject) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    video = next(tiny_project.videos.rglob("*.avi"))
    scores = [VideoPredictor(tiny_project.weights, device=device)(video).scores.fused for device in ("cpu", "cuda")]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"top": 0}, {"threads": 0}, {"num_frames": 0}, {"device": "toaster"}),
        *({"preset": "quick"}, {"precision": "fp8"}),
    ],
)
def test_bad_arguments_are_refused_before_weights_are_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}"):
        VideoPredictor("nowhere.safetensors", **wrong)
