"""The two figures the paper reports. scikit-learn computes them; this says on what."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

__all__ = ["auroc_percent"]


def auroc_percent(labels: npt.NDArray[np.generic], scores: npt.NDArray[np.floating]) -> float | None:
    """Area under the ROC curve in percent, over all elements; None where only one class is present.

    labels: 0 or 1, any shape. scores: float, same shape, higher is more abnormal. Images or pixels alike.
    """
    flat = np.asarray(labels).ravel()
    if flat.min() == flat.max():
        return None
    return float(roc_auc_score(flat, np.asarray(scores).ravel())) * 100.0
