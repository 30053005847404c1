"""Names, units and words of every figure: percent everywhere outside the modules that compute them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIGURES", "Figure", "interval_text"]

FIGURES = {
    "image_auroc": "image AUROC",
    "image_aupr": "image AUPR (average precision)",
    "image_f1_max": "image F1-max (upper bound: its threshold is the best for these test images)",
    "image_sensitivity_at_95_specificity": "sensitivity at 95 % specificity (a point of this ROC curve)",
    "image_specificity_at_95_sensitivity": "specificity at 95 % sensitivity (a point of this ROC curve)",
    "pixel_auroc": "pixel AUROC",
    "pixel_aupro_30": "AUPRO up to 30 % false positives",
    "pixel_dice": "Dice at the stored threshold, mean over abnormal images",
    "pixel_dice_pooled": "Dice at the stored threshold, all pixels pooled",
}
"""In the order in which they are shown."""


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval, if there is one; all in percent."""

    percent: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, interval: tuple[float, float] | None = None) -> Figure:
        """value, interval: in 0–1."""
        low, high = interval if interval is not None else (None, None)
        return cls(100 * value, low if low is None else 100 * low, high if high is None else 100 * high)


def interval_text(figure: Figure) -> str:
    """ "97.61 % (95.2–99.4)", or the value alone."""
    if figure.low is None or figure.high is None:
        return f"{figure.percent:.2f} %"
    return f"{figure.percent:.2f} % ({figure.low:.1f}–{figure.high:.1f})"
