"""From unit features and text embeddings to maps and image scores. Paper, section 2, Dual Branch Architecture.

Two forms stand here. The two-channel one is the paper's, word by word, and is what export is compared with. The
one-channel one is exactly equal (softmax over two channels is a sigmoid of their difference) and is what trains.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["abnormal_logit", "class_scores", "cosines", "detection_score", "level_map", "reference_scores", "upsample"]


def reference_scores(o_n: Tensor, o_ab: Tensor, t_n: Tensor, t_ab: Tensor) -> Tensor:
    """S = [S_n, S_ab] as the paper writes it: float [..., 2] from features [..., e] and unit embeddings [e]."""
    o_n, o_ab = F.normalize(o_n, dim=-1), F.normalize(o_ab, dim=-1)
    s_n = o_n @ t_n - o_n @ t_ab
    s_ab = o_ab @ t_ab - o_ab @ t_n
    return torch.stack([s_n, s_ab], dim=-1)


def cosines(features: Tensor, w: Tensor) -> Tensor:
    """(o / ‖o‖)·w without ever holding o / ‖o‖: features float [..., e], w [e] → [...]."""
    return (features @ w) / torch.linalg.vector_norm(features, dim=-1).clamp_min(1e-12)


def class_scores(o_n: Tensor, o_ab: Tensor, w: Tensor) -> Tensor:
    """S = [S_n, S_ab] from w = t_n − t_ab: float [..., 2]; equal to reference_scores."""
    return torch.stack([cosines(o_n, w), -cosines(o_ab, w)], dim=-1)


def abnormal_logit(o_n: Tensor, o_ab: Tensor, w: Tensor) -> Tensor:
    """S_ab − S_n: float [...]; its sigmoid is softmax(S)'s abnormal channel."""
    return -(cosines(o_n, w) + cosines(o_ab, w))


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
