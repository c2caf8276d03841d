"""Scores of a run that was stopped: exactly those that were written, of exactly this evaluation."""

from pathlib import Path

import numpy as np
import pytest

from stmulnet.evaluation.journal import Journal, read_journals
from stmulnet.evaluation.protocol import ScoredVideo, VideoScores

KEY: dict[str, object] = {"weights": "abc", "views": "official", "settings": {"flow": None}}


@pytest.fixture
def scored(rng: np.random.Generator) -> list[ScoredVideo]:
    both = [VideoScores.of_views(*rng.normal(size=(2, 2, 5))) for _ in range(3)]
    alone = VideoScores.of_views(None, rng.normal(size=(10, 5)) * 1e-300)
    return [ScoredVideo(f"v_{i}\nü", i, scores) for i, scores in enumerate([*both, alone])]


def write(path: Path, scored: list[ScoredVideo], key: dict[str, object] | None = None) -> None:
    with Journal(path, key or KEY) as journal:
        for video in scored:
            journal.append(video)


def check_same(found: ScoredVideo, wanted: ScoredVideo) -> None:
    assert (found.video, found.label) == (wanted.video, wanted.label)
    for name in ("appearance", "motion", "fused", "appearance_views", "motion_views"):
        np.testing.assert_array_equal(getattr(found.scores, name), getattr(wanted.scores, name))


def test_what_is_appended_comes_back_bit_by_bit(scored: list[ScoredVideo], tmp_path: Path) -> None:
    paths = [tmp_path / "kept" / f"{number}.jsonl" for number in range(2)]
    write(paths[0], scored[:3])
    write(paths[1], scored[3:])
    found = read_journals(paths, KEY)
    assert list(found) == [video.video for video in scored]
    for video in scored:
        check_same(found[video.video], video)


def test_nothing_is_made_before_the_first_scores(scored: list[ScoredVideo], tmp_path: Path) -> None:
    write(tmp_path / "kept" / "0.jsonl", [])
    assert not (tmp_path / "kept").exists()
    with Journal(None, KEY) as journal:
        journal.append(scored[0])
    assert read_journals([tmp_path / "kept" / "0.jsonl"], KEY) == {}


def test_a_journal_cut_at_any_byte_goes_on(scored: list[ScoredVideo], tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    write(path, scored[:2])
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in [*range(0, len(whole), 7), *ends, *(end - 1 for end in ends)]:
        path.write_bytes(whole[:cut])
        complete = max(sum(end <= cut for end in ends) - 1, 0)
        assert len(read_journals([path], KEY)) == complete
        write(path, scored[complete:])
        found = read_journals([path], KEY)
        assert list(found) == [video.video for video in scored]
        check_same(found[scored[-1].video], scored[-1])


def test_damage_is_noticed(scored: list[ScoredVideo], tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    write(path, scored)
    content = bytearray(path.read_bytes())
    second = content.index(b"v_1")
    content[second + 40] ^= 1
    path.write_bytes(content)
    assert list(read_journals([path], KEY)) == [scored[0].video]


def test_another_evaluation_starts_anew(scored: list[ScoredVideo], tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    write(path, scored)
    other = KEY | {"weights": "abd"}
    assert read_journals([path], other) == {}
    write(path, scored[:1], other)
    assert list(read_journals([path], other)) == [scored[0].video]
    assert read_journals([path], KEY) == {}
