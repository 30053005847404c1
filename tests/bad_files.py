"""Files made to hurt, from a seed: so that the tests need no collection of other people's crash files.

`write_bad_files(folder)` writes them all: bombs, truncations at six depths, wrong magic, zero sizes, extreme aspects,
flipped bits, 50 kB of EXIF, for pictures, DICOM and NIfTI. None is anybody's image.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from image_files import DEPTHS, cut_files, noise, odd_but_whole_files, png, saved, unusable_files
from PIL import Image

__all__ = ["bad_files", "dicom_bytes", "nifti_bytes", "write_bad_files"]


def bad_files() -> dict[str, bytes]:
    """Name → bytes. Most must be refused; all must end in a result or one named refusal, quickly, in little memory."""
    made = {name: data for name, (data, _) in unusable_files().items()}
    made |= cut_files() | odd_but_whole_files() | _bombs() | _wrong_magic() | _long_metadata()
    return made | _bad_dicom() | _bad_nifti()


def write_bad_files(folder: Path) -> list[Path]:
    """All of them into `folder`, which is made. Returns their paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in bad_files().items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


def dicom_bytes(side: int = 16, *, seed: int = 0, **fields: object) -> bytes:
    """A small CT slice; keyword arguments overwrite elements."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"1.2.3.{seed}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CTImageStorage, f"1.2.3.{seed}", "CT"
    data.Rows = data.Columns = side
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    for key, value in fields.items():
        setattr(data, key, value)
    stored = np.random.default_rng(seed).integers(1000, 1200, (side, side)).astype(np.uint16)
    data.PixelData = stored.tobytes()
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def nifti_bytes(
    shape: tuple[int, ...] = (12, 14, 16), *, seed: int = 0, promised: tuple[int, ...] | None = None
) -> bytes:
    """An uncompressed int16 volume, written by hand. promised: what the header says the shape is."""
    told = promised or shape
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(told), *told, *(1,) * (7 - len(told)))
    struct.pack_into("<hh", header, 70, 4, 16)  # int16
    struct.pack_into("<8f", header, 76, 1, 1, 1.5, 2, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<h", header, 254, 1)  # sform
    for row, line in enumerate(((1, 0, 0, 0), (0, 1.5, 0, 0), (0, 0, 2, 0))):
        struct.pack_into("<4f", header, 280 + 16 * row, *line)
    header[344:348] = b"n+1\0"
    values = np.random.default_rng(seed).integers(-1000, 1000, shape[::-1]).astype("<i2")
    return bytes(header) + values.tobytes()


def _bombs() -> dict[str, bytes]:
    """Small files that promise, or hold, far more than they weigh."""
    rows = b"\0" * (1 + 30_000)
    deep = png(30_000, 2_000, 8, 0, rows * 2_000)  # 60 megapixels, within the limit: read, and not more than that
    wide = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(wide)) + b"IHDR" + wide + struct.pack(">I", zlib.crc32(b"IHDR" + wide))
    text = zlib.compress(b"x" * 50_000_000)
    body = b"zTXt" + b"Comment\0\0" + text
    ztxt = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    bmp = b"BM" + struct.pack("<IHHIIiiHH", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24) + bytes(24)
    small = png(16, 16, 8, 0, (b"\0" * 17) * 16)
    return {
        "bomb-60-megapixels.png": deep,
        "bomb-largest-header.png": b"\x89PNG\r\n\x1a\n" + chunk,
        "bomb-text-chunk.png": small[:33] + ztxt + small[33:],
        "bomb.bmp": bmp,
        "bomb.pgm": b"P5 60000 60000 65535\n" + b"\0" * 100,
        "bomb-gzip.nii.gz": gzip.compress(b"\0" * 20_000_000),
    }


def _wrong_magic() -> dict[str, bytes]:
    """Bodies of one format under the signature, or the name, of another."""
    whole = {"png": saved(noise(), "PNG"), "jpg": saved(noise(), "JPEG"), "webp": saved(noise(), "WEBP")}
    magic = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff\xe0", "webp": b"RIFF\xff\xff\0\0WEBP"}
    return {
        f"magic-{one}-body-{other}.{one}": magic[one] + body[len(magic[other]) :]
        for one in magic
        for other, body in whole.items()
        if one != other
    }


def _long_metadata() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x010E] = "x" * 50_000
    torn = bytearray(saved(noise(), "JPEG", exif=exif))
    torn[40:60] = b"\xff" * 20
    return {"exif-50kB.jpg": saved(noise(), "JPEG", exif=exif), "exif-50kB-torn.jpg": bytes(torn)}


def _bad_dicom() -> dict[str, bytes]:
    whole = dicom_bytes()
    made = {f"cut-{depth}.dcm": whole[: int(len(whole) * depth)] for depth in DEPTHS}
    made["rows.dcm"] = dicom_bytes(Rows=60_000, Columns=60_000)
    made["zero.dcm"] = dicom_bytes(Rows=0)
    made["frames.dcm"] = dicom_bytes(NumberOfFrames=1_000_000)
    made["palette.dcm"] = dicom_bytes(PhotometricInterpretation="PALETTE COLOR")
    made["no-window.dcm"] = whole
    meta_end = 132 + 12 + int.from_bytes(whole[140:144], "little")
    deflated = whole[:meta_end].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20])
    made["odd-syntax.dcm"] = deflated + whole[meta_end:]
    rng = np.random.default_rng(11)
    for turn in range(10):
        flipped = bytearray(whole)
        for place in rng.integers(128, len(whole), 4):
            flipped[place] ^= 1 << int(rng.integers(0, 8))
        made[f"flipped-{turn}.dcm"] = bytes(flipped)
    return made


def _bad_nifti() -> dict[str, bytes]:
    whole = nifti_bytes()
    packed = gzip.compress(whole, mtime=0)
    made = {f"cut-{depth}.nii": whole[: int(len(whole) * depth)] for depth in DEPTHS}
    made |= {f"cut-{depth}.nii.gz": packed[: int(len(packed) * depth)] for depth in DEPTHS}
    made["promise.nii"] = nifti_bytes(promised=(30_000, 30_000, 30_000))
    made["promise.nii.gz"] = gzip.compress(nifti_bytes(promised=(1000, 1000, 1000)), mtime=0)
    made["zero.nii"] = nifti_bytes(promised=(0, 14, 16))
    made["four-axes.nii"] = nifti_bytes(promised=(12, 14, 4, 4))
    made["thin.nii"] = nifti_bytes((3, 3, 300))
    rng = np.random.default_rng(12)
    for turn in range(10):
        flipped = bytearray(whole)
        for place in rng.integers(0, 352, 3):
            flipped[place] ^= 1 << int(rng.integers(0, 8))
        made[f"flipped-{turn}.nii"] = bytes(flipped)
    return made
