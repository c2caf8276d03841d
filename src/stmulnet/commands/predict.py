"""`stmulnet predict`: recognise the action in video files."""

from dataclasses import dataclass, field
from json import dumps
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from stmulnet.console import notice
from stmulnet.constants import TEST_FRAMES
from stmulnet.errors import ConfigError, StmulnetError
from stmulnet.files import check_output
from stmulnet.overlay import write_overlay
from stmulnet.predictor import Prediction, VideoPredictor
from stmulnet.rendering import table_html

POSITIONAL = ("videos",)
BAR_WIDTH = 24


@dataclass
class PredictSummary:
    """What `predict` did.

    Attributes:
        predictions: Answer for each video that was read.
        errors: Message for each video that was not.
    """

    predictions: dict[Path, Prediction] = field(default_factory=dict)
    errors: dict[Path, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when all videos were read, 1 otherwise."""
        return 1 if self.errors else 0

    def _repr_html_(self) -> str:
        rows = [(str(video), found.label, f"{100 * found.score:.1f}") for video, found in self.predictions.items()]
        rows += [(str(video), "not recognised", "") for video in self.errors]
        return table_html(["video", "class", "probability %"], rows, notes=list(self.errors.values()))


def predict(
    videos: list[Path],
    *,
    weights: Path,
    json: bool = False,
    overlay: Path | None = None,
    top: int = 5,
    frames: int = TEST_FRAMES,
    jpeg: bool = False,
    flow_backend: str = "tvl1",
    threads: int | None = None,
    device: str = "auto",
) -> PredictSummary:
    """Recognise the action in video files.

    Args:
        videos: Video files; one bad file does not keep the others from being recognised.
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file.
        json: Print a JSON list on stdout, one object per video in the order given: video, label, score, top_k,
            appearance, motion (lists of label and score), num_frames, preset, flow_record, seconds; or video and error.
        overlay: Write a video (.mp4) with frames, colour-coded flow and scores side by side; needs a single video.
        top: Number of classes to show.
        frames: Frames sampled per video (official: 25).
        jpeg: Compress frames and flow as extract does, so that the scores are exactly those of extract and evaluate.
        flow_backend: Implementation of the optical flow: tvl1 (on the CPU), tvl1-torch (the same on the device, for a
            GPU), opencv (the reference, far slower) or dis (another algorithm, far faster).
        threads: Threads for the flow; one per processor core by default.
        device: auto, cpu, cuda or cuda:N, for the network and for tvl1-torch.

    Returns:
        Predictions and errors by video.
    """
    _check_arguments(videos, overlay)
    predictor = VideoPredictor(
        weights, device=device, num_frames=frames, top=top, threads=threads, flow_backend=flow_backend, jpeg=jpeg
    )
    summary = PredictSummary()
    for video in videos:
        try:
            prediction = predictor(video)
        except StmulnetError as error:
            if len(videos) == 1:
                raise
            notice(f"stmulnet predict: {error}")
            summary.errors[video] = str(error)
            continue
        summary.predictions[video] = prediction
        if not json:
            _print_prediction(video, prediction)
        if overlay is not None:
            write_overlay(overlay, video, prediction, predictor)
    if json:
        print(dumps([_json_entry(video, summary) for video in videos], indent=2, ensure_ascii=False))
    return summary


def _check_arguments(videos: list[Path], overlay: Path | None) -> None:
    if not videos:
        raise ConfigError("no video given; name one or more video files")
    if overlay is not None and len(videos) > 1:
        raise ConfigError(f"--overlay writes one video, but {len(videos)} were given; give one video at a time")
    if overlay is not None and overlay.suffix.lower() != ".mp4":
        raise ConfigError(f"--overlay writes .mp4, got {overlay}; give the file that suffix")
    if overlay is not None and overlay.resolve() == videos[0].resolve():
        raise ConfigError(f"--overlay would replace the video itself, {overlay}; give another file")
    if overlay is not None:
        check_output(overlay, folder=False)


def _json_entry(video: Path, summary: PredictSummary) -> dict[str, object]:
    if video in summary.errors:
        return {"video": str(video), "error": summary.errors[video]}
    return {"video": str(video), **summary.predictions[video].to_dict()}


def _print_prediction(video: Path, prediction: Prediction) -> None:
    console = Console(highlight=False)
    width = max(len(label) for label, _ in prediction.top_k)
    console.print(f"[bold]{escape(str(video))}[/bold]", soft_wrap=True)
    for label, probability in prediction.top_k:
        filled = round(BAR_WIDTH * probability)
        bar = f"[blue]{'█' * filled}[/blue][dim]{'░' * (BAR_WIDTH - filled)}[/dim]"
        console.print(f"  {escape(label.ljust(width))}  {bar} {100 * probability:5.1f} %", soft_wrap=True)
    seconds = prediction.seconds
    parts = ", ".join(f"{name} {seconds[name]:.2f} s" for name in ("decode", "flow", "network"))
    console.print(f"  [dim]{prediction.num_frames} frames; {parts}; {escape(prediction.preset)}[/dim]", soft_wrap=True)
