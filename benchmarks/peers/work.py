"""How many floating-point operations one image takes, by formula: the products only, two for each multiply-add."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shape", "useful_flops"]


@dataclass(frozen=True)
class Shape:
    """Of the tower and adapters. tokens: patches and the class token. depth: blocks up to the last tap."""

    patch: int
    tokens: int
    width: int
    depth: int
    mlp: int
    embed: int
    levels: int
    det_heads: bool


def useful_flops(shape: Shape) -> float:
    """What the fused graph multiplies; a method that does more than that gets no credit for it."""
    patches, t, d = shape.tokens - 1, shape.tokens, shape.width
    stem = 2.0 * patches * 3 * shape.patch**2 * d
    attention = 2.0 * t * d * 4 * d + 2 * 2.0 * t * t * d
    feed_forward = 2 * 2.0 * t * d * shape.mlp
    heads = 2 if shape.det_heads else 1
    level = 2.0 * patches * d * 2 * d + heads * 2 * 2.0 * patches * d * shape.embed
    return stem + shape.depth * (attention + feed_forward) + shape.levels * level
