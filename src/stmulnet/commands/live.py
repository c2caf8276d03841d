"""`stmulnet live`: recognise what a camera or a stream shows, as it happens."""

import json as jsonlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from stmulnet.commands.predictor_options import PredictorOptions, make_predictor
from stmulnet.commands.shared_options import takes
from stmulnet.console import counted, notice
from stmulnet.errors import ConfigError
from stmulnet.streaming.live import Image, LiveAnswer, LiveRecogniser, paced
from stmulnet.video.inputs import FrameSource, open_source

POSITIONAL = ("source",)


@dataclass
class LiveSummary:
    """What a live run did.

    Attributes:
        answers: How many answers it gave.
        frames: How many frames came.
        dropped: How many of them gave way to newer ones.
        mean_latency_ms: From the arrival of the newest frame of a window to its answer; 0 without answers.
        max_latency_ms: The largest of them.
        stopped: Whether the user stopped it.
    """

    answers: int = 0
    frames: int = 0
    dropped: int = 0
    mean_latency_ms: float = 0.0
    max_latency_ms: float = 0.0
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0, also where the user stopped it: there is no other end."""
        return 0

    def note(self, latency_ms: float) -> None:
        """Count one more answer."""
        self.answers += 1
        self.mean_latency_ms += (latency_ms - self.mean_latency_ms) / self.answers
        self.max_latency_ms = max(self.max_latency_ms, latency_ms)


@takes(PredictorOptions)
def live(
    source: str,
    *,
    weights: Path,
    window: float = 4.0,
    stride: float = 1.0,
    realtime: bool = False,
    json: bool = False,
    **options: Unpack[PredictorOptions],
) -> LiveSummary:
    """Recognise what a camera or an rtsp stream shows, as it happens.

    One line per answer, about the newest window: time, label, probability, latency and dropped frames. Frames are
    dropped rather than let the answers lag behind. Ctrl-C is how it ends, with exit code 0.

    Args:
        source: Number of a camera (0 is /dev/video0), rtsp address; with --realtime also a video file, a folder of
            images or an http(s) address.
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file.
        window: How far the rolling window reaches back, seconds.
        stride: Least number of seconds from answer to answer; a slow network takes longer.
        realtime: Play a recording at its own rate, as if a camera saw it.
        json: Print one JSON object per line: time_s, label, score, top_k, latency_ms, frames, dropped, window_frames.
        **options: Those of `PredictorOptions`.

    Returns:
        Counts and latencies.
    """
    given = int(source) if source.isdecimal() and not Path(source).exists() else source
    summary = LiveSummary()
    with open_source(given, allow_addresses=True) as opened:
        rate = _rate(opened, realtime)
        predictor = make_predictor(weights, **options)
        recogniser = LiveRecogniser(predictor, window_sec=window, stride_sec=stride)
        pictures = opened.frames(predictor.short_side, predictor.threads)
        pictures = _announced(pictures, f"live: {opened.name}, {predictor.preset}; Ctrl-C ends")
        try:
            with closing(recogniser.answers(pictures if rate is None else paced(pictures, rate))) as answers:
                for answer in answers:
                    summary.note(answer.latency_ms)
                    print(jsonlib.dumps(answer.to_dict(), ensure_ascii=False) if json else _line(answer), flush=True)
        except KeyboardInterrupt:
            summary.stopped = True
        summary.frames, summary.dropped = recogniser.arrived, recogniser.dropped
    notice(f"live: {_in_words(summary)}")
    return summary


def _rate(source: FrameSource, realtime: bool) -> float | None:
    """Frames per second at which a recording is played; None for what comes at its own rate."""
    if source.is_live:
        return None
    if not realtime:
        raise ConfigError(
            f"{source.name} is a recording: give --realtime to play it as if it were live, or use `stmulnet timeline`"
        )
    if source.fps is None:
        raise ConfigError(f"{source.name} does not say how many frames per second it has, so it cannot be played")
    return source.fps


def _announced(frames: Iterator[Image], text: str) -> Iterator[Image]:
    """The frames, with a line on stderr when the first has come: what cannot be opened has its error alone."""
    for number, frame in enumerate(frames):
        if number == 0:
            notice(text)
        yield frame


def _line(answer: LiveAnswer) -> str:
    return (
        f"{answer.time_s:8.1f} s  {answer.label}  {100 * answer.score:.1f} %  "
        f"latency {answer.latency_ms:.0f} ms  dropped {answer.dropped} of {answer.frames}"
    )


def _in_words(summary: LiveSummary) -> str:
    frames = f"{counted(summary.frames, 'frame')}, {summary.dropped} dropped"
    if not summary.answers:
        return f"{frames}, no answer: stopped before the window was full"
    latency = f"latency {summary.mean_latency_ms:.0f} ms on average, {summary.max_latency_ms:.0f} ms at most"
    return f"{frames}; {counted(summary.answers, 'answer')}, {latency}"
