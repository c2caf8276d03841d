"""docs/quickstart.ipynb runs from the first cell to the last, in an empty folder, and is stored without outputs."""

import re
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"
QUICK = "GROUPS_TRAIN, GROUPS_TEST, EPOCHS = 2, 1, 3"  # two epochs warm up


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_outputs_are_not_stored(notebook: Any) -> None:
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), "clear all outputs before saving"
        assert set(cell.metadata) <= {"tags"}


def test_it_names_no_machine(notebook: Any) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|Users|tmp|work|root|mnt|data)\b|[A-Z]:\\\\|~/", text)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def test_links_lead_to_documents(notebook: Any) -> None:
    targets = [target for cell in notebook.cells for target in re.findall(r"\]\(([^)#\s]+)", cell.source)]
    assert targets
    assert [target for target in targets if not (NOTEBOOK.parent / target).exists()] == []


@pytest.mark.slow
def test_every_cell_runs(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert re.fullmatch(re.sub(r"\d+", r"\\d+", QUICK), parameters.source), "the same names"
    parameters.source = QUICK
    place = tmp_path / "place"
    place.mkdir()
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(place)}}).execute()

    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    pages = "".join(output.data.get("text/html", "") for output in shown)
    for text in ("both streams", "appearance stream", "motion stream", "mean class %", "report.html", "<video"):
        assert text in pages
    assert [path.name for path in place.iterdir()] == ["runs"]
    assert (place / "runs" / "quickstart" / "overlay.mp4").stat().st_size > 1000
