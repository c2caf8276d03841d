"""The page of an explanation: complete, in one file, and true for every kind of network."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from tests.explanation.small import network, video

from stmulnet.evaluation.protocol import video_scores
from stmulnet.explanation.bars import common_axis, importance_chart
from stmulnet.explanation.cam import grad_cam
from stmulnet.explanation.explain import Explanation
from stmulnet.explanation.gates import gate_maps, receiving_streams
from stmulnet.explanation.importance import frame_importance
from stmulnet.explanation.maximisation import Maximised
from stmulnet.explanation.page import distinct_places, field_images, render_page, strip_rows

NAMES = ["walk", "run", "<jump>", "sit", "stand"]
TIMES_SIGN = "\N{MULTIPLICATION SIGN}"
TIMES = [6, 7, 8, 9, 10, 11, 12, 13, 14, 12, 13, 14]


def explanation(name: str = "st_mulnet_resnet50", target: int = 2, **options: Any) -> Explanation:
    model = network(name, **options)
    prepared = video(model, times=TIMES)
    return Explanation(
        video="a&b.avi",
        target=target,
        class_names=NAMES,
        scores=video_scores(model, prepared.rgb, prepared.flow),
        prepared=prepared,
        gates={into: gate_maps(model, prepared, into=into) for into in receiving_streams(model)},
        cams=grad_cam(model, prepared, target),
        cam_stage="res5",
        drops=frame_importance(model, prepared, target),
        config=model.config,
        settings="12 frames",
    )


class Reader(HTMLParser):
    """Text, addresses and open tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.sources, self.open = "", [""][:0], [""][:0]
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "input", "br", "line", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(found: Explanation | None, made: dict[str, tuple[str, Maximised]] | None = None) -> tuple[str, Reader]:
    rows = [] if found is None else list(strip_rows(found))
    page = render_page(found, rows, made or {})
    reader = Reader(page)
    assert reader.open == []
    assert all(source.startswith("data:image/") for source in reader.sources)
    assert "<script" not in page
    return page, reader


def test_frames_that_repeat_are_shown_once_in_order_of_time() -> None:
    assert distinct_places([6, 7, 8, 7, 8]) == [0, 1, 2]
    assert distinct_places([8, 6, 7, 6]) == [1, 2, 0]


def test_a_gated_network() -> None:
    found = explanation()
    page, reader = read(found)
    assert "a&b.avi" in reader.text
    assert "class <jump>" in reader.text or "<jump>" in reader.text
    assert "<jump>" not in page
    assert page.count('class="cells"') == 1 + 2 + 4 + 2  # numbers; RGB, flow; gates; Grad-CAM
    pictures = [source for source in reader.sources if source.startswith("data:image/jpeg")]
    assert len(pictures) == 9 * (2 + 4 + 2)
    assert page.count('class="more"') == 2 * 9  # seven of nine frames are shown at once
    assert reader.text.count("places per frame") >= 4
    for stage, values in found.gates["appearance"].items():
        height, width = values.shape[1:]
        assert f"{stage}0\xa0\xa0{np.percentile(values[:9], 99):.3g}{TIMES_SIGN}" in reader.text
        assert f"{height} {TIMES_SIGN} {width} places per frame" in reader.text
    assert "motion multiplies appearance at res2, res3, res4, res5" in reader.text
    for title in ("Appearance score", "Motion score", "Score of both streams"):
        assert title in reader.text


def test_predicted_class_and_another_one() -> None:
    found = explanation()
    best = int(found.scores.fused.argmax())
    assert "This page is about the class" not in read(explanation(target=best))[1].text
    other = (best + 1) % len(NAMES)
    text = read(explanation(target=other))[1].text
    assert f"This page is about the class {NAMES[other]}, to which it gives a probability of" in text


