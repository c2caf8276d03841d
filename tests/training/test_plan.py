"""The clips of an epoch are cut into updates, rounds and sub-batches, none lost and none twice."""

import numpy as np
import pytest

from stmulnet.errors import ConfigError
from stmulnet.training.plan import plan_epoch, share


def test_official_numbers_of_ucf101_split_1() -> None:
    """9,537 clips: 74 updates of 32 sub-batches of 4, and one of 65 clips."""
    updates = plan_epoch(range(9537), batch_size=128, sub_batch_size=4)
    assert len(updates) == 75
    assert {len(update) for update in updates[:-1]} == {32}
    assert [len(part.clips) for part in updates[-1]] == [4] * 16 + [1]
    assert {part.update_videos for part in updates[-1]} == {65}
    assert [part.number for update in updates for part in update] == list(range(74 * 32 + 17))


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("clips", [1, 7, 8, 9, 41])
def test_every_clip_once_whatever_the_number_of_processes(processes: int, clips: int) -> None:
    order = np.random.default_rng(clips).permutation(clips).tolist()
    alone = plan_epoch(order, batch_size=8, sub_batch_size=2)
    together = plan_epoch(order, batch_size=8, sub_batch_size=2, processes=processes)
    for one, many in zip(alone, together, strict=True):
        assert [(part.clips, part.number) for part in one] == [(part.clips, part.number) for part in many]
        parts = [part for process in range(processes) for part in share(many, process, processes)]
        assert sorted(part.number for part in parts) == [part.number for part in one]
        rounds = [many[at : at + processes] for at in range(0, len(many), processes)]
        assert all(part.round_videos == sum(len(p.clips) for p in turn) for turn in rounds for part in turn)
    assert [clip for update in alone for part in update for clip in part.clips] == order


@pytest.mark.parametrize(("clips", "processes"), [(9537, 2), (9537, 4), (21, 3), (128, 8), (131, 3)])
def test_even_dealing_gives_every_process_a_part_of_every_round(clips: int, processes: int) -> None:
    updates = plan_epoch(range(clips), batch_size=128, sub_batch_size=4, processes=processes, dealing="even")
    assert [clip for update in updates for part in update for clip in part.clips] == list(range(clips))
    for update in updates:
        counts = [len(share(update, process, processes)) for process in range(processes)]
        assert len(set(counts)) == 1
        sizes = {len(part.clips) for part in update}
        assert max(sizes) <= 4
        assert max(sizes) - min(sizes) <= 1


def test_an_update_with_too_few_clips_is_refused() -> None:
    with pytest.raises(ConfigError, match="a clip for each of the 4 processes, the last update of an epoch has 2"):
        plan_epoch(range(34), batch_size=32, sub_batch_size=4, processes=4, dealing="even")
