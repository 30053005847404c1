"""The method as PyTorch modules: the way its authors run it, and the two-channel form of our own reference.

Both take uint8 [N, S, S, 3] RGB and give (score [N] by the map's maximum, det score [N], map [N, S, S]).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip.checkpoint import Checkpoint
from madclip.encoder import Encoder
from madclip.scores import detection_score, level_map, reference_scores

__all__ = ["AuthorsForm", "TwoChannels", "write_plain"]


class TwoChannels(nn.Module):
    """madclip's reference, as one module: fused attention, no pooled head."""

    def __init__(self, checkpoint: Checkpoint, encoder: Encoder) -> None:
        super().__init__()
        model = checkpoint.model_on(encoder)
        self.visual, self.adapters = encoder.visual, model.adapters
        self.taps, self.size = encoder.spec.taps, encoder.spec.image_size
        self.mean: Tensor
        self.std: Tensor
        self.t_normal: Tensor
        self.t_abnormal: Tensor
        for name, value in (("mean", encoder.mean), ("std", encoder.std)):
            self.register_buffer(name, value)
        self.register_buffer("t_normal", model.t_normal)
        self.register_buffer("t_abnormal", model.t_abnormal)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the module."""
        pixels = image.float().permute(0, 3, 1, 2) / 255
        taps = self.visual.forward_intermediates(  # type: ignore[operator]
            (pixels - self.mean) / self.std,
            indices=[tap - 1 for tap in self.taps],
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )["image_intermediates"]
        det, maps = [], []
        for normal, abnormal in self.adapters(taps):
            scores = reference_scores(normal, abnormal, self.t_normal, self.t_abnormal)
            det.append(detection_score(scores[:, :, 0]))
            maps.append(level_map(scores[:, :, 1], self.size))
        heat = torch.stack(maps).mean(0)
        return heat.amax(dim=(1, 2)), torch.stack(det).mean(0), heat


class AuthorsForm(nn.Module):
    """As the published evaluation runs it (docs/method.md): the whole tower to its pooled output, tokens first,
    attention weights asked for in every block, adapters block by block with a product a head, text and features
    normalised, two channels, upsampled, softmax.
    """

    def __init__(self, checkpoint: Checkpoint, encoder: Encoder) -> None:
        super().__init__()
        visual: Any = copy.deepcopy(encoder.visual)
        self.stem, self.ln_pre, self.ln_post = visual.conv1, visual.ln_pre, visual.ln_post
        self.class_embedding, self.position, self.proj = (
            visual.class_embedding,
            visual.positional_embedding,
            visual.proj,
        )
        self.blocks = nn.ModuleList(_TokensFirst(block) for block in visual.transformer.resblocks)
        self.adapters = checkpoint.model_on(encoder).adapters
        self.taps, self.size = encoder.spec.taps, encoder.spec.image_size
        self.text: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("text", torch.stack([checkpoint.t_normal, checkpoint.t_abnormal], dim=1))
        self.register_buffer("mean", encoder.mean)
        self.register_buffer("std", encoder.std)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the module."""
        x = self._embed((image.float().permute(0, 3, 1, 2) / 255 - self.mean) / self.std)
        det, maps = [], []
        for number, block in enumerate(self.blocks, start=1):
            x, _ = block(x)
            if number in self.taps:
                level = self.taps.index(number)
                scores = self._level(x[1:].permute(1, 0, 2), level)
                det.append(scores[0].softmax(-1)[..., 1].mean(1))
                maps.append(self._upsampled(scores[1]).softmax(1)[:, 1])
        _ = self.ln_post(x[0]) @ self.proj  # the pooled output, which nobody reads
        heat = torch.stack(maps).mean(0)
        return heat.amax(dim=(1, 2)), torch.stack(det).mean(0), heat

    def _embed(self, pixels: Tensor) -> Tensor:
        patches = self.stem(pixels).flatten(2).permute(0, 2, 1)
        first = self.class_embedding.to(patches) + patches.new_zeros(len(patches), 1, patches.shape[-1])
        return self.ln_pre(torch.cat([first, patches], dim=1) + self.position.to(patches)).permute(1, 0, 2)

    def _level(self, tokens: Tensor, level: int) -> list[Tensor]:
        """det and seg scores [N, L, 2] of one level: each branch against its own text and minus the other's."""
        heads: list[list[Tensor]] = [[], []]
        for own, branch in enumerate((self.adapters.normal, self.adapters.abnormal)):
            adapter: Any = branch[level]
            hidden = F.leaky_relu(adapter.shared(tokens), adapter.negative_slope)
            hidden = F.layer_norm(hidden, hidden.shape[-1:], eps=adapter.eps)
            for found, head in zip(heads, (adapter.det, adapter.seg), strict=True):
                o = F.leaky_relu(head(hidden), adapter.negative_slope)
                both = (o / o.norm(dim=-1, keepdim=True)) @ self.text
                found.append(both[..., own] - both[..., 1 - own])
        return [torch.stack(found, dim=-1) for found in heads]

    def _upsampled(self, scores: Tensor) -> Tensor:
        grid = round(scores.shape[1] ** 0.5)
        image = scores.permute(0, 2, 1).reshape(len(scores), 2, grid, grid)
        return F.interpolate(image, size=self.size, mode="bilinear", align_corners=True)


class _TokensFirst(nn.Module):
    """A residual block on [L, N, d] that returns its attention weights."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.mlp = block.ln_1, block.ln_2, block.mlp
        self.attention = nn.MultiheadAttention(block.attn.embed_dim, block.attn.num_heads)
        self.attention.load_state_dict(block.attn.state_dict())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        normal = self.ln_1(x)
        mixed, weights = self.attention(normal, normal, normal, need_weights=True)
        x = x + mixed
        return x + self.mlp(self.ln_2(x)), weights


def write_plain(module: TwoChannels, path: Path) -> Path:
    """What torch's exporter makes of `module` as it stands, weights beside the graph; returns `path`."""
    size = module.size
    example = (torch.zeros(2, size, size, 3, dtype=torch.uint8),)
    dynamic = ({0: torch.export.Dim("N", min=1, max=64)},)
    program = torch.onnx.export(
        module, example, input_names=["image"], dynamic_shapes=dynamic, dynamo=True, verbose=False
    )
    assert program is not None
    program.save(str(path), external_data=True)
    return path
