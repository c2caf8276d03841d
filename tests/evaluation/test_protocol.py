from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stmulnet.errors import ConfigError
from stmulnet.evaluation.protocol import evaluate_videos, video_scores
from stmulnet.mirror import mirror_clip

CLASSES, WINDOW = 4, 5


@dataclass
class Sample:
    rgb: Tensor
    flow: Tensor
    label: int
    video: str


class TinyNet:
    """Position- and time-dependent linear maps with the official temporal maximum: enough to expose swapped axes."""

    def __init__(self, *, appearance: bool = True, motion: bool = True) -> None:
        generator = torch.Generator().manual_seed(3)
        self.filters = {c: torch.randn(CLASSES, c, 3, 2, generator=generator, dtype=torch.float64) for c in (3, 20)}
        self.has = {"appearance_map": appearance, "motion_map": motion}
        self.inference: list[bool] = []

    def __call__(self, *clips: Tensor) -> SimpleNamespace:
        self.inference.append(torch.is_inference_mode_enabled())
        maps = dict.fromkeys(self.has)
        names = [name for name, present in self.has.items() if present]
        for name, clip in zip(names, clips, strict=True):
            assert clip.dtype == torch.uint8
            assert clip.shape[0] == 1
            maps[name] = self.stream(clip[0])[None]
        return SimpleNamespace(**maps)

    def stream(self, clip: Tensor) -> Tensor:
        scores = functional.conv2d(clip.double() - 128, self.filters[clip.shape[1]], stride=2)  # T, K, h, w
        return scores.unfold(0, WINDOW, 1).amax(dim=-1).transpose(0, 1)  # K, W, h, w


@pytest.fixture
def sample(rng: np.random.Generator) -> Sample:
    rgb = torch.from_numpy(rng.integers(0, 256, size=(9, 3, 12, 17), dtype=np.uint8))
    flow = torch.from_numpy(rng.integers(0, 256, size=(9, 20, 12, 17), dtype=np.uint8))
    return Sample(rgb, flow, 2, "v_Wave_g01_c01")


def expected_stream(net: TinyNet, clip: np.ndarray) -> np.ndarray:
    """Mean over positions, then windows, then the two passes, written out in NumPy."""
    mirrored = clip[:, :, :, ::-1].copy()
    if clip.shape[1] == 20:
        for channel in range(0, 20, 2):
            mirrored[:, channel] = 255 - mirrored[:, channel]
    passes = []
    for view in (clip, mirrored):
        scores = net.stream(torch.from_numpy(view)).numpy()
        num_classes, windows = scores.shape[:2]
        passes.append([np.mean([scores[k, w].mean() for w in range(windows)]) for k in range(num_classes)])
    return np.asarray(np.mean(passes, axis=0))


def test_two_streams_against_numpy(sample: Sample) -> None:
    net = TinyNet()
    scores = video_scores(net, sample.rgb, sample.flow)
    appearance, motion = (expected_stream(net, clip.numpy()) for clip in (sample.rgb, sample.flow))
    assert scores.appearance is not None
    assert scores.motion is not None
    np.testing.assert_allclose(scores.appearance, appearance, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scores.motion, motion, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scores.fused, (appearance + motion) / 2, rtol=1e-5, atol=1e-4)
    assert net.inference == [True, True]


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_single_stream(sample: Sample, stream: str) -> None:
    net = TinyNet(appearance=stream == "appearance", motion=stream == "motion")
    scores = video_scores(net, *((sample.rgb, None) if stream == "appearance" else (None, sample.flow)))
    other = "motion" if stream == "appearance" else "appearance"
    assert getattr(scores, other) is None
    np.testing.assert_array_equal(scores.fused, getattr(scores, stream))


def test_scores_of_a_mirrored_video_are_the_same(sample: Sample) -> None:
    direct = video_scores(TinyNet(), sample.rgb, sample.flow)
    mirrored = video_scores(TinyNet(), *mirror_clip(sample.rgb, sample.flow))
    np.testing.assert_allclose(mirrored.fused, direct.fused, rtol=1e-6)


def test_mirror_turns_zero_flow_into_127_and_keeps_its_input() -> None:
    flow = torch.full((2, 20, 4, 6), 128, dtype=torch.uint8)
    _, mirrored = mirror_clip(None, flow)
    assert mirrored is not None
    assert (mirrored[:, 0::2] == 127).all()
    assert (mirrored[:, 1::2] == 128).all()
    assert (flow == 128).all()


def test_table_keeps_order_labels_and_names(sample: Sample) -> None:
    other = Sample(sample.rgb.flip(0), sample.flow.flip(0), 0, "v_Sit_g02_c01")
    net = TinyNet()
    table = evaluate_videos(net, iter([sample, other]), total=2)
    assert table.videos == ["v_Wave_g01_c01", "v_Sit_g02_c01"]
    assert table.labels.tolist() == [2, 0]
    assert list(table.streams()) == ["appearance", "motion", "fused"]
    np.testing.assert_array_equal(table.fused[1], video_scores(net, other.rgb, other.flow).fused)


def test_table_of_a_single_stream_has_one_column(sample: Sample) -> None:
    sample.flow = torch.empty(0, dtype=torch.uint8)
    table = evaluate_videos(TinyNet(motion=False), [sample], total=1)
    assert table.motion is None
    assert list(table.streams()) == ["appearance"]


def test_a_lost_video_is_an_error(sample: Sample) -> None:
    with pytest.raises(ConfigError, match="1 videos were evaluated, 2 expected"):
        evaluate_videos(TinyNet(), [sample], total=2)
    with pytest.raises(ConfigError, match="0 videos were evaluated"):
        evaluate_videos(TinyNet(), [], total=0)


@pytest.mark.parametrize(
    ("rgb", "flow", "message"),
    [
        (None, None, "got neither"),
        (torch.zeros(9, 3, 8, 8), None, r"rgb must be uint8 of shape \(T, 3, H, W\), got torch.float32"),
        (None, torch.zeros(9, 2, 8, 8, dtype=torch.uint8), r"flow must be uint8 of shape \(T, 20, H, W\)"),
        (
            torch.zeros(9, 3, 8, 8, dtype=torch.uint8),
            torch.zeros(9, 20, 8, 9, dtype=torch.uint8),
            "must agree in frames, height and width",
        ),
    ],
)
def test_bad_clips_are_named(rgb: Tensor | None, flow: Tensor | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        video_scores(TinyNet(), rgb, flow)
