import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TinyProject

from stmulnet import cli
from stmulnet.commands.evaluate import evaluate
from stmulnet.commands.extract import extract
from stmulnet.commands.train import train
from stmulnet.errors import AnnotationError, CheckpointError, ConfigError, DatasetError
from stmulnet.files import write_json
from stmulnet.models.checkpoint import load_model, save_model
from stmulnet.models.zoo import create_model
from stmulnet.video.io import write_video

SMALL: dict[str, Any] = {"units": (1, 1, 1, 1), "width_mult": 0.125, "input_size": 64, "head_pool": "global"}


def test_results_on_disk(tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results"
    arguments = ["--dataset", str(tiny_project.dataset), "--weights", str(tiny_project.weights)]
    assert cli.main(["evaluate", *arguments, "--out", str(out), "--workers", "0", "--examples", "2"]) == 0
    printed = capsys.readouterr().out
    assert "6 videos; 25 frames, whole frame, original and mirrored, raw scores averaged" in printed
    files = ["classes.csv", "confusion.csv", "metrics.json", "report.html", "scores.npz"]
    assert sorted(path.name for path in out.iterdir()) == files

    scores = np.load(out / "scores.npz")
    assert scores["fused"].shape == (6, 6)
    np.testing.assert_allclose(scores["fused"], (scores["appearance"] + scores["motion"]) / 2)
    metrics = json.loads((out / "metrics.json").read_text())
    accuracy = float((scores["fused"].argmax(axis=1) == scores["labels"]).mean())
    assert metrics["streams"]["fused"]["top1"]["value"] == accuracy
    assert metrics["videos"] == 6
    assert metrics["streams"]["fused"]["top1"]["bootstrap_by_group"] is None  # one video per recording
    low, high = metrics["streams"]["fused"]["top1"]["bootstrap"]
    assert 0 <= low <= accuracy <= high <= 1
    with (out / "classes.csv").open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [row["class"] for row in classes] == tiny_project.class_names
    assert sum(int(row["correct"]) for row in classes) == round(6 * accuracy)
    with (out / "confusion.csv").open(newline="") as file:
        counts = np.array([row[1:] for row in csv.reader(file)][1:], dtype=int)
    assert counts.sum() == 6
    assert np.trace(counts) == round(6 * accuracy)
    assert (out / "report.html").read_text().count("<article>") == 2


def test_workers_give_the_same_scores(tiny_project: TinyProject) -> None:
    alone = evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, frames=5, workers=0)
    helped = evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, frames=5, workers=1)
    assert helped.scores.videos == alone.scores.videos
    np.testing.assert_array_equal(helped.scores.fused, alone.scores.fused)


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_single_stream(tiny_project: TinyProject, tmp_path: Path, stream: str) -> None:
    weights = tmp_path / "single.safetensors"
    save_model(create_model(f"{stream}_resnet50", 6, class_names=tiny_project.class_names, **SMALL), weights)
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for name in ("annotations", "images" if stream == "appearance" else "flows"):
        (dataset / name).symlink_to(tiny_project.dataset / name)
    summary = evaluate(dataset=dataset, weights=weights, out=tmp_path / "out", frames=5, workers=0)
    assert [row.name for row in summary.rows] == [stream]
    assert "no such" not in (tmp_path / "out" / "report.html").read_text()


def test_videos_left_out_of_the_list_are_said(
    tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("images", "flows"):
        (tmp_path / name).symlink_to(tiny_project.dataset / name)
    content = json.loads((tiny_project.dataset / "annotations" / "annot01.json").read_text())
    content["left_out"] = {"training": [], "validation": ["gone"]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "annot01.json").write_text(json.dumps(content))
    evaluate(dataset=tmp_path, weights=tiny_project.weights, out=tmp_path / "out", frames=5, workers=0)
    assert "annot01.json lacks 1 videos of the test list" in capsys.readouterr().err
    assert "1 videos of the test list that were not on disk" in (tmp_path / "out" / "report.html").read_text()


def test_other_number_of_classes_is_refused(tiny_project: TinyProject, tmp_path: Path) -> None:
    weights = tmp_path / "three.safetensors"
    save_model(create_model("appearance_resnet50", 3, **SMALL), weights)
    with pytest.raises(CheckpointError, match=r"three.safetensors knows 3 classes, .*annot01.json has 6"):
        evaluate(dataset=tiny_project.dataset, weights=weights)


def test_other_class_names_are_refused(tiny_project: TinyProject, tmp_path: Path) -> None:
    weights = tmp_path / "named.safetensors"
    names = [*tiny_project.class_names[:5], "Walk"]
    save_model(create_model("appearance_resnet50", 6, class_names=names, **SMALL), weights)
    with pytest.raises(CheckpointError, match=f"first 'Walk' against '{tiny_project.class_names[5]}'"):
        evaluate(dataset=tiny_project.dataset, weights=weights)


def test_missing_split_and_bad_numbers(tiny_project: TinyProject) -> None:
    with pytest.raises(AnnotationError, match=r"annot03\.json"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, split=3)
    with pytest.raises(ConfigError, match="frames must be 5 to 1000 for this network, got 4"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, frames=4)
    with pytest.raises(ConfigError, match="workers must be 0 or more, got -1"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, workers=-1)
    for split in (0, [], [1, 1]):
        with pytest.raises(ConfigError, match="split must be a number from 1, or several different ones, got"):
            evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, split=split)
    with pytest.raises(ConfigError, match="evaluate needs --dataset and --weights, or the --scores of an earlier run"):
        evaluate(dataset=tiny_project.dataset)
    with pytest.raises(ConfigError, match="is a file; give another name for the output"):
        evaluate(dataset=tiny_project.dataset, weights=tiny_project.weights, out=tiny_project.weights)


