"""The table of a run."""

from pathlib import Path

import pytest

from stmulnet.errors import DatasetError
from stmulnet.training.history import COLUMNS, History, in_words


def row(number: int, **more: float) -> dict[str, float]:
    return {
        "epoch": number,
        "updates": 2 * number,
        "learning_rate": 0.1,
        "train_loss": 1 / 3,
        "train_top1": 0.5,
        **more,
    }


def test_rows_survive_and_give_way_to_a_resumed_run(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.rows() == []
    for number in (1, 2, 3):
        history.add(row(number, val_top1=number / 8))
    history.add(row(2))
    assert [kept["epoch"] for kept in history.rows()] == [1, 2]
    assert history.rows()[0] == pytest.approx(row(1, val_top1=0.125), rel=1e-7)
    assert "val_top1" not in history.rows()[1]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert in_words(row(1, val_top1=0.25)) == "train_loss 0.333  train_top1 0.500  val_top1 0.250"


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\none,2\n")
    with pytest.raises(DatasetError, match=r"metrics\.csv: not the metrics of a run"):
        History(tmp_path).rows()
