"""The page in a real browser without a window."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.serving.conftest import Running

from stmulnet.predictor import VideoPredictor
from stmulnet.serving.app import create_app, running
from stmulnet.serving.gate import Login
from stmulnet.serving.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Browser

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.slow

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a camera that shows a test picture
WAIT_MS = 60_000
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    if not CHROMIUM:
        pytest.skip("needs a Chromium; Debian: apt install chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


class Visitor:
    """A browser of its own at the page; notes every request, and every message of the console."""

    def __init__(self, browser: "Browser", address: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("response", lambda answer: self.problems.append(answer.url) if answer.status >= 400 else None)
        self.address = address
        self.page.goto(address)
        self.page.wait_for_selector("#start")

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#file input[type=file]", list(files))

    def recognise(self) -> str:
        self.page.click("#start")
        self.page.wait_for_selector("[data-testid=label]")
        self.page.wait_for_selector("[data-testid=time]")
        return self.text("[data-testid=label]")

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def playing(self) -> bool:
        """Whether the video on the page shows pictures that move."""
        self.page.wait_for_selector("#player video")
        self.page.wait_for_function("document.querySelector('#player video').currentTime > 0")
        width = self.page.evaluate("document.querySelector('#player video').videoWidth")
        return bool(width > 0 and self.page.evaluate("document.querySelector('#player video').error === null"))

    def elsewhere(self) -> list[str]:
        """Requests to other addresses."""
        return [url for url in self.requests if not url.startswith((f"{self.address}/", "blob:", "data:"))]


@contextmanager
def visiting(browser: "Browser", address: str, **options: Any) -> Iterator[Visitor]:
    visitor = Visitor(browser, address, **options)
    try:
        yield visitor
    finally:
        visitor.context.close()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "still not so after half a minute"
        time.sleep(0.05)


def uploads(server: Running) -> list[Path]:
    """Files of videos that came whole.

    Gradio leaves empty files, and right in ``web`` the beginnings of uploads that broke off, as other tests make them;
    these are swept away later.
    """
    folders = (server.service.uploads.web, server.service.uploads.own)
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    return [path for path in found if path.parent != server.service.uploads.web]


def test_a_video_is_shown_recognised_and_forgotten(
    server: Running, browser: "Browser", predictor: VideoPredictor
) -> None:
    with visiting(browser, server.address) as visitor:
        visitor.choose(server.video)  # MPEG-4 in AVI, which no browser plays
        assert visitor.playing()
        assert "16 frames of 64x64" in visitor.text("#player")
        expected = predictor(server.video)
        assert visitor.recognise() == expected.label
        bars = visitor.page.locator(".st-group >> nth=0").locator(".st-bar").all_inner_texts()
        assert [bar.split("\n")[0] for bar in bars] == [label for label, _ in expected.top_k]
        assert f"{100 * expected.score:.1f} %" in bars[0]
        titles = visitor.page.locator(".st-row-title strong").all_inner_texts()
        assert titles == ["Appearance", "Motion", "Gate at res3", "Gate at res4", "Gate at res5"]
        loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
        visitor.page.wait_for_function(loaded)
        assert visitor.elsewhere() == []
        assert visitor.problems == []
        assert str(server.service.uploads.folder) not in visitor.page.inner_text("body")
        assert uploads(server)
    wait_until(lambda: not uploads(server))


def test_a_real_clip(server: Running, browser: "Browser", shared_dir: Path, predictor: VideoPredictor) -> None:
    clip = min((shared_dir / "data/clips/UCF-101").rglob("*.avi"), key=lambda path: path.stat().st_size)
    with visiting(browser, server.address) as visitor:
        visitor.choose(clip)
        assert visitor.playing()
        assert visitor.recognise() == predictor(clip).label
        assert visitor.elsewhere() == []


def test_the_line_of_moments_follows_the_video_and_leads_it(server: Running, browser: "Browser") -> None:
    with visiting(browser, server.address) as visitor:
        visitor.choose(server.video)
        visitor.recognise()
        at = "parseFloat(document.querySelector('.st-time').style.getPropertyValue('--st-at'))"
        visitor.page.evaluate("document.querySelector('#player video').pause()")
        cells = visitor.page.locator(".st-cells >> nth=0")
        box = cells.bounding_box()
        assert box is not None
        visitor.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 5)
        visitor.page.wait_for_function(f"Math.abs({at} - 0.75) < 0.05")
        share = "document.querySelector('#player video').currentTime / document.querySelector('#player video').duration"
        assert abs(visitor.page.evaluate(share) - 0.75) < 0.05


def test_two_visitors_at_once_with_the_same_file(server: Running, browser: "Browser") -> None:
    with visiting(browser, server.address) as first, visiting(browser, server.address) as second:
        for visitor in (first, second):
            visitor.choose(server.video)
            assert visitor.playing()
        for visitor in (first, second):
            visitor.page.click("#start")
        for visitor in (first, second):
            visitor.page.wait_for_selector("[data-testid=time]")
        assert first.text("[data-testid=label]") == second.text("[data-testid=label]")
        first.page.goto("about:blank")  # whose leaving takes nothing away from the other
        time.sleep(1)
        assert second.recognise() == second.text("[data-testid=label]")
    wait_until(lambda: not uploads(server))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"hello", r"notes\.txt: not a video file"),
        ("clip.mp4", PLAYLIST, r"clip\.mp4: (this file format is refused|not a video file)"),
    ],
)
def test_what_is_no_video_is_refused_in_words(
    server: Running, browser: "Browser", tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with visiting(browser, server.address) as visitor:
        visitor.choose(tmp_path / name)
        visitor.page.wait_for_selector("[data-testid=problem]")
        said = visitor.text("[data-testid=problem]")
        assert re.search(message, said)
        assert "/tmp" not in said
        assert visitor.page.is_disabled("#start")
        visitor.page.wait_for_selector("#file input[type=file]", state="attached")  # free for another one
        visitor.choose(server.video)
        assert visitor.playing()
    wait_until(lambda: not uploads(server))


def test_a_file_that_is_too_large_is_not_sent(server: Running, browser: "Browser", tmp_path: Path) -> None:
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(2**20 + 1)
    with visiting(browser, server.address) as visitor:
        visitor.choose(tmp_path / "large.mp4")
        visitor.page.wait_for_selector("text=maximum allowed size")
        assert not any("/gradio_api/upload?" in url for url in visitor.requests)
        assert uploads(server) == []


def test_the_camera_is_recorded(server: Running, browser: "Browser") -> None:
    with visiting(browser, server.address, permissions=["camera"]) as visitor:
        visitor.page.click("button[role=tab]:has-text('Record')")
        visitor.page.click("#camera button >> nth=0")
        visitor.page.click("#camera button:has-text('Record')")
        time.sleep(4)  # of video
        visitor.page.click("#camera button:has-text('Stop')")
        visitor.page.wait_for_selector("#player figure, #player [role=alert]")
        # LIMITS allow no frames of this size: that they are known shows that the recording has been read.
        assert re.search(r"recording: frames of \d+x\d+ are larger", visitor.text("#player"))


def test_an_example_and_names_that_look_like_code(server: Running, browser: "Browser") -> None:
    with visiting(browser, server.address) as visitor:
        visitor.page.click("button[role=tab]:has-text('Examples')")
        visitor.page.click("#examples button >> nth=5")
        assert visitor.playing()
        assert "RingBobsCrossSwings" in visitor.text("#player")
        visitor.page.click("label:has-text('odd')")
        assert visitor.recognise().startswith("<b onclick='x'>${6*7} {{7*7}} &amp; ")
        assert visitor.page.locator("[onclick]").count() == 0
        assert visitor.problems == []


def test_a_password_opens_the_page(predictor: VideoPredictor, browser: "Browser", a_video: Path) -> None:
    with (
        Service({"tiny": predictor}) as service,
        running(create_app(service, login=Login("me", "pw"), examples=False)) as address,
        visiting(browser, address, http_credentials={"username": "me", "password": "pw"}) as visitor,
    ):
        visitor.choose(a_video)
        assert visitor.playing()
        assert visitor.recognise()
