"""`stmulnet predict`: recognise the action in videos."""

import csv as csv_files
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
from rich.console import Console
from rich.markup import escape

from stmulnet.commands.predictor_options import PredictorOptions, make_predictor
from stmulnet.commands.shared_options import takes
from stmulnet.console import counted, notice, progress
from stmulnet.errors import ConfigError, StmulnetError
from stmulnet.files import atomic_path, check_output
from stmulnet.overlay import write_overlay
from stmulnet.predictor import Prediction, VideoPredictor
from stmulnet.rendering import table_html
from stmulnet.video.expand import Named, expand_videos
from stmulnet.video.inputs import is_live, open_source, shown_name

POSITIONAL = ("videos",)
BAR_WIDTH = 24


@dataclass
class PredictSummary:
    """What `predict` did, by video: paths, addresses as text, cameras as numbers.

    Attributes:
        predictions: Answer for each video that was read.
        errors: Message for each video that was not.
    """

    predictions: dict[Named, Prediction] = field(default_factory=dict)
    errors: dict[Named, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when all videos were read, 1 otherwise."""
        return 1 if self.errors else 0

    def _repr_html_(self) -> str:
        rows = [
            (shown_name(video), found.label, f"{100 * found.score:.1f}") for video, found in self.predictions.items()
        ]
        rows += [(shown_name(video), "not recognised", "") for video in self.errors]
        return table_html(["video", "class", "probability %"], rows, notes=list(self.errors.values()))


@takes(PredictorOptions)
def predict(
    videos: list[str] | list[Path],
    *,
    weights: Path,
    json: bool = False,
    csv: bool = False,
    features: Path | None = None,
    overlay: Path | None = None,
    top: int = 5,
    jpeg: bool = False,
    live_seconds: float = 10.0,
    **options: Unpack[PredictorOptions],
) -> PredictSummary:
    """Recognise the action in videos.

    Args:
        videos: Video files; folders, which stand for the video files in and below them, or, if they hold images, for
            one video; patterns in quotes such as "clips/*.mp4"; http, https and rtsp addresses; numbers of cameras. One
            bad video does not keep the others from being recognised.
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file.
        json: Print a JSON list on stdout, one object per video in the order given: video, label, score, top_k,
            appearance, motion (lists of label and score), num_frames, preset, settings, flow_record, seconds; or video
            and error.
        csv: Print a CSV table on stdout, one row per video: video, num_frames, label_1, score_1, label_2, ..., error.
        features: Write a NumPy file (.npz) with what the classifiers see, pooled over each video: appearance and
            motion, one row per video (2048 columns for a ResNet-50), and the names of the videos. Videos that fail have
            no row.
        overlay: Write a video (.mp4) with frames, colour-coded flow and scores side by side; needs a single video.
        top: Number of classes to show.
        jpeg: Compress frames and flow as extract does, so that the scores are exactly those of extract and evaluate.
        live_seconds: How long a camera or an rtsp address is watched before the answer.
        **options: Those of `PredictorOptions`.

    Returns:
        Predictions and errors by video.
    """
    named = expand_videos(videos)
    _check_arguments(named, overlay, features, json=json, csv=csv)
    predictor = make_predictor(
        weights,
        top=top,
        jpeg=jpeg,
        features=features is not None,
        allow_addresses=True,
        live_seconds=live_seconds,
        **options,
    )
    printed: _Output = _Json() if json else _Csv(top) if csv else _Bars()
    summary = PredictSummary()
    for video, outcome in _outcomes(predictor, named, overlay, shows_progress=json or csv):
        if isinstance(outcome, Prediction):
            summary.predictions[video] = outcome
        elif len(named) == 1:
            raise outcome
        else:
            notice(f"stmulnet predict: {outcome}")
            summary.errors[video] = str(outcome)
        printed.add(shown_name(video), outcome)
    printed.end()
    if features is not None:
        _write_features(features, summary.predictions)
    if len(named) > 1:
        failed = f", {len(summary.errors)} failed" if summary.errors else ""
        notice(f"{counted(len(summary.predictions), 'video')} recognised{failed}")
    return summary


def _outcomes(
    predictor: VideoPredictor, videos: Sequence[Named], overlay: Path | None, *, shows_progress: bool
) -> Iterator[tuple[Named, Prediction | StmulnetError]]:
    if overlay is not None:
        with open_source(videos[0], allow_addresses=True) as source:  # fetched once, read twice
            prediction = predictor(source)
            yield videos[0], prediction
            write_overlay(overlay, source, prediction, predictor)
        return
    with progress(len(videos) if shows_progress and len(videos) > 1 else 0, "predict", "videos") as advance:
        for video, outcome in predictor.predict_many(videos):
            yield video, outcome
            advance(1)


def _check_arguments(
    videos: list[Named], overlay: Path | None, features: Path | None, *, json: bool, csv: bool
) -> None:
    if not videos:
        raise ConfigError("no video given; name one or more videos")
    if json and csv:
        raise ConfigError("--json and --csv are two forms of the same output; give one of them")
    if features is not None:
        if features.suffix.lower() != ".npz":
            raise ConfigError(f"--features writes .npz, got {features}; give the file that suffix")
        check_output(features, folder=False)
    if overlay is not None:
        _check_overlay(overlay, videos)


def _check_overlay(overlay: Path, videos: list[Named]) -> None:
    if len(videos) > 1:
        raise ConfigError(f"--overlay writes one video, but {len(videos)} were given; give one video at a time")
    if overlay.suffix.lower() != ".mp4":
        raise ConfigError(f"--overlay writes .mp4, got {overlay}; give the file that suffix")
    if isinstance(videos[0], Path) and overlay.resolve() == videos[0].resolve():
        raise ConfigError(f"--overlay would replace the video itself, {overlay}; give another file")
    if is_live(videos[0]):
        raise ConfigError(f"--overlay needs a video that can be read twice, not {shown_name(videos[0])}")
    check_output(overlay, folder=False)


class _Output(Protocol):
    """A form of the answers on stdout."""

    def add(self, name: str, outcome: Prediction | StmulnetError) -> None:
        """Take the answer for the next video, or the reason why there is none."""

    def end(self) -> None:
        """Take note that there is no more."""


class _Json:
    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    def add(self, name: str, outcome: Prediction | StmulnetError) -> None:
        found = outcome.to_dict() if isinstance(outcome, Prediction) else {"error": str(outcome)}
        self._entries.append({"video": name, **found})

    def end(self) -> None:
        print(dumps(self._entries, indent=2, ensure_ascii=False))


class _Csv:
    """A row per video, as soon as there is an answer."""

    def __init__(self, classes: int) -> None:
        columns = [f"{what}_{rank}" for rank in range(1, classes + 1) for what in ("label", "score")]
        self._writer = csv_files.DictWriter(sys.stdout, ["video", "num_frames", *columns, "error"], lineterminator="\n")
        self._writer.writeheader()

    def add(self, name: str, outcome: Prediction | StmulnetError) -> None:
        row: dict[str, object] = {"video": name}
        if isinstance(outcome, Prediction):
            row["num_frames"] = outcome.num_frames
            for rank, (label, score) in enumerate(outcome.top_k, start=1):
                row |= {f"label_{rank}": label, f"score_{rank}": f"{score:.6f}"}
        else:
            row["error"] = str(outcome)
        self._writer.writerow(row)
        sys.stdout.flush()

    def end(self) -> None:
        pass


class _Bars:
    """Bars for reading; errors are on stderr."""

    def add(self, name: str, outcome: Prediction | StmulnetError) -> None:
        if isinstance(outcome, Prediction):
            _print_prediction(name, outcome)

    def end(self) -> None:
        pass


def _print_prediction(name: str, prediction: Prediction) -> None:
    width = max(len(label) for label, _ in prediction.top_k)
    lines = [f"[bold]{escape(name)}[/bold]"]
    for label, probability in prediction.top_k:
        filled = round(BAR_WIDTH * probability)
        bar = f"[blue]{'█' * filled}[/blue][dim]{'░' * (BAR_WIDTH - filled)}[/dim]"
        lines.append(f"  {escape(label.ljust(width))}  {bar} {100 * probability:5.1f} %")
    seconds = prediction.seconds
    parts = ", ".join(f"{part} {seconds[part]:.2f} s" for part in ("decode", "flow", "network"))
    lines.append(f"  [dim]{prediction.num_frames} frames; {parts}; {escape(prediction.preset)}[/dim]")
    Console(highlight=False).print("\n".join(lines), soft_wrap=True)  # at once: a notebook puts space around each


def _write_features(path: Path, predictions: Mapping[Named, Prediction]) -> None:
    """One row per video that was recognised; nothing is written where there is none."""
    if not predictions:
        notice(f"stmulnet predict: {path} is not written: no video was recognised")
        return
    tables = {"videos": np.array([shown_name(video) for video in predictions])}
    for stream in next(iter(predictions.values())).features:
        rows = [prediction.features[stream] for prediction in predictions.values()]
        tables[stream] = np.stack(rows).astype(np.float32)
    with atomic_path(path) as temporary:
        np.savez(temporary, **tables)  # type: ignore[arg-type] # a suffix other than .npz would be added to
