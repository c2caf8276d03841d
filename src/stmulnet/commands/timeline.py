"""`stmulnet timeline`: what is recognised when in a long video."""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from stmulnet.commands.predictor_options import PredictorOptions, make_predictor
from stmulnet.commands.shared_options import takes
from stmulnet.console import Advance, counted, notice, progress
from stmulnet.errors import ConfigError, DatasetError, VideoDecodeError
from stmulnet.files import check_output
from stmulnet.streaming.overlay import overlay_pictures
from stmulnet.streaming.recorder import TimelineRecorder
from stmulnet.streaming.scorer import WindowScorer
from stmulnet.streaming.timeline import Timeline
from stmulnet.streaming.windows import Windowing
from stmulnet.video.inputs import FrameSource, open_source
from stmulnet.video.io import write_video

POSITIONAL = ("video",)


@dataclass(frozen=True)
class TimelineSummary:
    """What `timeline` found.

    Attributes:
        timeline: Scores of every window, and the segments.
        out: Folder with timeline.csv, timeline.json and timeline.png.
    """

    timeline: Timeline
    out: Path

    @property
    def exit_code(self) -> int:
        """0: everything else is an error."""
        return 0

    def _repr_html_(self) -> str:
        return self.timeline._repr_html_()


@takes(PredictorOptions)
def timeline(
    video: str,
    *,
    weights: Path,
    out: Path,
    window: float = 4.0,
    stride: float = 2.0,
    overlay: Path | None = None,
    fps: float | None = None,
    top: int = 5,
    **options: Unpack[PredictorOptions],
) -> TimelineSummary:
    """Recognise what happens when in a long video, by windows that slide over it.

    Each window is scored by the test protocol as if it were a video by itself. Memory does not grow with the length of
    the video. Ctrl-C keeps what was found until then.

    Args:
        video: Video file, folder of images (.jpg or .png), or http(s) address.
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file.
        out: Folder for timeline.csv (a row per window, as soon as it is scored), timeline.json (also the raw scores and
            segments) and timeline.png (probabilities of the leading classes over time).
        window: Length of a window, seconds.
        stride: Seconds from the start of one window to the start of the next, rounded to whole frames like window.
        overlay: Write a video (.mp4) with frames, colour-coded flow and scores side by side; needs a stride of at most
            the window.
        fps: Frames per second where the video does not say, as for a folder of images; otherwise its own rate counts.
        top: Number of classes in the overlay.
        **options: Those of `PredictorOptions`.

    Returns:
        The timeline and where it was written.
    """
    _check_arguments(video, out, window, stride, overlay)
    with open_source(video, allow_addresses=True) as source:
        rate = _rate(source, fps)
        windowing = Windowing.in_seconds(window, stride, rate)
        predictor = make_predictor(weights, top=top, **options)
        windowing = replace(windowing, count=predictor.num_frames)
        if source.num_frames_hint is None or source.num_frames_hint > windowing.frames:
            _advise(windowing, rate)
        recorder = TimelineRecorder(predictor, windowing, source=source.name, fps=rate, out=out)
        _record(recorder, WindowScorer(predictor, windowing, all_flow=overlay is not None), source, rate, overlay)
    found = recorder.finish(complete=True)
    _print_segments(found, out)
    return TimelineSummary(found, out)


def _check_arguments(video: str, out: Path, window: float, stride: float, overlay: Path | None) -> None:
    check_output(out)
    if overlay is None:
        return
    if overlay.suffix.lower() != ".mp4":
        raise ConfigError(f"--overlay writes .mp4, got {overlay}; give the file that suffix")
    if overlay.resolve() == Path(video).resolve():
        raise ConfigError(f"--overlay would replace the video itself, {overlay}; give another file")
    if stride > window:
        raise ConfigError(
            f"--overlay shows every frame, but windows of {window:g} s every {stride:g} s leave some out; give a "
            "stride of at most the window"
        )
    check_output(overlay, folder=False)


def _advise(windowing: Windowing, rate: float) -> None:
    """Name windows that need less time, where there are some near to those asked for."""
    near = None if windowing.shared else windowing.nearest_shared()
    if near is not None:
        notice(
            f"note: windows would share {near.shared} of {near.count} frames, and the network's work on them, with "
            f"--window {near.frames / rate:.5g} --stride {near.stride / rate:.5g}"
        )


def _rate(source: FrameSource, given: float | None) -> float:
    """Frames per second of a source that has an end."""
    if source.is_live:
        raise ConfigError(f"{source.name} has no end; use `stmulnet live` for it")
    if given is not None and not given > 0:
        raise ConfigError(f"--fps must be positive, got {given:g}")
    rate = source.fps or given
    if rate is None:
        raise ConfigError(f"{source.name} does not say how many frames per second it has; give --fps")
    return rate


def _record(
    recorder: TimelineRecorder, scorer: WindowScorer, source: FrameSource, fps: float, overlay: Path | None
) -> None:
    """Run over the whole source; where that ends early, keep and name what was found."""
    predictor = scorer.predictor
    try:
        with progress(source.num_frames_hint or 0, "timeline", "frames") as advance:
            announced = _at_most(source.num_frames_hint or 0, advance)
            frames = source.frames(predictor.short_side, predictor.threads)
            with closing(recorder.follow(scorer.steps(frames), announced)) as steps:
                if overlay is None:
                    for _ in steps:  # what they say is noted on the way
                        pass
                else:
                    write_video(overlay, overlay_pictures(steps, predictor, fps=fps), fps=fps)
    except KeyboardInterrupt as interruption:
        if kept := _keep(recorder):
            raise KeyboardInterrupt(kept) from interruption
        raise
    except (VideoDecodeError, DatasetError) as error:
        if kept := _keep(recorder):
            raise type(error)(f"{error}; {kept}") from error
        raise


def _keep(recorder: TimelineRecorder) -> str | None:
    """Write what there is; the words for it, or None if there is nothing."""
    if not recorder.scored:
        return None
    found = recorder.finish(complete=False)
    return f"{counted(len(found.windows), 'window')} up to {found.times[-1, 1]:.1f} s kept in {recorder.out}"


def _at_most(total: int, advance: Advance) -> Advance:
    """An ``advance`` for a number of items that was announced but need not be right."""
    done = 0

    def limited(count: int) -> None:
        nonlocal done
        if done < total:
            advance(count)
        done += count

    return limited


def _print_segments(found: Timeline, out: Path) -> None:
    for segment in found.segments():
        print(f"{segment.start_s:9.1f} s to {segment.end_s:9.1f} s  {100 * segment.score:5.1f} %  {segment.label}")
    notice(f"timeline: {counted(len(found.windows), 'window')} of {found.num_frames} frames in {out}")
