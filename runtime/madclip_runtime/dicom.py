"""One DICOM file: checked by its header, then its values. A narrow profile; the rest is refused by name.

Read: single frames, MONOCHROME1 and MONOCHROME2 with 8 to 16 bits, RGB with 8; Implicit and Explicit VR Little Endian,
JPEG Baseline, JPEG 2000, RLE. What this module does not know: series (dicom_series), and labels. Preparing data and
running a bundle share it.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused, MadclipError
from madclip_runtime.imaging import MAX_BYTES, MAX_PIXELS, MIN_SIDE
from madclip_runtime.window import Bools

__all__ = ["Header", "Values", "is_dicom", "read_header", "read_values"]

_SYNTAXES = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE",
}
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
_SOP_CLASS, _TRANSFER_SYNTAX = 0x0002, 0x0010  # elements of group 0002
_LONG_LENGTHS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})
_LONGEST_META = 64 * 2**10
_T = TypeVar("_T")
_ITEM = b"\xfe\xff\x00\xe0"
_MOST_ITEMS = 20_000
"""pydicom makes an object of each, whatever we ask for: a file of 8 MB full of them took 35 s and 650 MB."""
_CHUNK = 2**20
_CONVERT = "convert it to Explicit VR Little Endian first"


@dataclass(frozen=True)
class Header:
    """What is needed to group and sort. name: for errors. content: the file itself where it came as bytes.

    patient, study, series, instance: as in the file, may be empty; never written.
    place: mm along the slice normal; axis: that normal, rounded; None where the file has no position.
    hounsfield: whether the values are HU by what the header says. spacing_mm: between rows and between columns, None
    where the file has no PixelSpacing (that of a detector, ImagerPixelSpacing, says nothing of the patient).
    """

    path: Path
    name: str
    patient: str
    study: str
    series: str
    instance: str
    place: float | None
    axis: tuple[float, ...] | None
    colour: bool
    hounsfield: bool
    spacing_mm: tuple[float, float] | None = None
    content: bytes | None = None


@dataclass(frozen=True)
class Values:
    """One frame. values: float32 [H, W] after rescaling (HU for CT), or uint8 [H, W, 3] RGB. padded: bool [H, W].

    inverted: MONOCHROME1, low values are bright. window: the file's own (low, high), None where it has none.
    """

    values: npt.NDArray[Any]
    padded: Bools
    inverted: bool
    window: tuple[float, float] | None


def is_dicom(source: Path | bytes) -> bool:
    """Whether it has the DICOM preamble and is no DICOMDIR. Raises: InputRefused where it can't be read."""
    try:
        with _opened(source) as file:
            return file.read(132)[128:] == b"DICM" and _file_meta(file).get(_SOP_CLASS) != _DIRECTORY
    except OSError as error:
        raise InputRefused(str(source), f"can't be read: {error.strerror or error}") from None


def read_header(source: Path | bytes, name: str) -> Header:
    """Check a file, or the bytes of one, against the profile without reading its pixels. Raises: InputRefused."""
    _check_syntax(source, name)
    return _guarded(name, lambda: _header(source, name))


def read_values(header: Header) -> Values:
    """Decode a file whose header has been read. Raises: InputRefused."""
    return _guarded(header.name, lambda: _values(header))


def _opened(source: Path | bytes) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _header(source: Path | bytes, name: str) -> Header:
    with _opened(source) as file:
        data = _pydicom(name).dcmread(file, stop_before_pixels=True)
    _check_profile(data, name)
    place, axis = _place(data)
    return Header(
        path=source if isinstance(source, Path) else Path(name),
        name=name,
        patient="\0".join(_text(data, key) for key in ("IssuerOfPatientID", "PatientID")).strip("\0"),
        study=_text(data, "StudyInstanceUID"),
        series=_text(data, "SeriesInstanceUID"),
        instance=_text(data, "SOPInstanceUID"),
        place=place,
        axis=axis,
        colour=data.PhotometricInterpretation == "RGB",
        hounsfield=_text(data, "Modality") == "CT" and "RescaleIntercept" in data and "RescaleSlope" in data,
        spacing_mm=_spacing(data),
        content=source if isinstance(source, bytes) else None,
    )


