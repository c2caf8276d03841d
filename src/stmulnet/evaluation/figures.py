"""The pictures of a report, as data URIs: heat maps, curves and strips of frames with their flow."""

# K classes, n frames of H x W pixels

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import image as matplotlib_image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from torch import from_numpy
from torch.nn.functional import interpolate

from stmulnet.evaluation.flow_colours import flow_colours, flow_wheel

INK, FAINT = "#1f2933", "#d5dbe1"
# Okabe & Ito: distinguishable with colour-blindness; with the markers also in grey.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_MARKERS = ("o", "s", "^", "D", "v", "P")
MAX_CLASSES_WITH_COUNTS = 20
THUMBNAIL_HEIGHT_PX = 160
STRIP_GAP_PX = 6


@dataclass(frozen=True)
class LearningCurve:
    """How the training of one network went; the lists have one entry per epoch, NaN where nothing was measured.

    Attributes:
        name: Name of the network.
        epochs: Epoch numbers.
        train_loss: Mean training loss.
        validation_accuracy: Share of right validation videos, 0..1.
    """

    name: str
    epochs: Sequence[float]
    train_loss: Sequence[float]
    validation_accuracy: Sequence[float]


def confusion_figure(counts: NDArray[np.integer], class_names: Sequence[str]) -> str:
    """Heat map of a confusion matrix (K, K), rows normalised, as a PNG data URI.

    The counts are written into the cells up to 20 classes; with more, only the colours speak.
    """
    num_classes = len(class_names)
    side_in = _confusion_side_in(num_classes)
    font_pt = 9.0 if num_classes <= MAX_CLASSES_WITH_COUNTS else min(9.0, 50.0 * side_in / num_classes)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    figure = Figure(figsize=(side_in + 1.0, side_in), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if num_classes <= MAX_CLASSES_WITH_COUNTS:
        _write_counts(axes, counts, shares, font_pt)
    ticks: dict[str, Any] = {"labels": list(class_names), "fontsize": font_pt, "parse_math": False}
    axes.set_xticks(range(num_classes), rotation=90 if num_classes > 8 else 40, **ticks)
    axes.set_yticks(range(num_classes), **ticks)
    if num_classes <= 8:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0, colors=INK)
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)
    _frame(axes)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6, pad=0.02, format=PercentFormatter(1.0, decimals=0))
    bar.ax.tick_params(length=0, labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return _figure_uri(figure)


def confusion_width_px(num_classes: int) -> int:
    """Width at which a page should show the heat map so that its text has the size of the page's."""
    return round(96 * (_confusion_side_in(num_classes) + 1))


def _confusion_side_in(num_classes: int) -> float:
    return min(11.0, max(3.2, 0.5 * num_classes + 1.2))


def curves_figure(curves: Sequence[LearningCurve]) -> str:
    """Training loss and validation accuracy over the epochs, one line per network, as a PNG data URI."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for index, curve in enumerate(curves):
        style: dict[str, Any] = {
            "color": LINE_COLOURS[index % len(LINE_COLOURS)],
            "marker": LINE_MARKERS[index % len(LINE_MARKERS)],
            "markersize": 4,
            "linewidth": 1.8,
            "markevery": max(1, len(curve.epochs) // 15),
        }
        loss_axes.plot(curve.epochs, curve.train_loss, label=curve.name, **style)
        measured = np.isfinite(curve.validation_accuracy)
        style["markevery"] = max(1, int(measured.sum()) // 15)
        accuracy_axes.plot(np.asarray(curve.epochs)[measured], np.asarray(curve.validation_accuracy)[measured], **style)
    for axes, title in ((loss_axes, "Training loss"), (accuracy_axes, "Validation accuracy")):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_xlabel("epoch", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.tick_params(length=0, colors=INK)
        _frame(axes)
    loss_axes.set_ylim(bottom=0)
    accuracy_axes.set_ylim(0, 1.02)
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    # Two entries per row keep long names of networks from being cut.
    figure.legend(loc="outside lower left", ncols=min(len(curves), 4), frameon=False, fontsize=9.5, labelcolor=INK)
    return _figure_uri(figure)


def strip_image(
    frames: NDArray[np.uint8] | None, flow_px: NDArray[np.floating] | None, *, full_px: float
) -> NDArray[np.uint8]:
    """Frames (n, H, W, 3) in a row, their colour-coded flow (n, 2, H, W) below; either may be None."""
    rows = [] if frames is None else [_row(frames)]
    if flow_px is not None:
        rows.append(_row(flow_colours(flow_px, full_px=full_px)))
    gap = np.full((STRIP_GAP_PX, rows[0].shape[1], 3), 255, dtype=np.uint8)
    return np.concatenate([part for row in rows for part in (gap, row)][1:])


def wheel_uri(size: int = 96) -> str:
    """The legend of the flow colours as a PNG data URI."""
    return image_uri(flow_wheel(size), "png")


def image_uri(image: NDArray[np.uint8], kind: str = "jpeg") -> str:
    """An RGB image (H, W, 3), uint8, as a data URI; ``kind`` is ``"jpeg"`` or ``"png"``."""
    buffer = io.BytesIO()
    options = {"quality": 88} if kind == "jpeg" else {}
    matplotlib_image.imsave(buffer, np.ascontiguousarray(image), format=kind, pil_kwargs=options)
    return _data_uri(buffer.getvalue(), f"image/{kind}")


def _write_counts(axes: Axes, counts: NDArray[np.integer], shares: NDArray[np.floating], font_pt: float) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.55 else INK
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=font_pt, color=colour)


def _frame(axes: Axes) -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def _row(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, H, W, 3) scaled to the thumbnail height, side by side with white gaps."""
    scale = THUMBNAIL_HEIGHT_PX / images.shape[1]
    width_px = max(1, round(images.shape[2] * scale))
    tensor = from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    mode: dict[str, Any] = {"mode": "area"} if scale < 1 else {"mode": "nearest-exact"}
    scaled = interpolate(tensor, size=(THUMBNAIL_HEIGHT_PX, width_px), **mode)
    thumbnails = scaled.round().byte().permute(0, 2, 3, 1).numpy()
    gap = np.full((THUMBNAIL_HEIGHT_PX, STRIP_GAP_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([part for thumbnail in thumbnails for part in (gap, thumbnail)][1:], axis=1)


def _figure_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    # Without the Software field the same figure gives the same bytes under every release of matplotlib's writer.
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return _data_uri(buffer.getvalue(), "image/png")


def _data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
