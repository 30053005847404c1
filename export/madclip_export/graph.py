"""The fused graph as a PyTorch module: uint8 pixels in, score and map out, nothing else inside.

Kept: the image tower up to its last tap, both adapter branches, the two directions the text comes down to. Gone: the
text tower, the pooled head, the second softmax channel (a sigmoid of the difference is the same number), and the det
heads where the score is the map's maximum. This module is only ever traced; the one that trains is
madclip.model.Model.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip.adapters import Adapter
from madclip.model import Model
from madclip.scores import directions
from madclip_export.tower import prepare_tower

__all__ = ["FusedDetector"]

_LEAST_NORM = 1e-12  # F.normalize's own


class FusedDetector(nn.Module):
    """image: uint8 [N, S, S, 3] RGB → score float32 [N], map float32 [N, S, S], both 0–1."""

    def __init__(self, model: Model, *, image_score: str, half: bool) -> None:
        """half: matrix products in float16; norms, softmax, sigmoid and means stay float32."""
        super().__init__()
        spec = model.encoder.spec
        self.size = spec.image_size
        self.taps = spec.taps
        self.half_precision = half
        self.needs_det = image_score == "det"
        self.scale: Tensor
        self.shift: Tensor
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.tower = prepare_tower(copy.deepcopy(model.encoder.visual), half=half)
        vectors = directions(model.t_normal, model.t_abnormal, subtraction=model.subtraction)
        branches = zip(model.adapters.normal, model.adapters.abnormal, strict=True)
        self.levels = nn.ModuleList(
            FusedLevel(normal, abnormal, vectors, needs_det=self.needs_det, half=half)  # type: ignore[arg-type]
            for normal, abnormal in branches
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See the class. TensorRT takes a uint8 input only into a Cast, so the cast comes before the transpose."""
        x = image.float().permute(0, 3, 1, 2) * self.scale + self.shift
        taps = self.tower.forward_intermediates(  # type: ignore[operator]
            x.half() if self.half_precision else x,
            indices=[tap - 1 for tap in self.taps],
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )["image_intermediates"]
        pairs = [level(tokens) for level, tokens in zip(self.levels, taps, strict=True)]
        heat = self._map([seg for seg, _ in pairs])
        score = self._det([det for _, det in pairs]) if self.needs_det else heat.amax(dim=(1, 2))
        return score, heat

    def _map(self, logits: list[Tensor]) -> Tensor:
        stacked = torch.stack(logits, dim=1)
        grid = round(stacked.shape[2] ** 0.5)
        coarse = stacked.unflatten(2, (grid, grid))
        fine = F.interpolate(coarse, size=(self.size, self.size), mode="bilinear", align_corners=True)
        return fine.sigmoid().mean(dim=1)

    def _det(self, logits: list[Tensor]) -> Tensor:
        return torch.stack(logits, dim=1).sigmoid().mean(dim=(1, 2))


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
