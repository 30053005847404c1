"""NIfTI volumes with label maps → slices. The voxels are read, and the slices turned upright, by the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip.prepare.sample import Bools, Findings, Floats, Pixels
from madclip.prepare.slices import Integers
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import MIN_SIDE
from madclip_runtime.nifti import SUFFIXES, open_volume, read_volume, upright
from madclip_runtime.window import AIR_HU, Window, foreground, limits_of, to_grey

__all__ = ["Scan", "Volume", "find_pairs", "scan", "slice_pixels"]

_LOPSIDED = 1.25


@dataclass(frozen=True)
class Volume:
    """A volume and its label map. name: relative to the images' folder. lesions: label numbers, empty: any above 0."""

    name: str
    image: Path
    labels: Path
    lesions: tuple[int, ...]


@dataclass(frozen=True)
class Scan:
    """What slice choice needs of a volume, [K] along the axis. lesion: int64 pixels. body: share of foreground, 0–1.

    low, high: the window in the volume's unit.
    """

    lesion: Integers
    body: Floats
    low: float
    high: float


def find_pairs(images: Path, labels: Path, lesions: tuple[int, ...], findings: Findings) -> list[Volume]:
    """Volumes and label maps of the same relative name (.nii and .nii.gz alike); what has no partner is a fault."""
    found, maps = _volumes(images), _volumes(labels)
    for name, path in found.items():
        if name not in maps:
            findings.fault(str(path), f"no label map of that name in {labels}", "add one, all 0 for a healthy volume")
    for name, path in maps.items():
        if name not in found:
            findings.fault(str(path), f"no volume of that name in {images}", "add it or take the label map away")
    both = [name for name in found if name in maps]
    return [Volume(found[n].relative_to(images).as_posix(), found[n], maps[n], lesions) for n in both]


def scan(volume: Volume, axis: int, window: Window, findings: Findings) -> Scan:
    """Read a volume and its labels once, to choose slices. Raises: InputRefused."""
    read = read_volume(volume.image)
    values, spacing = read.values, read.spacing_mm
    lesion = _read_lesion(volume)
    if lesion.shape != values.shape:
        raise InputRefused(str(volume.labels), f"has {lesion.shape} voxels, its volume {values.shape}")
    rest = tuple(other for other in range(3) if other != axis)
    if min(values.shape[other] for other in rest) < MIN_SIDE:
        raise InputRefused(str(volume.image), f"slices along axis {axis} are smaller than {MIN_SIDE} pixels a side")
    ratio = max(spacing[rest[0]], spacing[rest[1]]) / min(spacing[rest[0]], spacing[rest[1]])
    if ratio > _LOPSIDED:
        findings.notes.append(f"{volume.name}: pixels are {ratio:.1f} times longer than wide; they are not resampled")
    if window.in_hounsfield and float(values.min()) > AIR_HU:
        findings.notes.append(f"{volume.name}: no voxel below {AIR_HU:g}, where air is; is it CT in HU?")
    body = foreground(values)
    low, high = limits_of(window, values, body, str(volume.image))
    return Scan(lesion.sum(axis=rest, dtype=np.int64), body.mean(axis=rest), low, high)


def slice_pixels(volume: Volume, axis: int, index: int, low: float, high: float) -> Pixels:
    """One slice in canonical axes: axis 0 sagittal, 1 coronal, 2 axial; upright, see `madclip_runtime.nifti`."""
    values, lesion = _loaded(volume)
    return Pixels(to_grey(upright(values, axis, index), low, high), upright(lesion, axis, index))


def _volumes(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputRefused(str(folder), "no such folder", "give a folder of .nii or .nii.gz files")
    files = sorted(p for p in folder.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file())
    if not files:
        raise InputRefused(str(folder), "no .nii or .nii.gz files there")
    return {_stem(path.relative_to(folder).as_posix()): path for path in files}


def _stem(name: str) -> str:
    lower = name.lower()
    return name[: -len(next(suffix for suffix in SUFFIXES if lower.endswith(suffix)))]


@lru_cache(maxsize=1)
def _loaded(volume: Volume) -> tuple[npt.NDArray[Any], Bools]:
    """The last volume stays in memory, since its slices are asked for one after the other."""
    return read_volume(volume.image).values, _read_lesion(volume)


def _read_lesion(volume: Volume) -> Bools:
    """Where the label map is a lesion label; labels stored as floats must lie within 0.01 of a whole number."""
    _refuse_elsewhere(volume)
    values = read_volume(volume.labels).values
    whole = np.rint(values)
    if bool((np.abs(values - whole) > 0.01).any()) or float(whole.min()) < 0:
        raise InputRefused(str(volume.labels), "is no label map: it holds values that are not whole numbers from 0")
    return np.isin(whole, volume.lesions) if volume.lesions else whole > 0


def _refuse_elsewhere(volume: Volume) -> None:
    """Volume and label map must lie on one grid, to half a voxel at every corner: masks are laid over by number."""
    one, other = open_volume(volume.image), open_volume(volume.labels)
    apart = np.abs(one.affine - other.affine)[:3]
    furthest_mm = float((apart @ np.array([*one.shape[:3], 1.0])).max())
    if furthest_mm > 0.5 * float(np.linalg.norm(one.affine[:3, :3], axis=0).min()):
        why = f"lies up to {furthest_mm:.1f} mm away from its volume (their affines differ)"
        raise InputRefused(str(volume.labels), why, "resample it to the volume's grid")
