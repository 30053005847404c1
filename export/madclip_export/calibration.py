"""Images that set int8's static ranges: given by the user, never test images."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import SUFFIXES, read_image
from madclip_runtime.preprocess import to_model_input

__all__ = ["LEAST", "MOST", "calibration_images"]

LEAST = 32
MOST = 512
"""More than this adds hours and no accuracy; they are then taken evenly from the sorted list."""


def calibration_images(folder: Path, size: int) -> list[npt.NDArray[np.uint8]]:
    """uint8 [S, S, 3] RGB each. folder: of images, or an `_AD` folder, of which valid/ is taken.

    Raises: InputRefused for a test split, too few images, or one that can't be read.
    """
    _refuse_test_split(folder)
    root = folder / "valid" if (folder / "valid").is_dir() else folder
    found = sorted(
        path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and "mask" not in path.parent.name
    )
    if len(found) < LEAST:
        raise InputRefused(str(folder), f"{len(found)} images; ranges need at least {LEAST}", "give more")
    step = max(1, len(found) // MOST)
    return [to_model_input(read_image(path).pixels, size) for path in found[::step][:MOST]]


def _refuse_test_split(folder: Path) -> None:
    parts = folder.resolve().parts
    inside = any(part == "test" and before.endswith("_AD") for before, part in itertools.pairwise(parts))
    if inside:
        why = "a test split: figures would be taken on images that the ranges have seen"
        raise InputRefused(str(folder), why, "calibrate on valid/, or on other images of this kind")
