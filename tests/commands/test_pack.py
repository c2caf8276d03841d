"""From real videos to samples: the same from the folder and packed, in one process and in several."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import TinyProject

from stmulnet import cli
from stmulnet.commands.evaluate import evaluate
from stmulnet.commands.extract import NEEDED_BY_TEST
from stmulnet.commands.train import train
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.loading import ClipLoader
from stmulnet.datasets.sampling import RandomStrideFrames
from stmulnet.datasets.transforms import TrainTransform
from stmulnet.video.manifest import ONLY_FOR_TEST_FRAMES, Manifest
from stmulnet.video.pack import pack_dataset
from stmulnet.video.store import write_flow, write_frames

CLIPS = (
    "arid6/Turn/v_Turn_g01_c42.mp4",
    "arid6/Turn/v_Turn_g07_c38.mp4",
    "UCF-101/JavelinThrow/v_JavelinThrow_g22_c01.avi",
    "UCF-101/JavelinThrow/v_JavelinThrow_g21_c03.avi",
)


def _clips(dataset: Path, subset: str) -> TwoStreamDataset:
    sampling = RandomStrideFrames(5, (1, 4)) if subset == "training" else None
    annotation = dataset / "annotations" / "annot01.json"
    transform = TrainTransform(48)
    return TwoStreamDataset.in_folder(annotation, dataset, subset=subset, sampling=sampling, transform=transform)


def test_round_trip_of_real_clips(shared_dir: Path, tmp_path: Path) -> None:
    videos, dataset, packed = (tmp_path / name for name in ("videos", "dataset", "packed"))
    for name in CLIPS:
        source = shared_dir / "data" / "clips" / name
        (videos / source.parent.name).mkdir(parents=True, exist_ok=True)
        (videos / source.parent.name / source.name).symlink_to(source)
    assert cli.main(["extract", str(videos), str(dataset), "--short-side", "64"]) == 0
    assert cli.main(["annotate", str(videos), str(dataset), "--test-fraction", "0.5"]) == 0
    assert cli.main(["verify", str(dataset)]) == 0
    summary = pack_dataset(dataset, packed, shard_bytes=2**18)
    assert (summary.videos, summary.frames, summary.fields) == (4, 184, 180)
    assert len(list(packed.glob("*.tar"))) == summary.shards > 1
    for subset in ("training", "validation"):
        plain = _clips(dataset, subset)
        for workers in (0, 2):
            loader = ClipLoader(_clips(packed, subset), batch_size=None, workers=workers)
            for index, clip in enumerate(loader):
                assert torch.equal(clip.rgb, plain[index].rgb)
                assert torch.equal(clip.flow, plain[index].flow)
                assert (clip.label, clip.video) == (plain[index].label, plain[index].video)


def test_commands_take_packed_data(tiny_project: TinyProject, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    assert cli.main(["pack", str(tiny_project.dataset), str(packed)]) == 0
    before = (packed / "annotations" / "annot01.json").read_bytes()
    (packed / "annotations" / "annot01.json").unlink()
    assert cli.main(["annotate", str(tiny_project.videos.parent / "lists"), str(packed)]) == 0
    assert (packed / "annotations" / "annot01.json").read_bytes() == before
    assert cli.main(["verify", str(packed)]) == 0
    scores = [
        evaluate(dataset=dataset, weights=tiny_project.weights, frames=5, workers=workers).scores.fused
        for dataset, workers in ((tiny_project.dataset, 0), (packed, 0), (packed, 1))
    ]
    assert (scores[0] == scores[1]).all()
    assert (scores[0] == scores[2]).all()


def test_data_for_evaluation_only_is_called_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, image = tmp_path / "data", np.zeros((16, 16), np.uint8)
    write_frames(data / "images" / "a", [np.dstack([image] * 3)] * 300)
    for number in NEEDED_BY_TEST.numbers(300):
        write_flow((data / "flows" / "u" / "a", data / "flows" / "v" / "a"), np.stack([image] * 2)[None], first=number)
    Manifest({"flow": {ONLY_FOR_TEST_FRAMES: 25}}).save(data / "manifest.json")
    assert cli.main(["pack", str(data), str(tmp_path / "out")]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("1 video, 300 frames and 250 flow fields in 1 shard")
    assert lines == ["only the flow that 25 test frames per video need: for evaluation only"]
    assert cli.main(["pack", str(data), str(tmp_path / "out"), "--shard-megabytes", "0"]) == 2
    assert "error: --shard-megabytes must be 1 or more, got 0" in capsys.readouterr().err


def test_training_on_packed_data_is_the_same(tiny_project: TinyProject, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    assert cli.main(["pack", str(tiny_project.dataset), str(packed)]) == 0
    weights = []
    for dataset, workers in ((tiny_project.dataset, 0), (packed, 1)):
        summary = train(
            dataset,
            "two_stream_resnet50",
            tmp_path / f"run{workers}",
            network_options={"units": [1, 1, 1, 1], "width_mult": 0.0625, "input_size": 64, "head_pool": "global"},
            learning_rates=[0.01],
            passes_per_epoch=1,
            batch_size=4,
            sub_batch_size=2,
            strides=(1, 2),
            workers=workers,
            device="cpu",
        )
        weights.append(load_file(summary.weights))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
