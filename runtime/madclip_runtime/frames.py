"""A frame is what one result is about: a picture, or one slice of measured values that still needs a window.

What this module does not know: which files a call means (see inputs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import DecodedImage, read_image
from madclip_runtime.once import once
from madclip_runtime.window import AIR_HU, Numbers, Window, foreground, limits_of, to_grey

if TYPE_CHECKING:
    from madclip_runtime.dicom import Header
    from madclip_runtime.dicom_series import Series
    from madclip_runtime.nifti import VoxelVolume

__all__ = ["Frame", "Measured", "dicom_frame", "nifti_frame", "nifti_slices", "read_frame", "to_picture"]

Shade = Callable[[float, float], npt.NDArray[np.uint8]]
Limits = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """One slice of measured values, before any window.

    shade: (low, high) → uint8 [H, W] grey. percentiles: (low, high) over `span` ("this file", "its volume", …).
    own: the file's own window, None where it has none. hounsfield: whether the values are HU, None where the file
    can't tell. spacing_mm: between rows and between columns.
    """

    shade: Shade
    percentiles: Callable[[], Limits]
    span: str
    own: Limits | None
    hounsfield: bool | None
    spacing_mm: tuple[float, float] | None
    notes: tuple[str, ...] = ()


Frame = DecodedImage | Measured


def read_frame(source: Path | bytes, name: str) -> Frame:
    """A picture or a DICOM file, told by what it holds. Raises: InputRefused, for a volume too: it is many frames."""
    if _holds_dicom(source):
        from madclip_runtime.dicom import read_header
        from madclip_runtime.dicom_series import Series

        header = read_header(source, name)
        return dicom_frame(header, Series.of([header]))
    return read_image(source, name=name)


def dicom_frame(header: Header, series: Series) -> Frame:
    """Decode one file of a series. Raises: InputRefused."""
    from madclip_runtime.dicom import read_values
    from madclip_runtime.dicom_series import shade

    values = read_values(header)
    notes = _place_in_series(header, series)
    if header.colour:
        return DecodedImage(values.values, "RGB", notes, spacing_mm=header.spacing_mm)
    count = len(series.files)
    return Measured(
        shade=lambda low, high: shade(values, low, high),
        percentiles=lambda: series.percentiles,
        span="this file" if count == 1 else f"the {count} files of its series",
        own=values.window,
        hounsfield=header.hounsfield,
        spacing_mm=header.spacing_mm,
        notes=notes,
    )


def nifti_slices(path: Path, axis: int) -> int:
    """How many slices a volume has along an axis; reads all of it, so that one refusal stands for all of them.

    Raises: InputRefused.
    """
    from madclip_runtime.nifti import slice_count

    count = slice_count(path, axis)
    _volume(path)()
    return count


def nifti_frame(path: Path, axis: int, index: int) -> Measured:
    """One slice of a volume, upright; index from left, back or below. The last volume read stays in memory.

    Raises: InputRefused.
    """
    from madclip_runtime.nifti import slice_spacing, upright

    volume, percentiles, least = _volume(path)()
    values = upright(volume.values, axis, index)
    odd = (f"no voxel below {AIR_HU:g}, where air is: is it CT in HU?",) if least > AIR_HU else ()
    return Measured(
        shade=lambda low, high: to_grey(values, low, high),
        percentiles=percentiles,
        span="its volume",
        own=volume.display,
        hounsfield=None,
        spacing_mm=slice_spacing(volume.spacing_mm, axis),
        notes=odd,
    )


def to_picture(frame: Frame, window: Window | None, name: str, given: Window | None = None) -> DecodedImage:
    """What the model is shown: a picture as it is, measured values through a window.

    window: the head's own, from the bundle. given: one the caller named for a head that has none. Without either, the
    file's own window decides. The result's notes say which it was.
    Raises: InputRefused where no window can be had, or HU are wanted and the values are none.
    """
    if isinstance(frame, DecodedImage):
        return frame
    chosen = window or given or Window("file")
    low, high = _limits(frame, chosen, name)
    whose = "the bundle's" if window else "the given" if given else "the file's own"
    told = f"grey by {whose} window{'' if chosen.name == 'file' else f' {chosen.name}'}, {low:g} to {high:g}"
    if chosen.name == "percentile":
        told += f" over {frame.span}"
    if not window and not given:
        told += ", since the bundle names none"
    kept = frame.notes if chosen.in_hounsfield or frame.hounsfield is not None else ()
    pixels = np.repeat(frame.shade(low, high)[:, :, None], 3, axis=2)
    return DecodedImage(pixels, "measured", (told, *kept), spacing_mm=frame.spacing_mm)


def _limits(frame: Measured, window: Window, name: str) -> Limits:
    if window.in_hounsfield and frame.hounsfield is False:
        why = f"its values are not HU (no CT with a rescale slope and intercept), which the window {window.name} needs"
        raise InputRefused(name, why, "use a bundle that learned from such files")
    if window.name == "file":
        if frame.own is None:
            why = "has no linear window of its own, and the bundle names none"
            raise InputRefused(name, why, "say which values become black and white: --window LOW,HIGH or percentile")
        return frame.own
    if window.low is not None and window.high is not None:
        return window.low, window.high
    return frame.percentiles()


def _holds_dicom(source: Path | bytes) -> bool:
    if isinstance(source, Path):
        try:
            if not source.is_file():
                return False  # read_image says what it is
        except OSError:
            return False
    from madclip_runtime.dicom import is_dicom

    return is_dicom(source)


def _place_in_series(header: Header, series: Series) -> tuple[str, ...]:
    if len(series.files) == 1:
        return ()
    order = "by position" if series.placed else "as found: the files have no common positions"
    number = next(k for k, item in enumerate(series.files, 1) if item is header)
    return (f"slice {number} of {len(series.files)} of its series, {order}",)


@lru_cache(maxsize=1)
def _volume(path: Path) -> Callable[[], tuple[VoxelVolume, Callable[[], Limits], float]]:
    """The last volume stays, since its slices are asked for one after the other; so does its refusal."""
    from madclip_runtime.nifti import read_volume

    def read() -> tuple[VoxelVolume, Callable[[], Limits], float]:
        volume = read_volume(path)

        def percentiles() -> Limits:
            values: Numbers = volume.values
            return limits_of(Window("percentile"), values, foreground(values), str(path))

        return volume, once(percentiles), float(volume.values.min())

    return once(read)
