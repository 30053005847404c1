"""Every few-shot image, expanded once into sixteen (paper section 3, after MVFA).

itself · rotations ±π/8, ±π/16 · shifts (±0.1, ±0.1) · zooms 1.1, 1.15, 1.2, 1.3 · colour jitter · both flips.
Masks follow the geometry; what comes from outside is reflected. Shifts are in units of half the image's side, as
`grid_sample` counts. One jitter draw an image, fixed by its own pixels (the authors draw once for the whole set), so
that an image has the same variants in every run and their features can be kept.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["AUGMENTATION", "VARIANTS", "augment"]

VARIANTS = 16
AUGMENTATION = "madclip-augment/1"
"""Changes whenever a variant's pixels would: kept features are named by it."""
_JITTER = 0.2


def augment(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sixteen variants of one image.

    image: float [3, S, S] RGB 0–1. mask: float [S, S], 0 or 1.
    Returns images float [16, 3, S, S] 0–1 and masks float [16, S, S], 0 or 1; the first is the image itself.
    """
    both = torch.cat([image, mask[None]])
    warped = _warp(both, torch.stack(_affines()))
    flips = torch.stack([both.flip(-1), both.flip(-2)])
    jittered = torch.cat([_jitter(image), mask[None]])[None]
    stack = torch.cat([both[None], warped, jittered, flips])
    return stack[:, :3].clamp(0, 1), (stack[:, 3] > 0.5).float()


def _affines() -> list[Tensor]:
    """The twelve geometric warps as 2×3 matrices from output to input coordinates."""
    matrices = [
        torch.tensor([[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]])
        for a in (-math.pi / 8, -math.pi / 16, math.pi / 16, math.pi / 8)
    ]
    matrices += [
        torch.tensor([[1.0, 0.0, x], [0.0, 1.0, y]]) for x, y in ((0.1, 0.1), (-0.1, 0.1), (-0.1, -0.1), (0.1, -0.1))
    ]
    matrices += [torch.tensor([[1 / z, 0.0, 0.0], [0.0, 1 / z, 0.0]]) for z in (1.1, 1.15, 1.2, 1.3)]
    return matrices


def _warp(image: Tensor, matrices: Tensor) -> Tensor:
    batch = image[None].expand(len(matrices), -1, -1, -1)
    grid = F.affine_grid(matrices, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _jitter(image: Tensor) -> Tensor:
    """Brightness, then contrast around the mean grey, each by a factor from 0.8–1.2 drawn by the pixels' own hash."""
    seed = int.from_bytes(hashlib.sha256(image.contiguous().numpy().tobytes()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    brightness, contrast = (1 + _JITTER * (2 * torch.rand(2, generator=generator) - 1)).tolist()
    bright = (image * brightness).clamp(0, 1)
    grey = bright.mean()
    return ((bright - grey) * contrast + grey).clamp(0, 1)
