"""Trees of images, told apart by their names: every known one, and what cannot be one."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from stmulnet.errors import DatasetError
from stmulnet.video import trees
from stmulnet.video.store import FrameTree, open_tree
from stmulnet.video.trees import FLOW_FORMS, FRAME_FORMS, ImageRoot, find_roots

FRAMES, FIELDS = 12, 11
SHIFTED = 90  # level of u in field 1; v has 50 more


def write(template: str, levels: Iterable[int], *, first: int = 1, colour: bool = False) -> None:
    """Write one flat image per level; the template has a field ``{n}``."""
    for number, level in enumerate(levels, start=first):
        path = Path(template.format(n=number))
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((16, 24, 3) if colour else (16, 24), level, np.uint8))


def make(dataset: Path, patterns: Sequence[str], *, first: int = 1, frames: int = FRAMES, fields: int = FIELDS) -> None:
    """Write two videos as ``patterns`` (frames, u, v) say; level of frame t is t, of u 90 + t, of v 140 + t."""
    for group, video in (("Walk", "v_Walk_g01"), ("Run", "v_Run_g01")):
        for pattern, count, level in zip(patterns, (frames, fields, fields), (0, SHIFTED, SHIFTED + 50), strict=True):
            template = f"{dataset}/{pattern}".replace("<video>", video).replace("<class>", group)
            write(template, range(level + 1, level + 1 + count), first=first, colour=not level)


def check(tree: FrameTree) -> None:
    """Whatever the tree, frame t and field t are those that were written as number t."""
    assert tree.videos() == ["v_Run_g01", "v_Walk_g01"]
    assert (tree.num_frames("v_Walk_g01"), tree.num_flows("v_Walk_g01")) == (FRAMES, FIELDS)
    rgb, flow = tree.read_rgb("v_Run_g01", [3, FRAMES]), tree.read_flow("v_Run_g01", [1, 7, FIELDS])
    assert rgb.shape == (2, 16, 24, 3)
    assert rgb[:, 5, 5, 1].tolist() == [3, FRAMES]
    assert flow[:, 0, 9, 9].tolist() == [SHIFTED + 1, SHIFTED + 7, SHIFTED + FIELDS]
    assert flow[:, 1, 9, 9].tolist() == [SHIFTED + 51, SHIFTED + 57, SHIFTED + 50 + FIELDS]


KNOWN = {
    "ours": ("images/<video>/frame{n:06d}.jpg", "flows/u/<video>/frame{n:06d}.jpg", "flows/v/<video>/frame{n:06d}.jpg"),
    "official archives": (
        "jpegs_256/<video>/frame{n:06d}.jpg",
        "tvl1_flow/u/<video>/frame{n:06d}.jpg",
        "tvl1_flow/v/<video>/frame{n:06d}.jpg",
    ),
    "original port, classes": (
        "images/<class>/<video>/frame{n:06d}.jpg",
        "flows/u/<class>/<video>/frame{n:06d}.jpg",
        "flows/v/<class>/<video>/frame{n:06d}.jpg",
    ),
    "original port, axes last": (
        "images/<video>/frame{n:06d}.jpg",
        "flows/<video>/u/frame{n:06d}.jpg",
        "flows/<video>/v/frame{n:06d}.jpg",
    ),
    "original port, classes, axes last": (
        "images/<class>/<video>/frame{n:06d}.jpg",
        "flows/<class>/<video>/u/frame{n:06d}.jpg",
        "flows/<class>/<video>/v/frame{n:06d}.jpg",
    ),
    "one folder per video": ("<video>/img_{n:05d}.jpg", "<video>/flow_x_{n:05d}.jpg", "<video>/flow_y_{n:05d}.jpg"),
    "one folder per video, classes": (
        "<class>/<video>/img_{n:05d}.jpg",
        "<class>/<video>/x_{n:05d}.jpg",
        "<class>/<video>/y_{n:05d}.jpg",
    ),
    "rawframes": (
        "rawframes/<class>/<video>/img_{n:05d}.jpg",
        "rawframes/<class>/<video>/flow_x_{n:05d}.jpg",
        "rawframes/<class>/<video>/flow_y_{n:05d}.jpg",
    ),
    "split above": (
        "img/<video>/img_{n:05d}.jpg",
        "flow_x/<video>/flow_x_{n:05d}.jpg",
        "flow_y/<video>/flow_y_{n:05d}.jpg",
    ),
    "split below": ("<video>/img/{n:05d}.jpg", "<video>/flow_x/{n:05d}.jpg", "<video>/flow_y/{n:05d}.jpg"),
    "axes in the data set": ("frames/<video>/{n:04d}.jpeg", "u/<video>/{n:04d}.jpeg", "v/<video>/{n:04d}.jpeg"),
    "PNG without leading zeros": ("images/<video>/{n}.png", "flow/<video>/x_{n}.png", "flow/<video>/y_{n}.png"),
    "capitals": (
        "images/<video>/frame{n:03d}.JPG",
        "flows/u/<video>/frame{n:03d}.JPG",
        "flows/v/<video>/frame{n:03d}.JPG",
    ),
}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("patterns", KNOWN.values(), ids=KNOWN.keys())
def test_known_trees(tmp_path: Path, patterns: tuple[str, str, str], first: int) -> None:
    make(tmp_path, patterns, first=first)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "annot01.json").touch()
    tree = open_tree(tmp_path)
    check(tree)
    frames, flow = (pattern.format(n=first) for pattern in patterns[:2])
    root = "" if frames.startswith("<") or first < 0 else frames.split("/")[0] + "/"
    assert tree.kind.startswith(f"frames: {root or tmp_path.name + '/'}{frames.removeprefix(root)}; flow: ")
    assert tree.kind.endswith(flow)


def test_clip_of_another_tool(shared_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "clip").symlink_to(shared_dir / "data" / "clips" / "frames_flow_mmaction2")
    tree = open_tree(tmp_path)
    assert tree.videos() == ["clip"]
    assert (tree.num_frames("clip"), tree.num_flows("clip")) == (10, 5)
    assert tree.read_rgb("clip", [10]).shape == (1, 240, 320, 3)
    assert tree.read_flow("clip", [1, 5]).shape == (2, 2, 240, 320)
    assert tree.kind.endswith("/<video>/img_00001.jpg; flow: " + tmp_path.name + "/<video>/x_00001.jpg")


def test_first_frame_and_first_field_belong_together(tmp_path: Path) -> None:
    """Of mmcv the frames, from 1, of denseflow the flow, from 0."""
    make(tmp_path, KNOWN["one folder per video"], first=1, fields=0)
    for pattern, level in zip(KNOWN["one folder per video"][1:], (SHIFTED, SHIFTED + 50), strict=True):
        for video in ("v_Walk_g01", "v_Run_g01"):
            write(f"{tmp_path}/{pattern}".replace("<video>", video), range(level + 1, level + 1 + FIELDS), first=0)
    check(open_tree(tmp_path))


@pytest.mark.parametrize("name", ["one folder per video", "split above", "rawframes"])
def test_dense_flow_has_no_first_frame(tmp_path: Path, name: str) -> None:
    """Its frame k is the second one of pair k: as many fields as frames, and field k leads to frame k."""
    patterns = KNOWN[name]
    make(tmp_path, patterns, fields=FRAMES)
    tree = open_tree(tmp_path)
    assert (tree.num_frames("v_Run_g01"), tree.num_flows("v_Run_g01")) == (FRAMES, FRAMES - 1)
    assert tree.read_flow("v_Run_g01", [1, FRAMES - 1])[:, 0, 3, 3].tolist() == [SHIFTED + 2, SHIFTED + FRAMES]
    assert "number 2 leads from frame 1 to frame 2" in tree.kind
    assert tree.flow
    assert tree.flow.numbers(0, "v_Run_g01") == list(range(1, FRAMES))
    Path(f"{tmp_path}/{patterns[1]}".replace("<video>", "v_Run_g01").replace("<class>", "Run").format(n=1)).unlink()
    with pytest.raises(DatasetError, match=r"00001\.jpg: missing, while"):
        tree.num_flows("v_Run_g01")


@pytest.mark.parametrize("name", ["ours", "official archives", "split below"])
def test_as_many_fields_as_frames_elsewhere(tmp_path: Path, name: str) -> None:
    """Numbered otherwise, field t starts at frame t, however many there are."""
    make(tmp_path, KNOWN[name], fields=FRAMES)
    tree = open_tree(tmp_path)
    assert tree.num_flows("v_Run_g01") == FRAMES
    assert tree.read_flow("v_Run_g01", [1])[0, 0, 3, 3] == SHIFTED + 1


def test_one_video_that_lacks_a_field_makes_no_dense_flow(tmp_path: Path) -> None:
    make(tmp_path, KNOWN["one folder per video"], fields=FRAMES)
    for axis in "xy":
        (tmp_path / "v_Run_g01" / f"flow_{axis}_{FRAMES:05d}.jpg").unlink()
    assert open_tree(tmp_path).num_flows("v_Walk_g01") == FRAMES


def test_blemishes_of_the_official_archives(tmp_path: Path) -> None:
    """A stray folder inside a video, a file per video beside the folders of u."""
    make(tmp_path, KNOWN["official archives"])
    stray = tmp_path / "jpegs_256" / "v_Run_g01" / "TSP flows"
    stray.mkdir()
    (stray / "frame000001.jpg").touch()
    for video in ("v_Run_g01", "v_Walk_g01"):
        (tmp_path / "tvl1_flow" / "u" / f"{video}.bin").touch()
    check(open_tree(tmp_path))


def test_files_that_only_begin_like_images(tmp_path: Path) -> None:
    make(tmp_path, KNOWN["ours"])
    for name in ("frame000013.txt", "frame13.jpg", "frame000014.jpg.part", "frames", "frame00000x.jpg", "frame٣.jpg"):
        (tmp_path / "images" / "v_Walk_g01" / name).touch()
    check(open_tree(tmp_path))


def test_first_videos_may_be_empty(tmp_path: Path) -> None:
    make(tmp_path, KNOWN["original port, classes"])
    (tmp_path / "images" / "Apply" / "v_Apply_g01").mkdir(parents=True)
    assert "<class>/<video>" in open_tree(tmp_path).kind
    with pytest.raises(DatasetError, match="no images of video 'v_Apply_g01'"):
        open_tree(tmp_path).num_frames("v_Apply_g01")


def test_more_digits_than_zeros(tmp_path: Path) -> None:
    write(f"{tmp_path}/images/clip/{{n:03d}}.jpg", [7] * 5, first=996)
    write(f"{tmp_path}/images/clip/{{n:03d}}.jpg", [7] * 995)
    tree = open_tree(tmp_path)
    assert tree.num_frames("clip") == 1000
    assert tree.read_rgb("clip", [1000]).shape == (1, 16, 24, 3)


def test_frames_alone_and_flow_alone(tmp_path: Path) -> None:
    make(tmp_path / "a", KNOWN["official archives"], fields=0)
    make(tmp_path / "b", KNOWN["official archives"], frames=0)
    assert find_roots(tmp_path / "a") == (tmp_path / "a" / "jpegs_256", None)
    assert find_roots(tmp_path / "b") == (None, tmp_path / "b" / "tvl1_flow")
    assert find_roots(tmp_path / "b" / "tvl1_flow") == (None, tmp_path / "b" / "tvl1_flow")
    assert find_roots(tmp_path / "a" / "jpegs_256") == (tmp_path / "a" / "jpegs_256", None)
    assert open_tree(tmp_path / "b").kind.startswith("frames: none; flow: tvl1_flow/u/")


def test_frames_and_flow_of_different_tools(tmp_path: Path) -> None:
    frames, flow = KNOWN["official archives"], KNOWN["original port, axes last"]
    make(tmp_path, (frames[0], *flow[1:]))
    check(open_tree(tmp_path))


def test_two_folders_of_frames(tmp_path: Path) -> None:
    make(tmp_path, KNOWN["official archives"])
    (tmp_path / "images").mkdir()
    check(open_tree(tmp_path))  # an empty one is no candidate
    make(tmp_path, KNOWN["ours"])
    with pytest.raises(DatasetError, match="images and jpegs_256 may both be meant; leave one"):
        open_tree(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
def test_links_to_official_names(tmp_path: Path) -> None:
    make(tmp_path, KNOWN["official archives"])
    (tmp_path / "images").symlink_to("jpegs_256")
    (tmp_path / "flows").symlink_to("tvl1_flow")
    check(open_tree(tmp_path))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        find_roots(tmp_path / "nowhere")
    (tmp_path / "annotations").mkdir()
    with pytest.raises(DatasetError, match="neither frames nor flow") as caught:
        find_roots(tmp_path)
    for part in ("jpegs_256", "tvl1_flow", "flow_x + flow_y", "img_00001.jpg", "stmulnet import-archive"):
        assert part in str(caught.value)


def test_numbers_tell_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, KNOWN["split below"], first=0)
    (tmp_path / "v_Run_g01" / "img" / "00003.jpg").unlink()
    root = ImageRoot(tmp_path, FRAME_FORMS)
    assert root.numbers(0, "v_Run_g01") == [1, 2, 3, *range(5, FRAMES + 1)]
    with pytest.raises(DatasetError, match=r"img/00003\.jpg: missing, while 00011\.jpg is there"):
        root.count(0, "v_Run_g01")


def test_no_image_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a tree of thousands of videos lists some folders and asks nothing of single files."""
    for index in range(300):
        folder = tmp_path / "jpegs_256" / f"v_{index:04d}"
        folder.mkdir(parents=True)
        (folder / "frame000001.jpg").touch()
        for axis in "uv":
            (tmp_path / "tvl1_flow" / axis / f"v_{index:04d}").mkdir(parents=True)
            (tmp_path / "tvl1_flow" / axis / f"v_{index:04d}" / "frame000001.jpg").touch()
    asked: list[str] = []
    original = os.stat

    def stat(path: str, *arguments: object, **options: object) -> os.stat_result:
        asked.append(str(path))
        return original(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    assert len(open_tree(tmp_path).videos()) == 300
    assert len(asked) < 60
    assert not [path for path in asked if path.endswith(".jpg")]


def test_every_form_is_described() -> None:
    assert len({form.folders for form in (*FRAME_FORMS, *FLOW_FORMS)}) == len(FRAME_FORMS) + len(FLOW_FORMS)
    assert {"u", "v"} <= {name for pair in trees.FLOW_AXES for name in pair}
