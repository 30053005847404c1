"""The fused graph as a PyTorch module: uint8 pixels in, score and map out, nothing else inside.

Kept: the image tower up to its last tap, both adapter branches, the two directions the text comes down to. Gone: the
text tower, the pooled head, the second softmax channel (a sigmoid of the difference is the same number), and the det
heads where the score is the map's maximum. Several anatomies share one tower. This module is only ever traced; the one
that trains is madclip.model.Model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip.adapters import Adapter
from madclip.model import Model
from madclip.scores import directions, gaussian_kernel
from madclip_export.tower import Mark, make_tower, unmarked

__all__ = ["FusedDetector", "HeadSource"]

_LEAST_NORM = 1e-12  # F.normalize's own
_BRANCHES = ("normal", "abnormal")


@dataclass(frozen=True)
class HeadSource:
    """What one head of the graph is made from. image_score, map_share: as the checkpoint's card has them."""

    model: Model
    image_score: str
    map_share: float = 1.0


class FusedDetector(nn.Module):
    """image: uint8 [N, S, S, 3] RGB → score float32 [N], map float32 [N, S, S] of each head in turn, all 0–1."""

    def __init__(self, heads: Mapping[str, HeadSource], *, half: bool) -> None:
        """heads: by name, on one encoder. half: matrix products in float16; norms, softmax and sigmoid stay float32."""
        super().__init__()
        self.names = tuple(heads)
        self.size = next(iter(heads.values())).model.encoder.spec.image_size
        encoder = next(iter(heads.values())).model.encoder
        spec = encoder.spec
        self.scale: Tensor
        self.shift: Tensor
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.tower = make_tower(encoder.visual, spec.taps, half=half)
        self.heads = nn.ModuleList(FusedHead(head, spec.image_size, half=half) for head in heads.values())

    def forward(self, image: Tensor, mark: Mark = unmarked) -> tuple[Tensor, ...]:
        """See the class. TensorRT takes a uint8 input only into a Cast, so the cast comes before the transpose.

        mark: told every stage's name and value.
        """
        pixels = mark("pixels", image.float().permute(0, 3, 1, 2) * self.scale + self.shift)
        taps = self.tower(pixels, mark)
        return tuple(
            output
            for name, head in zip(self.names, self.heads, strict=True)
            for output in head(taps, _under(name, mark))
        )


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

    def forward(self, taps: list[Tensor], mark: Mark = unmarked) -> tuple[Tensor, Tensor]:
        """See the class."""
        pairs: list[tuple[Tensor, Tensor | None]] = []
        for number, (level, tokens) in enumerate(zip(self.levels, taps, strict=True), start=1):
            seg, det = level(tokens)
            pairs.append((mark(f"level.{number}.seg", seg), None if det is None else mark(f"level.{number}.det", det)))
        heat = self._map([seg for seg, _ in pairs])
        return self._score([det for _, det in pairs], heat), heat

    def _map(self, logits: list[Tensor]) -> Tensor:
        stacked = torch.stack(logits, dim=1)
        grid = round(stacked.shape[2] ** 0.5)
        coarse = stacked.unflatten(2, (grid, grid))
        fine = F.interpolate(coarse, size=(self.size, self.size), mode="bilinear", align_corners=True)
        heat = fine.sigmoid().mean(dim=1)
        return heat if self.smoothing is None else self.smoothing @ heat @ self.smoothing.T

    def _score(self, logits: list[Tensor | None], heat: Tensor) -> Tensor:
        if self.rule == "map_max":
            return heat.amax(dim=(1, 2))
        det = torch.stack([x for x in logits if x is not None], dim=1).sigmoid().mean(dim=(1, 2))
        return det if self.rule == "det" else (1 - self.map_share) * det + self.map_share * heat.amax(dim=(1, 2))


def _under(head: str, mark: Mark) -> Mark:
    return lambda name, value: mark(f"{head}.{name}", value)


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
        self.slope, self.eps = normal.negative_slope, normal.eps
        self.tasks = ("seg", "det") if needs_det else ("seg",)
        kind = torch.float16 if half else torch.float32
        # One product for both branches' shared layers, one for all of a branch's heads; a direction stays a (e, 1)
        # matrix, which every runtime likes.
        self.register_buffer("shared", torch.cat([normal.shared.weight, abnormal.shared.weight]).T.to(kind))
        for name, adapter, vector in (("normal", normal, vectors[0]), ("abnormal", abnormal, vectors[1])):
            heads = torch.cat([getattr(adapter, task).weight for task in self.tasks])
            self.register_buffer(f"heads_{name}", heads.T.to(kind))
            self.register_buffer(f"to_{name}", vector[:, None])

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        branches = F.leaky_relu(tokens @ self.shared, self.slope).chunk(2, dim=-1)
        sides = [self._similarity(self._normalise(x), name) for x, name in zip(branches, _BRANCHES, strict=True)]
        logits = (sides[1] - sides[0]).unbind(-1)
        return logits[0], logits[1] if len(logits) > 1 else None

    def _normalise(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype)

    def _similarity(self, x: Tensor, branch: str) -> Tensor:
        """(o / ‖o‖)·d of each task, float32 [N, L, tasks]; norm and product in float32."""
        o = (
            F.leaky_relu(x @ self.get_buffer(f"heads_{branch}"), self.slope)
            .float()
            .unflatten(-1, (len(self.tasks), -1))
        )
        norm = o.square().sum(-1).sqrt().clamp_min(_LEAST_NORM)
        return (o @ self.get_buffer(f"to_{branch}"))[..., 0] / norm
