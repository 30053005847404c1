"""Dice, Focal and SigLIP, each with the constants of the authors' code (docs/method.md)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["dice_loss", "focal_loss", "siglip_loss"]


def dice_loss(probability: Tensor, mask: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 − mean over images of the soft Dice. probability, mask: float [N, H, W] in 0–1."""
    p, m = probability.flatten(1), mask.flatten(1)
    overlap = 2 * (p * m).sum(1) + smooth
    return 1 - (overlap / (p.sum(1) + m.sum(1) + smooth)).mean()


def focal_loss(probability: Tensor, mask: Tensor, *, gamma: float = 2.0, smooth: float = 1e-5) -> Tensor:
    """Two-class focal loss, mean over pixels. probability of the abnormal class, mask: float [N, H, W] in 0–1.

    The target is clamped to [smooth, 1 − smooth] and smooth is added to p_t, as the authors do.
    """
    target = mask.clamp(smooth, 1 - smooth)
    p_t = target * probability + (1 - target) * (1 - probability) + smooth
    return -((1 - p_t) ** gamma * p_t.log()).mean()


def siglip_loss(scores: Tensor, label: Tensor) -> Tensor:
    """−mean over the batch of the sum over both columns of the mean over patches of log σ(y·S).

    scores: float [N, L, 2], columns (normal, abnormal). label: float [N], 1 abnormal, 0 normal. y is +1 on the column
    of the image's class, −1 on the other.
    """
    sign = 2 * label - 1
    y = (scores.new_tensor([-1.0, 1.0]) * sign[:, None])[:, None, :]
    return -F.logsigmoid(y * scores).mean(dim=1).sum(dim=1).mean()
