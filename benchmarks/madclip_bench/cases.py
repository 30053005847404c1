"""The test split of an `_AD` folder (docs/data.md), read the way training reads it, without PyTorch.

`<Name>_AD/test/{good,Ungood}/img/*`, masks in `Ungood/anomaly_mask/` under the same file name. Nothing else of the
folder is looked at: `valid/` belongs to whoever trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import SUFFIXES, read_image

__all__ = ["Case", "TestSet", "open_test_set", "read_mask", "set_digest"]

_LAYOUT = "give a folder in the <Name>_AD layout (docs/data.md)"


@dataclass(frozen=True)
class Case:
    """One labelled image. mask: its mask's file; None for a normal image and for an abnormal one without."""

    image: Path
    abnormal: bool
    mask: Path | None


@dataclass(frozen=True)
class TestSet:
    """name: the folder's, without "_AD". masks: whether any abnormal image has one. synthetic: phantoms."""

    __test__ = False  # pytest must not take it for tests

    name: str
    cases: tuple[Case, ...]
    masks: bool
    synthetic: bool

    @property
    def images(self) -> tuple[Path, ...]:
        """Their files, normal ones first."""
        return tuple(case.image for case in self.cases)


def open_test_set(folder: Path) -> TestSet:
    """List the test split without reading pixels. Raises: InputRefused naming what is missing."""
    if not folder.is_dir():
        raise InputRefused(str(folder), "no such folder", _LAYOUT)
    test = folder / "test"
    good, bad = (_images(test / label / "img") for label in ("good", "Ungood"))
    cases = [Case(path, False, None) for path in good] + [Case(path, True, _mask_of(path)) for path in bad]
    name = folder.resolve().name.removesuffix("_AD")
    return TestSet(name, tuple(cases), any(case.mask for case in cases), _is_phantom(folder))


def read_mask(mask: Path, shape: tuple[int, int], size: int) -> npt.NDArray[np.bool_]:
    """bool [size, size], True where abnormal: two grey levels, zero and lesion; nearest neighbour.

    shape: (height, width) of its image. Raises: InputRefused where it is of another size, empty, or no mask.
    """
    pixels = read_image(mask, name=mask.name).pixels
    if pixels.shape[:2] != shape:
        raise InputRefused(mask.name, f"is {pixels.shape[:2]}, its image {shape}", "both must have one size")
    grey = pixels.max(axis=2)
    levels = np.unique(grey)
    if not levels.any() or len(levels) > 2 or (len(levels) == 2 and levels[0] != 0):
        why = f"has {len(levels)} grey levels, {levels[0]} to {levels[-1]}; a mask has two, zero and lesion"
        raise InputRefused(mask.name, why, "threshold it, and save it without loss (PNG)")
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(np.intp) for side in shape)
    lesion: npt.NDArray[np.bool_] = grey > 0
    return lesion[rows[:, None], columns[None, :]]


def set_digest(hashes: Sequence[str]) -> str:
    """One SHA-256 over the hashes of a set's images, whatever their order."""
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _images(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise InputRefused(str(folder), "no images there", _LAYOUT)
    return found


def _mask_of(image: Path) -> Path | None:
    mask = image.parent.parent / "anomaly_mask" / image.name
    return mask if mask.is_file() else None


def _is_phantom(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "phantoms.json").read_text())["synthetic"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
