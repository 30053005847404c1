"""DeiT as published → open_clip's form: its blocks give what the published form's arithmetic gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from madclip.encoder import load_encoder
from madclip.torchvision_ops import declare_missing_operators

declare_missing_operators()
import open_clip  # noqa: E402

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/training/teacher.py"
_WIDTH, _HEADS, _BLOCKS = 192, 3, 12


def published() -> dict[str, Tensor]:
    """Seeded numbers under the published names and shapes, the classifier's too."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, _WIDTH),
        "pos_embed": (1, 197, _WIDTH),
        "patch_embed.proj.weight": (_WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (_WIDTH,),
        "norm.weight": (_WIDTH,),
        "norm.bias": (_WIDTH,),
        "head.weight": (1000, _WIDTH),
        "head.bias": (1000,),
    }
    for block in (f"blocks.{number}." for number in range(_BLOCKS)):
        for name, rows, columns in (
            ("attn.qkv", 3, 1),
            ("attn.proj", 1, 1),
            ("mlp.fc1", 4, 1),
            ("mlp.fc2", 1, 4),
        ):
            shapes |= {
                f"{block}{name}.weight": (rows * _WIDTH, columns * _WIDTH),
                f"{block}{name}.bias": (rows * _WIDTH,),
            }
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}{name}.weight": (_WIDTH,), f"{block}{name}.bias": (_WIDTH,)}
    generator = torch.Generator().manual_seed(5)
    return {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def as_published(p: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Patch tokens after each block, for normalised images of 224 px."""
    patches = F.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=16)
    x = (
        torch.cat([p["cls_token"].expand(len(images), 1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        + p["pos_embed"]
    )
    after = []
    for block in (f"blocks.{number}." for number in range(_BLOCKS)):

        def linear(name: str, y: Tensor, block: str = block) -> Tensor:
            return F.linear(y, p[f"{block}{name}.weight"], p[f"{block}{name}.bias"])

        def norm(name: str, y: Tensor, block: str = block) -> Tensor:
            return F.layer_norm(y, (_WIDTH,), p[f"{block}{name}.weight"], p[f"{block}{name}.bias"], 1e-6)

        count, length = x.shape[:2]
        q, k, v = linear("attn.qkv", norm("norm1", x)).view(count, length, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        attended = (q @ k.transpose(-2, -1) / 8.0).softmax(dim=-1) @ v
        x = x + linear("attn.proj", attended.transpose(1, 2).flatten(2))
        x = x + linear("mlp.fc2", F.gelu(linear("mlp.fc1", norm("norm2", x))))
        after.append(x[:, 1:])
    return after


def test_the_converted_teacher_computes_what_the_published_one_does(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("teacher", _SCRIPT)
    assert spec and spec.loader
    teacher = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(teacher)
    config, weights = teacher.convert(published(), tmp_path)
    assert load_encoder(str(config), str(weights)).spec.taps == (3, 6, 9, 12)
    clip = open_clip.CLIP(**json.loads(config.read_text())).eval()
    clip.load_state_dict(load_file(weights))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        found = clip.visual.forward_intermediates(images, output_fmt="NLC", intermediates_only=True)
    pairs = list(zip(found["image_intermediates"], as_published(published(), images), strict=True))
    assert len(pairs) == _BLOCKS
    assert all(torch.allclose(mine, theirs, atol=1e-4) for mine, theirs in pairs)
