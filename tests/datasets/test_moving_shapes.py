"""The synthetic data set: its files, and that each stream alone sees only its half of a two-token class."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from stmulnet.commands.annotate import annotate
from stmulnet.datasets.annotations import load_annotation
from stmulnet.datasets.moving_shapes import (
    CLASSES,
    SHAPES,
    SIZE_PX,
    Actor,
    Group,
    Token,
    draw_group,
    draw_patch,
    draw_tokens,
    make_moving_shapes,
    render,
)
from stmulnet.datasets.ucf101 import read_split
from stmulnet.errors import ConfigError, DatasetError
from stmulnet.video.io import read_frames
from stmulnet.video.store import write_flow, write_frames

NUM_FRAMES = 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest data set: one training and one test video per class."""
    out = tmp_path_factory.mktemp("shapes")
    make_moving_shapes(out, groups_train=1, groups_test=1, num_frames=12)
    return out


def _tokens(name: str, seed: int, num_frames: int = NUM_FRAMES, size: int = SIZE_PX) -> tuple[Group, list[Token]]:
    rng = np.random.default_rng(seed)
    group = draw_group(rng, size, num_frames)
    return group, draw_tokens(CLASSES[name], group, rng, size, num_frames)


def test_classes_are_four_of_one_token_and_two_of_two() -> None:
    assert list(CLASSES) == [
        *("RingSwings", "RingBobs", "CrossSwings", "CrossBobs"),
        *("RingSwingsCrossBobs", "RingBobsCrossSwings"),
    ]
    assert CLASSES["RingBobsCrossSwings"] == (Actor("Ring", "Bobs"), Actor("Cross", "Swings"))


def test_videos_decode(made: Path) -> None:
    paths = sorted((made / "videos").glob("*/*.avi"))
    assert len(paths) == 12
    for path in paths:
        assert path.parent.name in CLASSES
        assert read_frames(path).shape == (12, SIZE_PX, SIZE_PX, 3)


def test_lists_name_the_videos_and_groups_are_disjoint(made: Path) -> None:
    lists = read_split(made / "lists", 1)
    assert lists.class_names == list(CLASSES)
    on_disk = {path.stem for path in (made / "videos").glob("*/*.avi")}
    assert lists.training.keys() | lists.validation.keys() == on_disk
    groups = [{video.split("_")[2] for video in videos} for videos in (lists.training, lists.validation)]
    assert groups == [{"g02"}, {"g01"}]


def test_annotate_accepts_the_lists(made: Path, tmp_path: Path) -> None:
    for path in (made / "videos").glob("*/*.avi"):
        write_frames(tmp_path / "images" / path.stem, read_frames(path))
        folders = (tmp_path / "flows" / "u" / path.stem, tmp_path / "flows" / "v" / path.stem)
        write_flow(folders, np.full((11, 2, 16, 16), 128, np.uint8))
    annotation = load_annotation(annotate(made / "lists", tmp_path).files[1])
    assert len(annotation.training) == len(annotation.validation) == len(CLASSES)
    assert {record.num_frames for record in annotation.training} == {12}


