"""An image tower made ready for tracing: one product for q, k and v, known types, float32 islands where half loses.

open_clip's own vision transformer is written out here, so that nothing is computed that no tap needs and every stage
has a name. Any other tower is traced as it is, in float32 only. Which islands float16 needs was measured:
docs/graph.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip_runtime.errors import UsageError

__all__ = ["Mark", "OtherTower", "PlainTower", "make_tower", "unmarked"]

Mark = Callable[[str, Tensor], Tensor]
"""Called with a stage's name and value; returns the value."""


def unmarked(_: str, value: Tensor) -> Tensor:
    """Marks nothing."""
    return value


def make_tower(visual: nn.Module, taps: Sequence[int], *, half: bool) -> PlainTower | OtherTower:
    """visual: open_clip's image tower, left as it is. taps: 1-based. Raises: UsageError for half of another kind."""
    if _is_plain(visual):
        return PlainTower(visual, taps, half=half)
    if half:
        raise UsageError("--fp16", "this encoder is not open_clip's own vision transformer", "export --fp32")
    return OtherTower(visual, taps)


class OtherTower(nn.Module):
    """Any tower with open_clip's forward_intermediates."""

    heads = 0
    """Of attention: not known of another tower."""

    def __init__(self, visual: nn.Module, taps: Sequence[int]) -> None:
        super().__init__()
        self.visual, self.taps = copy.deepcopy(visual).eval(), tuple(taps)

    def forward(self, pixels: Tensor, mark: Mark = unmarked) -> list[Tensor]:
        """pixels: float [N, 3, S, S] → one float [N, L, d] a tap."""
        output = self.visual.forward_intermediates(  # type: ignore[operator]
            pixels,
            indices=[tap - 1 for tap in self.taps],
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        found = output["image_intermediates"]
        return [mark(f"block.{tap:02}", value) for tap, value in zip(self.taps, found, strict=True)]


class PlainTower(nn.Module):
    """Patch embedding, position, blocks up to the last tap. The last block computes no class token."""

    def __init__(self, visual: Any, taps: Sequence[int], *, half: bool) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.heads = int(visual.transformer.resblocks[0].attn.num_heads)
        kind = torch.float16 if half else torch.float32
        self.patches = nn.Conv2d(3, visual.conv1.out_channels, visual.patch_size, visual.patch_size)
        position = visual.positional_embedding.detach()
        # The position of a patch is a constant like the convolution's bias, of which there is none: one Add for both.
        self.patches.bias = None
        self.patches.weight = nn.Parameter(visual.conv1.weight.detach().to(kind))
        self.first: Tensor
        self.position: Tensor
        self.register_buffer("first", (visual.class_embedding.detach() + position[0])[None, None].to(kind))
        self.register_buffer("position", position[1:][None].to(kind))
        self.norm = _Norm(visual.ln_pre) if isinstance(visual.ln_pre, nn.LayerNorm) else nn.Identity()
        blocks = visual.transformer.resblocks[: self.taps[-1]]
        self.blocks = nn.ModuleList(_Block(block, kind) for block in blocks)

    def forward(self, pixels: Tensor, mark: Mark = unmarked) -> list[Tensor]:
        """pixels: float32 [N, 3, S, S] → one float [N, L, d] a tap, class token dropped."""
        grid = self.patches(pixels.to(self.position.dtype)).flatten(2).transpose(1, 2) + self.position
        first = self.first.expand(grid.shape[0], -1, -1)
        x = mark("embedding", self.norm(torch.cat([first, grid], dim=1)))
        found = []
        for number, block in enumerate(self.blocks, start=1):
            last = number == len(self.blocks)
            x = block(x, lambda name, value, n=number: mark(f"block.{n:02}.{name}", value), without_class=last)
            if number in self.taps:
                found.append(x if last else x[:, 1:])
        return found


class _Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x); layer scale is folded into the output products."""

    def __init__(self, source: Any, kind: torch.dtype) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = _Norm(source.ln_1), _Norm(source.ln_2)
        self.attention = _Attention(source.attn, _scale_of(source.ls_1), kind)
        self.widen = _Product(source.mlp.c_fc.weight, source.mlp.c_fc.bias, kind)
        exact = isinstance(source.mlp.gelu, nn.GELU) and source.mlp.gelu.approximate == "none"
        self.activation = _Gelu() if exact else source.mlp.gelu
        scale = _scale_of(source.ls_2)
        self.narrow = _Product(source.mlp.c_proj.weight * scale[:, None], source.mlp.c_proj.bias * scale, kind)

    def forward(self, x: Tensor, mark: Mark, *, without_class: bool) -> Tensor:
        normal = mark("ln_1", self.ln_1(x))
        x = mark("attention", (x[:, 1:] if without_class else x) + self.attention(normal, without_class))
        hidden = self.activation(self.widen(mark("ln_2", self.ln_2(x))))
        return mark("mlp", x + self.narrow(hidden))


class _Gelu(nn.Module):
    """GELU in the order of factors in which ONNX Runtime knows it again: one node there in place of five."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (x * (1 + torch.erf(x / math.sqrt(2))))


class _Product(nn.Module):
    """x @ weight + bias, the weight stored the way it is multiplied."""

    def __init__(self, weight: Tensor, bias: Tensor, kind: torch.dtype) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", weight.detach().float().T.contiguous().to(kind))
        self.register_buffer("bias", bias.detach().float().to(kind))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _Norm(nn.Module):
    """Layer norm in float32 whatever comes in: one LayerNormalization node, with a cast on each side for half."""

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.shape, self.eps = source.normalized_shape, source.eps
        self.weight = nn.Parameter(source.weight.detach().float().clone(), requires_grad=False)
        self.bias = nn.Parameter(source.bias.detach().float().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.shape, self.weight, self.bias, self.eps).to(x.dtype)


class _Attention(nn.Module):
    """nn.MultiheadAttention on one input: q, k, v in one product, scaled in its weights, softmax in float32."""

    def __init__(self, source: nn.MultiheadAttention, scale: Tensor, kind: torch.dtype) -> None:
        super().__init__()
        self.heads, self.width = source.num_heads, source.embed_dim
        weight = source.in_proj_weight.detach().float().clone()
        bias = source.in_proj_bias.detach().float().clone()
        weight[: self.width] *= (self.width // self.heads) ** -0.5
        bias[: self.width] *= (self.width // self.heads) ** -0.5
        self.inputs = _Product(weight, bias, kind)
        self.output = _Product(source.out_proj.weight * scale[:, None], source.out_proj.bias * scale, kind)

    def forward(self, x: Tensor, without_class: bool) -> Tensor:
        q, k, v = (self._heads(part) for part in self.inputs(x).chunk(3, dim=-1))
        if without_class:
            q = q[:, :, 1:]
        weights = (q @ k.transpose(-1, -2)).float().softmax(dim=-1).to(x.dtype)
        return self.output((weights @ v).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.width // self.heads)).transpose(1, 2)


def _scale_of(layer_scale: Any) -> Tensor:
    """Layer scale's factors, or ones where there is none: broadcastable float [d] or [1]."""
    return layer_scale.gamma.detach() if hasattr(layer_scale, "gamma") else torch.ones(1)


def _is_plain(visual: Any) -> bool:
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    needed = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "patch_size")
    if blocks is None or not all(hasattr(visual, name) for name in needed):
        return False
    parts = ("ln_1", "ln_2", "attn", "mlp", "ls_1", "ls_2")
    return all(
        type(block).__name__ == "ResidualAttentionBlock"
        and all(hasattr(block, part) for part in parts)
        and isinstance(block.attn, nn.MultiheadAttention)
        for block in blocks
    )
