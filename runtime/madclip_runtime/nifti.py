"""NIfTI volumes, and their slices upright as radiologists look at them.

Volumes are turned, never resampled: to the nearest of the patient's axes (right, anterior, superior), by their affine.
Rows and columns keep the file's spacing. What this module does not know: files with more than three axes, label maps.
Preparing data and running a bundle share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import MIN_SIDE

__all__ = ["SUFFIXES", "VoxelVolume", "open_volume", "read_volume", "slice_count", "slice_spacing", "upright"]

SUFFIXES = (".nii.gz", ".nii")
_MOST_VOXELS = 2**30
_DEFLATE_MOST = 1032
"""The most bytes that one byte of a gzip file can hold."""


@dataclass(frozen=True)
class VoxelVolume:
    """values: a number type [X, Y, Z] to the right, anterior, superior, in the file's unit. spacing_mm: of those axes.

    display: the header's own (cal_min, cal_max), None where it has none.
    """

    values: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    display: tuple[float, float] | None


def open_volume(path: Path) -> Any:
    """nibabel's image with its header checked, before voxels are read. Raises: InputRefused."""
    nibabel = _nibabel(path)
    try:
        image = nibabel.load(path)
        shape = tuple(int(size) for size in image.shape)
    except Exception as error:
        raise InputRefused(str(path), f"no NIfTI volume ({str(error)[:160] or type(error).__name__})") from None
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or min(shape) < 1:
        raise InputRefused(str(path), f"has the shape {shape}, not three axes", "save one volume to a file")
    if np.prod(shape, dtype=np.int64) > _MOST_VOXELS:
        raise InputRefused(str(path), f"over the limit of {_MOST_VOXELS:,} voxels", "crop it")
    if image.affine is None or not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise InputRefused(str(path), "its affine is no orientation in space", "repair its header")
    return image


def read_volume(path: Path) -> VoxelVolume:
    """All voxels. Raises: InputRefused."""
    image, nibabel = open_volume(path), _nibabel(path)
    _refuse_promises(path, image)
    try:
        turned = nibabel.as_closest_canonical(image)
        values = np.asanyarray(turned.dataobj)
    except Exception as error:  # a damaged file may raise anything; here it becomes one named refusal
        raise InputRefused(str(path), f"damaged ({str(error)[:160] or type(error).__name__})") from None
    values = values.reshape(values.shape[:3])
    if values.dtype.kind not in "iuf":
        raise InputRefused(str(path), f"holds {values.dtype} values, which are not measured ones")
    if not bool(np.isfinite(values).all()):
        raise InputRefused(str(path), "holds values that are not finite (NaN or infinite)", "replace them")
    values = values.astype(np.float32) if values.dtype == np.float64 else values
    x, y, z = (float(size) for size in turned.header.get_zooms()[:3])
    return VoxelVolume(values, (x, y, z), _display(image.header))


def slice_count(path: Path, axis: int) -> int:
    """How many slices lie along `axis` (0 sagittal, 1 coronal, 2 axial), from the header. Raises: InputRefused."""
    image, nibabel = open_volume(path), _nibabel(path)
    order = nibabel.io_orientation(image.affine)[:, 0]
    shape = [0, 0, 0]
    for stored, patient in enumerate(order):
        shape[int(patient)] = int(image.shape[stored])
    if min(size for other, size in enumerate(shape) if other != axis) < MIN_SIDE:
        raise InputRefused(str(path), f"slices along axis {axis} are smaller than {MIN_SIDE} pixels a side")
    return shape[axis]


def upright(values: npt.NDArray[Any], axis: int, index: int) -> npt.NDArray[Any]:
    """One slice [H, W] of [X, Y, Z] values; index from left, posterior or inferior.

    Rows run down the body or to the back, columns to the patient's left (sagittal: to the back), as on a
    radiologist's screen and in DICOM.
    """
    return np.asarray(np.take(values, index, axis=axis)[::-1, ::-1].T)


def slice_spacing(spacing_mm: tuple[float, float, float], axis: int) -> tuple[float, float]:
    """mm between the rows and between the columns of a slice."""
    columns, rows = (size for other, size in enumerate(spacing_mm) if other != axis)
    return rows, columns


def _refuse_promises(path: Path, image: Any) -> None:
    """A header may promise voxels that the file can't hold; the library would take memory for them first."""
    try:
        held = path.stat().st_size * (_DEFLATE_MOST if path.name.lower().endswith(".gz") else 1)
        promised = int(image.dataobj.offset) + int(np.prod(image.shape)) * int(image.dataobj.dtype.itemsize)
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise InputRefused(str(path), f"no NIfTI volume ({str(error)[:160]})") from None
    if promised > held:
        raise InputRefused(str(path), f"damaged (its header promises {promised:,} bytes, more than it can hold)")


def _display(header: Any) -> tuple[float, float] | None:
    try:
        low, high = float(header["cal_min"]), float(header["cal_max"])
    except (KeyError, ValueError, TypeError):  # a relative of NIfTI without these fields
        return None
    return (low, high) if np.isfinite([low, high]).all() and low < high else None


def _nibabel(path: Path) -> Any:
    try:
        import nibabel
    except ImportError:
        raise InputRefused(
            str(path), "a NIfTI file, and nibabel is not installed", 'pip install "madclip-runtime[nifti]"'
        ) from None
    return nibabel
