"""Image-level figures: how well one score an image separates normal from abnormal.

Every figure comes from one curve: how many abnormal and normal images are flagged as the threshold falls. Flagged means
score >= threshold, so images of equal score are flagged together; nothing is interpolated between two thresholds but
the area under the ROC curve (a tie counts one half, as everywhere).

What it does not know: which threshold to use. Thresholds found here are found on the images they are judged on, so
none of them leaves this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = ["Curve", "Ranking", "image_figures"]

Floats = npt.NDArray[np.float64]
_ROUNDING = 1e-9
"""Images; 0.05 × 20 is a hair more than 1 in binary."""


@dataclass(frozen=True)
class Curve:
    """Flagged images at each threshold, falling from "nothing is flagged" to "everything is".

    tp, fp: float64 [..., K], abnormal and normal images (or their weights), non-decreasing along the last axis, 0
    first and all images last. Leading axes, if any, are resamples.
    """

    tp: Floats
    fp: Floats

    @property
    def auroc(self) -> Floats:
        """Area under the ROC curve, 0–1, [...]."""
        middle = (self.tp[..., 1:] + self.tp[..., :-1]) / 2
        return (np.diff(self.fp) * middle).sum(-1) / (self.tp[..., -1] * self.fp[..., -1])

    @property
    def aupr(self) -> Floats:
        """Average precision, 0–1, [...]: precision summed over the steps in recall, without interpolation."""
        flagged = self.tp + self.fp
        precision = np.divide(self.tp, flagged, out=np.zeros_like(flagged), where=flagged > 0)
        return (np.diff(self.tp) * precision[..., 1:]).sum(-1) / self.tp[..., -1]

    @property
    def f1_max(self) -> Floats:
        """The highest F1 of any threshold, 0–1, [...]: an upper bound, that threshold being chosen on these images."""
        f1: Floats = 2 * self.tp / (self.tp + self.fp + self.tp[..., -1:])
        return f1.max(-1)

    def sensitivity_at(self, specificity: float) -> Floats:
        """The highest sensitivity of any threshold that passes at least `specificity` (0–1) of the normals, [...]."""
        normals = self.fp[..., -1:]
        kept = np.where(self.fp <= (1 - specificity) * normals + _ROUNDING, self.tp, 0.0)
        return kept.max(-1) / self.tp[..., -1]

    def specificity_at(self, sensitivity: float) -> Floats:
        """The highest specificity of any threshold that flags at least `sensitivity` (0–1) of the abnormals, [...]."""
        abnormals = self.tp[..., -1:]
        kept = np.where(self.tp >= sensitivity * abnormals - _ROUNDING, self.fp, np.inf)
        return 1 - kept.min(-1) / self.fp[..., -1]

    def figures(self) -> dict[str, Floats]:
        """All of them by name, 0–1, [...] each."""
        return {
            "image_auroc": self.auroc,
            "image_aupr": self.aupr,
            "image_f1_max": self.f1_max,
            "image_sensitivity_at_95_specificity": self.sensitivity_at(0.95),
            "image_specificity_at_95_sensitivity": self.specificity_at(0.95),
        }


class Ranking:
    """Images sorted once by score, so that a thousand resamples cost one cumulative sum each."""

    def __init__(self, labels: npt.NDArray[np.int64], scores: Floats) -> None:
        """labels: int64 [N], 1 abnormal, both classes present. scores: float64 [N], higher is more abnormal."""
        self._order = np.argsort(-scores, kind="stable")
        falling = scores[self._order]
        self._last_of_tie = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        self._abnormal = labels[self._order] == 1

    def curve(self, weights: Floats | None = None) -> Curve:
        """weights: float64 [..., N], how often each image counts; once by default."""
        every = np.ones(len(self._order)) if weights is None else weights[..., self._order]
        return Curve(self._cumulated(every * self._abnormal), self._cumulated(every * ~self._abnormal))

    def _cumulated(self, weights: Floats) -> Floats:
        ends = np.cumsum(weights, axis=-1)[..., self._last_of_tie]
        return np.concatenate([np.zeros((*ends.shape[:-1], 1)), ends], axis=-1)


def image_figures(labels: npt.NDArray[np.int64], scores: Floats) -> dict[str, float]:
    """All image figures, 0–1. labels: int64 [N], 1 abnormal, both classes present. scores: float64 [N].

    The two that scikit-learn has are scikit-learn's; tests hold `Curve` to them.
    """
    figures = {name: float(value) for name, value in Ranking(labels, scores).curve().figures().items()}
    figures["image_auroc"] = float(roc_auc_score(labels, scores))
    figures["image_aupr"] = float(average_precision_score(labels, scores))
    return figures
