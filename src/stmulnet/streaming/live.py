"""Recognition as it happens: a rolling window over frames that do not wait, and frames dropped rather than lag.

Three threads: one takes frames as they come, one computes flow, and the caller's runs the network. Between the first
two lies a buffer of a few frames. If flow is slower than the source, frames in it give way to newer ones; the network
always gets the newest window.

What a dropped frame does to the flow: fields lead from one kept frame to the next one, and over g frames of the source
things move g times as far as the network knows it from training. The displacements are therefore divided by g: what the
network sees is the mean displacement per frame. The ten fields of a stack still cover more time than without drops.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.datasets.sampling import test_frames
from stmulnet.errors import ConfigError
from stmulnet.evaluation.metrics import top_classes
from stmulnet.evaluation.protocol import VideoScores
from stmulnet.predictor import VideoPredictor
from stmulnet.predictor.prediction import Ranking
from stmulnet.streaming.fields import FieldMaker, checked_frames
from stmulnet.streaming.rolling import Arrived, Kept, LatestFrames, RollingWindow

Image = NDArray[np.uint8]
Clock = Callable[[], float]

_PATIENCE_SEC = 2.0  # for threads at the end; one that waits for the network ends with the time-out of its source


@dataclass(frozen=True)
class LiveAnswer:
    """What was recognised in the newest window.

    Attributes:
        time_s: Seconds from the first frame to the newest of the window, by arrival.
        label: The class of the highest fused score.
        score: Its probability, 0..1.
        top_k: (class, probability), best first.
        latency_ms: From the arrival of the newest frame to the answer.
        frames: Frames that have come so far.
        dropped: Those of them that no flow was computed for.
        window_frames: Frames kept in the window.
        scores: Raw scores of all classes.
    """

    time_s: float
    label: str
    score: float
    top_k: Ranking
    latency_ms: float
    frames: int
    dropped: int
    window_frames: int
    scores: VideoScores

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; the raw scores are left out."""
        values = {name: value for name, value in vars(self).items() if name != "scores"}
        return values | {"top_k": [{"label": label, "score": score} for label, score in self.top_k]}


class LiveRecogniser:
    """Recognises what happens in one source of frames while it happens.

    Args:
        predictor: Network, flow and size of the frames; ``num_frames`` is sampled of each window.
        window_sec: Length of the rolling window, by arrival.
        stride_sec: Least time between the newest frames of two answers; a slow network takes longer.
        clock: Seconds, for arrivals and latencies.

    Raises:
        ConfigError: Lengths out of range.
    """

    def __init__(
        self,
        predictor: VideoPredictor,
        *,
        window_sec: float = 4.0,
        stride_sec: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        if not (window_sec > 0 and stride_sec >= 0):
            raise ConfigError(
                "a rolling window must be longer than 0 s and its stride 0 s or more, "
                f"got {window_sec:g} s and {stride_sec:g} s"
            )
        self._predictor, self._clock, self._stride_sec = predictor, clock, stride_sec
        self._make_fields = FieldMaker(predictor)
        self._latest = LatestFrames(max(2, 2 * predictor.threads))  # a batch for the flow, and the one after it
        self._rolling = RollingWindow(window_sec)

    @property
    def arrived(self) -> int:
        """Frames that have come so far."""
        return self._latest.arrived

    @property
    def dropped(self) -> int:
        """Those of them that gave way to newer ones."""
        return self._latest.dropped

    def answers(self, frames: Iterator[Image]) -> Generator[LiveAnswer, None, None]:
        """Answer again and again until the frames end; once per recogniser.

        Both threads end with the iterator, whether it is exhausted, closed or left by an exception.

        Args:
            frames: RGB (H, W, 3), uint8, all of one size, as they come.

        Yields:
            An answer about the newest window.

        Raises:
            VideoTooShortError: Fewer than 11 frames came.
            StmulnetError: ``frames`` raised it, or the flow of frames of their size cannot be computed.
        """
        stopped = threading.Event()
        capture = threading.Thread(target=self._capture, args=(frames, stopped), name="live-capture", daemon=True)
        flow = threading.Thread(target=self._compute_flow, name="live-flow", daemon=True)
        capture.start()
        flow.start()
        try:
            after_s: float | None = None
            while window := self._rolling.wait(after_s, self._stride_sec):
                after_s = window[-1].at_s
                yield self._answer(window)
        finally:
            stopped.set()
            self._latest.close(discard=True)
            flow.join()
            capture.join(_PATIENCE_SEC)

    def _answer(self, window: list[Kept]) -> LiveAnswer:
        predictor = self._predictor
        images = {place: frame.image for place, frame in enumerate(window, start=1)}
        fields = {place: frame.field for place, frame in enumerate(window[1:], start=1) if frame.field is not None}
        scores = predictor.score_frames(test_frames(len(window), predictor.num_frames), images, fields)
        top_k = top_classes(scores.fused, predictor.class_names, predictor.top)
        return LiveAnswer(
            time_s=window[-1].at_s - self._rolling.first_s,
            label=top_k[0][0],
            score=top_k[0][1],
            top_k=top_k,
            latency_ms=1000 * (self._clock() - window[-1].at_s),
            frames=self.arrived,
            dropped=self.dropped,
            window_frames=len(window),
            scores=scores,
        )

    def _capture(self, frames: Iterator[Image], stopped: threading.Event) -> None:
        """Take frames as they come."""
        try:
            for image in checked_frames(frames, self._predictor.short_side):
                self._latest.put(image, self._clock())
                if stopped.is_set():
                    break
        except BaseException as error:  # raised where answers are waited for
            self._rolling.end(error)
        finally:
            self._latest.close()
            if close := getattr(frames, "close", None):
                close()

    def _compute_flow(self) -> None:
        """Give the latest frames their flow; those that wait are taken together, their pairs in parallel."""
        before: list[Arrived] = []
        try:
            while latest := self._latest.take():
                fields = self._fields([*before, *latest])[-len(latest) :]
                self._rolling.extend(Kept(*frame, field) for frame, field in zip(latest, fields, strict=True))
                before = [latest[-1]]
        except BaseException as error:
            self._rolling.end(error)
        finally:
            self._latest.close(discard=True)
            self._rolling.end()

    def _fields(self, run: list[Arrived]) -> list[Image | None]:
        """The field that leads to each frame of a run; None for its first, and for a network without motion stream."""
        if len(run) < 2 or not self._make_fields.needed:
            return [None] * len(run)
        gaps = np.diff([frame.number for frame in run])
        return [None, *self._make_fields(np.stack([frame.image for frame in run]), gaps=gaps)]


def paced(frames: Iterable[Image], fps: float) -> Iterator[Image]:
    """Give the frames of a recording at its own rate, as a camera would."""
    start = time.monotonic()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, start + number / fps - time.monotonic()))
        yield frame
