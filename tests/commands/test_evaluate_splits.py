"""Several splits in one command, and weights that have seen the test videos."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands.evaluating import make_dataset, network, save_network
from tests.conftest import TinyProject
from tests.models.scoring import st_mulnet
from tests.oracle import files

from stmulnet import cli
from stmulnet.commands.evaluate import evaluate
from stmulnet.commands.scoring import OpenSplit, check_unseen_videos
from stmulnet.errors import AnnotationError, CheckpointError, ConfigError

TRAINED = "was trained on"


@pytest.fixture
def dataset(tiny_project: TinyProject, tmp_path: Path) -> Path:
    return make_dataset(tiny_project, tmp_path / "three", splits=3)


@pytest.fixture
def weights(tiny_project: TinyProject, tmp_path: Path) -> Path:
    for split in (1, 2, 3):
        path = tmp_path / f"run-split={split}" / "model.safetensors"
        save_network(
            path,
            "appearance_resnet50",
            tiny_project,
            seed=split,
            metadata={"training": {"dataset": "three", "split": split}},
        )
    return tmp_path / "run-split={split}" / "model.safetensors"


def test_one_table_with_the_mean(
    dataset: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--dataset", str(dataset), "--weights", str(weights), "--split", "[1, 2, 3]", "--frames", "5"]
    assert cli.main(["evaluate", *arguments, "--out", str(out), "--workers", "0", "--examples", "1"]) == 0
    printed = capsys.readouterr().out
    assert "3 splits; 5 frames" in printed
    assert [line.split()[:2] for line in printed.splitlines() if "Split" in line] == [
        ["Split", "1"],
        ["Split", "2"],
        ["Split", "3"],
    ]
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "report.html", "split1", "split2", "split3"]
    metrics = json.loads((out / "metrics.json").read_text())
    values = [part["streams"]["appearance"]["top1"]["value"] for part in metrics["splits"]]
    mean = metrics["means"]["appearance"]["top1"]
    assert (mean["mean"], mean["std"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    for split, value in zip((1, 2, 3), values, strict=True):
        single = evaluate(
            dataset=dataset,
            weights=Path(str(weights).replace("{split}", str(split))),
            split=split,
            frames=5,
            workers=0,
        )
        assert single.rows[-1].accuracy.value == value
        with np.load(out / f"split{split}" / "scores.npz") as file:
            np.testing.assert_array_equal(file["appearance"], single.scores.appearance)
    assert "Results over 3 splits" in (out / "report.html").read_text()

    again = evaluate(scores=out / "split{split}" / "scores.npz", split=[1, 2, 3])
    assert again.means()["appearance"]["top1"]["mean"] == mean["mean"]
    with pytest.raises(ConfigError, match=r"3 splits were evaluated: look at the items of \.splits"):
        assert again.rows


def test_a_placeholder_for_one_split(dataset: Path, weights: Path) -> None:
    assert len(evaluate(dataset=dataset, weights=weights, split=2, frames=5, workers=0).rows) == 1


def test_nothing_is_scored_in_vain(
    dataset: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("stmulnet.commands.evaluate.score_videos", None)
    plain = Path(str(weights).replace("{split}", "1"))
    with pytest.raises(ConfigError, match=r"weights needs \{split\} in its name to evaluate the splits \[1, 2\]"):
        evaluate(dataset=dataset, weights=plain, split=[1, 2])
    with pytest.raises(ConfigError, match=r"motion_weights needs \{split\} in its name"):
        evaluate(dataset=dataset, weights=weights, motion_weights=plain, split=[1, 2])
    with pytest.raises(ConfigError, match=r"external_scores needs \{split\} in its name"):
        evaluate(dataset=dataset, weights=weights, external_scores=tmp_path / "idt.csv", split=[1, 2])
    with pytest.raises(AnnotationError, match=r"annot04\.json: no such annotation file"):
        evaluate(dataset=dataset, weights=weights, split=[1, 4])
    Path(str(weights).replace("{split}", "3")).unlink()
    with pytest.raises(CheckpointError, match=r"run-split=3/model\.safetensors: no such weight file"):
        evaluate(dataset=dataset, weights=weights, split=[1, 2, 3])
    with pytest.raises(ConfigError, match=r"scores needs \{split\} in its name"):
        evaluate(scores=tmp_path / "scores.npz", split=[1, 2])


def test_files_of_the_authors_by_their_names(tiny_project: TinyProject, tmp_path: Path) -> None:
    dataset = make_dataset(tiny_project, tmp_path / "ucf101", splits=2)
    for path in (dataset / "annotations").iterdir():
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"labels": {str(i): f"class{i:03d}" for i in range(1, 7)}}))
    classes = {"num_classes": 6}
    net = st_mulnet(image=classes, flow=classes)
    names = [tmp_path / f"ucf101ST-MulNet-img50-flow50-final-split={split}.mat" for split in (1, 2)]
    for path in names:
        files.write(net, path)
    weights = tmp_path / "ucf101ST-MulNet-img50-flow50-final-split={split}.mat"
    summary = evaluate(dataset=dataset, weights=weights, split=[1, 2], frames=5, workers=0)
    assert [len(split.saved.table.videos) for split in summary.splits] == [6, 6]
    with pytest.raises(ConfigError, match=r"final-split=1\.mat was trained on split 1 of ucf101, and has seen videos"):
        evaluate(dataset=dataset, weights=names[0], split=2)
    (tmp_path / "x").mkdir()
    names[1].rename(tmp_path / "x" / names[1].name)
    with pytest.raises(CheckpointError, match=r"final-split=2\.mat: "):
        evaluate(dataset=dataset, weights=weights, split=[1, 2])


def test_weights_of_another_split_are_refused(dataset: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Path(str(weights).replace("{split}", "1"))
    with pytest.raises(ConfigError, match=r"trained on split 1 of three, and has seen videos that split 2 of three"):
        evaluate(dataset=dataset, weights=first, split=2)
    evaluate(dataset=dataset, weights=first, split=2, frames=5, workers=0, allow_mismatch=True)
    assert "allowed: figures of that test will be too good" in capsys.readouterr().err


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def data_record(dataset: Path, split: int, *, annotation: bool) -> dict[str, Any]:
    """As training records it."""
    content = (dataset / "annotations" / f"annot{split:02d}.json").read_text()
    videos = sha256("\n".join(sorted(json.loads(content)["training"])))
    return {
        "split": split,
        "annotation_sha256": sha256(content if annotation else "older"),
        "training_videos_sha256": videos,
    }


@pytest.mark.parametrize("annotation", [True, False])
def test_lists_are_known_by_their_content(
    dataset: Path, tiny_project: TinyProject, tmp_path: Path, annotation: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the data set was called when the network was trained."""
    model = network("appearance_resnet50", tiny_project)
    model.metadata = {
        "training": {"dataset": "renamed", "split": 1, "data": data_record(dataset, 1, annotation=annotation)}
    }
    check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 1))
    with pytest.raises(ConfigError, match=r"training list of annot01\.json, which has 6 of the 6 test videos of annot"):
        check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 2))
    check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 2), allow_mismatch=True)
    assert capsys.readouterr().err.count("note: x.safetensors was trained on the training list of annot01.json") == 1
    # Split 3 is split 1 under another number: the content decides, not the number.
    model.metadata["training"]["dataset"] = "three"
    check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 3))


