"""The table of an ablation: its numbers against NumPy, its three forms, what is refused."""

import csv
import io
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.evaluation.paired import paired_difference
from stmulnet.evaluation.protocol import ScoreTable
from stmulnet.evaluation.scores import SavedScores, ScoresRecord
from stmulnet.training.ablation_table import ALL, Row, compare, to_csv, to_markdown

CLASSES = ["Run", "Sit", "Walk"]
VIDEOS = [f"v_{name}_g{group:02d}_c{clip:02d}" for name in CLASSES for group in (1, 2) for clip in (1, 2, 3)]
LABELS = np.repeat(np.arange(3), 6)
SEEDS = [0, 3, 7]


def scores(rng: np.random.Generator, skill: float, *, streams: bool = True) -> SavedScores:
    tables = rng.normal(size=(2, len(VIDEOS), 3)) + skill * np.eye(3)[LABELS]
    appearance, motion = (*tables,) if streams else (None, tables[1])
    fused = tables.mean(axis=0) if streams else tables[1]
    return SavedScores(ScoreTable(list(VIDEOS), LABELS, appearance, motion, fused), list(CLASSES), ScoresRecord())


@pytest.fixture
def runs(rng: np.random.Generator) -> dict[str, list[SavedScores]]:
    """By variant, of three seeds: a good network, a bad one, and a motion stream alone."""
    skills = {"good": 4.0, "bad": -1.0, "alone": 1.0}
    return {name: [scores(rng, skill, streams=name != "alone") for _ in SEEDS] for name, skill in skills.items()}


def right(run: SavedScores, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(run.table.fused.argmax(axis=1) == LABELS)[wanted]


def test_numbers_are_numpys(runs: dict[str, list[SavedScores]]) -> None:
    rows = compare(runs, "bad", {"moving": ["Run", "Walk"]})
    assert [(row.classes, row.variant) for row in rows] == [(c, v) for c in (ALL, "moving") for v in runs]
    for row in rows:
        wanted = LABELS != 1 if row.classes == "moving" else LABELS >= 0
        correct = np.array([right(run, wanted) for run in runs[row.variant]])
        reference = np.array([right(run, wanted) for run in runs["bad"]])
        assert row.top1 == pytest.approx(correct.mean(axis=1))
        assert (row.videos, row.units) == (wanted.sum(), wanted.sum() / 3)
        if row.variant == "bad":
            assert (row.difference, row.verdict) == (None, "reference")
        else:
            groups = [video[:-4] for video, chosen in zip(VIDEOS, wanted, strict=True) if chosen]
            assert row.difference == paired_difference(correct, reference, groups=groups)
            assert row.difference.value == pytest.approx(correct.mean() - reference.mean())
        tables = [run.table.motion for run in runs[row.variant]]
        shares = [float((table.argmax(axis=1) == LABELS)[wanted].mean()) for table in tables if table is not None]
        assert row.streams.get("motion", shares) == pytest.approx(shares)
        assert set(row.streams) == (set() if row.variant == "alone" else {"appearance", "motion"})


def lines(rows: list[Row]) -> list[list[str]]:
    """Cells of the Markdown tables."""
    text = to_markdown(rows, "Which?", "About.")
    assert len({len(line) for line in text.splitlines() if line.startswith("| ")}) <= 2  # aligned
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]


def test_table_to_read(runs: dict[str, list[SavedScores]]) -> None:
    rows = compare(runs, "bad", {"moving": ["Run", "Walk"]})
    table = lines(rows)
    head = ["variant", "top-1", "appearance stream", "motion stream", "difference", "interval", ""]
    assert [line for line in table if line[0] == "variant"] == [head, head]
    good = table[2]
    assert good[0] == "good"
    assert good[1] == f"{100 * np.mean(rows[0].top1):.1f} ± {100 * np.std(rows[0].top1, ddof=1):.1f}"
    found = rows[0].difference
    assert found is not None
    assert good[4:] == [f"{100 * found.value:+.1f}", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}", "better"]
    assert table[3][4:] == ["", "", "reference"]
    assert table[4][2:4] == ["", ""]
    text = to_markdown(rows, "Which?", "About.")
    assert text.startswith("# Which?\n\nAbout.\n\nTop-1 accuracy in %, mean ± standard deviation over the seeds. ")
    assert "Differences to *bad* are in points, with 95 % intervals over seeds and videos, by the groups" in text
    assert "## All classes (18 videos of 6 groups)" in text
    assert "## Moving (12 videos of 4 groups)" in text


def test_one_seed_has_no_spread(runs: dict[str, list[SavedScores]]) -> None:
    rows = compare({name: several[:1] for name, several in runs.items()}, "good", {})
    text = to_markdown(rows, "Which?", "About.")
    assert "±" not in text
    assert "95 % intervals over videos" in text
    assert "With one seed it is not known how runs differ." in text
    assert rows[0].to_dict()["top1"]["std"] is None


def test_one_variant_has_no_differences(runs: dict[str, list[SavedScores]]) -> None:
    name = next(iter(runs))
    text = to_markdown(compare({name: runs[name]}, name, {}), "Title", "About.")
    assert "Top-1 accuracy in %, mean ± standard deviation over the seeds.\n" in text
    assert "difference" not in text.lower()
    assert "reference" not in text


def test_table_for_programs(runs: dict[str, list[SavedScores]]) -> None:
    rows = compare(runs, "bad", {})
    read = list(csv.DictReader(io.StringIO(to_csv(rows, SEEDS))))
    for line, row in zip(read, rows, strict=True):
        assert (line["classes"], line["variant"], line["videos"], line["verdict"]) == (
            *(row.classes, row.variant, str(row.videos)),
            row.verdict,
        )
        assert [float(line[f"seed_{seed}"]) for seed in SEEDS] == pytest.approx(row.top1, rel=1e-5)
        assert float(line["mean"]) == pytest.approx(np.mean(row.top1), rel=1e-5)
        assert float(line["std"]) == pytest.approx(np.std(row.top1, ddof=1), rel=1e-5)
        if row.difference:
            ends = [row.difference.value, row.difference.low, row.difference.high]
            assert [float(line[name]) for name in ("difference", "low", "high")] == pytest.approx(ends, rel=1e-5)
        if row.streams:
            assert float(line["motion_mean"]) == pytest.approx(np.mean(row.streams["motion"]), rel=1e-5)
    assert (read[1]["difference"], read[2]["appearance_mean"]) == ("", "")


def test_values_for_programs_are_complete(runs: dict[str, list[SavedScores]]) -> None:
    rows = compare(runs, "bad", {})
    values: dict[str, Any] = rows[0].to_dict()
    assert values["top1"]["seeds"] == rows[0].top1
    assert values["top1"]["mean"] == pytest.approx(np.mean(rows[0].top1))
    assert values["difference"].keys() == {"value", "low", "high"}
    assert (values["verdict"], rows[1].to_dict()["difference"]) == ("better", None)


def test_other_videos_are_refused(runs: dict[str, list[SavedScores]], rng: np.random.Generator) -> None:
    other = scores(rng, 1)
    other.table.videos[0] = "v_Other_g01_c01"
    with pytest.raises(ConfigError, match="a run of 'good' was scored on other videos than one of 'bad'"):
        compare(runs | {"good": [*runs["good"][:2], other]}, "bad", {})
    with pytest.raises(ConfigError, match="there are no videos of the classes of 'none'"):
        compare(runs, "bad", {"none": []})
