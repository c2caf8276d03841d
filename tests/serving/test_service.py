"""What page and HTTP interface share."""

import threading
from pathlib import Path

import numpy as np
import pytest

from stmulnet.errors import ConfigError
from stmulnet.explanation.gates import gate_maps
from stmulnet.predictor import VideoPredictor
from stmulnet.serving.service import Service


@pytest.mark.parametrize("jobs", [1, 2])
def test_gates_are_those_of_the_video_also_while_others_are_predicted(
    predictor: VideoPredictor, a_video: Path, jobs: int
) -> None:
    expected = gate_maps(predictor.model, predictor.prepare(a_video))
    others = sorted(a_video.parent.parent.rglob("*.avi"))[-2:]
    with Service({"tiny": predictor}, jobs=jobs) as service:
        look = service.look(a_video, "clip.avi")
        threads = [threading.Thread(target=service.look, args=(other, "other.avi")) for other in others]
        for thread in threads:
            thread.start()
        closer = service.look_closer(look, "clip.avi")
        for thread in threads:
            thread.join()
    assert closer.gates is not None
    assert closer.gates.keys() == expected.keys()
    for stage, maps in expected.items():
        np.testing.assert_allclose(closer.gates[stage], maps, rtol=1e-4, atol=1e-5)


def test_progress_is_told_in_order(predictor: VideoPredictor, a_video: Path) -> None:
    told: list[tuple[float, str]] = []
    with Service({"tiny": predictor}) as service:
        service.look(a_video, "clip.avi", tell=lambda share, doing: told.append((share, doing)))
    assert [doing for _, doing in told] == [
        "Waiting for a turn",
        "Reading the video, computing its optical flow",
        "Asking the network",
    ]
    assert told == sorted(told)


def test_a_service_without_network_or_jobs(predictor: VideoPredictor) -> None:
    with pytest.raises(ConfigError, match="no network to serve"):
        Service({})
    with pytest.raises(ConfigError, match="jobs must be 1 or more, got 0"):
        Service({"tiny": predictor}, jobs=0)
