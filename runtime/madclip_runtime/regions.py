"""Where a map is at or above the threshold: a mask at the image's own size, and its connected parts.

Only where the score is the map's own maximum does the threshold mean anything to a single pixel; elsewhere there are no
regions, which is another thing than none found.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["MOST_REGIONS", "Region", "find_regions", "region_mask"]

MOST_REGIONS = 64
"""The largest are told; a map in tatters has thousands."""


@dataclass(frozen=True)
class Region:
    """One connected part (8 neighbours) of the mask. area_px: pixels of the image. area_mm2: None without a spacing.

    box: left, top, width, height in pixels of the upright image. mean_score: of the map inside, 0–1.
    """

    area_px: int
    area_mm2: float | None
    box: tuple[int, int, int, int]
    mean_score: float


def region_mask(heat: npt.NDArray[np.float32], peak: tuple[int, int], threshold: float) -> npt.NDArray[np.bool_]:
    """bool [H, W]. heat: float32 [H, W] 0–1, the map at the image's size, at or above the threshold inside.

    peak: where the model's own map is highest, and known to reach the threshold: resizing may have flattened it, and an
    abnormal image must not come without a region.
    """
    mask: npt.NDArray[np.bool_] = heat >= threshold
    mask[peak] = True
    return mask


def find_regions(
    heat: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, float] | None
) -> tuple[Region, ...]:
    """The largest first, at most MOST_REGIONS. spacing_mm: between rows and between columns."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = np.argsort(-areas, kind="stable")[:MOST_REGIONS] + 1
    sums = np.bincount(labels.ravel(), weights=heat.ravel(), minlength=len(stats))
    pixel_mm2 = None if spacing_mm is None else spacing_mm[0] * spacing_mm[1]
    return tuple(_region(stats[k], float(sums[k]), pixel_mm2) for k in largest)


def _region(stats: npt.NDArray[np.int32], total: float, pixel_mm2: float | None) -> Region:
    left, top, width, height, area = (int(value) for value in stats)
    mm2 = None if pixel_mm2 is None else round(area * pixel_mm2, 3)
    return Region(area, mm2, (left, top, width, height), round(total / area, 6))
