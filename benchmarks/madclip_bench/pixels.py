"""Pixel AUROC in bounded memory: maps are counted into histograms as they come, and forgotten.

A value falls into one of 2^16 equal bins over 0–1; pixels of one bin are taken as tied, so the area is off by at most
half the chance that a lesion pixel and another share a bin. That bound is a figure of its own. Its interval comes from
leaving out one image at a time (jackknife), on 256 bins an image, since pixels of one image are not independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from madclip_bench.intervals import Interval

__all__ = ["BINS", "PixelCounts", "PixelFigures", "PixelTally", "Sparse", "binned_auroc"]

BINS = 2**16
COARSE = 2**8
_Z95 = 1.959963984540054

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sparse:
    """A histogram's filled bins. at: ascending bin numbers; count: pixels in each."""

    at: tuple[int, ...]
    count: tuple[int, ...]

    @classmethod
    def of(cls, counts: Counts) -> Sparse:
        """From a full histogram."""
        at = np.flatnonzero(counts)
        return cls(tuple(map(int, at)), tuple(map(int, counts[at])))

    def full(self, bins: int) -> Counts:
        """Back to int64 [bins]. Raises: ValueError where a bin number does not fit."""
        counts = np.zeros(bins, dtype=np.int64)
        if self.at and not 0 <= min(self.at) <= max(self.at) < bins:
            raise ValueError(f"a bin number lies outside 0–{bins - 1}")
        counts[list(self.at)] = self.count
        return counts


@dataclass(frozen=True)
class PixelCounts:
    """All that is kept of the maps. lesion, other: 2^16 bins over all images. by_image: (lesion, other) of each image,
    256 bins. unmasked: abnormal images without a mask, left out.
    """

    lesion: Sparse
    other: Sparse
    by_image: tuple[tuple[Sparse, Sparse], ...]
    unmasked: int


@dataclass(frozen=True)
class PixelFigures:
    """auroc: 0–1, with its interval. bound: how far it can be from the exact value. images: that were counted."""

    auroc: Interval
    bound: float
    images: int
    unmasked: int

    @classmethod
    def of(cls, counts: PixelCounts) -> PixelFigures | None:
        """None where no lesion pixel, or no other pixel, was seen."""
        lesion, other = counts.lesion.full(BINS), counts.other.full(BINS)
        if not lesion.any() or not other.any():
            return None
        area = binned_auroc(lesion, other)
        ties = (lesion.astype(np.float64) * other).sum() / (2.0 * lesion.sum() * other.sum())
        error = _jackknife_error(counts.by_image)
        low, high = (float(np.clip(area + sign * _Z95 * error, 0.0, 1.0)) for sign in (-1, 1))
        interval = Interval(round(area, 6), round(low, 6), round(high, 6))
        return cls(interval, round(float(ties), 9), len(counts.by_image), counts.unmasked)


@dataclass
class PixelTally:
    """1 MiB of histograms, and at most 256 numbers an image and kind."""

    lesion: Counts = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    other: Counts = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    by_image: list[tuple[Sparse, Sparse]] = field(default_factory=list)
    unmasked: int = 0

    def add(self, heat: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> None:
        """heat: float32 [S, S] 0–1. mask: bool [S, S], True where abnormal."""
        bins = np.clip((heat.astype(np.float64) * BINS).astype(np.int64), 0, BINS - 1)
        kinds = (bins[mask], bins[~mask])
        self.lesion += np.bincount(kinds[0], minlength=BINS)
        self.other += np.bincount(kinds[1], minlength=BINS)
        coarse = (np.bincount(kind // (BINS // COARSE), minlength=COARSE) for kind in kinds)
        lesion, other = (Sparse.of(counts.astype(np.int64)) for counts in coarse)
        self.by_image.append((lesion, other))

    def counts(self) -> PixelCounts:
        """What a report keeps."""
        return PixelCounts(Sparse.of(self.lesion), Sparse.of(self.other), tuple(self.by_image), self.unmasked)


def binned_auroc(lesion: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """Area under the ROC curve, 0–1, from counts a bin of rising score, [B] each; a bin is one tie."""
    ours, theirs = np.asarray(lesion, dtype=np.float64), np.asarray(other, dtype=np.float64)
    below = np.cumsum(theirs) - theirs / 2
    return float((ours * below).sum() / (ours.sum() * theirs.sum()))


def _jackknife_error(by_image: tuple[tuple[Sparse, Sparse], ...]) -> float:
    """Standard error of the area when images are drawn anew."""
    lesions, others = (np.array([pair[i].full(COARSE) for pair in by_image], dtype=np.float64) for i in (0, 1))
    lesion, other = lesions.sum(axis=0), others.sum(axis=0)
    without = [
        binned_auroc(lesion - ours, other - theirs)
        for ours, theirs in zip(lesions, others, strict=True)
        if (lesion - ours).any() and (other - theirs).any()
    ]
    if len(without) < 2:
        return 0.5
    spread = np.var(without) * (len(without) - 1)
    return math.sqrt(float(spread))
