"""The views against a second writing in NumPy: pixels by hand, and scores of a small real network view by view."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stmulnet.errors import ConfigError
from stmulnet.evaluation.clip_views import ViewsName, check_frames, in_words, view_maker
from stmulnet.evaluation.protocol import video_scores
from stmulnet.models.zoo import create_model

SIZE = 32
SMALL: dict[str, Any] = {"units": (2, 2, 2, 2), "width_mult": 0.0625, "input_size": SIZE, "head_pool": "global"}
NAMES: list[ViewsName] = ["official", "center", "ten_crop", "clips"]


@pytest.fixture
def clip(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """25 frames of 37 x 45 pixels: odd distances to the centre."""
    rgb = rng.integers(0, 256, size=(25, 3, 37, 45), dtype=np.uint8)
    flow = rng.integers(0, 256, size=(25, 20, 37, 45), dtype=np.uint8)
    return torch.from_numpy(rgb), torch.from_numpy(flow)


def mirrored(images: np.ndarray) -> np.ndarray:
    """Columns the other way round; the displacements to the right change their sign."""
    result = images[..., ::-1].astype(int)
    if images.shape[1] == 20:
        for channel in range(0, 20, 2):
            result[:, channel] = 255 - result[:, channel]
    return result.astype(np.uint8)


def expected_views(images: np.ndarray, name: str) -> list[np.ndarray]:
    """From the definition of each protocol, in numbers for 37 x 45 pixels and a size of 32."""
    centre = images[:, :, 2:34, 6:38]
    if name == "center":
        return [centre]
    if name == "official":
        return [images, mirrored(images)]
    if name == "ten_crop":
        corners = [images[:, :, y : y + 32, x : x + 32] for y in (0, 5) for x in (0, 13)]
        return [*corners, centre, *(mirrored(crop) for crop in (*corners, centre))]
    clips = [images[[c, c + 5, c + 10, c + 15, c + 20]] for c in range(5)]
    return [*clips, *map(mirrored, clips)]


@pytest.mark.parametrize("name", NAMES)
def test_pixels_of_every_view(clip: tuple[Tensor, Tensor], name: ViewsName) -> None:
    views = list(view_maker(name, SIZE)(*clip))
    for modality in (0, 1):
        expected = expected_views(clip[modality].numpy(), name)
        found = [view[modality] for view in views]
        assert len(found) == len(expected) == {"official": 2, "center": 1}.get(name, 10)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours is not None
            np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stream", ["both", "appearance", "motion"])
def test_scores_are_means_over_views(clip: tuple[Tensor, Tensor], name: ViewsName, stream: str) -> None:
    torch.manual_seed(1)
    kind = "st_mulnet_resnet50" if stream == "both" else f"{stream}_resnet50"
    model = create_model(kind, 4, **SMALL).eval()
    rgb, flow = (clip[0] if stream != "motion" else None), (clip[1] if stream != "appearance" else None)
    found = video_scores(model, rgb, flow, views=view_maker(name, SIZE))
    sums: dict[str, list[np.ndarray]] = {"appearance": [], "motion": []}
    given = [expected_views(part.numpy(), name) for part in (rgb, flow) if part is not None]
    with torch.no_grad():
        for view in zip(*given, strict=True):
            output = model(*(torch.from_numpy(np.ascontiguousarray(part))[None] for part in view))
            for part, scores in sums.items():
                scores_map = getattr(output, f"{part}_map")
                if scores_map is not None:
                    scores.append(scores_map.double().numpy()[0].mean(axis=(2, 3)).mean(axis=1))
    means = [np.mean(scores, axis=0) for scores in sums.values() if scores]
    for part, scores in sums.items():
        if scores:
            np.testing.assert_allclose(getattr(found, f"{part}_views"), scores, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(getattr(found, part), np.mean(scores, axis=0), rtol=1e-5, atol=1e-6)
        else:
            assert getattr(found, part) is None
    np.testing.assert_allclose(found.fused, np.mean(means, axis=0), rtol=1e-5, atol=1e-6)


def test_clips_of_other_lengths(clip: tuple[Tensor, Tensor]) -> None:
    views = list(view_maker("clips", SIZE)(clip[0][:10], None))
    assert len(views) == 4
    assert views[1][1] is None
    torch.testing.assert_close(views[1][0], clip[0][[1, 3, 5, 7, 9]])
    assert check_frames("clips", 10) == 5
    assert check_frames("official", 7) == 7


def test_whole_frames_of_the_input_size_have_one_crop(clip: tuple[Tensor, Tensor]) -> None:
    square = clip[0][..., :32, :32]
    views = [view[0] for view in view_maker("ten_crop", SIZE)(square, None)]
    for view in views[:5]:
        torch.testing.assert_close(view, square)


def test_the_clip_itself_is_left_alone(clip: tuple[Tensor, Tensor]) -> None:
    before = [part.clone() for part in clip]
    for name in NAMES:
        list(view_maker(name, SIZE)(*clip))
    assert all(torch.equal(part, copy) for part, copy in zip(clip, before, strict=True))


def test_what_does_not_fit_is_said(clip: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ConfigError, match="crops of 40 pixels need frames of that size or larger, got 45x37"):
        list(view_maker("center", 40)(*clip))
    for frames in (0, 4, 24):
        with pytest.raises(ConfigError, match=f"score 5 frames at once: frames must be a multiple, got {frames}"):
            check_frames("clips", frames)


def test_protocols_in_words() -> None:
    assert in_words("official", 25) == "25 frames, whole frame, original and mirrored, raw scores averaged"
    assert len({in_words(name, 25) for name in NAMES}) == 4
