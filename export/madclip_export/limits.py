"""Every limit of every gate, in one place; each manifest repeats the ones it was held to.

Starting values came from public practice; the spread that was measured with good graphs is in docs/graph.md.
"""

from __future__ import annotations

import math

__all__ = ["LEAST_FOR_RANK", "NUMERIC", "ROUNDING", "STAGES", "VERIFIED", "keeps"]

NUMERIC: dict[str, dict[str, float]] = {
    "fp32": {"score": 1e-4, "map_max": 1e-3, "map_mean": 1e-5, "batch": 1e-4},
    "fp16": {"score": 1e-2, "map_max": 5e-2, "map_mean": 2e-3, "batch": 1e-2},
    "int8": {"score": 3e-1, "map_max": 5e-1, "map_mean": 3e-2, "batch": 1e-6},
}
"""Largest absolute difference from the checkpoint: of any image's score, of any pixel, of any image's mean over pixels;
and between an image alone and in a batch."""

STAGES: dict[str, float] = {"fp32": 1e-4, "fp16": 3e-2, "int8": 6e-1}
"""Largest root mean square of any stage's difference, as a share of the stage's own."""

ROUNDING: dict[str, float] = {"fp32": 1e-6, "fp16": 1e-3, "int8": 3e-2}
"""What a stage of a good graph may add by rounding alone, in the same unit: a jump past it is suspect."""

VERIFIED: dict[str, dict[str, float]] = {
    "fp32": {"spearman": 0.9999, "auroc_share": 0.9999, "pixel_auroc_share": 0.9999, "dice_drop": 0.001},
    "fp16": {"spearman": 0.999, "auroc_share": 0.999, "pixel_auroc_share": 0.999, "dice_drop": 0.005},
    "int8": {"spearman": 0.99, "auroc_share": 0.995, "pixel_auroc_share": 0.995, "dice_drop": 0.01},
}
"""On given images: least rank correlation, least share of the checkpoint's own AUROC, largest loss of Dice."""

LEAST_FOR_RANK = 20
"""Images, below which a rank correlation is not judged."""


def keeps(name: str, value: float, limit: float) -> bool:
    """Whether a measured value keeps its limit: at least it for shares and correlations, at most it for the rest."""
    if not math.isfinite(value):
        return False
    return value >= limit if name.endswith(("share", "spearman")) else value <= limit
