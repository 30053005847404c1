"""Pixel-level figures in bounded memory: maps are counted into histograms as they come, and forgotten.

A score falls into one of 2^20 equal bins over 0–1. Pixels of one bin are taken as tied, so the area under the ROC curve
is off by at most half the chance that a lesion pixel and another share a bin; that bound is computed and reported.

AUPRO (Bergmann et al., MVTec AD) averages the overlap of each connected region. Since every region weighs the same, a
pixel of a region of n pixels adds 1/n to one common histogram: no region needs to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.integrate import trapezoid

__all__ = ["BINS", "COARSE_BINS", "PRO_LIMIT", "PixelFigures", "PixelTally", "binned_auroc", "tie_bound"]

BINS = 2**20
COARSE_BINS = 2**10
"""Bins of the per-group histograms, which resampling needs: 8 KiB a group."""
PRO_LIMIT = 0.3
"""False-positive rate up to which AUPRO integrates; the area is divided by it."""
_TOUCHING = np.ones((3, 3))
"""Pixels that touch at a corner are one region."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PixelFigures:
    """Over all counted test pixels; each 0–1.

    auroc_bound: how far `auroc` can be from the exact value. dice: mean over abnormal images of
    2·overlap/(flagged + lesion), flagged being map >= threshold; dice_pooled: the same over all pixels of all images,
    normals too; both None without a threshold. regions: connected lesions. lost: abnormal images whose lesion vanished
    at the model's size. unmasked: abnormal images without a mask, left out.
    """

    auroc: float
    auroc_bound: float
    aupro: float
    dice: float | None
    dice_pooled: float | None
    regions: int
    lost: int
    unmasked: int


class PixelTally:
    """What is left of all maps seen: 24 MiB of histograms, 8 KiB a group, and a few sums."""

    def __init__(self, groups: int, threshold: float | None) -> None:
        """groups: how many are resampled. threshold: of the map, 0–1, for Dice; None where there is none."""
        self.threshold = threshold
        self.lesion = np.zeros(BINS, dtype=np.int64)
        self.other = np.zeros(BINS, dtype=np.int64)
        self.region = np.zeros(BINS)
        self.by_group = np.zeros((groups, 2, COARSE_BINS), dtype=np.float32)
        self.regions = self.lost = self.unmasked = 0
        self._overlaps: list[tuple[int, int]] = []  # per abnormal image: overlap, flagged + lesion
        self._flagged_elsewhere = 0

    def add(
        self,
        maps: npt.NDArray[np.float32],
        masks: npt.NDArray[np.bool_],
        groups: npt.NDArray[np.int64],
        abnormal: npt.NDArray[np.bool_],
    ) -> None:
        """maps: float32 [N, S, S] 0–1. masks: bool [N, S, S]. groups: int64 [N]. abnormal: bool [N]."""
        bins = np.clip((maps * BINS).astype(np.int64), 0, BINS - 1)
        self.lesion += np.bincount(bins[masks], minlength=BINS)
        self.other += np.bincount(bins[~masks], minlength=BINS)
        self._add_regions(bins, masks)
        for of_image, mask, group in zip(bins, masks, groups, strict=True):
            kinds = (~mask).ravel() * COARSE_BINS + (of_image // (BINS // COARSE_BINS)).ravel()
            self.by_group[group] += np.bincount(kinds, minlength=2 * COARSE_BINS).reshape(2, -1)
        self._add_overlaps(maps, masks, abnormal)

    def leave_out(self, images: int) -> None:
        """Count abnormal images that have no mask: which of their pixels are lesion is not known."""
        self.unmasked += images

    def figures(self) -> PixelFigures | None:
        """None where no lesion pixel, or no other pixel, was seen."""
        if not self.lesion.any() or not self.other.any():
            return None
        return PixelFigures(
            auroc=float(binned_auroc(self.lesion, self.other)),
            auroc_bound=tie_bound(self.lesion, self.other),
            aupro=_aupro(self.region, self.other),
            dice=self._dice(),
            dice_pooled=self._dice_pooled(),
            regions=self.regions,
            lost=self.lost,
            unmasked=self.unmasked,
        )

    def _add_regions(self, bins: npt.NDArray[np.int64], masks: npt.NDArray[np.bool_]) -> None:
        where, shares = [], []
        for of_image, mask in zip(bins, masks, strict=True):
            labelled, found = ndimage.label(mask, structure=_TOUCHING)
            self.regions += found
            where.append(of_image[mask])
            shares.append(1.0 / np.bincount(labelled.ravel())[labelled[mask]])
        self.region += np.bincount(np.concatenate(where), weights=np.concatenate(shares), minlength=BINS)

    def _add_overlaps(
        self, maps: npt.NDArray[np.float32], masks: npt.NDArray[np.bool_], abnormal: npt.NDArray[np.bool_]
    ) -> None:
        areas = masks.sum((1, 2))
        self.lost += int((abnormal & (areas == 0)).sum())
        if self.threshold is None:
            return
        flagged = maps >= self.threshold
        overlap, both = (flagged & masks).sum((1, 2)), flagged.sum((1, 2)) + areas
        with_lesion = areas > 0
        self._overlaps += [(int(o), int(b)) for o, b in zip(overlap[with_lesion], both[with_lesion], strict=True)]
        self._flagged_elsewhere += int(both[~with_lesion].sum())

    def _dice(self) -> float | None:
        return float(np.mean([2 * o / b for o, b in self._overlaps])) if self._overlaps else None

    def _dice_pooled(self) -> float | None:
        if not self._overlaps:
            return None
        overlap, both = np.sum(self._overlaps, axis=0)
        return float(2 * overlap / (both + self._flagged_elsewhere))


def binned_auroc(lesion: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> Floats:
    """Area under the ROC curve, 0–1, [...]. lesion, other: counts a bin of rising score, [..., B]; a bin is one tie."""
    ours, theirs = np.asarray(lesion, dtype=np.float64), np.asarray(other, dtype=np.float64)
    below = np.cumsum(theirs, axis=-1) - theirs / 2
    area: Floats = (ours * below).sum(-1) / (ours.sum(-1) * theirs.sum(-1))
    return area


def tie_bound(lesion: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """How far `binned_auroc` of two histograms [B] can be from the AUROC of the unbinned scores, 0–1.

    A pair in one bin is counted ½ and is worth between 0 and 1; a pair in two bins is counted right.
    """
    ours, theirs = np.asarray(lesion, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return float((ours * theirs).sum() / (2 * ours.sum() * theirs.sum()))


def _aupro(region: Floats, other: npt.NDArray[np.int64]) -> float:
    """Mean overlap of regions over the false-positive rate, area up to PRO_LIMIT, divided by it: 0–1."""
    seen = np.flatnonzero((region > 0) | (other > 0))[::-1]
    overlap = np.append(0.0, np.cumsum(region[seen]) / region.sum())
    false = np.append(0.0, np.cumsum(other[seen]) / other.sum())
    last = int(np.searchsorted(false, PRO_LIMIT, side="right"))
    if last == len(false):  # rounding alone can keep the last rate from being 1
        return float(trapezoid(overlap, false) / PRO_LIMIT)
    part = (PRO_LIMIT - false[last - 1]) / (false[last] - false[last - 1])
    end = overlap[last - 1] + part * (overlap[last] - overlap[last - 1])
    return float(trapezoid(np.append(overlap[:last], end), np.append(false[:last], PRO_LIMIT)) / PRO_LIMIT)
