"""Dice, Focal and SigLIP, each with the constants of the authors' code (docs/method.md)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dice_loss", "focal_loss", "segmentation_loss", "siglip_loss", "softmax_loss"]


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


def softmax_loss(scores: Tensor, label: Tensor) -> Tensor:
    """What stands in for SigLIP in ablation (e), as the authors' code has it.

    The softmax over the two columns is averaged over patches; binary cross-entropy then takes both columns' averages,
    which are already in 0–1, as if they were logits. scores: float [N, L, 2]; label: float [N], 1 abnormal.
    """
    normal, abnormal = scores.softmax(dim=-1).mean(dim=1).unbind(dim=1)
    entropy = F.binary_cross_entropy_with_logits
    return entropy(1 - normal, label) + entropy(abnormal, label)


def segmentation_loss(logit: Tensor, mask: Tensor) -> Tensor:
    """Dice + Focal of one level's upsampled map, with its gradient worked out by hand.

    logit: float [N, g, g], S_ab − S_n on the patch grid. mask: float [N, S, S], exactly 0 or 1. The same number as
    dice_loss and focal_loss of sigmoid(upsample(logit)); those stay as its definition and its test. By hand because
    autograd keeps a dozen full-size maps a level: see benchmarks/training/step.py.
    """
    return _SegmentationLoss.apply(
        logit, mask, _upsampling_matrix(logit.shape[-1], mask.shape[-1], logit.dtype, logit.device)
    )


class _SegmentationLoss(torch.autograd.Function):
    """Forward computes the gradient with respect to the patch grid as well, and keeps only that."""

    @staticmethod
    def forward(ctx: Any, logit: Tensor, mask: Tensor, up: Tensor) -> Tensor:
        p = (up @ logit @ up.T).sigmoid_()
        dice, grad = _dice_and_gradient(p, mask)
        focal, focal_grad = _focal_and_gradient(p, mask)
        grad += focal_grad
        grad *= p
        grad *= p.neg_().add_(1)  # dσ = σ(1 − σ)
        ctx.save_for_backward(up.T @ grad @ up)
        return dice + focal

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * outer[0], None, None


def _dice_and_gradient(p: Tensor, mask: Tensor, smooth: float = 1.0) -> tuple[Tensor, Tensor]:
    count = len(p)
    overlap = 2 * torch.linalg.vecdot(p.flatten(1), mask.flatten(1))[:, None, None] + smooth
    total = p.sum((1, 2), keepdim=True) + mask.sum((1, 2), keepdim=True) + smooth
    gradient = mask * (-2 / (total * count))
    gradient += overlap / (total**2 * count)
    return 1 - (overlap / total).mean(), gradient


def _focal_and_gradient(p: Tensor, mask: Tensor, smooth: float = 1e-5) -> tuple[Tensor, Tensor]:
    """γ = 2. For a 0/1 mask the clamped target gives p_t = q(1 − 2·smooth) + 2·smooth, q the true class's share."""
    p_t = (p + mask).sub_(1).abs_().mul_(1 - 2 * smooth).add_(2 * smooth)
    log = p_t.log()
    rest = 1 - p_t
    loss = -torch.dot((rest * rest).flatten(), log.flatten()) / p.numel()
    gradient = log.mul_(2).sub_(rest / p_t).mul_(rest)
    gradient *= (1 - 2 * smooth) / p.numel()
    gradient *= mask * 2 - 1
    return loss, gradient


@lru_cache(maxsize=4)
def _upsampling_matrix(grid: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[size, grid]: what bilinear upsampling with align_corners does along one axis."""
    identity = torch.eye(grid, dtype=dtype, device=device)[None]
    return F.interpolate(identity, size=size, mode="linear", align_corners=True)[0].T.contiguous()
