"""From a file's bytes to upright 8-bit RGB pixels, or a refusal by name.

Pillow decodes; nothing else here ever sees untrusted bytes. What this module does not know: which size or
normalisation a model wants (see preprocess), and DICOM or NIfTI (see frames).
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from madclip_runtime.errors import InputRefused

__all__ = ["FORMATS", "MAX_PIXELS", "MIN_SIDE", "SUFFIXES", "DecodedImage", "as_stored", "read_image"]

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".pgm", ".ppm", ".webp"})
MAX_PIXELS = 64_000_000
"""Largest width × height that is decoded (refused from the header, before memory is taken)."""
MAX_BYTES = 512 * 2**20
MIN_SIDE = 8
"""Shortest side, in pixels, of which a score could mean anything."""

_FAX = frozenset({"group3", "group4", "tiff_ccitt"})
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # of the TIFF specification
_ORIENTATION = 274  # of EXIF and TIFF
_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True)
class DecodedImage:
    """One image as the whole project sees it.

    pixels: uint8 [H, W, 3] RGB 0–255, upright (EXIF orientation applied once).
    mode: the file's own pixel mode as Pillow names it ("L", "RGB", "I;16", …).
    notes: every conversion that lost or rescaled something, one sentence each.
    orientation: the EXIF orientation that was applied, 1–8, 1 where none was (see `as_stored`).
    spacing_mm: between rows and between columns, None where the file doesn't say.
    """

    pixels: npt.NDArray[np.uint8]
    mode: str
    notes: tuple[str, ...] = ()
    orientation: int = 1
    spacing_mm: tuple[float, float] | None = None


def read_image(source: Path | bytes, *, name: str | None = None) -> DecodedImage:
    """Decode a file, or the bytes of one; `name` is what an error calls it.

    Raises: InputRefused with one line naming the file and why.
    """
    label = name if name is not None else (str(source) if isinstance(source, Path) else "image bytes")
    data = _read_bytes(source, label) if isinstance(source, Path) else source
    _refuse_by_magic(data, label)
    try:
        with warnings.catch_warnings():
            # Pillow warns about odd metadata (EXIF, TIFF tags); the pixels decide, so those are not our refusals.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_header(image, label)
                return _to_rgb(image, label)
    except InputRefused:
        raise
    except Exception as error:  # a decoder on hostile bytes may raise anything; here it becomes one named refusal
        raise InputRefused(label, _reason(error), "re-export the image from its source") from None


def as_stored(upright: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Carry a map or mask of the upright image back to how the file stores its rows and columns.

    upright: [H, W] of any type. orientation: EXIF 1–8. Returns [H, W], or [W, H] for 5–8.
    """
    if orientation in (5, 7):
        upright, orientation = upright.T, {5: 1, 7: 3}[orientation]
    turns = {3: 2, 6: 1, 8: -1}.get(orientation, 0)
    flipped = {2: upright[:, ::-1], 4: upright[::-1]}.get(orientation, upright)
    return np.ascontiguousarray(np.rot90(flipped, turns))


def _read_bytes(path: Path, label: str) -> bytes:
    try:
        if not path.is_file():
            why = "is a folder" if path.is_dir() else "no such file" if not path.exists() else "not a plain file"
            raise InputRefused(label, why, "name an image file or a folder of images")
        if path.stat().st_size > MAX_BYTES:
            raise InputRefused(label, f"larger than {MAX_BYTES // 2**20} MiB", "re-export the image")
        return path.read_bytes()
    except OSError as error:
        raise InputRefused(label, f"can't be read: {error.strerror or error}", "check its permissions") from None


def _refuse_by_magic(data: bytes, label: str) -> None:
    if not data:
        raise InputRefused(label, "the file is empty", "re-export the image from its source")
    if data[128:132] == b"DICM":
        raise InputRefused(label, "a DICOM file, where a picture is wanted", "madclip-run reads it by its name")
    if data[:2] == b"\x1f\x8b" or data[344:348] in (b"n+1\0", b"ni1\0"):
        do = "madclip-run reads volumes named .nii or .nii.gz"
        raise InputRefused(label, "a gzip or NIfTI file, where a picture is wanted", do)


def _check_header(image: Image.Image, label: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputRefused(label, f"{width}×{height} is over the limit of {MAX_PIXELS:,} pixels", "downscale it")
    if min(width, height) < MIN_SIDE:
        raise InputRefused(label, f"{width}×{height} is smaller than {MIN_SIDE} pixels a side", "")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise InputRefused(label, "holds more than one frame", "save the frame you want as its own file")
    _check_storage(image, label)


def _check_storage(image: Image.Image, label: str) -> None:
    """Ways to store pixels that Pillow opens, but whose meaning or damage it would not show."""
    if "I;12" in _raw_modes(image):
        raise InputRefused(label, "12-bit pixels, which this version does not read", "save it as 8- or 16-bit")
    if image.mode in _SIXTEEN_BIT and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise InputRefused(label, "16-bit pixels stored with white as zero", "save it with black as zero")
    if str(image.info.get("compression")) in _FAX:
        raise InputRefused(label, "fax compression, in which damage goes unnoticed", "save it as PNG")


def _to_rgb(image: Image.Image, label: str) -> DecodedImage:
    mode = image.mode
    notes: list[str] = []
    # Pillow keeps only the high byte of 16-bit colour; the raw mode in the tile is where that still shows.
    if mode not in _SIXTEEN_BIT and mode != "I" and ";16" in _raw_modes(image):
        notes.append("16-bit colour was reduced to its high 8 bits")
    orientation = _orientation(image)  # asked for before loading: some formats turn themselves, and forget it
    image.load()
    upright = ImageOps.exif_transpose(image)
    if mode in _SIXTEEN_BIT or mode == "I":
        pixels = _sixteen_bit(np.asarray(upright), label)
        notes.append("16-bit grey was scaled linearly from 0–65535 to 0–255")
    elif mode == "F":
        raise InputRefused(label, "32-bit float pixels have no stated range", "save it as 8- or 16-bit")
    else:
        pixels = _eight_bit(upright, notes)
    return DecodedImage(pixels, mode, tuple(notes), orientation)


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _raw_modes(image: Image.Image) -> str:
    """How the file stores its pixels ("RGB;16B"), which `mode` does not tell."""
    return " ".join(str(tile[3]) for tile in getattr(image, "tile", []))


def _sixteen_bit(values: npt.NDArray[np.generic], label: str) -> npt.NDArray[np.uint8]:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise InputRefused(label, "32-bit integer pixels outside 0–65535 have no stated range", "save it as 16-bit")
    grey = ((wide + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _eight_bit(image: Image.Image, notes: list[str]) -> npt.NDArray[np.uint8]:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] != 255:
            notes.append("transparency was composited over black")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, rgba)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{image.mode} was converted to RGB without a colour profile")
    return np.array(image.convert("RGB"))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not one of {', '.join(FORMATS)}, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"over the limit of {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    text = str(error).strip() or type(error).__name__
    return f"damaged or truncated ({text[:160]})"
