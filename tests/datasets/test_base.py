"""The two-stream data set on a small written copy of one."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils.data import DataLoader

from stmulnet.datasets import transforms
from stmulnet.datasets.annotations import Annotation, VideoRecord, to_json
from stmulnet.datasets.base import FrameSampling, TwoStreamDataset
from stmulnet.datasets.calls import LoaderCall
from stmulnet.datasets.lists import SplitLists
from stmulnet.datasets.sampling import RandomStrideFrames, UniformFrames, flow_numbers
from stmulnet.datasets.transforms import TestTransform as WholeFrame
from stmulnet.datasets.transforms import TrainTransform
from stmulnet.errors import AnnotationError, ConfigError, DatasetError, VideoTooShortError
from stmulnet.files import write_json
from stmulnet.video.store import FrameTree, write_flow, write_frames

RECORDS = [VideoRecord("a", 0, 30), VideoRecord("b", 1, 14), VideoRecord("c", 1, 22)]
HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames and flow of three videos, in flat images that JPEG keeps: frame t and u have the level t, v 100 + t."""
    folder = tmp_path_factory.mktemp("data")
    for record in RECORDS:
        numbers = np.arange(1, record.num_frames + 1, dtype=np.uint8)
        frames = np.broadcast_to(numbers[:, None, None, None], (len(numbers), HEIGHT, WIDTH, 3))
        flow = np.stack([numbers, numbers + 100], axis=1)[:-1, :, None, None]
        write_frames(folder / "images" / record.video, frames)
        flow_folders = (folder / "flows" / "u" / record.video, folder / "flows" / "v" / record.video)
        write_flow(flow_folders, np.broadcast_to(flow, (len(flow), 2, HEIGHT, WIDTH)))
    return folder


def _dataset(root: Path, **options: Any) -> TwoStreamDataset:
    arguments: dict[str, Any] = {"subset": "training", "sampling": RandomStrideFrames(3, (1, 4)), "seed": 5}
    annotation = Annotation(["x", "y"], RECORDS, RECORDS[:1])
    return TwoStreamDataset(annotation, root / "images", root / "flows", **arguments | options)


def _same(a: TwoStreamDataset, b: TwoStreamDataset) -> bool:
    return all(torch.equal(x.rgb, y.rgb) and torch.equal(x.flow, y.flow) for x, y in ((a[i], b[i]) for i in range(3)))


