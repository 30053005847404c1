"""The trained visual part: two branches (normal, abnormal) × one adapter a tap. Paper, section 2, Vision Adapters.

Pure tensors: these modules know neither images nor files, nor which encoder the features come from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip.config import MethodConfig

__all__ = ["Adapter", "DualBranchAdapters"]


class Adapter(nn.Module):
    """shared Linear → LeakyReLU → per-token normalisation → two heads Linear → LeakyReLU. No biases.

    The normalisation is the authors' code's, not the paper's; see docs/method.md.
    """

    def __init__(self, width: int, embed_dim: int, method: MethodConfig) -> None:
        super().__init__()
        self.shared = nn.Linear(width, width, bias=False)
        self.det = nn.Linear(width, embed_dim, bias=False)
        # Ablation (f): one head for both tasks, under both names.
        self.seg = self.det if method.heads == "common" else nn.Linear(width, embed_dim, bias=False)
        self.negative_slope = method.negative_slope
        self.eps = method.token_norm_eps

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: float [..., d] → float [..., 2, e]: det and seg, not L2-normalised.

        Both heads in one product: two narrow ones take a third longer.
        """
        hidden = F.leaky_relu_(self.shared(tokens), self.negative_slope)
        hidden = F.layer_norm(hidden, hidden.shape[-1:], eps=self.eps)
        heads = F.linear(hidden, torch.cat([self.det.weight, self.seg.weight]))
        return F.leaky_relu_(heads, self.negative_slope).unflatten(-1, (2, -1))


class DualBranchAdapters(nn.Module):
    """Eight adapters for four taps: `normal[i]` and `abnormal[i]`; four under both names in ablation (c)."""

    def __init__(self, width: int, embed_dim: int, levels: int, method: MethodConfig) -> None:
        super().__init__()

        def branch() -> nn.ModuleList:
            return nn.ModuleList(Adapter(width, embed_dim, method) for _ in range(levels))

        self.normal = branch()
        self.abnormal = self.normal if method.branches == "shared" else branch()

    def forward(self, taps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """taps: one float [N, L, d] a level → per level the branches (O_n, O_ab), each [N, L, 2, e]: det and seg."""
        levels = zip(taps, self.normal, self.abnormal, strict=True)
        return [(normal(tokens), abnormal(tokens)) for tokens, normal, abnormal in levels]
