"""From measured values (HU, or a scanner's own units) to 8-bit grey, and what of an image is body.

What this module does not know: files. A window says which values become black and white; all between is linear.
Preparing data and running a bundle share it: what the model learns on and what it sees is one piece of code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused, UsageError

__all__ = ["AIR_HU", "NAMED", "Bools", "Window", "foreground", "limits_of", "parse_window", "to_grey"]

Numbers = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

NAMED = {"brain": (40.0, 80.0), "liver": (30.0, 150.0), "lung": (-600.0, 1500.0)}
"""(centre, width) in HU. Radiopaedia, "Windowing (CT)": brain W:80 L:40, liver W:150 L:30, lungs W:1500 L:-600."""
PERCENTILES = (1.0, 99.0)
AIR_HU = -500.0
"""Between air (−1000 HU) and fat (about −100 HU): everything above is body, table or clothing."""
_CONSTANT_SHARE = 0.05
"""A single value with at least this share of a volume is padding or a stripped background, not tissue."""
_CLIP_SHARE = 0.25
"""Of the median of what is above it; AFNI's 3dClipLevel takes 0.5, but that cuts fluid, which is dark and body."""


@dataclass(frozen=True)
class Window:
    """Which values become black and white. low, high: in the unit of the file (HU for CT), None: found per volume."""

    name: str
    low: float | None = None
    high: float | None = None

    @property
    def in_hounsfield(self) -> bool:
        """True where the numbers mean nothing unless the values are HU."""
        return self.name in NAMED


def parse_window(text: str, *, from_file: bool = False) -> Window:
    """A name, "percentile", "LOW,HIGH", or, with from_file, "file". Raises: UsageError."""
    if text in NAMED:
        centre, width = NAMED[text]
        return Window(text, centre - width / 2, centre + width / 2)
    if text == "percentile" or (text == "file" and from_file):
        return Window(text)
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        names = ", ".join([*NAMED, "percentile", *(["file"] if from_file else [])])
        raise UsageError(f"--window {text}", "is no window", f"give one of {names}, or LOW,HIGH with LOW < HIGH")
    return Window(f"{low:g}..{high:g}", low, high)


def to_grey(values: Numbers, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Values of any shape and number type to uint8 0–255: low and below black, high and above white, linear between."""
    share = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    grey: npt.NDArray[np.uint8] = np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
    return grey


def foreground(values: Numbers) -> Bools:
    """Where a whole volume (or image) shows body: bool, of the shape of `values`.

    HU where air is among the values: above −500. A constant background above the minimum (a standardised, stripped
    volume): all that differs from it. Else above a quarter of the foreground's own median, found by iteration.
    """
    least = float(values.min())
    if least < AIR_HU:
        return np.asarray(values > AIR_HU)
    kinds, counts = np.unique(values, return_counts=True)
    common = kinds[int(counts.argmax())]
    if counts.max() >= _CONSTANT_SHARE * values.size and float(common) > least:
        return np.asarray(values != common)
    return np.asarray(values > _clip_level(values, least))


def limits_of(window: Window, values: Numbers, body: Bools, name: str) -> tuple[float, float]:
    """Black and white in the unit of `values`; for "percentile" the 1st and 99th of the foreground. name: for errors.

    Raises: InputRefused where the foreground holds one value only.
    """
    if window.low is not None and window.high is not None:
        return window.low, window.high
    inside = values[body]
    if inside.size:
        low, high = (float(value) for value in np.percentile(inside.astype(np.float32), PERCENTILES))
        if low < high:
            return low, high
    raise InputRefused(name, "its foreground has no contrast, so percentiles give no window", "look at the file")


def _clip_level(values: Numbers, least: float) -> float:
    level = float(values.mean(dtype=np.float64))
    for _ in range(10):
        inside = values[values > level]
        if not inside.size:
            return least
        level = least + _CLIP_SHARE * (float(np.median(inside)) - least)
    return level
