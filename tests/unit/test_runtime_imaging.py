"""Reading images: every supported kind of pixel gives the pixels that were written, upright and 8-bit RGB."""

from pathlib import Path

import numpy as np
import pytest
from image_files import (
    SCALED,
    GoodFile,
    good_files,
    noise,
    oriented,
    ramp,
    saved,
    upright,
)
from PIL import Image

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import FORMATS, MAX_PIXELS, SUFFIXES, read_image

KNOWN_REFUSALS = {"la.tga"}
"""Odd but good files that a user may hold and that are refused by name: TGA has no signature to trust."""


@pytest.mark.parametrize("file", good_files(), ids=lambda file: file.name)
def test_pixels_are_those_that_were_written(file: GoodFile, tmp_path: Path) -> None:
    path = tmp_path / file.name
    path.write_bytes(file.data)
    decoded = read_image(path)
    assert (decoded.pixels.dtype, decoded.pixels.shape) == (np.uint8, file.expected.shape)
    worst = np.abs(decoded.pixels.astype(int) - file.expected.astype(int)).max()
    assert worst <= file.within
    assert decoded.notes == file.notes
    np.testing.assert_array_equal(decoded.pixels, read_image(file.data).pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_exactly_once(kind: str, orientation: int) -> None:
    stored = noise(10, 14)
    decoded = read_image(oriented(stored, orientation, kind))
    np.testing.assert_array_equal(decoded.pixels, upright(stored, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_jpeg(orientation: int) -> None:
    stored = ramp(48, 64)
    decoded = read_image(oriented(stored, orientation, "JPEG")).pixels
    wanted = upright(stored, orientation)
    assert decoded.shape == wanted.shape
    assert np.abs(decoded.astype(int) - wanted.astype(int)).max() <= 6


def test_sixteen_bit_is_not_cut_to_its_high_byte() -> None:
    """Levels where rounding to the nearest of 256 and dropping the low byte disagree."""
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024 + 200
    decoded = read_image(saved(deep, "PNG"))
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], np.rint(deep / 257))
    assert (decoded.pixels[:, :, 0] != deep >> 8).any()
    assert decoded.notes == (SCALED,)


def test_a_long_exif_block_does_not_hide_the_pixels() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 50_000
    data = saved(noise(), "PNG", exif=exif)
    assert len(data) > 50_000
    np.testing.assert_array_equal(read_image(data).pixels, noise())


def test_an_extreme_but_legal_shape_is_read() -> None:
    assert read_image(saved(noise(8, 20_000), "PNG")).pixels.shape == (8, 20_000, 3)


def test_a_file_is_read_by_what_it_holds_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(saved(noise(), "PNG"))
    np.testing.assert_array_equal(read_image(path).pixels, noise())


def test_the_stated_limits() -> None:
    assert MAX_PIXELS == 64_000_000
    assert set(FORMATS) == {"PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP"}
    assert {".png", ".jpg", ".tif", ".bmp", ".pgm", ".webp"} <= SUFFIXES


@pytest.mark.shared
def test_real_odd_but_good_files_are_read_or_refused_by_name(shared: Path) -> None:
    refused = {}
    files = sorted((shared / "images" / "good" / "pillow").iterdir())
    for path in files:
        try:
            assert read_image(path).pixels.shape[2] == 3
        except InputRefused as error:
            refused[path.name] = error.why
    print(f"{len(files)} files, refused: {refused}")
    assert len(files) >= 15
    assert set(refused) == KNOWN_REFUSALS