def test_rows_are_the_maps_over_the_frames() -> None:
    found = explanation()
    rows = {row.key: row for row in strip_rows(found)}
    assert list(rows) == ["rgb", "flow", *(f"gate_res{n}" for n in range(2, 6)), "cam_appearance", "cam_motion"]
    assert found.prepared.rgb is not None
    np.testing.assert_array_equal(rows["rgb"].images, found.prepared.rgb[:9].permute(0, 2, 3, 1))
    assert all(row.images.shape == rows["rgb"].images.shape for row in rows.values())


def test_a_sum_in_both_directions() -> None:
    found = explanation(fusion={"operation": "add", "direction": "both", "stages": (2, 4)})
    _, reader = read(found)
    assert "The connection: what motion adds, into the appearance stream" in reader.text
    assert "The connection: what appearance adds, into the motion stream" in reader.text
    assert not re.search(rf"[0-9]{TIMES_SIGN}", reader.text)  # shares, not factors
    assert {"gate_res2", "gate_into_motion_res4"} <= set(found.arrays())


@pytest.mark.parametrize(
    ("name", "reason", "pictures"),
    [
        ("two_stream_resnet50", "The streams of this network are not connected", 4),
        ("appearance_resnet50", "This network has one stream only", 2),
        ("motion_resnet50", "This network has one stream only", 2),
    ],
)
def test_networks_without_a_gate(name: str, reason: str, pictures: int) -> None:
    found = explanation(name)
    _, reader = read(found)
    assert "No gate" in reader.text
    assert reason in reader.text
    assert sum(source.startswith("data:image/jpeg") for source in reader.sources) == 9 * pictures
    assert not any(key.startswith("gate") for key in found.arrays())


def test_arrays() -> None:
    arrays = explanation().arrays()
    assert arrays["times"].tolist() == TIMES
    assert arrays["gate_res2"].shape[0] == arrays["cam_motion"].shape[0] == len(TIMES)
    assert arrays["fall_both_fused"].shape == arrays["fall_rgb_motion"].shape == (len(TIMES),)


def test_made_inputs() -> None:
    rng = np.random.default_rng(0)
    image = Maximised(rng.uniform(0, 255, (3, 8, 8)).astype(np.float32), -1.25, 7.5)
    still = np.full((20, 8, 8), 128, dtype=np.float32)
    still[6] = 255  # field 3 moves to the right
    flow = Maximised(still, 0.5, 3.0)
    np.testing.assert_array_equal(field_images(image)[0], np.rint(image.levels).transpose(1, 2, 0))
    fields = field_images(flow)
    assert fields.shape == (10, 8, 8, 3)
    assert (fields[[0, 1, 2, 4, 5, 6, 7, 8, 9]] == 255).all()
    assert fields[3, 0, 0].tolist() == [255, 0, 0]
    _, reader = read(None, {"appearance": ("walk", image), "motion": ("walk", flow)})
    assert "Raw score of walk: -1.25 for the noise, 7.50 in the end" in reader.text
    assert "frames/" not in reader.text


def test_bars_end_where_the_falls_do() -> None:
    falls = {"rgb": np.array([0.5, -0.25, 0.0]), "both": np.array([1.0, 0.0, -0.25])}
    low, high = common_axis(list(falls.values()))
    assert low < -0.25 < 1.0 < high
    svg = importance_chart([6, 9, 11], falls, low=low, high=high, name="score")
    zero = float(re.findall(r'class="zero"[^>]*y1="([\d.]+)"', svg)[0])
    bars = [(float(y), float(h)) for y, h in re.findall(r'<rect [^>]*?y="([\d.]+)"[^>]*?height="([\d.]+)"', svg)]
    scale = bars[1][1]  # height of 1.0
    tops = [(zero - y) / scale for y, _ in bars]
    np.testing.assert_allclose(tops, [0.5, 1.0, 0, 0, 0, 0], atol=0.01)
    np.testing.assert_allclose([height / scale for _, height in bars], [0.5, 1, 0.25, 0, 0, 0.25], atol=0.01)
    assert "frame 9 without its RGB image: score +0.250" in svg
    assert common_axis([np.zeros(3)]) == (0.0, 1.0)
