import csv
import io
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TinyProject
from tests.films import single_stream, write_film

from stmulnet import cli
from stmulnet.commands.timeline import timeline
from stmulnet.errors import ConfigError, DatasetError, VideoDecodeError
from stmulnet.predictor import VideoPredictor
from stmulnet.streaming.overlay import overlay_pictures
from stmulnet.streaming.scorer import WindowScorer
from stmulnet.streaming.windows import Windowing
from stmulnet.video.io import iter_frames, probe, read_frames, write_video

FAST: dict[str, Any] = {"flow_backend": "dis", "threads": 1, "frames": 5}


@pytest.fixture(scope="module")
def film(tiny_project: TinyProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of 16 frames one after the other, 8 frames/s: 10 seconds."""
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", tiny_project.videos, fps=8)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_files_and_segments(
    tiny_project: TinyProject, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    options = ["--window", "2", "--stride", "1", "--frames", "5", "--flow-backend", "dis", "--threads", "1"]
    assert cli.main(["timeline", str(film), "--weights", str(tiny_project.weights), "--out", str(out), *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["timeline.csv", "timeline.json", "timeline.png"]
    captured = capsys.readouterr()
    assert captured.err.endswith(f"timeline: 9 windows of 80 frames in {out}\n")
    assert "timeline: 80/80 frames" in captured.err
    content = json.loads((out / "timeline.json").read_text())
    assert [(window["start_s"], window["end_s"]) for window in content["windows"]] == [(t, t + 2) for t in range(9)]
    assert content["complete"] is True
    assert content["preset"].startswith("5 frames, short side 64")
    assert len(captured.out.splitlines()) == len(content["segments"])
    assert content["segments"][-1]["label"] in captured.out
    rows = rows_of(out / "timeline.csv")
    assert [row["label"] for row in rows] == [window["label"] for window in content["windows"]]
    whole = timeline(str(film), weights=tiny_project.weights, out=out, window=20, **FAST)
    predicted = VideoPredictor(tiny_project.weights, num_frames=5, flow_backend="dis", threads=1)(film)
    np.testing.assert_array_equal(whole.timeline.fused[0], predicted.scores.fused)
    assert len(rows_of(out / "timeline.csv")) == 1  # the earlier one is replaced


def test_windows_that_would_share_frames_are_named(
    tiny_project: TinyProject, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(window: float, stride: float) -> str:
        timeline(str(film), weights=tiny_project.weights, out=tmp_path, window=window, stride=stride, **FAST)
        return capsys.readouterr().err

    advice = "windows would share 3 of 5 frames, and the network's work on them, with --window 4.125 --stride 1.375"
    assert advice in run(4, 1.5)  # 32 and 12 frames; 33 and 11 are better
    assert "would share" not in run(4.125, 1.375)
    assert "would share" not in run(12, 3)  # one window, longer than the film


def test_rows_are_there_as_soon_as_their_window_is_scored_and_ctrl_c_keeps_them(
    tiny_project: TinyProject,
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = VideoPredictor.score_frames
    seen = []

    def interrupted(*arguments: Any) -> Any:
        if (tmp_path / "timeline.csv").exists():
            seen.append(len(rows_of(tmp_path / "timeline.csv")))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(VideoPredictor, "score_frames", interrupted)
    options = ["--window", "2", "--stride", "1", "--frames", "5", "--flow-backend", "dis", "--threads", "1"]
    options += ["--weights", str(tiny_project.weights), "--out", str(tmp_path), "--overlay", str(tmp_path / "o.mp4")]
    assert cli.main(["timeline", str(film), *options]) == 130
    assert seen == [1, 2, 3]
    error = capsys.readouterr().err
    assert error.endswith(f"stmulnet timeline: interrupted: 3 windows up to 4.0 s kept in {tmp_path}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["timeline.csv", "timeline.json", "timeline.png"]
    content = json.loads((tmp_path / "timeline.json").read_text())
    assert content["complete"] is False
    assert len(content["windows"]) == len(rows_of(tmp_path / "timeline.csv")) == 3
    assert "timeline" not in {thread.name for thread in threading.enumerate()}


def test_a_damaged_video_keeps_what_is_before_the_damage(
    tiny_project: TinyProject, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.mkv"
    write_video(cut, iter_frames(film), fps=8)
    data = cut.read_bytes()
    cut.write_bytes(data[: int(0.7 * len(data))])
    options = ["--window", "2", "--stride", "1", "--frames", "5", "--flow-backend", "dis", "--threads", "1"]
    out = tmp_path / "out"
    assert cli.main(["timeline", str(cut), "--weights", str(tiny_project.weights), "--out", str(out), *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"stmulnet timeline: error: {cut}: ")
    assert f" s kept in {out}" in error
    assert json.loads((out / "timeline.json").read_text())["complete"] is False
    assert rows_of(out / "timeline.csv")


def test_a_damaged_image_of_a_folder(tiny_project: TinyProject, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    shutil.copytree(next((tiny_project.dataset / "images").iterdir()), folder)
    last = sorted(folder.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(DatasetError, match=rf"{last.name}.*; 1 window up to 1\.5 s kept in {tmp_path / 'out'}"):
        timeline(str(folder), weights=tiny_project.weights, out=tmp_path / "out", fps=8, window=1.5, stride=1, **FAST)
    assert rows_of(tmp_path / "out" / "timeline.csv")


def test_nothing_is_left_where_nothing_was_found(tiny_project: TinyProject, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(VideoDecodeError, match=r"nowhere\.mp4: no such file"):
        timeline("nowhere.mp4", weights=tiny_project.weights, out=out)
    short = tmp_path / "short.mp4"
    write_video(short, list(iter_frames(film))[:10], fps=8)
    assert cli.main(["timeline", str(short), "--weights", str(tiny_project.weights), "--out", str(out)]) == 2
    assert not out.exists()


def test_refused_arguments(tiny_project: TinyProject, film: Path, tmp_path: Path) -> None:
    def refused(message: str, video: str = str(film), **options: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            timeline(video, **{"weights": tiny_project.weights, "out": tmp_path / "out", **options})

    refused(r"windows of 1 s every 2 s at 8 frames/s: .* got 8", window=1)
    refused("the stride of windows must be 1 frame or more", stride=0)
    refused(r"--overlay writes \.mp4, got o\.avi", overlay=Path("o.avi"))
    refused("--overlay would replace the video itself", overlay=film)
    refused("windows of 2 s every 3 s leave some out", overlay=Path("o.mp4"), window=2, stride=3)
    refused("is a file", out=film)
    refused("frames must be 5 to 1000 for this network", frames=3)
    refused("has no end; use `stmulnet live`", video="rtsp://127.0.0.1/x")
    refused("--fps must be positive, got -1", fps=-1.0)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_images_needs_a_rate(tiny_project: TinyProject, tmp_path: Path) -> None:
    folder = next((tiny_project.dataset / "images").iterdir())
    options = {"weights": tiny_project.weights, "out": tmp_path / "out", "window": 2.0, **FAST}
    with pytest.raises(ConfigError, match="does not say how many frames per second it has; give --fps"):
        timeline(str(folder), **options)
    assert timeline(str(folder), fps=8, **options).timeline.times.tolist() == [[0, 2]]


def test_overlay_shows_each_frame_with_the_scores_of_the_nearest_window(
    tiny_project: TinyProject, film: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "o.mp4"
    timeline(str(film), weights=tiny_project.weights, out=tmp_path, overlay=overlay, window=4, stride=3, **FAST)
    pictures = read_frames(overlay)
    assert probe(overlay).fps == 8
    assert pictures.shape == (80, 384, 2 * (384 + 8) + 400, 3)
    original = read_frames(film)
    for number in (0, 40, 79):
        shrunk = pictures[number, :, :384].reshape(64, 6, 64, 6, 3).mean(axis=(1, 3))
        assert np.abs(shrunk - original[number]).mean() < 4
    # windows 1-32, 25-56, 49-80: centres 16.5, 40.5, 64.5
    times = pictures[:, 14:34, -390:].astype(np.int16)  # "0.0 to 4.0 s"
    changes = [number for number in range(1, 80) if np.abs(times[number] - times[number - 1]).max() > 100]
    assert changes == [28, 52]  # 0-based: frames 29 and 53 are the first that are nearer to the next


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_overlay_of_one_stream(tiny_project: TinyProject, film: Path, stream: str) -> None:
    model = single_stream(stream, tiny_project.class_names)
    predictor = VideoPredictor(model, threads=1, num_frames=5, flow_backend="dis")
    steps = WindowScorer(predictor, Windowing(20, 20, 5), all_flow=True).steps(iter_frames(film))
    pictures = list(overlay_pictures(steps, predictor, fps=8))
    assert len(pictures) == 80
    assert {picture.shape for picture in pictures} == {(384, (2 if stream == "motion" else 1) * 392 + 400, 3)}
