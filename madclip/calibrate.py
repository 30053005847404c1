"""Operating points from validation images that were not shots. Nothing here ever sees a test image.

- youden: the threshold with the highest sensitivity + specificity on those images (Youden's J). The default: unlike F1
  it does not depend on how many of the images are abnormal, and does not flag everything when the classes overlap.
- f1: the threshold with the highest F1 on those images.
- sens95, spec95: the threshold at which sensitivity (specificity) is at least 95 % with 95 % confidence: the lower end
  of its two-sided Clopper–Pearson interval reaches 0.95. That takes 72 images of the class without a single error, so
  a small set is refused, with the sentence why: 16 of 16 correct still means only ≥ 79 %.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from madclip_runtime.manifest import Calibration, OperatingPoint, Proportion

__all__ = ["GUARANTEE", "MIN_PER_CLASS", "calibrate"]

MIN_PER_CLASS = 4
"""Fewest held-out images of each class from which a threshold is taken at all."""
GUARANTEE = 0.95


def calibrate(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], patients: str = "") -> Calibration:
    """labels: int [N], 1 abnormal. scores: float [N] in 0–1. Both from validation images that were not shots.

    patients: what is known of whom they show, a clause for the reason.
    """
    normal, abnormal = int((labels == 0).sum()), int((labels == 1).sum())
    if min(normal, abnormal) < MIN_PER_CLASS:
        return Calibration(
            reason=f"{normal} normal and {abnormal} abnormal validation images were left after the shots; "
            f"a threshold needs at least {MIN_PER_CLASS} of each"
        )
    ladder = _ladder(labels, scores)
    points = {"youden": max(ladder, key=_youden), "f1": max(ladder, key=_f1)}
    refused: dict[str, str] = {}
    for name, rungs in (("sens95", ladder), ("spec95", ladder[::-1])):
        found = next((rung for rung in rungs if _counted(rung, name).low >= GUARANTEE), None)
        if found is None:
            refused[name] = _why_not(name, normal if name == "spec95" else abnormal)
        else:
            points[name] = found
    reason = f"{normal} normal and {abnormal} abnormal validation images that were not shots{patients}"
    return Calibration(reason=reason, points=points, default="youden", refused=refused)


def _ladder(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> list[OperatingPoint]:
    """Every threshold that tells images apart, highest first, each half-way between two scores, not on an image."""
    levels = np.unique(scores)[::-1]
    below = np.append(levels[1:], levels[-1])
    return [_point(labels, scores, float(threshold)) for threshold in (levels + below) / 2]


def _point(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], threshold: float) -> OperatingPoint:
    flagged = scores >= threshold
    hits, rejections = int((flagged & (labels == 1)).sum()), int((~flagged & (labels == 0)).sum())
    return OperatingPoint(
        threshold=threshold,
        sensitivity=_proportion(hits, int((labels == 1).sum())),
        specificity=_proportion(rejections, int((labels == 0).sum())),
    )


def _youden(point: OperatingPoint) -> float:
    return point.sensitivity.value + point.specificity.value


def _f1(point: OperatingPoint) -> float:
    hits, abnormal = point.sensitivity.k, point.sensitivity.n
    false_alarms = point.specificity.n - point.specificity.k
    return 2 * hits / (hits + false_alarms + abnormal)


def _counted(point: OperatingPoint, name: str) -> Proportion:
    return point.sensitivity if name == "sens95" else point.specificity


def _why_not(name: str, count: int) -> str:
    kind, what = ("abnormal", "sensitivity") if name == "sens95" else ("normal", "specificity")
    best = _proportion(count, count).low
    if best >= GUARANTEE:
        return f"no threshold keeps {what} at ≥ 95 % with 95 % confidence on {count} {kind} validation images"
    return f"{count} of {count} {kind} validation images correct would still mean only {what} ≥ {100 * best:.0f} %"


@lru_cache(maxsize=4096)
def _proportion(k: int, n: int) -> Proportion:
    interval = binomtest(k, n).proportion_ci(confidence_level=0.95, method="exact")
    return Proportion(k=k, n=n, value=k / n, low=float(interval.low), high=float(interval.high))
