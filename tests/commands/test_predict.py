import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TinyProject

from stmulnet import cli
from stmulnet.commands.predict import predict
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.models.zoo import create_model
from stmulnet.overlay import score_panel, write_overlay
from stmulnet.predictor import VideoPredictor
from stmulnet.video.io import probe, read_frames


@pytest.fixture
def videos(tiny_project: TinyProject) -> list[str]:
    return [str(path) for path in sorted(tiny_project.videos.rglob("*.avi"))[:2]]


def test_bars_of_every_video(tiny_project: TinyProject, videos: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", *videos, "--weights", str(tiny_project.weights), "--top", "3", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(video in printed for video in videos)
    assert printed.count("█") + printed.count("░") == 2 * 3 * 24
    assert "16 frames; decode" in printed


def test_json_is_a_list_with_errors(
    tiny_project: TinyProject, videos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [videos[0], "nowhere.avi", videos[1]]
    assert cli.main(["predict", *given, "--json", "--weights", str(tiny_project.weights), "--threads", "1"]) == 1
    captured = capsys.readouterr()
    entries = json.loads(captured.out)
    assert [entry["video"] for entry in entries] == given
    assert entries[1]["error"] == "nowhere.avi: no such file"
    assert len(entries[0]["top_k"]) == 5
    assert entries[0]["score"] == entries[0]["top_k"][0]["score"]
    assert "stmulnet predict: nowhere.avi: no such file" in captured.err


def test_a_single_bad_video_is_bad_input(tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "nowhere.avi", "--weights", str(tiny_project.weights)]) == 2
    assert capsys.readouterr().err == "stmulnet predict: error: nowhere.avi: no such file\n"


def test_missing_weights_say_what_to_do(videos: list[str]) -> None:
    with pytest.raises(CheckpointError, match=r"no such weight file, neither as .* of a run folder \(`stmulnet train`"):
        predict([Path(videos[0])], weights=Path("nowhere.safetensors"))


def test_overlay_takes_one_video_and_mp4(tiny_project: TinyProject, videos: list[str]) -> None:
    paths = [Path(video) for video in videos]
    with pytest.raises(ConfigError, match="--overlay writes one video, but 2 were given"):
        predict(paths, weights=tiny_project.weights, overlay=Path("out.mp4"))
    with pytest.raises(ConfigError, match=r"writes \.mp4, got out\.avi"):
        predict(paths[:1], weights=tiny_project.weights, overlay=Path("out.avi"))
    with pytest.raises(ConfigError, match="cannot be written"):
        predict(paths[:1], weights=tiny_project.weights, overlay=paths[0] / "out.mp4")
    with pytest.raises(ConfigError, match=r"would replace the video itself, \S*clip\.mp4"):
        predict([Path("clip.mp4")], weights=tiny_project.weights, overlay=Path.cwd() / "clip.mp4")


def test_overlay_shows_frame_flow_and_scores(tiny_project: TinyProject, videos: list[str], tmp_path: Path) -> None:
    out = tmp_path / "overlay.mp4"
    predict([Path(videos[0])], weights=tiny_project.weights, overlay=out, threads=1)
    info = probe(out)
    pictures = read_frames(out)
    assert info.codec == "h264"
    assert pictures.shape == (16, 384, 2 * (384 + 8) + 400, 3)
    enlarged = pictures[7, :, :384]
    original = read_frames(videos[0])[7]
    np.testing.assert_allclose(enlarged[3::6, 3::6].mean(axis=(0, 1)), original.mean(axis=(0, 1)), atol=4)
    assert pictures[7, :, 384 + 8 : 2 * 384 + 8].mean() > 150  # flow: standstill is white
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.mp4"]


def test_overlay_without_motion_has_no_flow(tiny_project: TinyProject, videos: list[str], tmp_path: Path) -> None:
    options: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}
    model = create_model("appearance_resnet50", 6, class_names=tiny_project.class_names, **options)
    model.metadata = {"preprocessing": {"frames": {"short_side": 64}}}
    predictor = VideoPredictor(model, threads=1)
    write_overlay(tmp_path / "out.mp4", Path(videos[0]), predictor(videos[0]), predictor)
    assert (probe(tmp_path / "out.mp4").width, probe(tmp_path / "out.mp4").num_frames_hint) == (384 + 8 + 400, 16)


def test_panel_takes_any_name(tiny_project: TinyProject, videos: list[str]) -> None:
    prediction = VideoPredictor(tiny_project.weights, threads=1)(videos[0])
    panel = score_panel("a $very$ long name of a video " * 4, prediction, 6.4)
    assert panel.shape == (384, 400, 3)
    assert panel.dtype == np.uint8
    assert panel.min() < 60 < 250 < panel.max()