def _values(header: Header) -> Values:
    with _opened(header.path if header.content is None else header.content) as file:
        data = _pydicom(header.name).dcmread(file)
    stored = data.pixel_array
    if header.colour:
        return Values(np.asarray(stored, dtype=np.uint8), np.zeros(stored.shape[:2], dtype=np.bool_), False, None)
    padded = _padded(stored, data)
    if str(data.file_meta.TransferSyntaxUID) in _NATIVE:
        stored = _without_high_bits(stored, int(data.BitsAllocated), int(data.BitsStored))
        padded |= _padded(stored, data)
    slope, intercept = float(data.get("RescaleSlope") or 1), float(data.get("RescaleIntercept") or 0)
    values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return Values(values, padded, data.PhotometricInterpretation == "MONOCHROME1", _own_window(data))


def _check_syntax(source: Path | bytes, name: str) -> None:
    """From the file meta group alone: reading a deflated file inflates it, whatever its size."""
    try:
        if (source.stat().st_size if isinstance(source, Path) else len(source)) > MAX_BYTES:
            raise InputRefused(name, f"larger than {MAX_BYTES // 2**20} MiB")
        with _opened(source) as file:
            file.read(132)
            syntax = _file_meta(file).get(_TRANSFER_SYNTAX, "")
            file.seek(0)
            items = _count(file, _ITEM)
    except OSError as error:
        raise InputRefused(name, f"can't be read: {error.strerror or error}") from None
    if syntax == _DEFLATED:
        raise InputRefused(name, "deflated transfer syntax, which can inflate without limit", _CONVERT)
    if items > _MOST_ITEMS:
        raise InputRefused(name, f"holds more than {_MOST_ITEMS:,} sequence items, which no single image needs")
    if syntax not in _SYNTAXES:
        known = _pydicom(name).uid.UID(syntax).name if syntax else "none"
        raise InputRefused(name, f"transfer syntax {known} is not read", _CONVERT)


def _count(file: BinaryIO, mark: bytes) -> int:
    """How often `mark` stands in the file; by chance too, which in pixels is rare."""
    found, kept = 0, b""
    while chunk := file.read(_CHUNK):
        found += (kept + chunk).count(mark)
        kept = chunk[1 - len(mark) :]
    return found


def _file_meta(file: BinaryIO) -> dict[int, str]:
    """The texts of group 0002, by element number, from behind the preamble on; always Explicit VR Little Endian.

    Our own few lines, because a library's reader would go on into the data set, and inflate it where it is deflated.
    """
    block = file.read(_LONGEST_META)
    found: dict[int, str] = {}
    at = 0
    while block[at : at + 2] == b"\x02\0" and at + 12 <= len(block):
        element, kind = int.from_bytes(block[at + 2 : at + 4], "little"), block[at + 4 : at + 6]
        long = kind in _LONG_LENGTHS
        start = at + (12 if long else 8)
        length = int.from_bytes(block[start - 4 : start] if long else block[at + 6 : at + 8], "little")
        found[element] = block[start : start + length].rstrip(b"\0 ").decode("ascii", "replace")
        at = start + length
    return found


def _check_profile(data: Any, name: str) -> None:
    for why, wrong in _profile(data):
        if wrong:
            raise InputRefused(name, why)