def test_same_seed_same_videos(made: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        make_moving_shapes(tmp_path / name, groups_train=1, groups_test=1, num_frames=12, seed=seed)
    path = "videos/RingBobs/v_RingBobs_g01_c01.avi"
    frames, same, other = (read_frames(root / path) for root in (made, tmp_path / "same", tmp_path / "other"))
    assert np.array_equal(frames, same)
    assert not np.array_equal(frames, other)


def test_encoding_keeps_the_picture(made: Path) -> None:
    group = draw_group(np.random.default_rng([0, 1]), SIZE_PX, 12)
    rng = np.random.default_rng([0, 1, 0, 1])
    tokens = draw_tokens(CLASSES["RingSwings"], group, rng, SIZE_PX, 12)
    drawn = np.stack(list(render(group, tokens, rng, SIZE_PX))).astype(float)
    decoded = read_frames(made / "videos/RingSwings/v_RingSwings_g01_c01.avi")
    assert np.abs(decoded - drawn).mean() < 4


@pytest.mark.parametrize("size", [64, 128, 200])
def test_tokens_stay_inside_and_apart(size: int) -> None:
    for seed in range(15):
        for name in ("RingBobs", "RingSwingsCrossBobs"):
            _, tokens = _tokens(name, seed, num_frames=150, size=size)
            radii = [_radius(token) for token in tokens]
            for token, radius in zip(tokens, radii, strict=True):
                assert token.centres.min() - radius > 0
                assert token.centres.max() + radius < size - 1
            for (first, r1), (second, r2) in pairwise(zip(tokens, radii, strict=True)):
                assert np.linalg.norm(first.centres - second.centres, axis=1).min() > r1 + r2


def _radius(token: Token) -> float:
    return float(np.sqrt(token.patch[..., 3].sum() / np.pi) / 4)


def test_motion_is_on_its_axis() -> None:
    for seed in range(20):
        for name in ("RingSwings", "CrossBobs", "RingBobsCrossSwings"):
            for token in _tokens(name, seed)[1]:
                u, v = np.abs(np.diff(token.centres, axis=0)).mean(axis=0)
                quick, slow = (u, v) if token.actor.motion == "Swings" else (v, u)
                assert quick > 1.5 * slow
                assert np.abs(np.diff(token.centres, axis=0)).max() < 4


def test_positions_do_not_show_the_motion() -> None:
    """The spread of a token's positions over the frames is the same along and across its motion."""
    rng = np.random.default_rng(0)
    group = draw_group(rng, SIZE_PX, NUM_FRAMES)
    tokens = [draw_tokens(CLASSES["RingSwings"], group, rng, SIZE_PX, NUM_FRAMES)[0] for _ in range(150)]
    along, across = np.mean([token.centres.var(axis=0) for token in tokens], axis=0)
    assert 0.8 < along / across < 1.25


def test_silhouette_is_the_same_for_every_shape() -> None:
    patches = [draw_patch(s, 16.5, np.full(3, 90, np.float32), np.random.default_rng(4)) for s in SHAPES]
    for first, second in pairwise(patches):
        assert np.array_equal(first[..., 3], second[..., 3])
        assert not np.array_equal(first[..., :3], second[..., :3])


def test_shapes_cover_about_the_same_area() -> None:
    flat = np.full(3, 90, np.float32)
    bright = [
        np.mean([(draw_patch(s, 17, flat, np.random.default_rng(seed))[..., :3] > 150).mean() for seed in range(10)])
        for s in SHAPES
    ]
    assert max(bright) < 1.2 * min(bright)


def test_a_token_is_drawn_where_its_path_says() -> None:
    size = 64
    patch = draw_patch("Ring", 9.0, np.zeros(3, np.float32), np.random.default_rng(0))
    patch[..., :3] = 255 * patch[..., 3:]  # a white disc
    centres = np.array([[30.0, 20.0], [30.5, 20.25], [22.13, 40.77]])
    group = Group(np.zeros((size + 8, size + 8, 3), np.float32), np.zeros(2), np.zeros((2, 3), np.float32))
    frames = render(group, [Token(Actor("Ring", "Bobs"), patch, centres)], np.random.default_rng(1), size)
    y, x = np.mgrid[:size, :size]
    for frame, centre in zip(frames, centres, strict=True):
        weight = frame[..., 0].astype(float)
        found = [(weight * axis).sum() / weight.sum() for axis in (x, y)]
        assert np.abs(found - centre).max() < 0.05


def test_flow_of_the_decoded_videos_separates_the_motions(made: Path) -> None:
    for path in sorted((made / "videos").glob("*/*.avi")):
        if len(CLASSES[path.parent.name]) == 1:
            grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in read_frames(path)]
            start = np.zeros((*grey[0].shape, 2), np.float32)
            fields = [cv2.calcOpticalFlowFarneback(a, b, start, 0.5, 3, 11, 5, 7, 1.5, 0) for a, b in pairwise(grey)]
            flow = np.stack(fields)
            flow -= np.median(flow, axis=(1, 2), keepdims=True)  # the drift of the background
            u, v = np.abs(flow).mean(axis=(0, 1, 2))
            assert (u > v) == path.parent.name.endswith("Swings"), (path.name, u, v)


def test_existing_data_is_not_overwritten(made: Path) -> None:
    with pytest.raises(DatasetError, match="videos exists already"):
        make_moving_shapes(made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups_test": 0}, "must be 1 or more, got 16, 0, 1 and 32"),
        ({"size": 63}, "got 63"),
        ({"size": 32}, "64 pixels or more"),
        ({"groups_train": 95}, "at most 99 groups"),
    ],
)
def test_bad_numbers_are_refused(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_moving_shapes(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