def test_empty_list_is_refused(tiny_project: TinyProject, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for name in ("images", "flows"):
        (dataset / name).symlink_to(tiny_project.dataset / name)
    annotation = json.loads((tiny_project.dataset / "annotations" / "annot01.json").read_text())
    (dataset / "annotations").mkdir()
    (dataset / "annotations" / "annot01.json").write_text(json.dumps({**annotation, "validation": {}}))
    with pytest.raises(AnnotationError, match="validation list is empty"):
        evaluate(dataset=dataset, weights=tiny_project.weights)


@pytest.mark.parametrize("workers", [0, 1])
def test_missing_frames_are_named_in_one_line(tiny_project: TinyProject, tmp_path: Path, workers: int) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny_project.dataset, dataset)
    video = next(iter(json.loads((dataset / "annotations" / "annot01.json").read_text())["validation"]))
    (dataset / "images" / video / "frame000008.jpg").unlink()
    with pytest.raises(DatasetError, match=r"frame000008\.jpg") as caught:
        evaluate(dataset=dataset, weights=tiny_project.weights, workers=workers, out=tmp_path / "out")
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_other_flow_than_in_training_is_said(
    tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(tiny_project.weights)
    model.metadata["preprocessing"]["flow"]["backend"] = "opencv"
    save_model(model, tmp_path / "other.safetensors")
    evaluate(dataset=tiny_project.dataset, weights=tmp_path / "other.safetensors", frames=5, workers=0)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert notes == ["note: flow backend: 'tvl1' here, 'opencv' in training"]


@pytest.mark.parametrize(("holdout", "said"), [(0, True), (0.2, False)])
def test_an_epoch_chosen_by_the_test_list_is_said(
    holdout: float, said: bool, tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation = tiny_project.dataset / "annotations" / "annot01.json"
    data = {"annotation_sha256": hashlib.sha256(annotation.read_bytes()).hexdigest()}
    model = load_model(tiny_project.weights)
    model.metadata["training"] = {"dataset": "mine", "split": 1, "holdout": holdout, "data": data}
    model.metadata["metric"] = {"top1": 0.5, "chosen_by": True}
    save_model(model, tmp_path / "best.safetensors")
    evaluate(dataset=tiny_project.dataset, weights=tmp_path / "best.safetensors", frames=5, workers=0)
    note = "note: best.safetensors was chosen among the epochs of its training by this list"
    assert (note in capsys.readouterr().err) is said


def test_another_algorithm_is_said_without_its_parameters(
    tiny_project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(tiny_project.weights)
    model.metadata["preprocessing"]["flow"] |= {"algorithm": "DIS", "backend": "dis", "parameters": {"preset": "fast"}}
    save_model(model, tmp_path / "other.safetensors")
    evaluate(dataset=tiny_project.dataset, weights=tmp_path / "other.safetensors", frames=5, workers=0)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert notes == [
        "note: flow algorithm: 'TV-L1' here, 'DIS' in training",
        "note: flow backend: 'tvl1' here, 'dis' in training",
    ]


def test_a_data_set_for_evaluation_only(tiny_project: TinyProject, tmp_path: Path, rng: np.random.Generator) -> None:
    """It gives the scores of the whole one, for the frames that it was made for; training refuses it."""
    texture = rng.integers(0, 256, (20, 60, 3), dtype=np.uint8).repeat(4, axis=0).repeat(8, axis=1)
    write_video(tmp_path / "long.mp4", [texture[:64, t : t + 80] for t in range(320)])
    entry = {"long": {"set": "validation", "label": 1, "nframes": 320}}
    labels = {str(number): name for number, name in enumerate(tiny_project.class_names, start=1)}
    scores = {}
    for name, only_needed in (("whole", False), ("part", True)):
        dataset = tmp_path / name
        extract(
            tmp_path / "long.mp4",
            dataset,
            short_side=64,
            flow_backend="dis",
            flow_only_needed=only_needed,
            workers=1,
        )
        write_json(dataset / "annotations/annot01.json", {"labels": labels, "training": {}, "validation": entry})
        scores[name] = evaluate(dataset=dataset, weights=tiny_project.weights, workers=0, examples=0).scores.fused
    assert len(list((tmp_path / "part/flows/u/long").iterdir())) == 250
    np.testing.assert_array_equal(scores["part"], scores["whole"])
    with pytest.raises(ConfigError, match=r"only the flow that 25 frames per video need .* not that of 10"):
        evaluate(dataset=tmp_path / "part", weights=tiny_project.weights, frames=10)
    with pytest.raises(DatasetError, match=r"25 test frames per video need .* evaluation only.*without that option"):
        train(tmp_path / "part", "st_mulnet_resnet50", tmp_path / "run")
    assert not (tmp_path / "run").exists()