def _levels(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    """The value of each flat image."""
    values = images.numpy()
    assert np.all(values == values[..., :1, :1])
    return np.asarray(values[..., 0, 0], np.uint8)


def test_places_may_be_text(root: Path) -> None:
    annotation = root / "annot01.json"
    lists = SplitLists(["x", "y"], {"a": 0, "b": 1, "c": 1}, {})
    write_json(annotation, to_json(lists, {r.video: r.num_frames for r in RECORDS}, {v: v for v in "abc"}))
    options: dict[str, Any] = {"subset": "training", "sampling": RandomStrideFrames(3, (1, 4)), "seed": 5}
    given = TwoStreamDataset(str(annotation), str(root / "images"), str(root / "flows"), **options)
    assert _same(given, _dataset(root))
    assert _same(TwoStreamDataset.in_folder(str(annotation), str(root), **options), _dataset(root))


@pytest.mark.parametrize(
    ("frames", "flow", "message"),
    [
        (
            "images",
            "",
            r"{root}: not the folder of the flow: give {root}/flows as flow_root, or the data set's folder to",
        ),
        ("images", "flows/u", "{root}/flows/u: not the folder of the flow: give {root}/flows as flow_root"),
        ("images", "images", "{root}/images: not the folder of the flow: give {root}/flows as flow_root"),
        ("flows", "flows", "{root}/flows: not the folder of the frames: give {root}/images as frames_root"),
        ("images", "none", "{root}/none: no such folder; give the folder of the extracted images"),
    ],
)
def test_another_folder_of_the_data_set(root: Path, frames: str, flow: str, message: str) -> None:
    with pytest.raises(DatasetError, match="^" + message.format(root=root)):
        TwoStreamDataset(Annotation(["x", "y"], RECORDS, []), root / frames, root / flow, subset="training")


def test_a_folder_of_frames_is_no_data_set(root: Path) -> None:
    with pytest.raises(DatasetError, match="images: no flow in this folder, which the motion stream needs; give the f"):
        TwoStreamDataset.in_folder(Annotation(["x", "y"], RECORDS, []), root / "images", subset="training")


@pytest.mark.parametrize("cache", [False, True])
def test_frames_and_stacks_are_the_sampled_ones(root: Path, cache: bool) -> None:
    data = _dataset(root, cache=cache)
    for index, record in enumerate(RECORDS):
        clip = data[index]
        assert clip.rgb.shape == (3, 3, HEIGHT, WIDTH)
        assert clip.flow.shape == (3, 20, HEIGHT, WIDTH)
        assert clip.rgb.dtype == clip.flow.dtype == torch.uint8
        times = _levels(clip.rgb)[:, 0].tolist()
        for stack, time in zip(_levels(clip.flow), times, strict=True):
            assert stack[0::2].tolist() == flow_numbers(time)
            assert stack[1::2].tolist() == [100 + n for n in flow_numbers(time)]
        assert (clip.label, clip.video) == (record.label, record.video)


def test_repeated_frames_of_a_short_video(root: Path) -> None:
    clip = _dataset(root, sampling=UniformFrames(25))[1]
    assert _levels(clip.rgb)[:, 0].tolist() == [*[6, 7, 8, 9] * 6, 6]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """What is read from disk: video and numbers of every call, frames and flow alike."""
    calls: list[tuple[str, list[int]]] = []
    for name in ("read_rgb", "read_flow"):
        original = getattr(FrameTree, name)

        def recorded(
            tree: FrameTree, video: str, numbers: list[int], original: Any = original
        ) -> npt.NDArray[np.uint8]:
            calls.append((video, list(numbers)))
            images: npt.NDArray[np.uint8] = original(tree, video, numbers)
            return images

        monkeypatch.setattr(FrameTree, name, recorded)
    return calls


def test_each_image_is_decoded_once(root: Path, reads: list[tuple[str, list[int]]]) -> None:
    times = _levels(_dataset(root, sampling=UniformFrames(25))[1].rgb)[:, 0].tolist()
    assert len(times) == 25
    assert reads == [("b", [6, 7, 8, 9]), ("b", list(range(1, 14)))]


def test_cache_reads_a_video_once(root: Path, reads: list[tuple[str, list[int]]]) -> None:
    data = _dataset(root, cache=True, transform=TrainTransform(24))
    first = [data[i] for i in range(3)]
    assert [video for video, _ in reads] == ["a", "a", "b", "b", "c", "c"]
    data.set_epoch(1)
    second = [data[i] for i in range(3)]
    assert len(reads) == 6
    plain = _dataset(root, transform=TrainTransform(24))
    assert all(torch.equal(clip.rgb, plain[i].rgb) for i, clip in enumerate(first))
    plain.set_epoch(1)
    assert all(torch.equal(clip.flow, plain[i].flow) for i, clip in enumerate(second))


def test_a_reading_leaves_the_cache_alone(root: Path) -> None:
    data = _dataset(root, cache=True)
    before = data[0].rgb.clone()
    data[0].rgb.zero_()
    assert torch.equal(data[0].rgb, before)


def test_clips_depend_on_seed_epoch_and_index_alone(root: Path) -> None:
    data, again = _dataset(root), _dataset(root)
    reverse = [again[i].rgb for i in (2, 1, 0)][::-1]
    assert all(torch.equal(data[i].rgb, reverse[i]) for i in range(3))
    assert not _same(data, _dataset(root, seed=6))
    again.set_epoch(1)
    assert not _same(data, again)
    again.set_epoch(0)
    assert _same(data, again)


def test_labels_do_not_change_with_repeated_reading(root: Path) -> None:
    data = _dataset(root)
    assert [[data[i].label for i in range(3)] for _ in range(3)] == [[0, 1, 1]] * 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augmentation", ["f25noCtr", "borders25", "multiScaleRegular"])
def test_batches_are_the_same_with_any_number_of_workers(
    root: Path, workers: int, augmentation: transforms.Augmentation
) -> None:
    data = _dataset(root, transform=TrainTransform(24, augmentation), call_videos=2)
    loader = DataLoader(data, batch_size=3, num_workers=workers, persistent_workers=workers > 0)
    for epoch in range(2):
        data.set_epoch(epoch)
        (batch,) = loader
        assert batch.rgb.shape == (3, 3, 3, 24, 24)
        assert batch.flow.shape == (3, 3, 20, 24, 24)
        assert batch.label.tolist() == [0, 1, 1]
        assert list(batch.video) == ["a", "b", "c"]
        assert all(torch.equal(batch.flow[i], data[i].flow) for i in range(3))


class _Calls:
    """Takes first frames and whole images, and notes which loader call each video was in."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], float]] = []

    def in_call(self, call: LoaderCall) -> FrameSampling:
        self.seen.append((call.earlier, call.rng.random()))
        return lambda num_frames, rng: [6]

    def __call__(self, num_frames: int, rng: np.random.Generator) -> list[int]:
        raise AssertionError("only the rule of the call is asked")


def test_calls_are_consecutive_videos_of_the_epoch_order(root: Path) -> None:
    rule = _Calls()
    data = _dataset(root, sampling=rule, call_videos=2)
    orders = set()
    for epoch in range(12):
        data.set_epoch(epoch)
        order = data.epoch_order()
        orders.add(tuple(order))
        rule.seen.clear()
        for index in order:
            data[index]
        assert [earlier for earlier, _ in rule.seen] == [(), (RECORDS[order[0]].num_frames,), ()]
        draws = [draw for _, draw in rule.seen]
        assert draws[0] == draws[1] != draws[2]
    assert len(orders) > 3
    assert _dataset(root, seed=6).epoch_order() == _dataset(root, seed=6).epoch_order()


def test_sampling_and_transform_draw_from_one_generator_of_the_call(root: Path) -> None:
    """What the sampling drew for the call, the transform does not draw again."""
    rules = _Calls(), _Calls()

    class Transform:
        def in_call(self, call: LoaderCall) -> transforms.Transform:
            rules[1].in_call(call)
            return lambda rgb, flow, rng: (rgb, flow)

        def __call__(
            self, rgb: torch.Tensor | None, flow: torch.Tensor | None, rng: np.random.Generator
        ) -> transforms.Pair:
            raise AssertionError("only the transform of the call is asked")

    data = _dataset(root, sampling=rules[0], transform=Transform(), call_videos=3)
    for index in range(3):
        data[index]
    assert len({draw for _, draw in rules[0].seen}) == len({draw for _, draw in rules[1].seen}) == 1
    assert rules[0].seen[0][1] != rules[1].seen[0][1]


def test_official_sampling_shares_the_stride_within_a_call(root: Path) -> None:
    """The video of 14 frames is too short for any stride but 1, which is in force for those after it."""
    together = _dataset(root, sampling=RandomStrideFrames(4, (2, 3)), call_videos=3)
    for epoch in range(8):
        together.set_epoch(epoch)
        order = together.epoch_order()
        strides = {i: int(np.diff(_levels(together[i].rgb)[:, 0].astype(int))[0]) for i in order}
        after_the_short_one = order[order.index(1) :]
        assert {strides[i] for i in after_the_short_one} == {1}
        assert len({strides[i] for i in order if i not in after_the_short_one} - {2, 3}) == 0


def test_transform_gets_a_pair_and_flips_u_alone(root: Path) -> None:
    class Mirror:
        def __call__(
            self, rgb: torch.Tensor | None, flow: torch.Tensor | None, rng: np.random.Generator
        ) -> transforms.Pair:
            return transforms.mirror_clip(rgb, flow)

    plain, mirrored = _dataset(root)[0], _dataset(root, transform=Mirror())[0]
    assert np.array_equal(_levels(mirrored.flow)[:, 0::2], 255 - _levels(plain.flow)[:, 0::2])
    assert np.array_equal(_levels(mirrored.flow)[:, 1::2], _levels(plain.flow)[:, 1::2])


@pytest.mark.parametrize("transform", [None, TrainTransform(24), WholeFrame(24)])
def test_one_stream_alone(root: Path, transform: transforms.Transform | None) -> None:
    annotation = Annotation(["x", "y"], RECORDS, [])
    both = _dataset(root, transform=transform)
    options: dict[str, Any] = {"subset": "training", "sampling": RandomStrideFrames(3, (1, 4)), "seed": 5}
    appearance = TwoStreamDataset(
        annotation, root / "images", None, transform=transform, streams=["appearance"], **options
    )
    motion = TwoStreamDataset(annotation, None, root / "flows", transform=transform, streams=["motion"], **options)
    assert torch.equal(appearance[0].rgb, both[0].rgb)
    assert torch.equal(motion[0].flow, both[0].flow)
    assert appearance[0].flow.shape == motion[0].rgb.shape == (0,)
    (batch,) = DataLoader(appearance, batch_size=3)
    assert batch.flow.shape == (3, 0)


def test_subsets_have_the_official_sampling_by_default(root: Path) -> None:
    assert len(_dataset(root, subset="validation", sampling=None)[0].rgb) == 25
    assert len(_dataset(root, sampling=None)[0].rgb) == 5


def test_annotation_from_a_file(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "annot01.json"
    path.write_text(
        '{"labels": {"1": "x"}, "validation": {}, "training": {"a": {"set": "training", "label": 1, "nframes": 30}}}'
    )
    data = TwoStreamDataset(path, root / "images", root / "flows", subset="training")
    assert (len(data), data.class_names, data[0].label) == (1, ["x"], 0)


def test_bad_arguments_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"appearance, motion, got \('flow',\)"):
        _dataset(root, streams=["flow"])
    with pytest.raises(ConfigError, match="motion stream needs flow_root"):
        TwoStreamDataset(Annotation(["x"], [], []), root / "images", None, subset="training")
    with pytest.raises(AnnotationError, match="no subset 'test'"):
        _dataset(root, subset="test")
    with pytest.raises(DatasetError, match="no such folder"):
        TwoStreamDataset(Annotation(["x"], [], []), root / "nowhere", root / "flows", subset="training")


def test_short_and_incomplete_videos_are_refused(root: Path) -> None:
    records = [VideoRecord("b", 0, 9), VideoRecord("b", 0, 40), VideoRecord("missing", 0, 40)]
    data = TwoStreamDataset(Annotation(["x"], [], records), root / "images", root / "flows", subset="validation")
    with pytest.raises(VideoTooShortError, match=r"b: the video has 9 frames.*at least 11"):
        data[0]
    for index, name in ((1, "frame0000"), (2, "missing")):
        with pytest.raises(DatasetError, match=name):
            data[index]