def _profile(data: Any) -> Iterator[tuple[str, bool]]:
    """Each sentence, and whether it is true of this file, in an order in which later ones may build on earlier ones."""
    yield (
        "has no pixels (no Rows, Columns or PhotometricInterpretation)",
        any(key not in data for key in ("Rows", "Columns", "PhotometricInterpretation", "BitsStored", "BitsAllocated")),
    )
    yield "holds more than one frame, which is not read: write single frames first", _int(data, "NumberOfFrames", 1) > 1
    kind, samples = str(data.PhotometricInterpretation), _int(data, "SamplesPerPixel", 1)
    colour = kind == "RGB" and samples == 3
    yield f"photometric interpretation {kind} is not read", not colour and kind not in ("MONOCHROME1", "MONOCHROME2")
    yield f"{kind} with {samples} samples a pixel is not read", not colour and samples != 1
    allocated, stored = int(data.BitsAllocated), int(data.BitsStored)
    yield f"{allocated} bits allocated are not read", allocated not in ((8,) if colour else (8, 16))
    yield f"{stored} bits stored are not read", not (stored == 8 if colour else 8 <= stored <= allocated)
    yield "its bits are not stored from the lowest on", _int(data, "HighBit", stored - 1) != stored - 1
    rows, columns = int(data.Rows), int(data.Columns)
    yield f"{columns}×{rows} is over the limit of {MAX_PIXELS:,} pixels", rows * columns > MAX_PIXELS
    yield f"{columns}×{rows} is smaller than {MIN_SIDE} pixels a side", min(rows, columns) < MIN_SIDE
    yield "a modality lookup table is not read", "ModalityLUTSequence" in data
    slope = float(data.get("RescaleSlope", 1) or 0)
    yield f"rescale slope {slope} is not a positive number", not (math.isfinite(slope) and slope > 0)


def _place(data: Any) -> tuple[float | None, tuple[float, ...] | None]:
    """mm along the normal of the slice (row direction × column direction), which InstanceNumber does not tell."""
    position, directions = data.get("ImagePositionPatient"), data.get("ImageOrientationPatient")
    if not position or not directions or len(position) != 3 or len(directions) != 6:
        return None, None
    lines = np.array([float(value) for value in directions])
    normal = np.cross(lines[:3], lines[3:])
    place = float(normal @ np.array([float(value) for value in position]))
    if not math.isfinite(place):
        return None, None
    return place, tuple(float(value) + 0.0 for value in np.round(normal, 2))


def _spacing(data: Any) -> tuple[float, float] | None:
    value = data.get("PixelSpacing")
    if not value or len(value) != 2:
        return None
    rows, columns = float(value[0]), float(value[1])
    return (rows, columns) if all(math.isfinite(side) and side > 0 for side in (rows, columns)) else None


def _padded(stored: npt.NDArray[Any], data: Any) -> Bools:
    """Where PixelPaddingValue (or its range) says that nothing was measured. Compared as stored, before rescaling."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    ends = sorted((int(value), _int(data, "PixelPaddingRangeLimit", int(value))))
    wide = stored.astype(np.int64)
    return np.asarray((wide >= ends[0]) & (wide <= ends[1]))


def _without_high_bits(stored: npt.NDArray[Any], allocated: int, used: int) -> npt.NDArray[Any]:
    """Old files keep overlays in the bits above BitsStored; the sign, where there is one, is the highest used bit."""
    unused = allocated - used
    return np.asarray((stored << unused) >> unused) if unused else stored


def _own_window(data: Any) -> tuple[float, float] | None:
    """The first window of the file as (low, high), by PS3.3 C.11.2.1.2; None where it has none that is linear."""
    centre, width = (_first(data.get(key)) for key in ("WindowCenter", "WindowWidth"))
    kind = _text(data, "VOILUTFunction") or "LINEAR"
    if centre is None or width is None or kind not in ("LINEAR", "LINEAR_EXACT"):
        return None
    exact = kind == "LINEAR_EXACT"
    middle, half = (centre, width / 2) if exact else (centre - 0.5, (width - 1) / 2)
    return (middle - half, middle + half) if half > 0 else None


def _first(value: Any) -> float | None:
    many = [] if value in (None, "") else value if hasattr(value, "__len__") and not isinstance(value, str) else [value]
    return float(many[0]) if len(many) else None


def _int(data: Any, key: str, default: int) -> int:
    value = data.get(key)
    return default if value in (None, "") else int(value)


def _text(data: Any, key: str) -> str:
    return str(data.get(key, "") or "").strip()


def _guarded(name: str, work: Callable[[], _T]) -> _T:
    """Whatever a reader raises on hostile bytes becomes one named refusal; its warnings of odd headers are dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except MadclipError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputRefused(name, f"damaged, or not DICOM as it should be ({text})") from None


def _pydicom(name: str) -> Any:
    try:
        import pydicom
    except ImportError:
        raise InputRefused(
            name, "a DICOM file, and pydicom is not installed", 'pip install "madclip-runtime[dicom]"'
        ) from None
    return pydicom
