"""Operating points from validation images that were not shots. Nothing here ever sees a test image.

This version offers one point, "f1": the threshold with the highest F1 on those images. Its sensitivity and
specificity come with Clopper–Pearson intervals, because a few dozen images say little: 16 of 16 is ≥ 79 %.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from madclip_runtime.manifest import Calibration, OperatingPoint, Proportion

__all__ = ["MIN_PER_CLASS", "calibrate"]

MIN_PER_CLASS = 4
"""Fewest held-out images of each class from which a threshold is taken at all."""


def calibrate(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> Calibration:
    """labels: int [N], 1 abnormal. scores: float [N] in 0–1. Both from validation images that were not shots."""
    normal, abnormal = int((labels == 0).sum()), int((labels == 1).sum())
    if min(normal, abnormal) < MIN_PER_CLASS:
        return Calibration(
            reason=f"{normal} normal and {abnormal} abnormal validation images were left after the shots; "
            f"a threshold needs at least {MIN_PER_CLASS} of each"
        )
    threshold = _best_f1(labels, scores)
    flagged = scores >= threshold
    point = OperatingPoint(
        threshold=threshold,
        sensitivity=_proportion(int((flagged & (labels == 1)).sum()), abnormal),
        specificity=_proportion(int((~flagged & (labels == 0)).sum()), normal),
    )
    reason = f"highest F1 on {normal} normal and {abnormal} abnormal validation images that were not shots"
    return Calibration(reason=reason, points={"f1": point}, default="f1")


def _best_f1(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> float:
    """Half-way between the last flagged score and the next lower one, so that it doesn't sit on an image."""
    levels = np.unique(scores)[::-1]
    flagged = scores[None, :] >= levels[:, None]
    hits = (flagged & (labels == 1)).sum(1)
    f1 = 2 * hits / (flagged.sum(1) + (labels == 1).sum())
    best = int(np.argmax(f1))
    below = levels[best + 1] if best + 1 < len(levels) else levels[best]
    return float((levels[best] + below) / 2)


def _proportion(k: int, n: int) -> Proportion:
    interval = binomtest(k, n).proportion_ci(confidence_level=0.95, method="exact")
    return Proportion(k=k, n=n, value=k / n, low=float(interval.low), high=float(interval.high))
