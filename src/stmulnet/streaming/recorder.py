"""A timeline as it grows: a row of the CSV file per window, the other files at the end."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TextIO

from stmulnet.console import Advance
from stmulnet.predictor import VideoPredictor
from stmulnet.streaming.plot import write_plot
from stmulnet.streaming.scorer import Step, WindowScores
from stmulnet.streaming.timeline import Timeline, collect, csv_header, csv_line, csv_row
from stmulnet.streaming.windows import Windowing

CSV_NAME, JSON_NAME, PLOT_NAME = "timeline.csv", "timeline.json", "timeline.png"


class TimelineRecorder:
    """Notes what the windows of one video say, in memory and in a folder.

    Each row is in the CSV file as soon as its window is scored, so that whatever ends the process leaves all rows
    before. The scores in memory are the one thing that grows with the video.

    Args:
        predictor: What scores the windows.
        windowing: Where they lie.
        source: Name of the video.
        fps: Its frames per second.
        out: Folder for the files, which replace those of an earlier timeline once there is a window; None writes none.
    """

    def __init__(
        self, predictor: VideoPredictor, windowing: Windowing, *, source: str, fps: float, out: Path | None = None
    ) -> None:
        self.scored: list[WindowScores] = []
        self.num_frames = 0
        self._predictor, self._windowing = predictor, windowing
        self._source, self._fps, self.out = source, fps, out
        self._file: TextIO | None = None

    def follow(
        self, steps: Generator[Step, None, None], advance: Advance = lambda count: None
    ) -> Generator[Step, None, None]:
        """Pass steps on and note them; ``advance`` hears of every frame."""
        try:
            with closing(steps):
                for step in steps:
                    if step.frame is not None:
                        self.num_frames += 1
                        advance(1)
                    if step.window is not None:
                        self._note(step.window)
                    yield step
        finally:
            if self._file is not None:
                self._file.close()

    def finish(self, *, complete: bool) -> Timeline:
        """The timeline so far, one window at least; writes its JSON file and its picture."""
        timeline = collect(
            self.scored,
            self._predictor.class_names,
            source=self._source,
            fps=self._fps,
            num_frames=self.num_frames,
            windowing=self._windowing,
            preset=self._predictor.preset,
            flow_record=self._predictor.flow_record,
            complete=complete,
        )
        if self.out is not None:
            timeline.to_json(self.out / JSON_NAME)
            write_plot(self.out / PLOT_NAME, timeline)
        return timeline

    def _note(self, scored: WindowScores) -> None:
        self.scored.append(scored)
        if self.out is None:
            return
        names = self._predictor.class_names
        if self._file is None:
            self._file = _start(self.out)
            self._file.write(csv_line(csv_header(names)))
        self._file.write(csv_line(csv_row(scored.window, scored.scores.fused, names, self._fps)))
        self._file.flush()


def _start(out: Path) -> TextIO:
    """The CSV file in a folder without the files of an earlier timeline."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (JSON_NAME, PLOT_NAME):
        (out / name).unlink(missing_ok=True)
    return (out / CSV_NAME).open("w", encoding="utf-8", newline="")