def test_unknown_lists_are_judged_by_name(dataset: Path, tiny_project: TinyProject, tmp_path: Path) -> None:
    model = network("appearance_resnet50", tiny_project)
    data = {"split": 1, "annotation_sha256": "0", "training_videos_sha256": "0"}
    model.metadata = {"training": {"dataset": "Three", "split": 1, "data": data}}
    check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 1))
    with pytest.raises(ConfigError, match="trained on split 1 of Three, and has seen videos that split 2 of three"):
        check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 2))
    for damaged in ({"data": 3}, {"data": {"split": 1}}):
        model.metadata["training"] |= damaged
        check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 1))


def test_what_a_network_started_from_counts_too(dataset: Path, tiny_project: TinyProject, tmp_path: Path) -> None:
    model = network("appearance_resnet50", tiny_project)
    base = {"file": "three-img-split2.mat", "dataset": "three", "split": 2}
    model.metadata = {
        "training": {"dataset": "three", "split": 1, "data": data_record(dataset, 1, annotation=True)},
        "provenance": {"appearance": base},
    }
    with pytest.raises(ConfigError, match=r"three-img-split2\.mat was trained on split 2 of three"):
        check_unseen_videos(model, tmp_path / "x.safetensors", OpenSplit.open(dataset, 1))


def test_official_files_are_known_by_their_name_and_classes(tiny_project: TinyProject, tmp_path: Path) -> None:
    """A folder of any name whose classes are UCF-101's is UCF-101."""
    from stmulnet.class_names import CLASS_NAMES

    folder = tmp_path / "mine"
    (folder / "annotations").mkdir(parents=True)
    names = CLASS_NAMES["ucf101"]
    content = {"labels": {str(i): name for i, name in enumerate(names, 1)}, "training": {}}
    content["validation"] = {"v_1": {"set": "validation", "label": 1, "nframes": 20}}  # type: ignore[dict-item]
    (folder / "annotations" / "annot01.json").write_text(json.dumps(content))
    model = network("appearance_resnet50", tiny_project)
    model.metadata = {"provenance": {"file": "ucf101-img-resnet50-split2-dr0.mat", "dataset": "ucf101", "split": 2}}
    with pytest.raises(ConfigError, match=r"split2-dr0\.mat was trained on split 2 of ucf101, and has seen videos"):
        check_unseen_videos(model, tmp_path / "x.mat", OpenSplit.open(folder, 1))
    model.metadata["provenance"]["split"] = 1
    check_unseen_videos(model, tmp_path / "x.mat", OpenSplit.open(folder, 1))
