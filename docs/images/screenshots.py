"""Photographs the pages for the documents: python docs/images/screenshots.py [RUN], after `make demo`.

RUN is the folder of the demo (runs/demo). Its report, an explanation of one of its test videos, and the web page with
its network are opened in Chromium, which playwright drives and Debian has as `chromium`.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

from stmulnet.commands.explain import explain
from stmulnet.predictor import VideoPredictor
from stmulnet.serving.app import LOOPBACK, create_app, running
from stmulnet.serving.service import Service

FOLDER = Path(__file__).parent
WIDTH_PX, MARGIN_PX, QUALITY = 1100, 12, 82
VIDEO = "RingSwingsCrossBobs/v_RingSwingsCrossBobs_g01_c01.avi"
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@contextmanager
def browser_page(height_px: int) -> Iterator[Page]:
    """A page of the given height in a headless browser, in light colours."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": height_px}, color_scheme="light")
        yield page
        browser.close()


def top_of(page: Page, element: str) -> float:
    """Height on the page at which a picture that begins, or ends, with an element is cut."""
    box = page.locator(element).first.bounding_box()
    assert box is not None
    return box["y"] - MARGIN_PX


def photograph(page: Page, name: str, *, start: str | None = None, end: str | None = None) -> None:
    """The page between the tops of two elements, or its own ends, as WebP beside this file."""
    first = 0.0 if start is None else top_of(page, start)
    last = page.evaluate("document.documentElement.scrollHeight") if end is None else top_of(page, end)
    shown = page.screenshot(full_page=True, clip={"x": 0, "y": first, "width": WIDTH_PX, "height": last - first})
    picture = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    cv2.imwrite(str(FOLDER / f"{name}.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    print(f"{name}.webp: {(FOLDER / f'{name}.webp').stat().st_size >> 10} KB")


def report(run: Path) -> None:
    """The beginning of the demo's report."""
    with browser_page(1000) as page:
        page.goto((run / "report.html").resolve().as_uri())
        photograph(page, "report", end="#curves")


def explanation(run: Path, weights: Path) -> None:
    """The beginning of the explanation of a test video."""
    with tempfile.TemporaryDirectory() as folder, browser_page(1150) as page:
        found = explain(run / "videos" / VIDEO, weights=weights, out=Path(folder))
        page.goto(found.page.resolve().as_uri())
        photograph(page, "explanation", start="#film", end="h3:has-text('Evidence')")


def web_page(run: Path, weights: Path) -> None:
    """The web page after it has recognised an uploaded video."""
    service = Service({"st_mulnet": VideoPredictor(weights)})
    with service, running(create_app(service, hosts=LOOPBACK)) as address, browser_page(1100) as page:
        page.goto(address)
        page.locator("#file input[type=file]").set_input_files(run / "videos" / VIDEO)
        page.locator("#player video").wait_for()
        page.get_by_role("button", name="Recognise the action").click()
        page.locator("#seen img").first.wait_for(timeout=120_000)
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # moving parts come to rest
        photograph(page, "web_page", end="#seen")


def main() -> None:
    """Write the pictures beside this file."""
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    weights = run / "networks" / "st_mulnet" / "model.safetensors"
    report(run)
    explanation(run, weights)
    web_page(run, weights)


if __name__ == "__main__":
    main()
