"""Frames and flow on disk."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stmulnet.errors import DatasetError
from stmulnet.video.store import FrameTree, find_videos, open_tree, write_flow, write_frames

Frames = npt.NDArray[np.uint8]


@pytest.fixture
def flow(rng: np.random.Generator) -> Frames:
    """Smooth random levels (6, 2, 40, 56), different in every plane."""
    coarse = rng.integers(0, 256, (12, 5, 7), dtype=np.uint8)
    planes = [cv2.resize(plane, (56, 40), interpolation=cv2.INTER_CUBIC) for plane in coarse]
    return np.asarray(planes, dtype=np.uint8).reshape(6, 2, 40, 56)


def flow_folders(dataset: Path, video: str) -> tuple[Path, Path]:
    return dataset / "flows" / "u" / video, dataset / "flows" / "v" / video


@pytest.fixture
def dataset(tmp_path: Path, moving: Callable[..., Frames], flow: Frames) -> Path:
    write_frames(tmp_path / "images" / "clip", moving(7))
    write_flow(flow_folders(tmp_path, "clip"), flow)
    return tmp_path


def test_file_names_count_from_one(dataset: Path) -> None:
    names = sorted(path.relative_to(dataset).as_posix() for path in dataset.rglob("*.jpg"))
    expected = [f"flows/{axis}/clip/frame{n:06d}.jpg" for axis in "uv" for n in range(1, 7)]
    assert names == [*expected, *(f"images/clip/frame{n:06d}.jpg" for n in range(1, 8))]


def test_frames_are_what_opencv_reads(dataset: Path, tmp_path: Path) -> None:
    frames = open_tree(dataset).read_rgb("clip", [7, 2, 2, 5])
    assert frames.shape == (4, 40, 56, 3)
    assert frames.dtype == np.uint8
    for frame, number in zip(frames, [7, 2, 2, 5], strict=True):
        reference = cv2.imread(str(tmp_path / f"images/clip/frame{number:06d}.jpg"), cv2.IMREAD_COLOR_RGB)
        assert np.abs(frame.astype(int) - np.asarray(reference, dtype=int)).max() <= 2  # two builds of libjpeg


def test_frames_come_back(tmp_path: Path, moving: Callable[..., Frames]) -> None:
    frames = moving(4)
    assert write_frames(tmp_path / "images" / "a", iter(frames), first=1) == 4
    stored = FrameTree(tmp_path / "images").read_rgb("a", [4, 1])
    assert np.abs(stored.astype(int) - frames[[3, 0]]).mean() < 4


def test_flow_comes_back_with_u_before_v(dataset: Path, flow: Frames) -> None:
    stored = open_tree(dataset).read_flow("clip", [3, 1, 6])
    assert stored.shape == (3, 2, 40, 56)
    assert np.abs(stored.astype(int) - flow[[2, 0, 5]]).mean() < 1.5


def test_flow_files_are_grey(dataset: Path) -> None:
    image = cv2.imread(str(dataset / "flows/u/clip/frame000001.jpg"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    assert image.ndim == 2


def test_zero_flow_stays_zero(tmp_path: Path) -> None:
    write_flow(flow_folders(tmp_path, "still"), np.full((1, 2, 40, 56), 128, np.uint8))
    assert (FrameTree(None, tmp_path / "flows").read_flow("still", [1]) == 128).all()


def test_quality_is_used(tmp_path: Path, moving: Callable[..., Frames]) -> None:
    frames = moving(1)
    sizes = []
    for quality in (30, 95):
        write_frames(tmp_path / str(quality), frames, quality=quality)
        sizes.append((tmp_path / str(quality) / "frame000001.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


def test_chunks_are_numbered_on(tmp_path: Path, moving: Callable[..., Frames]) -> None:
    frames = moving(5)
    write_frames(tmp_path / "a" / "x", frames)
    write_frames(tmp_path / "b" / "x", frames[:2])
    write_frames(tmp_path / "b" / "x", frames[2:], first=3)
    for n in range(1, 6):
        name = f"x/frame{n:06d}.jpg"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_counts_and_names(dataset: Path, moving: Callable[..., Frames]) -> None:
    write_frames(dataset / "images" / "a {odd} +!!! name", moving(3))
    tree = open_tree(dataset)
    assert tree.videos() == find_videos(dataset / "images") == ["a {odd} +!!! name", "clip"]
    assert (tree.num_frames("clip"), tree.num_flows("clip"), tree.num_frames("a {odd} +!!! name")) == (7, 6, 3)
    assert tree.read_rgb("a {odd} +!!! name", [3]).shape == (1, 40, 56, 3)


def test_tree_is_named(dataset: Path) -> None:
    assert open_tree(dataset).kind == ("frames: images/<video>/frame000001.jpg; flow: flows/u/<video>/frame000001.jpg")


def test_class_folders_are_read(tmp_path: Path, moving: Callable[..., Frames], flow: Frames) -> None:
    for group, video in (("Walk", "b"), ("Run", "a")):
        write_frames(tmp_path / "images" / group / video, moving(7))
        write_flow(flow_folders(tmp_path, f"{group}/{video}"), flow)
    (tmp_path / "images" / ".hidden" / "c").mkdir(parents=True)
    tree = open_tree(tmp_path)
    assert tree.kind.startswith("frames: images/<class>/<video>/frame000001.jpg; flow: flows/u/<class>/<video>/")
    assert tree.videos() == ["a", "b"]
    assert (tree.num_frames("b"), tree.num_flows("a")) == (7, 6)
    assert tree.read_rgb("b", [1, 7]).shape == (2, 40, 56, 3)
    assert np.abs(tree.read_flow("a", [2]).astype(int) - flow[1]).mean() < 1.5


def test_one_name_in_two_classes(tmp_path: Path, moving: Callable[..., Frames]) -> None:
    for group in ("Walk", "Run"):
        write_frames(tmp_path / group / "a", moving(2))
    with pytest.raises(DatasetError, match=r"'a' is in two class folders, 'Run' and 'Walk'"):
        FrameTree(tmp_path).videos()


def test_flow_alone(dataset: Path) -> None:
    tree = FrameTree(None, dataset / "flows")
    assert tree.videos() == ["clip"]
    assert tree.num_frames("clip") == 7
    with pytest.raises(DatasetError, match="no folder of frames was given"):
        tree.read_rgb("clip", [1])


def test_frames_alone(dataset: Path) -> None:
    tree = FrameTree(dataset / "images")
    assert tree.kind.endswith("flow: none")
    with pytest.raises(DatasetError, match="no folder of flow was given"):
        tree.read_flow("clip", [1])


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        FrameTree(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"neither frames nor flow .*images, .*tvl1_flow, .*stmulnet extract"):
        open_tree(tmp_path)


@pytest.mark.parametrize("modality", ["frames", "flow"])
def test_unknown_tree_says_what_was_looked_for(tmp_path: Path, modality: str) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "clip_00001.jpg").touch()
    with pytest.raises(DatasetError, match="no images in a known tree") as caught:
        FrameTree(tmp_path) if modality == "frames" else FrameTree(None, tmp_path)
    known = "<class>/<video>/frame000001.jpg" if modality == "frames" else "<video>/flow_x_000001.jpg"
    assert all(part in str(caught.value) for part in (str(tmp_path), known, "img_", "png"))


def test_missing_frame_is_named(dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"clip/frame000008\.jpg: cannot be read: No such file"):
        open_tree(dataset).read_rgb("clip", [1, 8])


def test_unknown_video_is_named(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="images of video 'nope': No such file"):
        open_tree(dataset).num_frames("nope")


@pytest.mark.parametrize("damage", [b"", b"not a JPEG", None])
def test_damaged_file_is_named(dataset: Path, damage: bytes | None) -> None:
    path = dataset / "flows/v/clip/frame000002.jpg"
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(DatasetError, match=r"v/clip/frame000002\.jpg: not a readable JPEG"):
        open_tree(dataset).read_flow("clip", [1, 2])


@pytest.mark.parametrize("size", [(30, 56), (40, 72), (50, 56)])
def test_other_size_is_named(dataset: Path, moving: Callable[..., Frames], size: tuple[int, int]) -> None:
    write_frames(dataset / "images" / "clip", moving(1, height=size[0], width=size[1]), first=4)
    with pytest.raises(DatasetError, match=rf"frame000004\.jpg: {size[1]}x{size[0]}, .* 56x40"):
        open_tree(dataset).read_rgb("clip", [1, 4])


def test_gap_is_named(dataset: Path) -> None:
    (dataset / "images/clip/frame000003.jpg").unlink()
    with pytest.raises(DatasetError, match=r"frame000003\.jpg: missing, while frame000007\.jpg is there"):
        open_tree(dataset).num_frames("clip")


def test_number_zero_is_named(dataset: Path, moving: Callable[..., Frames]) -> None:
    write_frames(dataset / "images" / "zero", moving(3), first=0)
    with pytest.raises(DatasetError, match=r"zero/frame000000\.jpg: images count from 1 in this tree"):
        open_tree(dataset).num_frames("zero")


def test_u_without_v(dataset: Path) -> None:
    (dataset / "flows/v/clip/frame000006.jpg").unlink()
    with pytest.raises(DatasetError, match="6 images of u and 5 of v"):
        open_tree(dataset).num_flows("clip")


def test_empty_video_folder(dataset: Path) -> None:
    (dataset / "images" / "empty").mkdir()
    with pytest.raises(DatasetError, match="no images of video 'empty'"):
        open_tree(dataset).num_frames("empty")


@pytest.mark.parametrize("name", ["../flows/u/clip", "/etc", "..", "", "a\\b", "clip/", "a\0b"])
def test_names_cannot_leave_the_root(dataset: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="is no name of a video"):
        open_tree(dataset).read_rgb(name, [1])


def test_no_numbers(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no image numbers"):
        open_tree(dataset).read_rgb("clip", [])
