"""Image files with known answers, and files made to hurt, both from a seed: what the decoder's tests read.

Every expected pixel is worked out here with numpy from the values written, never with the decoder under test.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

SCALED = "16-bit grey was scaled linearly from 0–65535 to 0–255"
HIGH_BITS = "16-bit colour was reduced to its high 8 bits"
OVER_BLACK = "transparency was composited over black"
WITHOUT_PROFILE = "CMYK was converted to RGB without a colour profile"
DEPTHS = (0.03, 0.2, 0.4, 0.6, 0.8, 0.97)
"""Where a file is cut, as shares of its length: in the header, in the pixels, near the end."""


@dataclass(frozen=True)
class GoodFile:
    """A file's bytes and what reading it must give: uint8 [H, W, 3], no pixel further off than `within`."""

    name: str
    data: bytes
    expected: Pixels
    notes: tuple[str, ...] = ()
    within: int = 0


def noise(height: int = 48, width: int = 64, *, seed: int = 0) -> Pixels:
    """uint8 [height, width, 3], seeded; nothing in it is symmetric."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramp(height: int = 48, width: int = 64) -> Pixels:
    """uint8 [height, width, 3], smooth, so that a lossy format keeps it within a few levels."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)]
    return np.stack(planes, axis=2).astype(np.uint8)


def saved(pixels: npt.NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    """What Pillow writes for these pixels."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def grey_as_rgb(grey: npt.NDArray[Any]) -> Pixels:
    """[H, W] → uint8 [H, W, 3]."""
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for the kinds Pillow can't write. rows: unfiltered, each led by a zero byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(width: int, height: int, bits: int, raw: bytes, *, photometric: int = 1, kind: int = 1) -> bytes:
    """An uncompressed little-endian grey TIFF. photometric 1: black is zero. kind 1: unsigned, 2: signed, 3: float."""
    tags = (
        *((256, width), (257, height), (258, bits), (259, 1), (262, photometric)),
        *((273, 8), (277, 1), (278, height), (279, len(raw)), (339, kind)),
    )
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw + struct.pack("<H", len(tags)) + body + b"\0\0\0\0"


def good_files() -> list[GoodFile]:
    """One of each supported kind of pixel and of container."""
    return [*_colour_files(), *_transparent_files(), *_sixteen_bit_files(), *_containers()]


def _colour_files() -> list[GoodFile]:
    colour, smooth = noise(), ramp()
    grey = colour[:, :, 0]
    black_white = grey > 127
    indexed = Image.fromarray(grey % 4)
    indexed.putpalette([0, 0, 0, 250, 10, 20, 30, 240, 50, 60, 70, 230])
    palette = np.array([[0, 0, 0], [250, 10, 20], [30, 240, 50], [60, 70, 230]], np.uint8)
    ink = Image.fromarray(255 - smooth).convert("CMYK")  # CMY without black: ink = 255 − light
    return [
        GoodFile("grey.png", saved(grey, "PNG"), grey_as_rgb(grey)),
        GoodFile("rgb.png", saved(colour, "PNG"), colour),
        GoodFile("one-bit.png", saved(Image.fromarray(black_white), "PNG"), grey_as_rgb(black_white * 255)),
        GoodFile("palette.png", saved(indexed, "PNG"), palette[grey % 4]),
        GoodFile("grey.jpg", saved(smooth[:, :, 0], "JPEG", quality=98), grey_as_rgb(smooth[:, :, 0]), within=3),
        GoodFile("rgb.jpg", saved(smooth, "JPEG", quality=98, subsampling=0), smooth, within=5),
        GoodFile(
            "progressive.jpg", saved(smooth, "JPEG", quality=98, subsampling=0, progressive=True), smooth, within=5
        ),
        GoodFile("cmyk.jpg", saved(ink, "JPEG", quality=98), 255 - smooth, (WITHOUT_PROFILE,), within=5),
    ]


def _transparent_files() -> list[GoodFile]:
    colour = noise(seed=1)
    alpha = noise(seed=2)[:, :, 0]
    over_black = np.rint(colour * (alpha[:, :, None] / 255)).astype(np.uint8)
    grey, opaque = colour[:, :, 0], np.full_like(alpha, 255)
    indexed = Image.fromarray(grey % 2)
    indexed.putpalette([200, 100, 50, 10, 20, 30])
    see_through = np.where((grey % 2)[:, :, None] == 0, 0, np.array([10, 20, 30])).astype(np.uint8)
    note = (OVER_BLACK,)

    def channels(*planes: Pixels) -> Image.Image:
        return Image.merge({2: "LA", 4: "RGBA"}[len(planes)], [Image.fromarray(plane) for plane in planes])

    planes = [colour[:, :, index] for index in range(3)]
    return [
        GoodFile("rgba.png", saved(channels(*planes, alpha), "PNG"), over_black, note, within=1),
        GoodFile("opaque.png", saved(channels(*planes, opaque), "PNG"), colour),
        GoodFile("la.png", saved(channels(grey, alpha), "PNG"), grey_as_rgb(over_black[:, :, 0]), note, within=1),
        GoodFile("palette-hole.png", saved(indexed, "PNG", transparency=0), see_through, note),
    ]


def _sixteen_bit_files() -> list[GoodFile]:
    deep = np.random.default_rng(3).integers(0, 65536, (48, 64), dtype=np.uint16)
    deep[0, :6] = (0, 128, 129, 32768, 65406, 65535)  # both sides of a rounding step, and the ends
    exact = grey_as_rgb(np.rint(deep / 257))
    wide = np.random.default_rng(4).integers(0, 65536, (48, 64, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    ten_bit = deep >> 6
    return [
        GoodFile("deep.png", saved(deep, "PNG"), exact, (SCALED,)),
        GoodFile("deep.tif", saved(deep, "TIFF"), exact, (SCALED,)),
        GoodFile("deep-by-hand.tif", tiff(64, 48, 16, deep.astype("<u2").tobytes()), exact, (SCALED,)),
        GoodFile("deep.pgm", b"P5 64 48 65535\n" + deep.astype(">u2").tobytes(), exact, (SCALED,)),
        GoodFile(
            "ten-bit.pgm",
            b"P5 64 48 1023\n" + ten_bit.astype(">u2").tobytes(),
            grey_as_rgb(np.rint(ten_bit / 1023 * 255)),
            (SCALED,),
            within=1,
        ),
        GoodFile("deep-colour.png", png(64, 48, 16, 2, rows), (wide >> 8).astype(np.uint8), (HIGH_BITS,)),
    ]


def _containers() -> list[GoodFile]:
    colour = noise(seed=5)
    thin = noise(8, 4000, seed=6)
    lossless = {"lossless": True, "exact": True}
    return [
        GoodFile("rgb.ppm", saved(colour, "PPM"), colour),
        GoodFile("rgb.bmp", saved(colour, "BMP"), colour),
        GoodFile("rgb.webp", saved(colour, "WEBP", **lossless), colour),
        GoodFile("rgb.tif", saved(colour, "TIFF"), colour),
        GoodFile("lzw.tif", saved(colour, "TIFF", compression="tiff_lzw"), colour),
        GoodFile("deflate.tif", saved(colour, "TIFF", compression="tiff_deflate"), colour),
        GoodFile("thin.png", saved(thin, "PNG"), thin),
    ]


def upright(stored: Pixels, orientation: int) -> Pixels:
    """What EXIF orientation 1–8 says a viewer must show for these stored pixels."""
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }
    return np.ascontiguousarray(turned[orientation])


def oriented(stored: Pixels, orientation: int, kind: str) -> bytes:
    """A file of `kind` whose EXIF block holds this orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}
    return saved(stored, kind, exif=exif, **options.get(kind, {}))


