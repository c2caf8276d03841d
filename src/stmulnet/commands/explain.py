"""`stmulnet explain`: why a network answers what it answers, as pictures and one HTML page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib import image as matplotlib_image
from numpy.typing import NDArray

from stmulnet.commands.predictor_options import make_predictor
from stmulnet.constants import TEST_FRAMES
from stmulnet.errors import ConfigError
from stmulnet.explanation.cam import Stage
from stmulnet.explanation.explain import Explanation, class_number, explain_video
from stmulnet.explanation.maximisation import STEPS, Maximised, maximise_streams
from stmulnet.explanation.page import Row, field_images, render_page, strip_rows
from stmulnet.files import check_output
from stmulnet.rendering import page_html

POSITIONAL = ("video",)
PAGE, FRAMES, ARRAYS = "explanation.html", "frames", "explanation.npz"


@dataclass
class ExplainSummary:
    """What `explain` found and wrote.

    Attributes:
        page: The HTML page.
        explanation: Of the video, as arrays; None without a video.
        made: By stream, the class and the input that was made for it.
    """

    page: Path
    explanation: Explanation | None
    made: dict[str, tuple[str, Maximised]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        return page_html(self.page.read_text(encoding="utf-8"))


def explain(
    video: Path | None = None,
    *,
    weights: Path,
    out: Path,
    target: str | None = None,
    cam_stage: Stage = "res5",
    maximise: str | None = None,
    steps: int = STEPS,
    seed: int = 0,
    frames: int = TEST_FRAMES,
    jpeg: bool = False,
    flow_backend: str = "tvl1",
    threads: int | None = None,
    device: str = "auto",
) -> ExplainSummary:
    """Show why a network answers what it answers for a video, what its gates let through and which frames count.

    Args:
        video: Video file, or a folder of frames; may be left out with --maximise.
        weights: Weight file of a trained network (.safetensors, or the authors' .mat), or the name of a fetched file.
        out: Folder for explanation.html, the pictures (frames/) and the values (explanation.npz); those of an earlier
            explanation there are replaced.
        target: Class to explain; by default the one that the network predicts.
        cam_stage: Where Grad-CAM looks: res5 has the most meaning and the fewest places, res2 the most places.
        maximise: Also make an input for this class, in each stream, whose score rises from step to step.
        steps: Steps of --maximise.
        seed: Of the noise that --maximise begins with.
        frames: Frames sampled per video (official: 25).
        jpeg: Compress frames and flow as extract does.
        flow_backend: Implementation of the optical flow: tvl1, tvl1-torch, opencv or dis.
        threads: Threads for the flow; one per processor core by default.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The page and the arrays behind it.
    """
    if video is None and maximise is None:
        raise ConfigError("nothing to explain; name a video, or a class with --maximise")
    _check_out(out)
    predictor = make_predictor(
        weights, device=device, frames=frames, threads=threads, flow_backend=flow_backend, jpeg=jpeg
    )
    wanted = None if maximise is None else class_number(maximise, predictor.class_names)
    explanation = None
    if video is not None:
        explanation = explain_video(predictor, video, target=target, cam_stage=cam_stage)
    made = {}
    if maximise is not None and wanted is not None:
        found = maximise_streams(predictor.model, wanted, steps=steps, seed=seed)
        made = {stream: (maximise, item) for stream, item in found.items()}
    with _replacing(out) as place:
        fusion = predictor.model.config.fusion
        gated = fusion is not None and fusion.into_appearance and fusion.operation == "multiply"
        _write(place, explanation, made, gated=gated)
    summary = ExplainSummary(out / PAGE, explanation, made)
    _print(summary)
    return summary


def _check_out(out: Path) -> None:
    check_output(out)
    if out.is_dir() and any(out.iterdir()) and not (out / PAGE).is_file():
        raise ConfigError(f"{out} is not empty and holds no earlier explanation; give a new or empty folder with --out")


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A new folder, whose content then replaces an earlier explanation in ``out``; the page comes last."""
    place = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.partial")
    place.mkdir(parents=True)
    try:
        yield place
        out.mkdir(exist_ok=True)
        (out / PAGE).unlink(missing_ok=True)
        shutil.rmtree(out / FRAMES, ignore_errors=True)
        for old in (out / ARRAYS, *out.glob("maximised_*.png")):
            old.unlink(missing_ok=True)
        for new in sorted(place.iterdir(), key=lambda path: path.name == PAGE):
            os.replace(new, out / new.name)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write(
    place: Path, explanation: Explanation | None, made: dict[str, tuple[str, Maximised]], *, gated: bool
) -> None:
    rows: list[Row] = []
    if explanation is not None:
        rows = list(strip_rows(explanation))
        (place / FRAMES).mkdir()
        times = sorted(set(explanation.prepared.times))
        for row in rows:
            for time, image in zip(times, row.images, strict=True):
                _write_png(place / FRAMES / f"frame{time:06d}_{row.key}.png", image)
        np.savez_compressed(place / ARRAYS, **explanation.arrays())  # type: ignore[arg-type]
    for stream, (_, item) in made.items():
        _write_png(place / f"maximised_{stream}.png", np.concatenate(field_images(item), axis=1))
    (place / PAGE).write_text(render_page(explanation, rows, made, gated=gated), encoding="utf-8")


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    matplotlib_image.imsave(path, np.ascontiguousarray(image))


def _print(summary: ExplainSummary) -> None:
    if (explanation := summary.explanation) is not None:
        print(f"{explanation.video}: {explanation.predicted}")
        if explanation.label != explanation.predicted:
            print(f"explained: {explanation.label}, probability {100 * explanation.probability:.1f} %")
    for stream, (label, item) in summary.made.items():
        print(f"{label}, {stream} stream: score {item.start:.2f} of noise, {item.score:.2f} in the end")
    print(f"page: {summary.page}")
