"""`stmulnet verify` on other data sets: official archives, trees of other tools, packed, in shards, for evaluation."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.commands.verifying import OPTIONS, annotate, check, cut, flow, found, planes, remove

from stmulnet.commands.extract import NEEDED_BY_TEST
from stmulnet.commands.pack import pack
from stmulnet.datasets import transforms
from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.video.extract import extract_videos
from stmulnet.video.io import write_video
from stmulnet.video.store import write_flow, write_frames


def test_known_blemishes_of_the_official_archives(tmp_path: Path) -> None:
    """Clips of different sizes, flow of another size or as long as the frames, stray things: all clips are used."""
    rng = np.random.default_rng(5)
    shapes = {"v_PommelHorse_g05_c01": (40, 64), "v_LongJump_g18_c03": (40, 54), "kick": (40, 54)}
    for video, (height, width) in shapes.items():
        frames = rng.integers(0, 256, (20, height, width, 3), dtype=np.uint8)
        write_frames(tmp_path / "jpegs_256" / video, frames)
        flow_folders = tmp_path / "tvl1_flow" / "u" / video, tmp_path / "tvl1_flow" / "v" / video
        write_flow(flow_folders, planes(20 if video == "kick" else 19, height, 54))
        flow_folders[0].with_suffix(".bin").write_bytes(b"ranges")
    (tmp_path / "jpegs_256" / "v_LongJump_g18_c03" / "TSP flows").mkdir()
    annotate(tmp_path, **dict.fromkeys(shapes, 20))
    summary = check(tmp_path)
    assert summary.exit_code == 0
    assert sorted((finding.video, finding.kind) for finding in summary.findings) == [
        ("v_LongJump_g18_c03", "stray"),
        ("v_PommelHorse_g05_c01", "frames-flow-size"),
    ]
    for transform in (transforms.TrainTransform(32), transforms.TestTransform(32)):
        clips = TwoStreamDataset.in_folder(
            tmp_path / "annotations" / "annot01.json", tmp_path, subset="training", transform=transform
        )
        samples = [clips[index] for index in range(len(clips))]
        assert [sample.video for sample in samples] == list(shapes)
        assert all(sample.rgb.shape[2:] == sample.flow.shape[2:] for sample in samples)


def test_as_many_fields_as_frames_are_good(dataset: Path) -> None:
    """HMDB-51's official archive has both kinds of clips."""
    flow(dataset, "b", planes(12))
    assert check(dataset).exit_code == 0


def test_official_archives(tmp_path: Path) -> None:
    write_frames(tmp_path / "jpegs_256" / "x", planes(12)[:, [0, 0, 1]].transpose(0, 2, 3, 1))
    flow_folders = tmp_path / "tvl1_flow" / "u" / "x", tmp_path / "tvl1_flow" / "v" / "x"
    write_flow(flow_folders, planes(12))
    summary = check(tmp_path)
    assert (summary.exit_code, found(summary), summary.images) == (0, [], 36)
    (tmp_path / "tvl1_flow" / "u" / "x" / "frame000012.jpg").unlink()
    (tmp_path / "x.mp4").touch()
    summary = check(tmp_path, repair=tmp_path / "x.mp4")
    assert summary.not_repaired == {
        "x": "no manifest.json, so how its images were made is unknown; import or extract it again"
    }
    assert summary.exit_code == 1


@pytest.mark.parametrize("fields", [11, 12])
def test_trees_with_everything_in_one_folder(tmp_path: Path, fields: int) -> None:
    """As other tools write them; dense_flow writes a first field that leads nowhere."""
    (tmp_path / "data" / "clip").mkdir(parents=True)
    for name, count in (("img", 12), ("flow_x", fields), ("flow_y", fields)):
        for number, image in enumerate(planes(count)[:, 0], start=1):
            cv2.imwrite(str(tmp_path / "data" / "clip" / f"{name}_{number:05d}.png"), image)
    summary = check(tmp_path / "data")
    assert (summary.exit_code, found(summary), summary.images) == (0, [], 34)
    (tmp_path / "data/clip/img_00004.png").write_bytes((tmp_path / "data/clip/img_00004.png").read_bytes()[:-20])
    for headers_only in (False, True):
        (failure,) = check(tmp_path / "data", headers_only=headers_only).failures
        assert failure.message.startswith("frames: 1 of 12 images, first img_00004.png: not a ")


