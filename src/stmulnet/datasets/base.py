"""The data set of two-stream clips: frames and flow on disk, an annotation, a frame sampling and a transform.

T sampled frames, m distinct flow fields of their stacks, H x W pixels; everything is uint8, 0..255, RGB order.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stmulnet.constants import CALL_VIDEOS, STREAMS
from stmulnet.datasets.annotations import Annotation, VideoRecord, load_annotation
from stmulnet.datasets.calls import EpochCalls, in_call
from stmulnet.datasets.sampling import RandomStrideFrames, UniformFrames, flow_numbers
from stmulnet.datasets.transforms import Transform
from stmulnet.errors import ConfigError, DatasetError, VideoTooShortError
from stmulnet.video.store import FrameTree, find_images
from stmulnet.video.trees import Roots

FrameSampling = Callable[[int, np.random.Generator], list[int]]
Images = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


class ClipSample(NamedTuple):
    """One clip, or a batch of them after torch's default collate function.

    Attributes:
        rgb: (T, 3, H, W) uint8 RGB, 0..255; of shape (0,) where the appearance stream was not asked for.
        flow: (T, 20, H, W) uint8, channels u(t-5) v(t-5) ... u(t+4) v(t+4), 128 is zero; (0,) where motion was not.
        label: Class, 0-based.
        video: Name of the video.
    """

    rgb: Tensor
    flow: Tensor
    label: int
    video: str


class TwoStreamDataset(Dataset[ClipSample]):
    """Clips of a subset of an annotation, one per video.

    Everything random about an item is drawn from (seed, epoch, index), so it does not depend on the number of loader
    workers or on the order of access. Call `set_epoch` before each epoch; workers that live on see it.

    What the videos of a loader call share (see `stmulnet.datasets.calls`), they share for ``call_videos`` consecutive
    clips of `epoch_order`: a loader that follows this order in batches of this size sees the official sub-batches.

    Args:
        annotation: An annotation file or its content.
        frames_root: Folder of the RGB frames, e.g. ``data/ucf101/images``, or of a packed data set; may be None where
            ``streams`` lacks appearance. Where frames and flow lie in one folder, `in_folder` finds both.
        flow_root: Folder of the flow, e.g. ``data/ucf101/flows``, or of a packed data set; may be None where
            ``streams`` lacks motion.
        subset: ``"training"`` or ``"validation"``.
        sampling: Which frames of a video: (number of frames, generator) -> 1-based numbers. None takes the official
            rule of the subset: `RandomStrideFrames` for training, `UniformFrames` for validation.
        transform: What is done to the images, e.g. `TrainTransform`. None leaves them as they are stored.
        seed: Seed of everything random.
        streams: Streams to read; images of the other are not decoded.
        call_videos: Videos per loader call.
        cache: Keep the decoded images of every video that was read in memory (every loader worker its own).

    Raises:
        AnnotationError: The annotation is malformed or has no such subset.
        ConfigError: ``streams`` names something else, or the folder of a stream is not given.
        DatasetError: A folder is missing or in no known layout; on access, an image is missing or damaged.
        VideoTooShortError: On access, a video has fewer than 11 frames.
    """

    def __init__(
        self,
        annotation: Annotation | Path | str,
        frames_root: Path | str | None,
        flow_root: Path | str | None,
        *,
        subset: str,
        sampling: FrameSampling | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        streams: Sequence[str] = STREAMS,
        call_videos: int = CALL_VIDEOS,
        cache: bool = False,
    ) -> None:
        if not streams or not set(streams) <= set(STREAMS):
            raise ConfigError(f"streams must be one or both of {', '.join(STREAMS)}, got {tuple(streams)}")
        annotation = annotation if isinstance(annotation, Annotation) else load_annotation(Path(annotation))
        self.class_names = annotation.class_names
        self.records: list[VideoRecord] = annotation.records(subset)
        roots = {"appearance": ("frames_root", frames_root), "motion": ("flow_root", flow_root)}
        for stream in streams:
            name, root = roots[stream]
            if root is None:
                raise ConfigError(f"the {stream} stream needs {name}, the folder of its images, but got None")
        self.tree = _open_tree(*(root if stream in streams else None for stream, (_, root) in roots.items()))
        self._rgb = _Reader(self.tree, "rgb", cache=cache) if "appearance" in streams else None
        self._flow = _Reader(self.tree, "flow", cache=cache) if "motion" in streams else None
        self._sampling = sampling or (RandomStrideFrames() if subset == "training" else UniformFrames())
        self._transform = transform
        self._seed = seed
        self._call_videos = call_videos
        # In shared memory: workers that outlive an epoch have their own copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._calls = self._draw_calls()

    @classmethod
    def in_folder(
        cls,
        annotation: Annotation | Path | str,
        dataset: Path | str,
        *,
        subset: str,
        streams: Sequence[str] = STREAMS,
        **options: Any,
    ) -> "TwoStreamDataset":
        """The clips of a data set whose frames and flow lie in its folder, in any known tree or packed.

        Args:
            annotation: An annotation file or its content.
            dataset: The folder, e.g. ``data/ucf101``; see `stmulnet.video.store.find_images`.
            subset: ``"training"`` or ``"validation"``.
            streams: Streams to read.
            options: Further arguments of the class.

        Raises:
            DatasetError: Frames or flow that a stream needs are not there.
        """
        roots = find_images(Path(dataset))
        for stream, root, what in zip(STREAMS, roots, ("frames", "flow"), strict=True):
            if stream in streams and root is None:
                raise DatasetError(
                    f"{dataset}: no {what} in this folder, which the {stream} stream needs; give the folder of the "
                    "data set, which holds frames and flow, or extract them"
                )
        return cls(annotation, roots.frames, roots.flow, subset=subset, streams=streams, **options)

    @property
    def reads(self) -> str:
        """Which images are read, in words."""
        return self.tree.kind.replace(": none", ": not read")

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.records)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose clips are drawn from now on, also in running workers."""
        self._epoch.fill_(epoch)

    def epoch_order(self) -> list[int]:
        """Indices of all clips in the order, drawn from seed and epoch, that training visits them in."""
        return self._calls_of_epoch().order

    def __getitem__(self, index: int) -> ClipSample:
        """The clip of the video with this index in ``records``."""
        record = self.records[index]
        call = self._calls_of_epoch().of(index)
        rng = np.random.default_rng([self._seed, int(self._epoch), index])
        try:
            times = in_call(self._sampling, call)(record.num_frames, rng)
        except VideoTooShortError as error:
            raise VideoTooShortError(f"{record.video}: {error}") from error
        fields = [flow_numbers(time) for time in times]
        # The transform sees every distinct image once; overlapping stacks are put together afterwards.
        rgb, rgb_positions = self._rgb.read(record, np.array(times)) if self._rgb else (None, None)
        flow, flow_positions = self._flow.read(record, np.array(fields)) if self._flow else (None, None)
        if self._transform is not None:
            rgb, flow = in_call(self._transform, call)(rgb, flow, rng)
        return ClipSample(_gather(rgb, rgb_positions), _gather(flow, flow_positions), record.label, record.video)

    def _calls_of_epoch(self) -> EpochCalls:
        if self._calls.epoch != int(self._epoch):
            self._calls = self._draw_calls()
        return self._calls

    def _draw_calls(self) -> EpochCalls:
        num_frames = [record.num_frames for record in self.records]
        return EpochCalls(num_frames, size=self._call_videos, seed=self._seed, epoch=int(self._epoch))


