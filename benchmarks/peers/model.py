"""The model that all methods run: an encoder with random (or given) weights, seeded random adapters and directions."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from work import Shape

from madclip.adapters import DualBranchAdapters
from madclip.checkpoint import Card, Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.encoder import Encoder, load_encoder
from madclip_runtime.errors import UsageError
from madclip_runtime.manifest import Calibration, DataCard

__all__ = ["make_checkpoint", "shape_of"]

_NO_DATA = DataCard("none", "none", True, normal_shots=0, abnormal_shots=0, masks=False, epochs=0, seed=0)


def make_checkpoint(name: str, weights: str, image_score: str, seed: int = 0) -> tuple[Checkpoint, Encoder]:
    """An untrained checkpoint and its loaded encoder. Raises: UsageError, InputRefused."""
    encoder = load_encoder(name, weights)
    width, embed = encoder.tap_shape()[1], int(encoder.clip.visual.output_dim)  # type: ignore[union-attr]
    method = MethodConfig("Brain")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapters = DualBranchAdapters(width, embed, len(encoder.spec.taps), method)
        t_normal, t_abnormal = (F.normalize(torch.randn(embed), dim=0) for _ in range(2))
    card = Card(
        encoder=encoder.spec,
        method=method,
        train=TrainConfig(seed=seed),
        data=_NO_DATA,
        image_score=image_score,
        calibration=Calibration("random adapters, to measure speed"),
        width=width,
        embed_dim=embed,
    )
    return Checkpoint(card, adapters.state_dict(), {}, t_normal, t_abnormal), encoder


def shape_of(checkpoint: Checkpoint, encoder: Encoder) -> Shape:
    """The numbers that `work.useful_flops` needs. Raises: UsageError for towers that are not open_clip's own ViT."""
    visual = encoder.visual
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None:
        raise UsageError(f"encoder {encoder.spec.name}", "is not open_clip's own vision transformer")
    return Shape(
        patch=int(visual.conv1.kernel_size[0]),  # type: ignore[union-attr, index]
        tokens=encoder.tap_shape()[0] + 1,
        width=checkpoint.card.width,
        depth=encoder.spec.taps[-1],
        mlp=int(blocks[0].mlp[0].out_features),  # type: ignore[index]
        embed=checkpoint.card.embed_dim,
        levels=len(encoder.spec.taps),
        det_heads=checkpoint.card.image_score != "map_max",
    )
