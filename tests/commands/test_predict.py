import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests import fileserver
from tests.conftest import TinyProject
from tests.fileserver import serve

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


def test_names_that_are_not_utf8(tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "b\udcff.avi", "--weights", str(tiny_project.weights)]) == 2
    assert "the name of the file is not UTF-8; rename it" in capsys.readouterr().err


def test_csv_has_a_row_per_video(
    tiny_project: TinyProject, videos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [videos[0], "nowhere.avi", videos[1]]
    options = ["--csv", "--top", "2", "--threads", "1", "--weights", str(tiny_project.weights)]
    assert cli.main(["predict", *given, *options]) == 1
    captured = capsys.readouterr()
    rows = list(csv.DictReader(captured.out.splitlines()))
    assert list(rows[0]) == ["video", "num_frames", "label_1", "score_1", "label_2", "score_2", "error"]
    assert [row["video"] for row in rows] == given
    assert [row["error"] for row in rows] == ["", "nowhere.avi: no such file", ""]
    assert [row["num_frames"] for row in rows] == ["16", "", "16"]
    prediction = VideoPredictor(tiny_project.weights, threads=1)(videos[1])
    assert rows[2]["label_2"] == prediction.top_k[1][0]
    assert float(rows[2]["score_2"]) == pytest.approx(prediction.top_k[1][1], abs=1e-6)
    assert captured.err.endswith("2 videos recognised, 1 failed\n")


def test_folder_pattern_images_and_address(tiny_project: TinyProject, videos: list[str], tmp_path: Path) -> None:
    copies = [tmp_path / "many" / "v2.avi", tmp_path / "many" / "v10.avi"]
    copies[0].parent.mkdir()
    for copy in copies:
        copy.write_bytes(Path(videos[0]).read_bytes())
    (tmp_path / "images").mkdir()
    for number, frame in enumerate(read_frames(videos[0]), start=1):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), frame[:, :, ::-1])
    with serve() as server:
        server.files = {"v.avi": Path(videos[0]).read_bytes()}
        given = [str(tmp_path / "many"), str(tmp_path / "many" / "*.avi"), str(tmp_path / "images")]
        summary = predict([*given, f"{server.address}/v.avi"], weights=tiny_project.weights, threads=1)
    assert list(summary.predictions) == [*copies, tmp_path / "images", f"{server.address}/v.avi"]
    scores = [prediction.scores.fused for prediction in summary.predictions.values()]
    for other in scores[1:]:
        np.testing.assert_array_equal(other, scores[0])


def test_features_are_written(tiny_project: TinyProject, videos: list[str], tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    given = [videos[0], "nowhere.avi", videos[1]]
    summary = predict(given, weights=tiny_project.weights, features=out, threads=1)
    assert summary.exit_code == 1
    with np.load(out) as tables:
        assert sorted(tables) == ["appearance", "motion", "videos"]
        assert list(tables["videos"]) == [videos[0], videos[1]]
        assert tables["appearance"].shape == tables["motion"].shape == (2, 256)
        prediction = summary.predictions[Path(videos[1])]
        np.testing.assert_array_equal(tables["motion"][1], prediction.features["motion"].astype(np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]


def test_features_without_a_video_are_not_written(
    tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(["a.avi", "b.avi"], weights=tiny_project.weights, features=tmp_path / "f.npz")
    assert "f.npz is not written: no video was recognised" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_outputs_are_checked_first(tmp_path: Path) -> None:
    options: dict[str, Any] = {"weights": Path("nowhere.safetensors")}
    with pytest.raises(ConfigError, match="--json and --csv are two forms"):
        predict(["a.avi"], json=True, csv=True, **options)
    with pytest.raises(ConfigError, match=r"--features writes \.npz, got f\.txt"):
        predict(["a.avi"], features=Path("f.txt"), **options)
    with pytest.raises(ConfigError, match="no file matches this pattern"):
        predict([str(tmp_path / "*.avi")], **options)
    with pytest.raises(ConfigError, match="--overlay needs a video that can be read twice, not rtsp://h/x"):
        predict(["rtsp://h/x"], overlay=tmp_path / "o.mp4", **options)


def test_fast_preset_says_what_was_used(
    tiny_project: TinyProject, videos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", "fast", "--frames", "6", "--json", "--weights", str(tiny_project.weights), "--threads", "1"]
    assert cli.main(["predict", videos[0], *options]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["flow_record"]["algorithm"] == "DIS"
    assert entry["settings"]["num_frames"] == 6
    assert entry["settings"]["mirrored"] is False
    assert entry["settings"]["precision"] in ("float32", "bf16")
    assert entry["preset"].startswith("6 frames, short side 64, not mirrored, dis flow")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_stops_at_once(tiny_project: TinyProject, videos: list[str]) -> None:
    many = videos * 300
    command = [sys.executable, "-m", "stmulnet", "predict", *many, "--threads", "2", "--weights"]
    process = subprocess.Popen(
        [*command, str(tiny_project.weights)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == videos[0]  # at work
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.endswith("stmulnet predict: interrupted\n")
    assert time.monotonic() - start < 10  # a second on a machine that is not busy


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_a_server_is_silent(tiny_project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fileserver, "HANG_SEC", 120.0)
    with serve() as server:
        server.hang, server.files = True, {"v.avi": bytes(10**6)}
        command = [sys.executable, "-m", "stmulnet", "predict", f"{server.address}/v.avi"]
        process = subprocess.Popen(
            [*command, "--weights", str(tiny_project.weights)], stderr=subprocess.PIPE, text=True
        )
        while not server.requests:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (130, "stmulnet predict: interrupted\n")
        assert time.monotonic() - start < 20  # within two seconds unless the machine is busy; the time-out is 30


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


def test_overlay_of_images_behind_no_file(tiny_project: TinyProject, videos: list[str], tmp_path: Path) -> None:
    for number, frame in enumerate(read_frames(videos[0]), start=1):
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), frame[:, :, ::-1])
    with serve() as server:
        server.files = {"v.avi": Path(videos[0]).read_bytes()}
        for number, given in enumerate((str(tmp_path / "images"), f"{server.address}/v.avi", videos[0])):
            predict([given], weights=tiny_project.weights, overlay=tmp_path / f"{number}.mp4", threads=1)
        assert len(server.requests) == 1
    # Not the panel, which has the name; the pictures differ by what encoding makes of another panel and rate.
    pictures = [read_frames(tmp_path / f"{number}.mp4")[:, :, : 2 * 392].astype(float) for number in range(3)]
    assert np.abs(pictures[0] - pictures[2]).mean() < 1
    assert np.abs(pictures[1] - pictures[2]).mean() < 1
    assert np.abs(pictures[2] - pictures[2][::-1]).mean() > 2  # something moves


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
