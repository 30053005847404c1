"""Preprocessing: exactly Pillow's bicubic square, and a map that comes back aligned with its image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import noise
from PIL import Image

from madclip_runtime.preprocess import resize_map, to_model_input

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SIDES = st.integers(8, 200)


@PROPERTY
@given(height=SIDES, width=SIDES, size=st.sampled_from([16, 32, 224, 240]), seed=st.integers(0, 2**32 - 1))
def test_it_is_pillows_bicubic(height: int, width: int, size: int, seed: int) -> None:
    pixels = noise(height, width, seed=seed)
    square = to_model_input(pixels, size)
    assert (square.dtype, square.shape, square.flags.c_contiguous) == (np.uint8, (size, size, 3), True)
    wanted = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(square, np.asarray(wanted))


@pytest.mark.parametrize("level", [0, 1, 127, 255])
@pytest.mark.parametrize("shape", [(8, 8), (9, 300), (500, 11)])
def test_a_constant_image_stays_constant(level: int, shape: tuple[int, int]) -> None:
    assert (to_model_input(np.full((*shape, 3), level, np.uint8), 32) == level).all()


def test_an_image_of_the_right_size_is_untouched_and_copied() -> None:
    pixels = noise(32, 32)
    square = to_model_input(pixels, 32)
    np.testing.assert_array_equal(square, pixels)
    assert not np.shares_memory(square, pixels)


def test_downscaling_is_antialiased() -> None:
    """A one-pixel checkerboard becomes grey; picking single pixels would keep it black or white."""
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    square = to_model_input(np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2), 32)
    assert square.min() >= 120 and square.max() <= 135


def test_channels_keep_their_order_and_strides_do_not_matter() -> None:
    pixels = noise(40, 50)
    np.testing.assert_array_equal(to_model_input(pixels[:, :, ::-1], 32), to_model_input(pixels, 32)[:, :, ::-1])
    np.testing.assert_array_equal(
        to_model_input(pixels[::2, ::2], 32), to_model_input(np.ascontiguousarray(pixels[::2, ::2]), 32)
    )


@pytest.mark.parametrize(
    "wrong", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)]
)
def test_other_arrays_are_a_programming_error(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        to_model_input(wrong, 32)


@PROPERTY
@given(height=SIDES, width=SIDES, size=st.integers(4, 60), seed=st.integers(0, 2**32 - 1))
def test_a_resized_map_stays_within_its_own_range(height: int, width: int, size: int, seed: int) -> None:
    heat = np.random.default_rng(seed).random((size, size), dtype=np.float32)
    big = resize_map(heat, height, width)
    assert (big.dtype, big.shape) == (np.float32, (height, width))
    assert heat.min() - 1e-6 <= big.min() and big.max() <= heat.max() + 1e-6


def test_a_maps_corners_stay_in_their_corners() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0], heat[0, 7], heat[7, 0], heat[7, 7] = 0.1, 0.2, 0.3, 0.4
    big = resize_map(heat, 80, 120)
    np.testing.assert_allclose([big[0, 0], big[0, -1], big[-1, 0], big[-1, -1]], [0.1, 0.2, 0.3, 0.4], atol=1e-6)


def test_a_maps_peak_lands_on_the_same_place_of_the_image() -> None:
    heat = np.zeros((16, 16), np.float32)
    heat[3, 12] = 1
    row, column = np.unravel_index(resize_map(heat, 160, 320).argmax(), (160, 320))
    assert abs(row - 3.5 * 10) <= 1 and abs(column - 12.5 * 20) <= 1  # the middle of that cell


def test_a_map_of_the_images_size_is_untouched() -> None:
    heat = np.random.default_rng(0).random((20, 20), dtype=np.float32)
    np.testing.assert_array_equal(resize_map(heat, 20, 20), heat)
