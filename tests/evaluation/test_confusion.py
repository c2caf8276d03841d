import re
from xml.etree import ElementTree

import numpy as np
import pytest

from stmulnet.class_names import CLASS_NAMES
from stmulnet.evaluation.confusion import confusion_clusters, confusion_figure, heat

SMALL = ["Walk", "Run & <b>jump</b>", 'Sit "down"', "Stand", "Turn $x$", "Wave"]
UCF101 = list(CLASS_NAMES["ucf101"])
TITLE = re.compile(r"(.+), (?:recognised|taken for (.+)): (\d+) of (\d+) \((\d+\.\d) %\)")


def cells(figure: str) -> list[tuple[ElementTree.Element, tuple[str, str, int, int, float]]]:
    """Each filled cell with what it says: true and predicted class, videos, videos of the true class, per cent."""
    found = []
    for shape in ElementTree.fromstring(figure).iter("rect"):
        if shape.get("class") in ("hit", "miss"):
            match = TITLE.fullmatch(shape.findtext("title", ""))
            assert match
            truth, guess, count, total, share = match.groups()
            assert (shape.get("class") == "hit") == (guess is None)
            found.append((shape, (truth, guess or truth, int(count), int(total), float(share))))
    return found


@pytest.fixture
def counts(rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.integers(0, 4, size=(6, 6)) + 5 * np.eye(6, dtype=int))


@pytest.fixture
def sparse(rng: np.random.Generator) -> np.ndarray:
    """101 classes: mostly right, a few mistakes anywhere."""
    matrix = np.diag(rng.integers(20, 40, size=101))
    np.add.at(matrix, (rng.integers(0, 101, size=300), rng.integers(0, 101, size=300)), 1)
    return matrix


@pytest.mark.parametrize("large", [False, True])
def test_every_cell_says_its_count(counts: np.ndarray, sparse: np.ndarray, large: bool) -> None:
    matrix, names = (sparse, UCF101) if large else (counts, SMALL)
    found = [what for _, what in cells(confusion_figure(matrix, names))]
    expected = [
        (
            names[row],
            names[column],
            matrix[row, column],
            matrix[row].sum(),
            100 * matrix[row, column] / matrix[row].sum(),
        )
        for row, column in zip(*np.nonzero(matrix), strict=True)
    ]
    assert [what[:4] for what in found] == [what[:4] for what in expected]
    assert [what[4] for what in found] == pytest.approx([what[4] for what in expected], abs=0.0501)


def test_cells_lie_at_their_classes_and_are_stronger_with_larger_shares(sparse: np.ndarray) -> None:
    order = np.random.default_rng(3).permutation(101)
    names = np.asarray(UCF101)
    found = cells(confusion_figure(sparse, UCF101, clusters=[[int(number)] for number in order]))
    x, y, opacity, share = (
        np.array([float(shape.get(key, "")) for shape, _ in found])
        for key in ("x", "y", "fill-opacity", "fill-opacity")
    )
    share = np.array([what[2] / what[3] for _, what in found])
    columns, rows = ((values - values.min()) / 9 for values in (x, y))
    assert (names[order][rows.astype(int)] == [what[0] for _, what in found]).all()
    assert (names[order][columns.astype(int)] == [what[1] for _, what in found]).all()
    np.testing.assert_allclose(opacity, [heat(value) for value in share], atol=0.0051)
    ranked = opacity[np.argsort(share, kind="stable")]
    assert (np.diff(ranked) >= 0).all()


def test_counts_are_written_into_small_matrices_only(counts: np.ndarray, sparse: np.ndarray) -> None:
    def numbers(figure: str) -> list[str]:
        texts = [text.text or "" for text in ElementTree.fromstring(figure).iter("text")]
        return [text for text in texts if text.isdigit()]

    assert numbers(confusion_figure(counts, SMALL)) == [str(count) for count in counts[counts > 0]]
    assert numbers(confusion_figure(sparse, UCF101)) == []


@pytest.mark.parametrize("large", [False, True])
def test_every_class_is_named_along_both_axes(counts: np.ndarray, sparse: np.ndarray, large: bool) -> None:
    matrix, names = (sparse, UCF101) if large else (counts, SMALL)
    texts = [text.text for text in ElementTree.fromstring(confusion_figure(matrix, names)).iter("text")]
    assert all(texts.count(name) == (3 if large else 2) for name in names)
    assert {"true class", "predicted class"} <= set(texts)


def test_names_are_escaped(counts: np.ndarray) -> None:
    figure = confusion_figure(counts, SMALL, name="<i>net</i>")
    assert "<b>" not in figure
    assert "<i>" not in figure
    assert "Run &amp; &lt;b&gt;jump&lt;/b&gt;" in figure


def test_names_fit_the_margin(counts: np.ndarray) -> None:
    long = "a class that somebody has described in a whole sentence instead of a word"
    figure = confusion_figure(counts, [long, *SMALL[1:]])
    texts = [text.text or "" for text in ElementTree.fromstring(figure).iter("text")]
    assert long not in texts
    assert sum(text.startswith("a class") and text.endswith("…") for text in texts) == 2
    assert long in figure  # in what the cells say
    assert float(ElementTree.fromstring(figure).get("width", "")) < 700


def test_class_without_videos_is_an_empty_row(counts: np.ndarray) -> None:
    counts[1] = 0
    assert SMALL[1] not in [what[0] for _, what in cells(confusion_figure(counts, SMALL))]


def test_description_gives_the_total(counts: np.ndarray) -> None:
    label = ElementTree.fromstring(confusion_figure(counts, SMALL, name="fused")).get("aria-label")
    assert label == f"Confusion matrix of fused, {np.trace(counts)} of {counts.sum()} videos on the diagonal"


def test_confused_classes_stand_together_in_a_frame() -> None:
    counts = np.diag(np.full(30, 40))
    counts[3, 20], counts[20, 3], counts[20, 25], counts[7, 8] = 10, 12, 15, 1
    clusters = confusion_clusters(counts)
    assert sorted(number for cluster in clusters for number in cluster) == list(range(30))
    assert [set(cluster) for cluster in clusters if len(cluster) > 1] == [{3, 20, 25}]
    assert [min(cluster) for cluster in clusters] == sorted(set(range(30)) - {20, 25})
    framed = [shape for shape in ElementTree.fromstring(confusion_figure(counts, UCF101[:30], clusters=clusters))]
    assert [shape.get("width") for shape in framed if shape.get("class") == "group"] == ["60"]


@pytest.mark.parametrize("num_classes", [1, 2, 3])
def test_few_classes_have_an_order(num_classes: int) -> None:
    counts = np.diag(np.full(num_classes, 5))
    assert confusion_clusters(counts) == [[number] for number in range(num_classes)]
    assert len(cells(confusion_figure(counts, SMALL[:num_classes]))) == num_classes


def test_one_video_of_many_can_be_seen() -> None:
    assert heat(0) == 0
    assert heat(0.01) > 0.2
    assert heat(1) == 1
