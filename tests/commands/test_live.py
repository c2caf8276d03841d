import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TinyProject
from tests.films import write_film

from stmulnet import cli
from stmulnet.commands.live import live
from stmulnet.errors import ConfigError
from stmulnet.video.io import iter_frames, write_video


@pytest.fixture(scope="module")
def film(tiny_project: TinyProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of 16 frames one after the other, 40 frames/s: 2 seconds."""
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", tiny_project.videos, fps=40)


OPTIONS = ["--realtime", "--window", "0.5", "--stride", "0.2", "--frames", "5", "--flow-backend", "dis"]


def test_a_recording_played_at_its_own_rate(
    tiny_project: TinyProject, film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["live", str(film), "--weights", str(tiny_project.weights), "--threads", "1", *OPTIONS]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines
    for line in lines:
        assert any(f" s  {name}  " in line for name in tiny_project.class_names)
        assert " %  latency " in line
        assert " ms  dropped " in line
    assert f"live: {film}, 5 frames, short side 64" in captured.err
    assert "live: 80 frames, " in captured.err
    assert "ms on average" in captured.err
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("live-")]


def test_json_lines(tiny_project: TinyProject, film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["live", str(film), "--json", "--weights", str(tiny_project.weights), *OPTIONS]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answers
    keys = {"time_s", "label", "score", "top_k", "latency_ms", "frames", "dropped", "window_frames"}
    assert all(set(answer) == keys for answer in answers)
    assert all(answer["top_k"][0] == {"label": answer["label"], "score": answer["score"]} for answer in answers)
    assert answers[-1]["frames"] == 80
    assert np.all(np.diff([answer["time_s"] for answer in answers]) > 0)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_is_how_it_ends(tiny_project: TinyProject, film: Path, tmp_path: Path, number: signal.Signals) -> None:
    long = tmp_path / "long.mp4"
    write_video(long, [frame for _ in range(10) for frame in iter_frames(film)], fps=25)
    command = [sys.executable, "-m", "stmulnet", "live", str(long), "--weights", str(tiny_project.weights), *OPTIONS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert " ms  dropped " in process.stdout.readline()
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert error.splitlines()[-1].startswith("live: ")
    assert "Traceback" not in error


def test_refused_sources(tiny_project: TinyProject, film: Path) -> None:
    with pytest.raises(ConfigError, match="is a recording: give --realtime to play it"):
        live(str(film), weights=tiny_project.weights)
    images = next((tiny_project.dataset / "images").iterdir())
    with pytest.raises(ConfigError, match="does not say how many frames per second it has, so it cannot be played"):
        live(str(images), weights=tiny_project.weights, realtime=True)
    with pytest.raises(ConfigError, match="a rolling window must be longer than 0 s"):
        live(str(film), weights=tiny_project.weights, realtime=True, window=0)


def test_a_camera_that_is_not_there_is_one_line(tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["live", "987", "--weights", str(tiny_project.weights)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("stmulnet live: error: camera 987: there is no /dev/video987; cameras found: ")
    assert error.count("\n") == 1


def test_a_camera_that_cannot_be_opened_is_one_line(
    tiny_project: TinyProject, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "video3"
    device.write_bytes(b"no camera")
    monkeypatch.setattr("stmulnet.video.inputs.find_camera", lambda number, name: device)
    for verb in ("live", "predict"):
        assert cli.main([verb, "3", "--weights", str(tiny_project.weights)]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"stmulnet {verb}: error: camera 3: cannot be opened (")


def test_a_damaged_recording(tiny_project: TinyProject, film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = film.with_name("cut.mkv")
    write_video(cut, iter_frames(film), fps=40)
    cut.write_bytes(cut.read_bytes()[:-3000])
    assert cli.main(["live", str(cut), "--weights", str(tiny_project.weights), *OPTIONS]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"stmulnet live: error: {cut}: ")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("live-")]
