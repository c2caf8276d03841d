"""Loader processes: the same clips whatever their number, errors as they are, one thread each."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.conftest import TinyProject

from stmulnet.datasets.base import TwoStreamDataset
from stmulnet.datasets.loading import ClipLoader
from stmulnet.datasets.sampling import RandomStrideFrames, UniformFrames
from stmulnet.datasets.transforms import TrainTransform
from stmulnet.errors import DatasetError


def _clips(dataset: Path, **options: Any) -> TwoStreamDataset:
    arguments: dict[str, Any] = {
        "subset": "training",
        "sampling": RandomStrideFrames(3, (1, 3)),
        "transform": TrainTransform(32),
    }
    return TwoStreamDataset.in_folder(dataset / "annotations" / "annot01.json", dataset, **arguments | options)


def _epoch(clips: TwoStreamDataset, epoch: int, workers: int) -> list[Any]:
    clips.set_epoch(epoch)
    return list(ClipLoader(clips, batch_size=2, order=clips.epoch_order(), workers=workers))


def test_samples_are_the_same_with_any_number_of_processes(tiny_project: TinyProject) -> None:
    clips = _clips(tiny_project.dataset, seed=3)
    for epoch in range(2):
        alone, *others = (_epoch(clips, epoch, workers) for workers in (0, 1, 2))
        assert sum(len(batch.video) for batch in alone) == len(clips)
        for helped in others:
            for a, b in zip(alone, helped, strict=True):
                assert torch.equal(a.rgb, b.rgb)
                assert torch.equal(a.flow, b.flow)
                assert torch.equal(a.label, b.label)
                assert a.video == b.video


def test_clips_of_different_sizes_are_a_list_in_their_batch(tiny_project: TinyProject) -> None:
    clips = _clips(tiny_project.dataset, transform=TrainTransform(32, resized=False))
    batch: Any = next(iter(ClipLoader(clips, batch_size=len(clips), order=clips.epoch_order(), workers=1)))
    assert isinstance(batch.rgb, list)
    assert [clip.shape[-2:] for clip in batch.rgb] == [clip.shape[-2:] for clip in batch.flow]
    assert len({clip.shape for clip in batch.rgb}) > 1
    assert batch.label.shape == (len(clips),)


def test_epochs_and_seeds_differ(tiny_project: TinyProject) -> None:
    clips, others = _clips(tiny_project.dataset, seed=3), _clips(tiny_project.dataset, seed=4)
    first, second, other = _epoch(clips, 0, 0)[0], _epoch(clips, 1, 0)[0], _epoch(others, 0, 0)[0]
    assert not torch.equal(first.flow, second.flow)
    assert not torch.equal(first.flow, other.flow)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_bad_input_arrives_with_its_own_message(
    tiny_project: TinyProject, tmp_path: Path, workers: int, batch_size: int | None
) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny_project.dataset, dataset)
    clips = _clips(dataset)
    (image,) = (dataset / "images" / clips.records[1].video).glob("frame000007.jpg")
    for number in range(1, 17):
        image.with_name(f"frame{number:06d}.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError) as caught:
        list(ClipLoader(clips, batch_size=batch_size, workers=workers))
    assert str(caught.value).startswith(str(image.parent))
    assert "not a readable JPEG" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "worker" not in str(caught.value)
    assert not multiprocessing.active_children()  # though the traceback of `caught` lives


def test_an_abandoned_loop_does_not_keep_the_interpreter(tiny_project: TinyProject) -> None:
    code = f"""
from pathlib import Path
from tests.datasets.test_loading import ClipLoader, _clips
if __name__ == "__main__":
    clips = iter(ClipLoader(_clips(Path({str(tiny_project.dataset)!r})), batch_size=2, workers=1))
    next(clips)
    cycle = [clips]
    cycle.append(cycle)
    del clips, cycle
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


class _Unreadable(TwoStreamDataset):
    """Clips that the system does not let anybody read."""

    def __getitem__(self, index: int) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")


def test_what_the_system_refuses_is_bad_input_too(tiny_project: TinyProject) -> None:
    annotation = tiny_project.dataset / "annotations" / "annot01.json"
    clips = _Unreadable.in_folder(annotation, tiny_project.dataset, subset="validation")
    with pytest.raises(DatasetError, match=rf"^{clips.records[0].video}: cannot be read \(Too many open files\)$"):
        list(ClipLoader(clips))


class _Threads(TwoStreamDataset):
    """Clips whose label is the number of threads that the loading process may use."""

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)._replace(label=100 * torch.get_num_threads() + cv2.getNumThreads())


def test_loader_processes_use_one_thread(tiny_project: TinyProject) -> None:
    annotation = tiny_project.dataset / "annotations" / "annot01.json"
    clips = _Threads.in_folder(annotation, tiny_project.dataset, subset="validation", sampling=UniformFrames(1))
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        batch = next(iter(ClipLoader(clips, batch_size=2, workers=1)))
        assert torch.as_tensor(batch.label).tolist() == [101, 101]
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_a_loader_leaves_the_global_generator_alone(tiny_project: TinyProject) -> None:
    state = torch.random.get_rng_state()
    list(ClipLoader(_clips(tiny_project.dataset), batch_size=2))
    np.testing.assert_array_equal(torch.random.get_rng_state(), state)


def test_a_loader_process_that_dies_says_what_to_do(tiny_project: TinyProject) -> None:
    videos = TwoStreamDataset.in_folder(
        tiny_project.dataset / "annotations" / "annot01.json",
        tiny_project.dataset,
        subset="training",
        sampling=_kill_this_process,
    )
    with pytest.raises(DatasetError, match=r"a loader process died \(DataLoader worker .* use fewer workers, or 0"):
        list(ClipLoader(videos, batch_size=1, workers=1))


def _kill_this_process(_num_frames: int, _rng: np.random.Generator) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []
