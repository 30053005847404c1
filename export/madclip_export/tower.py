"""An image tower made ready for tracing: plain attention with known types, float32 islands where half would lose.

Works on any tower built of nn.MultiheadAttention and nn.LayerNorm (open_clip's own). Towers with attention of another
kind are traced as they are in float32, and refused in float16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip_runtime.errors import UsageError

__all__ = ["prepare_tower"]


def prepare_tower(tower: nn.Module, *, half: bool) -> nn.Module:
    """Replace attention (and, for half, layer norms) in place; returns the tower. Raises: UsageError."""
    if half:
        if not any(isinstance(module, nn.MultiheadAttention) for module in tower.modules()):
            raise UsageError("--fp16", "this encoder's attention is not nn.MultiheadAttention", "export --fp32")
        tower.half()
    for parent in list(tower.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, _SelfAttention(child, half=half))
            elif half and isinstance(child, nn.LayerNorm):
                setattr(parent, name, _Float32LayerNorm(child))
    return tower.eval()


class _Float32LayerNorm(nn.Module):
    """float16 in, float16 out, float32 between: one LayerNormalization node with a cast on each side."""

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.shape, self.eps = source.normalized_shape, source.eps
        self.weight = nn.Parameter(source.weight.float(), requires_grad=False)
        self.bias = nn.Parameter(source.bias.float(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.shape, self.weight, self.bias, self.eps).to(x.dtype)


class _SelfAttention(nn.Module):
    """nn.MultiheadAttention on one input, written out: the scale lies in the query weights, softmax is float32."""

    def __init__(self, source: nn.MultiheadAttention, *, half: bool) -> None:
        super().__init__()
        self.heads, self.width, self.half_precision = source.num_heads, source.embed_dim, half
        self.weight: Tensor
        self.bias: Tensor
        weight = source.in_proj_weight.detach().float().clone()
        bias = source.in_proj_bias.detach().float().clone()
        scale = (self.width // self.heads) ** -0.5
        weight[: self.width] *= scale
        bias[: self.width] *= scale
        dtype = torch.float16 if half else torch.float32
        self.register_buffer("weight", weight.T.contiguous().to(dtype))
        self.register_buffer("bias", bias.to(dtype))
        self.out = source.out_proj

    def forward(self, query: Tensor, key: Any, value: Any, **_: Any) -> tuple[Tensor, None]:
        """query: [N, T, d]; key and value are the same tensor in a self-attention block."""
        q, k, v = (self._heads(part) for part in (query @ self.weight + self.bias).chunk(3, dim=-1))
        scores = q @ k.transpose(-1, -2)
        attention = scores.float().softmax(dim=-1)
        mixed = (attention.half() if self.half_precision else attention) @ v
        return self.out(mixed.transpose(1, 2).flatten(2)), None

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.width // self.heads)).transpose(1, 2)
