"""Checkpoints are whole or not there, and checked before they are used."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from stmulnet.errors import CheckpointError, StmulnetError
from stmulnet.training.checkpoints import Checkpoints, checksum, load_checkpoint


def some_state(value: float = 1.0) -> dict[str, Any]:
    return {"updates": 3, "network": {"w": torch.full((4, 3), value), "n": torch.tensor(2)}, "optimizer": [{"lr": 0.1}]}


def test_what_is_saved_is_loaded_and_old_ones_go(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "checkpoints", keep=2)
    for updates in (1, 2, 30):
        kept.save(updates, some_state(float(updates)))
    assert [path.name for path in kept.paths()] == ["update-0000002.ckpt", "update-0000030.ckpt"]
    state = kept.load()
    assert state["network"]["w"].unique().tolist() == [30.0]
    assert (state["updates"], state["optimizer"]) == (3, [{"lr": 0.1}])


def test_a_damaged_one_is_said_and_the_one_before_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Checkpoints(tmp_path, keep=3)
    for updates in (1, 2, 3):
        kept.save(updates, some_state(float(updates)))
    newest, middle = tmp_path / "update-0000003.ckpt", tmp_path / "update-0000002.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    content = middle.read_bytes()
    at = content.index(torch.full((4, 3), 2.0).numpy().tobytes())
    middle.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    assert kept.load()["network"]["w"].unique().tolist() == [1.0]
    said = capsys.readouterr().err
    first, second = said.splitlines()
    assert first.endswith("update-0000003.ckpt: damaged, or not a checkpoint; going back to update-0000002.ckpt")
    assert "update-0000002.ckpt: damaged" in second
    assert second.endswith("; going back to update-0000001.ckpt")
    (tmp_path / "update-0000001.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds no checkpoint that can be used"):
        kept.load()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "bang",))

    torch.save({"version": 1, "checksum": 0, "state": Bomb()}, tmp_path / "update-1.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "update-1.ckpt")
    assert not (tmp_path / "bang").exists()
    torch.save({"version": 1, "checksum": 0, "state": {}}, tmp_path / "update-1.ckpt")
    with pytest.raises(CheckpointError, match="version 1, this is version 3"):
        load_checkpoint(tmp_path / "update-1.ckpt")


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(1, some_state())

    def full(self: Path, _content: bytes) -> int:
        with self.open("wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StmulnetError, match=r"No space left .*\); the last good checkpoint is .*update-0000001"):
            kept.save(2, some_state())
    assert [path.name for path in tmp_path.iterdir()] == ["update-0000001.ckpt"]
    assert kept.load()["updates"] == 3


def test_check_sums_see_values_names_and_order_of_memory() -> None:
    state = some_state()
    assert checksum(state) == checksum(some_state())
    assert checksum(state) != checksum(some_state(2.0))
    assert checksum({"a": torch.ones(2)}) != checksum({"b": torch.ones(2)})
    images = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert checksum([images]) == checksum([images.contiguous(memory_format=torch.channels_last)])


def test_the_newest_of_fewer_updates(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, 3)
    assert kept.latest_path(before=9) is None
    for updates in (2, 5, 8):
        kept.save(updates, some_state())
    assert [
        path and path.name for path in (kept.latest_path(), kept.latest_path(before=8), kept.latest_path(before=2))
    ] == [
        "update-0000008.ckpt",
        "update-0000005.ckpt",
        None,
    ]


@pytest.mark.parametrize(("keep", "left"), [(1, [7]), (2, [5, 7]), (5, [4, 5, 7])])
def test_what_is_kept_are_the_last_good_ones(keep: int, left: list[int], tmp_path: Path) -> None:
    """A damaged one is newer than the one that the run goes on from; a killed run may have left half of one."""
    for updates in (4, 5, 9):
        Checkpoints(tmp_path, 5).save(updates, some_state())
    (tmp_path / "update-0000009.ckpt").write_bytes(b"damaged")
    (tmp_path / ".update-0000009.123.partial.ckpt").write_bytes(b"half")
    Checkpoints(tmp_path, keep).save(7, some_state())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"update-{updates:07d}.ckpt" for updates in left]
