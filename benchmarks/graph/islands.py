"""Which parts of the float16 graph must stay float32: each island taken away, or one added, and the error it makes.

    python benchmarks/graph/islands.py --ckpt x.pt --images ../shared/data/BrainLGG_AD/test/Ungood/img --count 24

PyTorch on the CPU rounds every float16 result to float16 and adds up products in float32, as GPUs do. Errors are
against the checkpoint in float32: of scores and of map pixels, both in 0–1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from madclip.checkpoint import Checkpoint
from madclip_export import graph, tower
from madclip_export.graph import FusedDetector, HeadSource
from madclip_runtime.imaging import read_image
from madclip_runtime.preprocess import to_model_input


def half_norm(self: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, self.shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def half_softmax(self: Any, x: Tensor, without_class: bool) -> Tensor:
    q, k, v = (self._heads(part) for part in self.inputs(x).chunk(3, dim=-1))
    q = q[:, :, 1:] if without_class else q
    return self.output(((q @ k.transpose(-1, -2)).softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def half_adapter_norm(self: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=self.eps)


def half_similarity(self: Any, x: Tensor, branch: str) -> Tensor:
    o = F.leaky_relu(x @ self.get_buffer(f"heads_{branch}"), self.slope).unflatten(-1, (len(self.tasks), -1))
    norm = o.square().sum(-1).sqrt().clamp_min(1e-7)
    return ((o @ self.get_buffer(f"to_{branch}").to(o.dtype))[..., 0] / norm).float()


def half_map(self: Any, logits: list[Tensor]) -> Tensor:
    stacked = torch.stack(logits, dim=1).half()
    grid = round(stacked.shape[2] ** 0.5)
    fine = F.interpolate(stacked.unflatten(2, (grid, grid)), size=(self.size,) * 2, mode="bilinear", align_corners=True)
    heat = fine.sigmoid().mean(dim=1)
    return heat if self.smoothing is None else self.smoothing.half() @ heat @ self.smoothing.T.half()


def wide_stream(self: Any, x: Tensor, mark: Any, *, without_class: bool) -> Tensor:
    """The sum of all blocks' outputs kept in float32; only the products see float16."""
    x = x.float()
    normal = self.ln_1(x).half()
    x = (x[:, 1:] if without_class else x) + self.attention(normal, without_class).float()
    return x + self.narrow(self.activation(self.widen(self.ln_2(x).half()))).float()


def wide_level(self: Any, tokens: Tensor) -> Any:
    return level_forward(self, tokens.half())


level_forward = graph.FusedLevel.forward


@contextmanager
def patched(patches: tuple[tuple[Any, str, Any], ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, value in patches:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


VARIANTS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "as exported": (),
    "- layer norms of the tower": ((tower._Norm, "forward", half_norm),),
    "- softmax": ((tower._Attention, "forward", half_softmax),),
    "- norms in the adapters": ((graph.FusedLevel, "_normalise", half_adapter_norm),),
    "- unit norms and directions": ((graph.FusedLevel, "_similarity", half_similarity),),
    "- upsampling, sigmoid and mean": ((graph.FusedHead, "_map", half_map),),
    "+ sum of the blocks": ((tower._Block, "forward", wide_stream), (graph.FusedLevel, "forward", wide_level)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--weights")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    args = parser.parse_args()
    checkpoint = Checkpoint.load(args.ckpt)
    model = checkpoint.model(args.weights)
    size = model.encoder.spec.image_size
    files = sorted(path for path in args.images.iterdir() if path.is_file())
    chosen = files[:: max(1, len(files) // args.count)][: args.count]
    images = np.stack([to_model_input(read_image(path).pixels, size) for path in chosen])
    reference = model.reference(images)
    scores = reference.image_scores(checkpoint.card.image_score, checkpoint.card.map_share)
    source = {"head": HeadSource(model, checkpoint.card.image_score, checkpoint.card.map_share)}
    rows = {}
    for name, patches in VARIANTS.items():
        with patched(patches):
            rows[name] = errors(FusedDetector(source, half=True).eval(), images, scores, reference.maps)
        print(f"{name:34} " + "  ".join(f"{key} {value:.1e}" for key, value in rows[name].items()), flush=True)
    print(json.dumps({"images": len(images), "encoder": checkpoint.card.encoder.name, "errors": rows}))


@torch.no_grad()
def errors(module: Callable[..., Any], images: np.ndarray, scores: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Worst and mean over images."""
    found = [module(torch.from_numpy(image)[None]) for image in images]
    score = np.array([float(s[0]) for s, _ in found]) - scores
    heat = np.stack([m[0].float().numpy() for _, m in found]) - maps
    return {
        "score worst": float(np.abs(score).max()),
        "score mean": float(np.abs(score).mean()),
        "map worst": float(np.abs(heat).max()),
        "map mean": float(np.abs(heat).mean()),
    }


if __name__ == "__main__":
    main()
