"""nano's teacher: DeiT-Tiny as its authors publish it → the open_clip form that `madclip pretrain-nano` takes.

    python benchmarks/training/teacher.py deit_tiny_patch16_224-a1311bcf.pth OUT

The file: https://dl.fbaipublicfiles.com/deit/deit_tiny_patch16_224-a1311bcf.pth, Apache-2.0 (facebookresearch/deit).
Writes OUT/deit-tiny-clip.json and .safetensors; the text tower is random, and pretraining does not look at it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from madclip.torchvision_ops import declare_missing_operators

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 224,
        "layers": 12,
        "width": 192,
        "head_width": 64,
        "patch_size": 16,
        "no_ln_pre": True,
        "norm_kwargs": {"eps": 1e-6},
    },
    "text_cfg": {"width": 64, "heads": 1, "layers": 1},
}
_BLOCK = {
    "norm1": "ln_1",
    "attn.qkv.": "attn.in_proj_",
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def renamed(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image tower under open_clip's names, without its last projection.

    open_clip's patch embedding has no bias: it goes into the position embeddings of the patches.
    """
    places = published["pos_embed"][0].clone()
    places[1:] += published["patch_embed.proj.bias"]
    tower = {
        "class_embedding": published["cls_token"][0, 0],
        "conv1.weight": published["patch_embed.proj.weight"],
        "positional_embedding": places,
        "ln_post.weight": published["norm.weight"],
        "ln_post.bias": published["norm.bias"],
    }
    for name, tensor in published.items():
        if name.startswith("blocks."):
            number, _, rest = name.removeprefix("blocks.").partition(".")
            theirs = next(key for key in _BLOCK if rest.startswith(key))
            tower[f"transformer.resblocks.{number}.{_BLOCK[theirs]}{rest.removeprefix(theirs)}"] = tensor
    return tower


def convert(published: dict[str, Tensor], out: Path) -> tuple[Path, Path]:
    """Write both files into the folder `out`; returns their paths."""
    declare_missing_operators()
    import open_clip

    torch.manual_seed(0)
    clip = open_clip.CLIP(**CONFIG)
    missing, unexpected = clip.visual.load_state_dict(renamed(published), strict=False)
    assert missing == ["proj"] and not unexpected, (missing, unexpected)
    config, weights = out / "deit-tiny-clip.json", out / "deit-tiny-clip.safetensors"
    config.write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}, weights)
    return config, weights


if __name__ == "__main__":
    file, folder = (Path(argument) for argument in sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    print(*convert(torch.load(file, map_location="cpu", weights_only=True)["model"], folder))
