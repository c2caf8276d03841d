"""Views, late fusion of two networks, weights, and scores of another method, through `evaluate`."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands.evaluating import make_dataset, network, save_network
from tests.conftest import TinyProject

from stmulnet import cli
from stmulnet.commands.evaluate import evaluate, open_test_list
from stmulnet.errors import CheckpointError, ConfigError
from stmulnet.evaluation.clip_views import ViewsName, view_maker
from stmulnet.evaluation.protocol import video_scores
from stmulnet.models.checkpoint import load_model, save_model


def write_external(path: Path, videos: list[str], names: list[str], scores: np.ndarray) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", *names[::-1]])
        writer.writerows([video, *row[::-1]] for video, row in zip(videos, scores.tolist(), strict=True))
    return path


@pytest.mark.parametrize("views", ["center", "ten_crop", "clips"])
def test_other_views(tiny_project: TinyProject, tmp_path: Path, views: ViewsName) -> None:
    summary = evaluate(
        dataset=tiny_project.dataset, weights=tiny_project.weights, views=views, frames=10, workers=0, out=tmp_path
    )
    model = load_model(tiny_project.weights)
    videos = open_test_list(tiny_project.dataset, tiny_project.dataset / "annotations/annot01.json", model, 10)
    for index, sample in enumerate(videos.records):
        clip = videos[index]
        expected = video_scores(model, clip.rgb, clip.flow, views=view_maker(views, 64))
        assert summary.scores.videos[index] == sample.video
        np.testing.assert_allclose(summary.scores.fused[index], expected.fused, rtol=1e-5, atol=1e-6)
    with np.load(tmp_path / "scores.npz") as file:
        assert file["appearance_views"].shape == (6, {"center": 1, "ten_crop": 10, "clips": 4}[views], 6)
        assert json.loads(str(file["record"]))["views"] == views
    assert "10 frames" in json.loads((tmp_path / "metrics.json").read_text())["protocol"]


def test_clips_need_whole_clips(tiny_project: TinyProject) -> None:
    with pytest.raises(ConfigError, match="views clips score 5 frames at once: frames must be a multiple, got 12"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, views="clips", frames=12)


def test_two_networks_are_late_fusion(tiny_project: TinyProject, tmp_path: Path) -> None:
    """Single streams with the weights of a two-stream network without connection: the same scores bit by bit."""
    both = network("two_stream_resnet50", tiny_project)
    save_model(both, tmp_path / "both.safetensors")
    paths = {}
    for stream in ("appearance", "motion"):
        alone = network(f"{stream}_resnet50", tiny_project)
        alone.load_state_dict({name: both.state_dict()[name] for name in alone.state_dict()})
        paths[stream] = tmp_path / f"{stream}.safetensors"
        save_model(alone, paths[stream])
    options: dict[str, Any] = {"dataset": tiny_project.dataset, "frames": 5, "workers": 0}
    whole = evaluate(weights=tmp_path / "both.safetensors", **options)
    fused = evaluate(
        weights=paths["appearance"], motion_weights=paths["motion"], out=tmp_path / "out", examples=1, **options
    )
    assert [row.name for row in fused.rows] == ["appearance", "motion", "fused"]
    for name in ("appearance", "motion", "fused", "appearance_views", "motion_views"):
        np.testing.assert_array_equal(getattr(fused.scores, name), getattr(whole.scores, name))
    assert (tmp_path / "out" / "report.html").read_text().count('<img src="data:image/jpeg') > 5  # frames and flow
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [entry["streams"] for entry in metrics["weights"]] == [["appearance"], ["motion"]]

    weighted = evaluate(
        weights=paths["appearance"], motion_weights=paths["motion"], fusion_weights=[1.0, 1.5], **options
    )
    expected = (whole.scores.appearance + 1.5 * whole.scores.motion) / 2.5  # type: ignore[operator]
    np.testing.assert_allclose(weighted.scores.fused, expected)
    assert weighted.rows[-1].note == "mean of the two streams' scores, appearance weighted 1, motion 1.5"


def test_networks_that_are_no_pair(tiny_project: TinyProject, tmp_path: Path) -> None:
    motion = save_network(tmp_path / "motion.safetensors", "motion_resnet50", tiny_project)
    with pytest.raises(ConfigError, match=r"model.safetensors and .*motion.safetensors have appearance\+motion and mo"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, motion_weights=motion)
    with pytest.raises(ConfigError, match="have motion and motion"):
        evaluate(dataset=tiny_project.dataset, weights=motion, motion_weights=motion)
    with pytest.raises(ConfigError, match=r"fusion_weights weigh two streams; .*motion.safetensors has motion alone"):
        evaluate(dataset=tiny_project.dataset, weights=motion, fusion_weights=[1, 2])
    with pytest.raises(ConfigError, match="need 2 weights of 0 or more"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, fusion_weights=[1])


def test_another_method_is_added(
    tiny_project: TinyProject, tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"dataset": tiny_project.dataset, "weights": tiny_project.weights, "workers": 0}
    alone = evaluate(frames=5, **options)
    margins = 30 * rng.normal(size=(7, 6))
    path = write_external(
        tmp_path / "idt.csv", [*alone.scores.videos[::-1], "other"], tiny_project.class_names, margins
    )
    assert alone.rows[-1].name == "fused"
    summary = evaluate(frames=5, external_scores=path, external_weight=0.5, out=tmp_path / "out", examples=2, **options)
    assert "also has scores of 1 videos that are not in the test list" in capsys.readouterr().err
    external = margins[:6][::-1]
    ours = alone.scores.fused / np.linalg.norm(alone.scores.fused, axis=1)[:, None]
    expected = (ours + 0.5 * external / np.linalg.norm(external, axis=1)[:, None]) / 1.5
    assert [row.name for row in summary.rows] == ["appearance", "motion", "fused", "external", "combined"]
    np.testing.assert_allclose(summary.scores.combined, expected)  # type: ignore[arg-type]
    right = (expected.argmax(axis=1) == summary.scores.labels).mean()
    assert summary.rows[-1].accuracy.value == pytest.approx(right)
    with (tmp_path / "out" / "confusion.csv").open(newline="") as file:
        counts = np.array([row[1:] for row in csv.reader(file)][1:], dtype=int)
    assert np.trace(counts) == round(6 * right)


def test_weight_of_another_method(tiny_project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dataset", str(tiny_project.dataset), "--weights", str(tiny_project.weights)]
    assert cli.main(["evaluate", *arguments, "--external-weight=-1"]) == 2
    assert "the network (1) and the external scores need 2 weights of 0 or more" in capsys.readouterr().err


def test_bad_external_scores_stop_before_anything_is_scored(
    tiny_project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", None)
    path = write_external(tmp_path / "idt.csv", ["v_1"], tiny_project.class_names, np.zeros((1, 6)))
    with pytest.raises(ConfigError, match=r"idt\.csv: has no scores of 6 of the 6 test videos"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, external_scores=path)
    path.write_text("video,Wave\n")
    with pytest.raises(ConfigError, match="unknown classes: Wave"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, external_scores=path)
    with pytest.raises(CheckpointError, match="nowhere"):
        evaluate(dataset=make_dataset(tiny_project, tmp_path / "set"), weights=Path("nowhere.safetensors"))