def cut_files() -> dict[str, bytes]:
    """Each container cut at six depths."""
    colour = noise(seed=7)
    whole = {
        "png": saved(colour, "PNG"),
        "jpg": saved(colour, "JPEG"),
        "progressive.jpg": saved(colour, "JPEG", progressive=True),
        "tif": saved(colour, "TIFF"),
        "lzw.tif": saved(colour, "TIFF", compression="tiff_lzw"),
        "webp": saved(colour, "WEBP"),
        "bmp": saved(colour, "BMP"),
        "ppm": saved(colour, "PPM"),
    }
    return {f"cut-{depth}.{name}": data[: int(len(data) * depth)] for name, data in whole.items() for depth in DEPTHS}


def unusable_files() -> dict[str, tuple[bytes, str]]:
    """Whole files that must be refused, each with a word its refusal must hold."""
    colour = noise(seed=8)
    frames = [Image.fromarray(colour), Image.fromarray(255 - colour)]
    many: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    empty_rows = b"\0" * 100
    twelve_bit = bytes(48 * 64 * 3 // 2)
    return {
        "empty.png": (b"", "empty"),
        "text.png": (b"this is no image\n" * 20, "not one of"),
        "gif.png": (saved(colour, "GIF"), "not one of"),
        "magic-only.png": (b"\x89PNG\r\n\x1a\n", "not one of"),
        "bomb.png": (png(100_000, 100_000, 8, 0, empty_rows), "limit"),
        "just-over.png": (png(20_000, 4_000, 8, 0, empty_rows), "limit"),
        "huge.pgm": (b"P5 999999999 999999999 255\n", "limit"),
        "zero.png": (png(0, 0, 8, 0, b""), ""),
        "zero.pgm": (b"P5 0 0 255\n", ""),
        "line.png": (saved(noise(1, 5000), "PNG"), "smaller than 8"),
        "column.png": (saved(noise(5000, 1), "PNG"), "smaller than 8"),
        "seven.png": (saved(noise(7, 64), "PNG"), "smaller than 8"),
        "frames.tif": (saved(frames[0], "TIFF", **many), "more than one frame"),
        "frames.webp": (saved(frames[0], "WEBP", **many), "more than one frame"),
        "frames.png": (saved(frames[0], "PNG", **many), "more than one frame"),
        "float.tif": (saved(np.full((48, 64), 0.5, np.float32), "TIFF"), "float"),
        "negative.tif": (tiff(64, 48, 16, np.full((48, 64), -5, "<i2").tobytes(), kind=2), "no stated range"),
        "twelve-bit.tif": (tiff(64, 48, 12, twelve_bit), "12-bit"),
        "white-is-zero.tif": (tiff(64, 48, 16, bytes(64 * 48 * 2), photometric=0), "white as zero"),
        "fax.tif": (saved(Image.fromarray(colour[:, :, 0] > 99), "TIFF", compression="group4"), "fax"),
        "dicom.png": (bytes(128) + b"DICM" + bytes(500), "DICOM"),
        "nifti.png": (bytes(344) + b"n+1\0" + bytes(500), "NIfTI"),
        "nifti.nii.gz": (b"\x1f\x8b\x08" + bytes(50), "gzip"),
    }


def odd_but_whole_files() -> dict[str, bytes]:
    """Files that may be read or refused, but must not crash or hang: damage that a format can't always notice."""
    rng = np.random.default_rng(9)
    made = {}
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"):
        whole = saved(noise(seed=10), kind)
        for turn in range(10):
            flipped = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                flipped[place] ^= 1 << int(rng.integers(0, 8))
            made[f"flipped-{turn}.{kind.lower()}"] = bytes(flipped)
    return made