def test_packed_data_sets(dataset: Path, made: Path, tmp_path: Path) -> None:
    cut(dataset, "images/b/frame000004.jpg", 600)
    cut(dataset, "flows/u/b/frame000004.jpg", 0)
    remove(dataset, "flows/v/a/frame000005.jpg")
    before = check(dataset)
    pack(dataset, tmp_path / "packed")
    packed = check(tmp_path / "packed")
    assert (packed.images, packed.findings) == (before.images, before.findings)
    assert sorted(failure.kind for failure in packed.failures) == ["empty-file", "gap", "unreadable"]
    repaired = check(tmp_path / "packed", repair=made / "videos")
    reason = "packed; repair the data set that was packed, and pack it again"
    assert repaired.not_repaired == {"a": reason, "b": reason}
    shard = tmp_path / "packed" / "shard-00000.tar"
    data = bytearray(shard.read_bytes())
    data[data.index(b"images/c/frame000002.jpg")] ^= 1
    shard.write_bytes(bytes(data))
    messages = [failure.message for failure in check(tmp_path / "packed").failures if failure.video == "c"]
    assert len(messages) == 1
    assert "images/c/frame000002.jpg is not where the index says" in messages[0]


def test_shards(made: Path, tmp_path: Path) -> None:
    for index in (1, 2, 3):
        extract_videos(made / "videos", tmp_path / "data", shard=f"{index}/3", **OPTIONS)
    kinds = [(f.kind, f.failure) for f in check(tmp_path / "data").findings if f.kind == "shards"]
    assert kinds == [("shards", False)]
    (tmp_path / "data" / "manifest-shard-2-of-3.json").unlink()
    messages = [f.message for f in check(tmp_path / "data").failures]
    assert messages == ["without the videos of shard 2/3: extract or copy them"]
    for path in (tmp_path / "data" / "images").iterdir():
        (path / "frame000002.jpg").write_bytes(b"")
    reasons = set(check(tmp_path / "data", repair=made / "videos").not_repaired.values())
    assert reasons == {"shards are missing; extract or copy them before"}
    assert not (tmp_path / "data" / "manifest.json").exists()
    extract_videos(made / "videos", tmp_path / "data", shard="1/2", **OPTIONS)
    messages = [f.message for f in check(tmp_path / "data").failures if f.kind == "shards"]
    assert messages == ["without the videos of shard 2/2; or else 2/3: extract or copy them"]


def test_data_sets_for_evaluation_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (90, 400)).astype(np.uint8), (0, 0), 1.5)
    frames = [np.repeat(texture[:40, t : t + 48, np.newaxis], 3, axis=2).astype(np.uint8) for t in range(330)]
    write_video(tmp_path / "long.mp4", frames)
    extract_videos(tmp_path / "long.mp4", tmp_path / "data", needed=NEEDED_BY_TEST, **OPTIONS)
    summary = check(tmp_path / "data")
    assert ("", "evaluation-only", "only the flow that 25 test frames need: for evaluation only") in found(summary)
    assert summary.exit_code == 0
    assert summary.images == 330 + 2 * 250
    needed = sorted(NEEDED_BY_TEST.numbers(330))[17]
    (tmp_path / "data/flows/u/long" / f"frame{needed:06d}.jpg").unlink()
    (failure,) = check(tmp_path / "data").failures
    assert failure.message == f"flow u: 1 number is missing: {needed}"
    repaired = check(tmp_path / "data", repair=tmp_path / "long.mp4")
    assert (repaired.exit_code, repaired.repaired) == (0, ("long",))
