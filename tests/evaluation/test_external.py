"""Scores of another method from CSV files, good and bad."""

from pathlib import Path

import numpy as np
import pytest

from stmulnet.errors import ConfigError
from stmulnet.evaluation.external import read_external_scores, scores_of

NAMES = ["Walk", "Run", "Sit, down"]
HEADER = 'video,Run,"Sit, down",Walk\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "idt.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_columns_in_any_order(tmp_path: Path, newline: str) -> None:
    text = "\ufeff" + HEADER + "v_1,-1.5,2e3,0\n\nv_2, 7 ,8,9\n"
    path = written(tmp_path, text.replace("\n", newline))
    scores = read_external_scores(path, NAMES)
    assert list(scores) == ["v_1", "v_2"]
    np.testing.assert_array_equal(scores["v_1"], [0, -1.5, 2000])
    np.testing.assert_array_equal(scores_of(path, scores, ["v_2", "v_1"]), [[9, 7, 8], [0, -1.5, 2000]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the first line must be 'video' and the names of the classes, got \[\]"),
        ("Run,Walk\n", r"must be 'video' and the names"),
        ("video,Run,Walk\n", "no column for classes: Sit, down; there must be one column per class"),
        (HEADER.replace("Walk", "Wave"), "unknown classes: Wave"),
        (HEADER.replace("Walk", "Walk,Run"), "classes twice: Run"),
        (HEADER + "v_1,1,2,3\nv_2,1,2,3\nv_1,1,2,3\n", "idt.csv:4: v_1 is there already"),
        (HEADER + "v_1,1,2\n", "idt.csv:2: 3 cells where the first line has 4"),
        (HEADER + "v_1,1,nan,3\n", r"idt.csv:2: the score of class Sit, down must be a finite number, got 'nan'"),
        (HEADER + "v_1,1,2,inf\n", "class Walk must be a finite number, got 'inf'"),
        (HEADER + "v_1,1,2,\n", "class Walk must be a finite number, got ''"),
        (HEADER + 'v_1,1,2,"3\n', "not a CSV file in UTF-8"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_external_scores(written(tmp_path, text), NAMES)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        read_external_scores(tmp_path / "nowhere.csv", NAMES)
    path = tmp_path / "latin.csv"
    path.write_bytes(b"video,\xff\n")
    with pytest.raises(ConfigError, match="not a CSV file in UTF-8"):
        read_external_scores(path, NAMES)


def test_missing_videos_are_counted_and_named(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "v_1,1,2,3\n")
    scores = read_external_scores(path, NAMES)
    with pytest.raises(ConfigError, match=r"no scores of 6 of the 7 test videos \(v_2, v_3, v_4, v_5, v_6, \.\.\.\)"):
        scores_of(path, scores, [f"v_{number}" for number in range(1, 8)])
