"""From unit features and text embeddings to maps and image scores. Paper, section 2, Dual Branch Architecture.

Two forms stand here. The two-channel one is the paper's, word by word, and is what export is compared with. The
one-channel one is exactly equal (softmax over two channels is a sigmoid of their difference) and is what trains.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "abnormal_logit",
    "class_scores",
    "cosines",
    "detection_score",
    "directions",
    "gaussian_kernel",
    "level_map",
    "reference_scores",
    "smooth",
    "upsample",
]


def reference_scores(o_n: Tensor, o_ab: Tensor, t_n: Tensor, t_ab: Tensor, *, subtraction: bool = True) -> Tensor:
    """S = [S_n, S_ab] as the paper writes it: float [..., 2] from features [..., e] and unit embeddings [e].

    subtraction: False is the paper's ablation (d), without the opposite class.
    """
    o_n, o_ab = F.normalize(o_n, dim=-1), F.normalize(o_ab, dim=-1)
    s_n, s_ab = o_n @ t_n, o_ab @ t_ab
    if subtraction:
        s_n, s_ab = s_n - o_n @ t_ab, s_ab - o_ab @ t_n
    return torch.stack([s_n, s_ab], dim=-1)


def directions(t_n: Tensor, t_ab: Tensor, *, subtraction: bool = True) -> tuple[Tensor, Tensor]:
    """The two vectors [e] that all of the text comes down to: S_n = Ô_n·d_n and S_ab = Ô_ab·d_ab."""
    return (t_n - t_ab, t_ab - t_n) if subtraction else (t_n, t_ab)


def cosines(features: Tensor, direction: Tensor) -> Tensor:
    """(o / ‖o‖)·d without ever holding o / ‖o‖: features float [..., e], direction [e] → [...].

    Its gradient is written by hand: two passes over the features instead of autograd's eight.
    """
    return _Cosines.apply(features, direction)


def class_scores(o_n: Tensor, o_ab: Tensor, d_n: Tensor, d_ab: Tensor) -> Tensor:
    """S = [S_n, S_ab]: float [..., 2] from features [..., e] and directions [e]; equal to reference_scores."""
    return torch.stack([cosines(o_n, d_n), cosines(o_ab, d_ab)], dim=-1)


def abnormal_logit(scores: Tensor) -> Tensor:
    """S [..., 2] → S_ab − S_n [...]; its sigmoid is softmax(S)'s abnormal channel."""
    return scores[..., 1] - scores[..., 0]


def upsample(tokens: Tensor, size: int) -> Tensor:
    """float [N, L] or [N, L, C] on a square grid → [N, C, size, size], bilinear, align_corners=True."""
    if tokens.ndim == 2:
        tokens = tokens[..., None]
    count, length, channels = tokens.shape
    grid = round(length**0.5)
    image = tokens.transpose(1, 2).reshape(count, channels, grid, grid)
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=True)


def level_map(scores: Tensor, size: int) -> Tensor:
    """One level's map, the paper's way: S [N, L, 2] → upsample → softmax → abnormal channel [N, size, size], 0–1."""
    return upsample(scores, size).softmax(dim=1)[:, 1]


def detection_score(scores: Tensor) -> Tensor:
    """One level's image score, the paper's way: S [N, L, 2] → softmax → mean over patches, abnormal: [N], 0–1."""
    return scores.softmax(dim=-1)[..., 1].mean(dim=1)


def gaussian_kernel(sigma: float) -> Tensor:
    """float64 [2·⌈4σ⌉ + 1], summing to 1. sigma: in pixels, above 0."""
    radius = math.ceil(4 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return weights / weights.sum()


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing, what lies outside reflected: float [N, S, S] → the same. sigma: in pixels, 0 for none.

    Not in the paper: what it is worth is in docs/experiments.md. MVFA's code smooths its maps as well.
    """
    if sigma == 0:
        return maps
    kernel = gaussian_kernel(sigma).to(maps)
    radius = len(kernel) // 2
    padded = F.pad(maps[:, None], (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, w: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(features, dim=-1).clamp_min_(1e-12)
        cosine = (features @ w) / norm
        ctx.save_for_backward(features, w, norm, cosine)
        return cosine

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        """d/do = w/‖o‖ − c·o/‖o‖², d/dw = Σ o/‖o‖."""
        features, w, norm, cosine = ctx.saved_tensors
        flat = features.reshape(-1, len(w))
        share = (outer[0] / norm).reshape(-1)
        gradient = flat * (share * (cosine / norm).reshape(-1)).neg_()[:, None]
        gradient.addr_(share, w)
        return gradient.view_as(features), flat.T @ share
