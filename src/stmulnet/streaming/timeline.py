"""The scores of a long video over time."""

# W windows, K classes

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmulnet.evaluation.metrics import predictions, softmax
from stmulnet.files import write_text
from stmulnet.rendering import table_html
from stmulnet.streaming.scorer import WindowScores
from stmulnet.streaming.windows import Window, Windowing

DECIMALS = 6  # of scores in files: more than the network's single precision has
SHOWN_SEGMENTS = 50  # in a notebook
CSV_COLUMNS = ("first_frame", "last_frame", "start_s", "end_s", "label", "score")

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Segment:
    """Neighbouring windows of one label.

    Attributes:
        label: The class.
        first_frame: Its first frame, 1-based: the first that is nearer to the centre of one of these windows than to
            that of the window before.
        last_frame: Its last frame.
        start_s: Seconds from the start of the video to its first frame.
        end_s: Seconds to the end of its last frame.
        score: Mean probability of the label over the windows, 0..1.
        windows: How many they are.
    """

    label: str
    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    score: float
    windows: int


@dataclass(frozen=True)
class Timeline:
    """What was recognised in each window of a video.

    Attributes:
        source: Name of the video.
        fps: Frames per second, by which frame numbers became times.
        num_frames: Frames that were looked at.
        class_names: K names.
        windowing: Where the windows lie.
        windows: W first and last frames, 1-based.
        fused: (W, K) raw scores, mean of the streams present.
        appearance: (W, K) raw scores of the appearance stream; None without it.
        motion: (W, K) raw scores of the motion stream; None without it.
        preset: The settings that decide about the scores, in words.
        flow_record: How the flow was computed; None if the network needs none.
        complete: Whether the video was read to its end.
    """

    source: str
    fps: float
    num_frames: int
    class_names: list[str]
    windowing: Windowing
    windows: list[Window]
    fused: Scores
    appearance: Scores | None
    motion: Scores | None
    preset: str
    flow_record: dict[str, Any] | None
    complete: bool = True

    @property
    def times(self) -> Scores:
        """(W, 2) start and end of each window, s."""
        return np.array([seconds(window, self.fps) for window in self.windows]).reshape(-1, 2)

    @property
    def probabilities(self) -> Scores:
        """(W, K) softmax of the fused scores, 0..1."""
        return softmax(self.fused)

    @property
    def labels(self) -> list[str]:
        """Class of the highest fused score in each window."""
        return [self.class_names[index] for index in predictions(self.fused)]

    def segments(self) -> list[Segment]:
        """Runs of windows of one label; together they cover everything from the first window to the last."""
        best, probabilities = predictions(self.fused), self.probabilities
        starts = [0, *(index for index in range(1, len(best)) if best[index] != best[index - 1])]
        ends = [*starts[1:], len(best)]
        ahead = [last_nearest(*pair) for pair in zip(self.windows, self.windows[1:], strict=False)]
        bounds = [self.windows[0].first - 1, *ahead, self.windows[-1].last]
        segments = []
        for start, end in zip(starts, ends, strict=True):
            shown = Window(bounds[start] + 1, bounds[end])
            score = float(probabilities[start:end, best[start]].mean())
            label = self.class_names[best[start]]
            segments.append(Segment(label, *shown, *seconds(shown, self.fps), score, end - start))
        return segments

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; scores with six decimals."""
        streams = {"fused": self.fused, "appearance": self.appearance, "motion": self.motion}
        rows = csv_rows(self)
        return {
            "source": self.source,
            "complete": self.complete,
            "fps": self.fps,
            "num_frames": self.num_frames,
            "window_frames": self.windowing.frames,
            "stride_frames": self.windowing.stride,
            "preset": self.preset,
            "flow_record": self.flow_record,
            "class_names": self.class_names,
            "segments": [vars(segment) for segment in self.segments()],
            "windows": [dict(zip(CSV_COLUMNS, row, strict=False)) for row in rows],
            "probabilities": _rounded(self.probabilities),
            "scores": {name: None if scores is None else _rounded(scores) for name, scores in streams.items()},
        }

    def _repr_html_(self) -> str:
        rows = [
            (segment.label, f"{segment.start_s:.1f}", f"{segment.end_s:.1f}", f"{100 * segment.score:.1f}")
            for segment in self.segments()
        ]
        left_out = [f"and {len(rows) - SHOWN_SEGMENTS} more"] if len(rows) > SHOWN_SEGMENTS else []
        read = "" if self.complete else ", not read to its end"
        notes = [*left_out, f"{len(self.windows)} windows of {self.num_frames} frames{read}", self.preset]
        header = ["class", "from s", "to s", "probability %"]
        return table_html(header, rows[:SHOWN_SEGMENTS], title=self.source, notes=notes)

    def to_json(self, path: Path) -> None:
        """Write `to_dict` as JSON: one line per segment, window and row of scores."""
        write_text(path, _lines(self.to_dict()) + "\n")

    def to_csv(self, path: Path) -> None:
        """Write one row per window: frames, seconds, label, score and the probability of every class."""
        write_text(path, "".join(map(csv_line, [csv_header(self.class_names), *csv_rows(self)])))


def collect(scored: Sequence[WindowScores], class_names: list[str], **fields: Any) -> Timeline:
    """A timeline from the scores of its windows, one at least; ``fields`` are the others of `Timeline`."""
    scores = [each.scores for each in scored]
    return Timeline(
        class_names=class_names,
        windows=[each.window for each in scored],
        fused=np.stack([each.fused for each in scores]),
        appearance=_stacked([each.appearance for each in scores]),
        motion=_stacked([each.motion for each in scores]),
        **fields,
    )


def seconds(window: Window, fps: float) -> tuple[float, float]:
    """Seconds from the start of the stream to the first frame of a window and to the end of its last one."""
    return round((window.first - 1) / fps, 3), round(window.last / fps, 3)


def last_nearest(window: Window, following: Window) -> int:
    """The last frame that is at least as near to the centre of a window as to that of the one after it."""
    return (sum(window) + sum(following)) // 4


def csv_header(class_names: Sequence[str]) -> list[str]:
    """Names of the columns of the CSV file."""
    return [*CSV_COLUMNS, *(f"p:{name}" for name in class_names)]


def csv_row(window: Window, fused: Scores, class_names: Sequence[str], fps: float) -> list[Any]:
    """The row of one window in the CSV file: the `CSV_COLUMNS`, then the probability of every class."""
    probabilities = softmax(fused)
    best = int(predictions(fused[None])[0])
    score, *shares = np.round([probabilities[best], *probabilities], DECIMALS).tolist()
    return [*window, *seconds(window, fps), class_names[best], score, *shares]


def csv_rows(timeline: Timeline) -> list[list[Any]]:
    """The rows of a timeline."""
    names, fps = timeline.class_names, timeline.fps
    return [csv_row(window, fused, names, fps) for window, fused in zip(timeline.windows, timeline.fused, strict=True)]


def csv_line(row: Sequence[Any]) -> str:
    """A row as a line of text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _stacked(rows: list[Scores | None]) -> Scores | None:
    present = [row for row in rows if row is not None]
    return np.stack(present) if present else None


def _rounded(scores: Scores) -> list[list[float]]:
    return [[round(score, DECIMALS) for score in row] for row in scores.tolist()]


def _lines(value: dict[str, Any], indent: str = "") -> str:
    """JSON in which the items of outer lists have a line each."""

    def shown(item: Any) -> str:
        if isinstance(item, dict) and any(isinstance(inner, list) for inner in item.values()):
            return _lines(item, indent + "  ")
        if isinstance(item, list) and item and isinstance(item[0], list | dict):
            return "[\n" + ",\n".join(f"{indent}    {_compact(inner)}" for inner in item) + f"\n{indent}  ]"
        return _compact(item)

    body = ",\n".join(f"{indent}  {json.dumps(key)}: {shown(item)}" for key, item in value.items())
    return f"{{\n{body}\n{indent}}}"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
