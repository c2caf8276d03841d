import numpy as np
import pytest
from numpy.typing import NDArray

from stmulnet.errors import ConfigError
from stmulnet.flow.quantize import to_pixels, to_uint8


def exact_level(pixels: NDArray[np.float64]) -> NDArray[np.int64]:
    """round(255 * (v + 20) / 40) with halves up, in integers: exact for pixels that are multiples of 1/64."""
    sixty_fourths = np.rint(np.clip(pixels, -20, 20) * 64).astype(np.int64)
    # 255 (v + 20) / 40 = 51 (n + 1280) / 512 for v = n / 64; add one half, floor
    return np.asarray((51 * (sixty_fourths + 1280) * 2 + 512) // 1024)


def test_zero_is_level_128() -> None:
    assert to_uint8(np.zeros(1, np.float32))[0] == 128


@pytest.mark.parametrize(
    ("pixels", "level"), [(-20.0, 0), (20.0, 255), (-1e6, 0), (1e6, 255), (-0.0, 128), (-1e-3, 127), (1.0, 134)]
)
def test_known_levels(pixels: float, level: int) -> None:
    assert to_uint8(np.array([pixels]))[0] == level


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_64th_of_a_pixel_has_the_level_of_the_definition(dtype: type) -> None:
    pixels = np.arange(-22 * 64, 22 * 64 + 1) / 64.0
    exact = pixels.astype(dtype).astype(np.float64)  # float16 keeps fewer fractions
    exact = np.rint(exact * 64) / 64
    np.testing.assert_array_equal(to_uint8(exact.astype(dtype)), exact_level(exact))


def test_every_level_comes_back_from_its_pixels() -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = to_pixels(levels)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, levels * 40.0 / 255.0 - 20.0, atol=2e-6)
    np.testing.assert_array_equal(to_uint8(pixels), levels)


def test_round_trip_is_within_half_a_level(rng: np.random.Generator) -> None:
    pixels = rng.uniform(-20, 20, (7, 2, 40, 31)).astype(np.float32)
    error = np.abs(to_pixels(to_uint8(pixels)) - pixels)
    assert error.max() <= 20 / 255 + 1e-5


def test_shape_is_kept_and_memory_order_does_not_matter(rng: np.random.Generator) -> None:
    pixels = rng.uniform(-25, 25, (3, 2, 600, 500))  # more than one chunk
    levels = to_uint8(pixels)
    assert levels.shape == pixels.shape
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels, np.floor(np.clip(pixels, -20, 20) * 6.375 + 128))
    np.testing.assert_array_equal(to_uint8(pixels.transpose(2, 0, 3, 1)), levels.transpose(2, 0, 3, 1))


def test_empty_and_scalar_arrays() -> None:
    assert to_uint8(np.empty((0, 2, 4, 4), np.float32)).shape == (0, 2, 4, 4)
    assert to_uint8(np.array(20.0)).shape == ()


def test_the_input_is_not_changed(rng: np.random.Generator) -> None:
    pixels = rng.uniform(-30, 30, (4, 5))
    before = pixels.copy()
    to_uint8(pixels)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="NaN or infinity"):
        to_uint8(np.array([0.0, bad], np.float32))


def test_wrong_dtypes_are_refused() -> None:
    with pytest.raises(ConfigError, match="floating point; got dtype uint8"):
        to_uint8(np.zeros(3, np.uint8))
    with pytest.raises(ConfigError, match="must have dtype uint8, got float32"):
        to_pixels(np.zeros(3, np.float32))
