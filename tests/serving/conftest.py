"""A running server for the tests of this folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.conftest import TinyProject

from stmulnet.predictor import VideoPredictor
from stmulnet.serving.app import LOOPBACK, create_app, running
from stmulnet.serving.limits import Limits
from stmulnet.serving.service import Service

LIMITS = Limits(upload_mb=1, seconds=10, frames=200, megapixels=0.1, waiting=2)


@dataclass(frozen=True)
class Running:
    """A server, what it serves, and a video that it understands."""

    address: str
    service: Service
    video: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60)


@pytest.fixture(scope="session")
def predictor(tiny_project: TinyProject) -> VideoPredictor:
    return VideoPredictor(tiny_project.weights, threads=1)


@pytest.fixture(scope="session")
def odd_names(tiny_project: TinyProject) -> VideoPredictor:
    """The same network with names of classes that must not do anything."""
    odd = VideoPredictor(tiny_project.weights, threads=1)
    odd.class_names = [f"<b onclick='x'>${{6*7}} {{{{7*7}}}} &amp; {number}</b>" for number in range(6)]
    return odd


@pytest.fixture(scope="session")
def a_video(tiny_project: TinyProject) -> Path:
    return min(tiny_project.videos.rglob("*.avi"))


@pytest.fixture(scope="session")
def server(predictor: VideoPredictor, odd_names: VideoPredictor, a_video: Path) -> Iterator[Running]:
    with (
        Service({"tiny": predictor, "odd": odd_names}, limits=LIMITS) as service,
        running(create_app(service, hosts=LOOPBACK)) as address,
    ):
        yield Running(address, service, a_video)