def _open_tree(frames_root: Path | str | None, flow_root: Path | str | None) -> FrameTree:
    """Open both at once: how fields are numbered may depend on the frames beside them."""
    roots = Roots(*(None if root is None else Path(root) for root in (frames_root, flow_root)))
    try:
        return FrameTree(*roots)
    except DatasetError:
        for modality, root in roots._asdict().items():
            if root and root.is_dir() and (meant := _nearby(root, modality)):
                raise DatasetError(
                    f"{root}: not the folder of the {modality}: give {meant} as {modality}_root, or the data set's "
                    "folder to TwoStreamDataset.in_folder"
                ) from None
        raise


def _nearby(root: Path, modality: str) -> Path | None:
    """The frames or the flow of the data set that a folder holds or lies in; None where they are in it as it is."""
    for folder in (root, root.parent):
        with contextlib.suppress(DatasetError):
            found: Path | None = getattr(find_images(folder), modality)
            if found:
                return None if found == root else found
    return None


def _gather(images: Tensor | None, positions: Tensor | None) -> Tensor:
    """Images (m, C, H, W) at positions (T,) or (T, n) -> (T, C, H, W) or (T, n C, H, W)."""
    if images is None or positions is None:
        return torch.empty(0, dtype=torch.uint8)
    # Not images[positions], which takes ten times as long for bytes.
    return images.index_select(0, positions.flatten()).reshape(len(positions), -1, *images.shape[-2:])


class _Reader:
    """Reads the images of one modality, ``"rgb"`` or ``"flow"``; with a cache, every video once and completely."""

    def __init__(self, tree: FrameTree, modality: str, *, cache: bool) -> None:
        self._is_rgb = modality == "rgb"
        self._tree = tree
        self._cache: dict[str, Images] | None = {} if cache else None

    def read(self, record: VideoRecord, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """The distinct images among ``numbers``, (m, C, H, W), and the position of each number among them."""
        distinct, positions = np.unique(numbers, return_inverse=True)
        if self._cache is None:
            images = self._decode(record.video, distinct)
        else:
            if record.video not in self._cache:
                last = record.num_frames if self._is_rgb else record.num_frames - 1
                self._cache[record.video] = self._decode(record.video, np.arange(1, last + 1))
            images = self._cache[record.video][distinct - 1]
        tensor = torch.from_numpy(images)
        return tensor.permute(0, 3, 1, 2) if self._is_rgb else tensor, torch.from_numpy(
            positions.reshape(numbers.shape)
        )

    def _decode(self, video: str, numbers: Numbers) -> Images:
        read = self._tree.read_rgb if self._is_rgb else self._tree.read_flow
        return read(video, numbers.tolist())
