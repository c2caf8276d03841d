import base64
import html
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from stmulnet.class_names import CLASS_NAMES
from stmulnet.evaluation.bootstrap import Bootstrap, bootstrap
from stmulnet.evaluation.figures import LearningCurve
from stmulnet.evaluation.metrics import top_classes
from stmulnet.evaluation.pictures import image_uri, thumbnails
from stmulnet.evaluation.report import (
    Confusion,
    Example,
    Report,
    choose_examples,
    confusion,
    example_scores,
    reliability,
    render_report,
    result_row,
    worst_mistakes,
    write_report,
)

NAMES = ["Walk", "Run & <b>jump</b>", "Sit", "Stand", "Turn $x$", "Wave"]
UCF101 = list(CLASS_NAMES["ucf101"])
VOID = {"meta", "img", "input"}


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 6, size=40)


@pytest.fixture
def scores(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    return np.asarray(rng.normal(size=(40, 6)) + 1.5 * np.eye(6)[labels])


@pytest.fixture
def page(rng: np.random.Generator, scores: np.ndarray, labels: np.ndarray) -> str:
    frames = rng.integers(0, 256, size=(3, 20, 30, 3), dtype=np.uint8)
    flow_px = rng.normal(size=(3, 2, 20, 30))
    answers = [example_scores(name, table[0], NAMES) for name, table in (("A", scores), ("B", -scores))]
    report = Report(
        title="Two networks <compared>",
        lead="A lead.",
        class_names=NAMES,
        rows=[
            result_row("A", scores, labels, groups={"Legs": [0, 1]}, note="sees frames"),
            result_row("B", -scores, labels),
        ],
        facts=[("Data set", "x & y")],
        group_notes={"Legs": "classes of the legs."},
        confusions=[confusion("A", scores, labels), confusion("B", -scores, labels)],
        curves=[LearningCurve("A", [1, 2, 3], [2.0, 1.0, 0.5], [0.2, 0.5, 0.6])],
        examples=[Example("v_one", NAMES[labels[0]], frames, flow_px, answers)],
        examples_note="Chosen by hand.",
        mistakes=[Example("v_two", NAMES[labels[1]], frames, None, answers)],
        reliabilities=[reliability("A", scores, labels)],
        classes=[confusion("B", -scores, labels), confusion("A", scores, labels)],
    )
    return render_report(report)


class Reader(HTMLParser):
    """Reads a page, checks that its elements are closed, and collects addresses and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1] != "style":
            self.texts.append(" ".join(data.split()))

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def table_rows(page: str, section: str) -> list[list[str]]:
    """Texts of the cells of the first table of a section, row by row."""
    part = page[page.index(f'id="{section}"') :]
    part = part[part.index("<tbody>") : part.index("</tbody>")]
    rows = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[html.unescape(re.sub(r"<[^>]*>", " ", cell)).strip() for cell in row] for row in cells]


def test_page_needs_nothing_from_outside(page: str) -> None:
    reader = Reader(page)
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    assert not re.search(r"https?://|@import|url\(", page)
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in reader.values("src"))
    assert len(reader.values("src")) == 11  # twice the colour wheel, two times three frames, three times flow
    assert reader.values("href")
    assert {address.removeprefix("#") for address in reader.values("href")} <= set(reader.values("id"))


def test_pictures_are_described(page: str) -> None:
    reader = Reader(page)
    labels = reader.values("aria-label")
    assert "Frames above optical flow of v_one" in labels
    assert "Frames of v_two" in labels
    assert any(label.startswith("Confusion matrix of A, ") for label in labels)
    assert any(label.startswith("Reliability diagram of A: ") for label in labels)
    assert reader.tags.count("img") == len(reader.values("alt"))
    assert len(reader.values("id")) == len(set(reader.values("id")))


def test_page_shows_the_measured_figures(page: str, scores: np.ndarray, labels: np.ndarray) -> None:
    right = int((scores.argmax(axis=1) == labels).sum())
    legs = np.isin(labels, [0, 1])
    legs_right = int((scores.argmax(axis=1) == labels)[legs].sum())
    assert f"{100 * right / 40:.1f}&nbsp;%" in page
    assert f"{right} of 40" in page
    assert f"{legs_right} of {legs.sum()}" in page
    assert "Top-5 accuracy" in page


def test_right_and_wrong_are_said_in_words(page: str, scores: np.ndarray, labels: np.ndarray) -> None:
    verdicts = re.findall(r'class="(right|wrong)">(.) (\w+)<', page)
    # The mistake, then the example; both have the answers to the first video.
    expected = [bool(table[0].argmax() == labels[video]) for video in (1, 0) for table in (scores, -scores)]
    assert verdicts == [("right", "✓", "right") if right else ("wrong", "✗", "wrong") for right in expected]


def test_empty_sections_are_left_out(scores: np.ndarray, labels: np.ndarray) -> None:
    page = render_report(Report("T", "L", NAMES, [result_row("A", scores, labels)]))
    assert not re.search(r'id="(curves|confusions|reliability|classes|mistakes|examples)"', page)
    assert 'id="results"' in page


def test_top_5_is_left_out_with_five_classes(scores: np.ndarray, labels: np.ndarray) -> None:
    few = labels < 5
    row = result_row("A", scores[few][:, :5], labels[few])
    assert row.top5 is None
    assert "Top-5" not in render_report(Report("T", "L", NAMES[:5], [row]))


def test_group_without_videos_is_left_out(scores: np.ndarray, labels: np.ndarray) -> None:
    few = labels != 3
    row = result_row("A", scores[few], labels[few], groups={"Legs": [0, 1], "Stand": [3]})
    assert list(row.groups) == ["Legs"]


def test_top_classes_are_sorted_probabilities(scores: np.ndarray) -> None:
    top = top_classes(scores[0], NAMES, 3)
    order = np.argsort(-scores[0])[:3]
    probabilities = np.exp(scores[0]) / np.exp(scores[0]).sum()
    assert [name for name, _ in top] == [NAMES[index] for index in order]
    assert [share for _, share in top] == pytest.approx(probabilities[order])


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "chosen_wrong"), [(20, 20, 4), (20, 1, 1), (2, 20, 6), (0, 20, 8), (3, 2, 2)]
)
def test_examples_are_half_mistakes(num_right: int, num_wrong: int, chosen_wrong: int) -> None:
    right = np.arange(num_right + num_wrong) >= num_wrong
    chosen = choose_examples(right, 8)
    assert len(chosen) == len(set(chosen)) == min(8, len(right))
    assert chosen == sorted(chosen)
    assert sum(not right[index] for index in chosen) == chosen_wrong


def test_frames_and_flow_are_scaled_alike(rng: np.random.Generator) -> None:
    small = thumbnails(np.full((3, 40, 50, 3), 90, dtype=np.uint8))
    large = thumbnails(np.full((2, 400, 500, 3), 90, dtype=np.uint8))
    assert small.shape == (3, 144, 180, 3)
    assert large.shape == (2, 144, 180, 3)
    assert (small == 90).all()
    assert (large == 90).all()


def test_png_uri_keeps_the_pixels(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, size=(9, 14, 3), dtype=np.uint8)
    content = base64.b64decode(image_uri(image, "png").split(",")[1])
    read = matplotlib_image.imread(io.BytesIO(content))
    np.testing.assert_array_equal(np.rint(255 * read[:, :, :3]), image)


def test_write_report_makes_the_folder(tmp_path: Path, scores: np.ndarray, labels: np.ndarray) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, Report("T", "L", NAMES, [result_row("A", scores, labels)]))
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_bootstrap_intervals_take_the_place_of_wilsons(scores: np.ndarray, labels: np.ndarray) -> None:
    by_group = Bootstrap(top1=(0.1234, 0.8761), top5=(0.2345, 0.9), mean_class=(0.3456, 0.7), units=9)
    wilson = result_row("A", scores, labels)
    row = result_row("A", scores, labels, bootstrap=by_group)
    page = render_report(Report("T", "L", NAMES, [row]))
    ranges = [re.findall(r"[\d.]+\u2013[\d.]+", cell) for cell in table_rows(page, "results")[0]]
    assert ranges == [[], ["12.3\u201387.6"], [], ["23.4\u201390.0"], ["34.6\u201370.0"]]
    assert "bootstrap over groups of videos" in page
    over_videos = result_row("A", scores, labels, bootstrap=Bootstrap((0, 1), (0, 1), (0, 1), units=40))
    assert "bootstrap over the videos" in render_report(Report("T", "L", NAMES, [over_videos]))
    assert "(Wilson)" in render_report(Report("T", "L", NAMES, [wilson]))


def test_interval_is_wilsons_where_every_draw_is_the_same(labels: np.ndarray) -> None:
    right = np.eye(6)[labels]
    row = result_row("A", right, labels, bootstrap=bootstrap(right, labels, resamples=50))
    assert row.accuracy_range == pytest.approx((40 / (40 + 1.96**2), 1), abs=1e-4)
    assert row.top5_range == row.accuracy_range
    assert row.mean_class_range is None
    page = render_report(Report("T", "L", NAMES, [row]))
    assert "(bootstrap over the videos; Wilson where all videos are right, or none)" in page


def test_classes_are_listed_hardest_first(scores: np.ndarray, labels: np.ndarray) -> None:
    few = labels != 3
    matrices = [confusion(name, table[few], labels[few]) for name, table in (("B", -scores), ("A", scores))]
    page = render_report(Report("T", "L", NAMES, [], classes=matrices))
    rows = table_rows(page, "classes")
    answers, others = scores.argmax(axis=1), (-scores).argmax(axis=1)
    assert sorted(row[0] for row in rows) == sorted(name for name in NAMES if name != "Stand")
    shares = []
    for name, right, share, _, other, _ in rows:
        members = labels == NAMES.index(name)
        correct = int((answers == labels)[members].sum())
        assert right == f"{correct} of {members.sum()}"
        assert share == f"{100 * correct / members.sum():.1f}\xa0%"
        assert other == f"{100 * (others == labels)[members].mean():.1f}\xa0%"
        shares.append(correct / members.sum())
    assert shares == sorted(shares)
    assert "Without test videos: Stand." in page


def test_most_frequent_mistakes_are_counted_both_ways() -> None:
    counts = np.diag([9, 9, 9, 9, 9, 9])
    counts[1, 2], counts[2, 1], counts[0, 5] = 7, 3, 2
    page = render_report(Report("T", "L", NAMES, [], confusions=[Confusion("A", counts)]))
    assert table_rows(page, "confusions") == [
        [NAMES[1], "Sit", "7 of 16", "3"],
        ["Sit", NAMES[1], "3 of 12", "7"],
        ["Walk", "Wave", "2 of 11", "\u2013"],
    ]


def test_true_class_below_the_best_five_is_shown_with_its_rank(scores: np.ndarray) -> None:
    scores[0] = [5, 4, 3, 2, 1, -40]
    answer = example_scores("A", scores[0], NAMES, label=5)
    assert answer.rank == 6
    assert answer.probability == pytest.approx(np.exp(-40) / np.exp(scores[0]).sum())
    frames = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    page = render_report(Report("T", "L", NAMES, [], mistakes=[Example("v", "Wave", frames, None, [answer])]))
    assert "Wave, taken for Walk" in page
    assert re.search(r"<span>6\. Wave</span><span>&lt;&nbsp;0\.1&nbsp;%</span>", page)
    assert example_scores("A", scores[0], NAMES, label=1).rank == 2


def test_worst_mistakes_gave_the_right_class_the_lowest_probability(rng: np.random.Generator) -> None:
    scores, labels = rng.normal(size=(200, 30)), rng.integers(0, 30, size=200)
    chosen = worst_mistakes(scores, labels, 12)
    probability = np.exp(scores[np.arange(200), labels]) / np.exp(scores).sum(axis=1)
    pairs = {(labels[video], scores[video].argmax()) for video in chosen}
    assert len(chosen) == len(pairs) == 12
    assert all(truth != guess for truth, guess in pairs)
    assert (np.diff(probability[chosen]) >= 0).all()
    assert chosen[0] == np.where(scores.argmax(axis=1) == labels, 2, probability).argmin()


def test_worst_mistakes_repeat_a_pair_of_classes_only_where_others_are_lacking() -> None:
    scores = np.array([[9.0, 0, 0], [8, 0, 0], [0, 0, 3], [0, 5, 0], [1000, 0, -1000]])
    labels = np.array([1, 1, 1, 1, 2])
    assert worst_mistakes(scores, labels, 3) == [4, 0, 2]
    assert worst_mistakes(scores, labels, 9) == [4, 0, 1, 2]
    assert worst_mistakes(scores[3:4], labels[3:4], 9) == []


def test_splits_share_a_page_with_their_means(rng: np.random.Generator) -> None:
    splits, expected, classes = [], [], []
    for split in (1, 2, 3):
        labels = rng.integers(0, 6, size=50)
        scores = rng.normal(size=(50, 6)) + np.eye(6)[labels]
        matrix = confusion("A", scores, labels)
        rows = [result_row("A", scores, labels), result_row(f"only {split}", scores, labels)]
        splits.append(Report(f"Split {split}", "", NAMES, rows, confusions=[matrix]))
        expected.append((scores.argmax(axis=1) == labels).mean())
        classes.append((np.diag(matrix.counts) / matrix.counts.sum(axis=1)).mean())
    page = render_report(Report("Three splits", "L", NAMES, [], splits=splits))
    ((name, mean, *shares, mean_class),) = table_rows(page, "means")
    assert name == "A"
    assert [share.split("\xa0")[0] for share in shares] == [f"{100 * share:.1f}" for share in expected]
    assert mean.split() == [f"{100 * np.mean(expected):.1f}", "%", "±", f"{100 * np.std(expected, ddof=1):.1f}"]
    assert mean_class.split() == [f"{100 * np.mean(classes):.1f}", "%", "±", f"{100 * np.std(classes, ddof=1):.1f}"]
    reader = Reader(page)
    assert {"part1", "part2", "part3", "1-results", "3-confusions"} <= set(reader.values("id"))
    assert len(reader.values("id")) == len(set(reader.values("id")))
    assert {f"#part{split}" for split in (1, 2, 3)} <= set(re.findall(r"~ (#part\d)", page))


def photo(rng: np.random.Generator) -> np.ndarray:
    """An image (160, 213, 3) with the detail of a photograph: noise whose strength falls with its frequency."""
    rows, columns = np.fft.fftfreq(160)[:, None], np.fft.rfftfreq(213)
    spectrum = np.fft.rfft2(rng.normal(size=(3, 160, 213))) / np.maximum(np.hypot(rows, columns), 1 / 213)
    image = np.fft.irfft2(spectrum, s=(160, 213))
    return np.asarray(np.clip(128 + 50 * image / image.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0))


def test_page_of_101_classes_is_complete_and_small(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 101, size=3783)
    scores = rng.normal(size=(3783, 101)) + 3.5 * np.eye(101)[labels]
    frames = np.stack([photo(rng) for _ in range(5)])
    flow_px = (np.stack([photo(rng) for _ in range(5)])[..., :2].transpose(0, 3, 1, 2) - 128.0) / 20
    worst = worst_mistakes(scores, labels, 16)
    answers = [
        [example_scores(name, scores[video], UCF101, label=labels[video]) for name in ("appearance", "motion", "fused")]
        for video in worst
    ]
    shown = [
        Example(f"v_{video}", UCF101[labels[video]], frames, flow_px, answer)
        for video, answer in zip(worst, answers, strict=True)
    ]
    matrix = confusion("fused", scores, labels)
    page = render_report(
        Report(
            "UCF-101",
            "L",
            UCF101,
            [result_row("fused", scores, labels)],
            confusions=[matrix],
            mistakes=shown,
            reliabilities=[reliability("fused", scores, labels)],
            classes=[matrix],
        )
    )
    assert len(page) < 3e6
    assert all(page.count(name) >= 4 for name in UCF101)
    assert len(table_rows(page, "classes")) == 101
    assert len(table_rows(page, "confusions")) == 15
    Reader(page)
