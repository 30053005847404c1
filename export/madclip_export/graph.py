"""The fused graph as a PyTorch module: uint8 pixels in, score and map out, nothing else inside.

Kept: the image tower up to its last tap, both adapter branches, the two directions the text comes down to. Gone: the
text tower, the pooled head, the second softmax channel (a sigmoid of the difference is the same number), and the det
heads where the score is the map's maximum. Several anatomies share one tower. This module is only ever traced; the one
that trains is madclip.model.Model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip.adapters import Adapter
from madclip.model import Model
from madclip.scores import directions, gaussian_kernel
from madclip_export.tower import prepare_tower

__all__ = ["FusedDetector", "HeadSource"]

_LEAST_NORM = 1e-12  # F.normalize's own


@dataclass(frozen=True)
class HeadSource:
    """What one head of the graph is made from. image_score, map_share: as the checkpoint's card has them."""

    model: Model
    image_score: str
    map_share: float = 1.0


class FusedDetector(nn.Module):
    """image: uint8 [N, S, S, 3] RGB → score float32 [N], map float32 [N, S, S] of each head in turn, all 0–1."""

    def __init__(self, heads: Sequence[HeadSource], *, half: bool) -> None:
        """heads: on one encoder. half: matrix products in float16; norms, softmax and sigmoid stay float32."""
        super().__init__()
        encoder = heads[0].model.encoder
        spec = encoder.spec
        self.taps = spec.taps
        self.half_precision = half
        self.scale: Tensor
        self.shift: Tensor
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.tower = prepare_tower(copy.deepcopy(encoder.visual), half=half)
        self.heads = nn.ModuleList(FusedHead(head, spec.image_size, half=half) for head in heads)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class. TensorRT takes a uint8 input only into a Cast, so the cast comes before the transpose."""
        x = image.float().permute(0, 3, 1, 2) * self.scale + self.shift
        taps = self.tower.forward_intermediates(  # type: ignore[operator]
            x.half() if self.half_precision else x,
            indices=[tap - 1 for tap in self.taps],
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )["image_intermediates"]
        return tuple(output for head in self.heads for output in head(taps))


class FusedHead(nn.Module):
    """One anatomy: taps, float [N, L, d] each → score float32 [N], map float32 [N, S, S]."""

    def __init__(self, source: HeadSource, size: int, *, half: bool) -> None:
        super().__init__()
        model = source.model
        self.size, self.rule, self.map_share = size, source.image_score, source.map_share
        needs_det = self.rule != "map_max"
        vectors = directions(model.t_normal, model.t_abnormal, subtraction=model.subtraction)
        branches = zip(model.adapters.normal, model.adapters.abnormal, strict=True)
        self.levels = nn.ModuleList(
            FusedLevel(normal, abnormal, vectors, needs_det=needs_det, half=half)  # type: ignore[arg-type]
            for normal, abnormal in branches
        )
        self.smoothing: Tensor | None
        self.register_buffer("smoothing", _smoothing_matrix(size, model.smoothing_px))

    def forward(self, taps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See the class."""
        pairs = [level(tokens) for level, tokens in zip(self.levels, taps, strict=True)]
        heat = self._map([seg for seg, _ in pairs])
        return self._score([det for _, det in pairs], heat), heat

    def _map(self, logits: list[Tensor]) -> Tensor:
        stacked = torch.stack(logits, dim=1)
        grid = round(stacked.shape[2] ** 0.5)
        coarse = stacked.unflatten(2, (grid, grid))
        fine = F.interpolate(coarse, size=(self.size, self.size), mode="bilinear", align_corners=True)
        heat = fine.sigmoid().mean(dim=1)
        return heat if self.smoothing is None else self.smoothing @ heat @ self.smoothing.T

    def _score(self, logits: list[Tensor], heat: Tensor) -> Tensor:
        if self.rule == "map_max":
            return heat.amax(dim=(1, 2))
        det = torch.stack(logits, dim=1).sigmoid().mean(dim=(1, 2))
        return det if self.rule == "det" else (1 - self.map_share) * det + self.map_share * heat.amax(dim=(1, 2))


def _smoothing_matrix(size: int, sigma: float) -> Tensor | None:
    """float [S, S]: `madclip.scores.smooth` along one axis as a product, faster in a runtime than a long filter."""
    if sigma == 0:
        return None
    kernel = gaussian_kernel(sigma)
    radius = len(kernel) // 2
    reflected = F.pad(torch.eye(size, dtype=torch.float64)[:, None], (radius, radius), mode="reflect")
    return F.conv1d(reflected, kernel.view(1, 1, -1))[:, 0].T.float().contiguous()


class FusedLevel(nn.Module):
    """Both branches of one tap: tokens [N, L, d] → abnormal logits float32 [N, L]: seg, and det if asked."""

    def __init__(
        self, normal: Adapter, abnormal: Adapter, vectors: tuple[Tensor, Tensor], *, needs_det: bool, half: bool
    ) -> None:
        """vectors: what the text comes down to, float [e] each (madclip.scores.directions)."""
        super().__init__()
        self.shared: Tensor
        self.slope, self.eps, self.half_precision = normal.negative_slope, normal.eps, half
        dtype = torch.float16 if half else torch.float32
        # One product for both branches' shared layers; a direction stays a (e, 1) matrix, which every runtime likes.
        self.register_buffer("shared", torch.cat([normal.shared.weight, abnormal.shared.weight]).T.to(dtype))
        self.register_buffer("seg_normal", normal.seg.weight.T.to(dtype))
        self.register_buffer("seg_abnormal", abnormal.seg.weight.T.to(dtype))
        self.register_buffer("to_normal", vectors[0][:, None])
        self.register_buffer("to_abnormal", vectors[1][:, None])
        self.needs_det = needs_det
        if needs_det:
            self.register_buffer("det_normal", normal.det.weight.T.to(dtype))
            self.register_buffer("det_abnormal", abnormal.det.weight.T.to(dtype))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        both = F.leaky_relu(tokens @ self.shared, self.slope)
        normal, abnormal = (self._normalise(half) for half in both.chunk(2, dim=-1))
        seg = self._logit(normal, abnormal, "seg")
        return seg, self._logit(normal, abnormal, "det") if self.needs_det else None

    def _logit(self, normal: Tensor, abnormal: Tensor, head: str) -> Tensor:
        parts = [
            self._similarity(x, self.get_buffer(f"{head}_{branch}"), self.get_buffer(f"to_{branch}"))
            for branch, x in (("normal", normal), ("abnormal", abnormal))
        ]
        return parts[1] - parts[0]

    def _normalise(self, x: Tensor) -> Tensor:
        normal = F.layer_norm(x.float(), x.shape[-1:], eps=self.eps)
        return normal.half() if self.half_precision else normal

    def _similarity(self, x: Tensor, head: Tensor, direction: Tensor) -> Tensor:
        """(o / ‖o‖)·d, with the norm and the product in float32."""
        o = F.leaky_relu(x @ head, self.slope).float()
        norm = o.square().sum(-1).sqrt().clamp_min(_LEAST_NORM)
        return (o @ direction)[..., 0] / norm
