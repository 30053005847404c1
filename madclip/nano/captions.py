"""The text tower and the image tower's pooled head learn from drawings with captions; the taps stay as they are.

An image is a phantom, or a canvas of a medical-looking kind with or without a drawn lesion; its captions say what it
shows and whether there is a lesion, in the words the prompts use (madclip.prompts) and some more. What this module
does not know: any real image; the words mean here what they mean on drawings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from madclip.encoder import Encoder
from madclip.nano.textures import draw_canvas, field
from madclip.phantoms import make_phantom
from madclip.prompts import ABNORMAL_STATES, NORMAL_STATES, PHOTO_TEMPLATES, TextTower, fixed_embedding

__all__ = ["CaptionConfig", "Drawing", "draw", "learn_captions", "zero_shot"]

Bytes = npt.NDArray[np.uint8]

OBJECTS = {
    "phantom": ("Brain", "brain scan", "head"),
    "speckle": ("Liver", "breast ultrasound", "ultrasound image"),
    "layers": ("retinal OCT", "retina"),
    "cells": ("histopathological image", "tissue"),
    "shadows": ("Chest X-ray film", "X-ray film"),
}
ANY = ("medical image", "image", "scan")
_MORE_NORMAL = ("normal {o}", "healthy {o}", "{o} without lesion", "{o} with no lesion")
_MORE_ABNORMAL = ("{o} with lesion", "{o} with a tumor", "{o} with a bright spot", "unhealthy {o}")
_SIZE = 240


@dataclass(frozen=True)
class CaptionConfig:
    """images: drawn once, half of them with a lesion. batch: of images, and of captions, in a step."""

    images: int = 3000
    steps: int = 1500
    batch: int = 64
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05

    def rate_share(self, step: int) -> float:
        """Share of the learning rate at a step: up over the first tenth, then half a cosine down."""
        done = step / self.steps
        return min(1.0, 10 * done + 0.01) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class Drawing:
    """image: uint8 [240, 240, 3] RGB 0–255. kind: a key of OBJECTS. abnormal: whether a lesion was drawn."""

    image: Bytes
    kind: str
    abnormal: bool


def draw(seed: int, index: int) -> Drawing:
    """Drawing `index` of a seed: even ones without, odd ones with a lesion; half of all are phantoms."""
    rng = np.random.default_rng([seed, index, 11])
    abnormal = index % 2 == 1
    if rng.random() < 0.5:
        grey = make_phantom(seed + 1, index // 2, abnormal=abnormal).image
        return Drawing(np.repeat(grey[..., None], 3, axis=2), "phantom", abnormal)
    kind = str(rng.choice([name for name in OBJECTS if name != "phantom"]))
    canvas = draw_canvas(seed + 1, index, kind, _SIZE)[0]
    return Drawing(_with_lesion(rng, canvas) if abnormal else canvas, kind, abnormal)


def learn_captions(encoder: Encoder, config: CaptionConfig, say: Callable[[str], None]) -> float:
    """Train text tower, pooled head and temperature in place; returns the last hundred steps' mean loss, in nats."""
    drawings = [draw(config.seed, i) for i in tqdm(range(config.images), desc="drawings", unit="image", disable=None)]
    tokens = _last_tokens(encoder, [drawing.image for drawing in drawings])
    bank = _Bank(drawings, encoder)
    clip: Any = encoder.clip
    moving = [p for name, p in clip.named_parameters() if _moves(name)]
    for parameter in moving:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(moving, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, config.rate_share)
    generator = torch.Generator().manual_seed(config.seed)
    losses: list[float] = []
    for step in tqdm(range(config.steps), desc="captions", unit="step", disable=None):
        loss = _step(clip, tokens, bank, config.batch, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 250 == 0:
            say(f"captions, step {step + 1}/{config.steps}: loss {np.mean(losses[-100:]):.3f}")
    clip.requires_grad_(False)
    return float(np.mean(losses[-100:]))


@torch.no_grad()
def zero_shot(encoder: Encoder, images: npt.NDArray[np.uint8], objective: str) -> npt.NDArray[np.float64]:
    """How much nearer each image is to the abnormal prompts than to the normal ones: float64 [N]. No training.

    images: uint8 [N, 240, 240, 3] RGB 0–255. The prompts are the paper's states in all photo templates.
    """
    tower = TextTower(encoder)
    normal, abnormal = (fixed_embedding(tower, objective, states) for states in (NORMAL_STATES, ABNORMAL_STATES))
    pooled = _pooled(encoder.clip, _last_tokens(encoder, list(images)).float())
    return (pooled @ (abnormal - normal)).double().cpu().numpy()


def _with_lesion(rng: np.random.Generator, canvas: Bytes) -> Bytes:
    """One or two ragged spots, brighter or darker than what they lie on."""
    size = len(canvas)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    view = canvas.astype(np.float32)
    for _ in range(1 + int(rng.random() < 0.3)):
        cy, cx = rng.uniform(0.2, 0.8, 2)
        reach = rng.uniform(0.04, 0.14)
        far = np.hypot((x - cx) / rng.uniform(0.7, 1.4), y - cy) / reach + 0.4 * field(rng, size, 9, 2)
        cover = np.clip((1 - far) / rng.uniform(0.15, 0.6) + 0.5, 0, 1)[..., None]
        change = rng.uniform(50, 130) * (1 if rng.random() < 0.7 else -1)
        view = view + change * cover * (1 + 0.2 * field(rng, size, 24)[..., None])
    return np.rint(np.clip(view, 0, 255)).astype(np.uint8)


def _moves(name: str) -> bool:
    """Whether this stage trains the parameter: everything but the blocks and the embedding that the taps come from."""
    return not name.startswith("visual.") or name.startswith(("visual.attn_pool", "visual.ln_post", "visual.proj"))


@torch.no_grad()
def _last_tokens(encoder: Encoder, images: list[Bytes], batch: int = 8) -> Tensor:
    """The last block's output, class token first: float16 [N, 1 + L, d], where the encoder is."""
    visual: Any = encoder.visual
    kept: list[Tensor] = []
    for start in tqdm(range(0, len(images), batch), desc="image tower", unit="batch", disable=None):
        stack = torch.from_numpy(np.stack(images[start : start + batch])).permute(0, 3, 1, 2).to(encoder.device)
        x = visual._embeds((stack.float() / 255 - encoder.mean) / encoder.std)
        kept.append(visual.transformer(x).half())
    return torch.cat(kept)


def _pooled(clip: Any, tokens: Tensor) -> Tensor:
    """float [N, 1 + L, d] → unit embeddings [N, e]."""
    pooled, _ = clip.visual._pool(tokens)
    return F.normalize(pooled @ clip.visual.proj, dim=-1)


class _Bank:
    """Every caption there is, and which images each one fits."""

    def __init__(self, drawings: list[Drawing], encoder: Encoder) -> None:
        from madclip.prompts import _tokenizer

        kinds = list(OBJECTS)
        texts: list[str] = []
        rows: list[tuple[int, int]] = []
        templates = ("{s}.", "a photo of a {s}.", "a photo of the {s}.", *PHOTO_TEMPLATES[::4])
        for kind, objects in (*OBJECTS.items(), ("", ANY)):
            states = ((NORMAL_STATES + _MORE_NORMAL, 0), (ABNORMAL_STATES + _MORE_ABNORMAL, 1))
            for text, label in ((s.format(o=o), label) for o in objects for group, label in states for s in group):
                texts += [template.format(s=text) for template in templates]
                rows += [(kinds.index(kind) if kind else -1, label)] * len(templates)
        clip: Any = encoder.clip
        ids = _tokenizer(encoder, int(clip.positional_embedding.shape[0]))(texts)
        self.ids = ids[:, : int(ids.argmax(dim=1).max()) + 1].to(encoder.device)
        self.kinds, self.labels = (torch.tensor(column, device=encoder.device) for column in zip(*rows, strict=True))
        self.image_kinds = torch.tensor([kinds.index(d.kind) for d in drawings], device=encoder.device)
        self.image_labels = torch.tensor([int(d.abnormal) for d in drawings], device=encoder.device)

    def fits(self, images: Tensor, texts: Tensor) -> Tensor:
        """bool [images, texts]: the caption is true of the image."""
        kind = self.kinds[texts]
        same_kind = (kind[None] < 0) | (kind[None] == self.image_kinds[images][:, None])
        return same_kind & (self.labels[texts][None] == self.image_labels[images][:, None])


def _step(clip: Any, tokens: Tensor, bank: _Bank, batch: int, generator: torch.Generator) -> Tensor:
    """CLIP's loss in both directions, where every true pair counts alike."""
    images = torch.randint(len(tokens), (batch,), generator=generator).to(tokens.device)
    texts = torch.randint(len(bank.ids), (batch,), generator=generator).to(tokens.device)
    chosen = tokens[images].float()
    text = F.normalize(_encode_text(clip, bank.ids[texts]), dim=-1)
    logits = clip.logit_scale.clamp(max=4.6).exp() * _pooled(clip, chosen) @ text.T
    fits = bank.fits(images, texts).float()
    return 0.5 * (_soft_loss(logits, fits) + _soft_loss(logits.T, fits.T))


def _soft_loss(logits: Tensor, fits: Tensor) -> Tensor:
    """How far the softmax over a row is from an even share among what fits; rows where nothing does are left out."""
    rows = fits.sum(dim=1) > 0
    target = fits[rows] / fits[rows].sum(dim=1, keepdim=True)
    spread = -(target * target.clamp_min(1e-9).log()).sum(dim=1)
    return (-(target * logits[rows].log_softmax(dim=1)).sum(dim=1) - spread).mean()


def _encode_text(clip: Any, ids: Tensor) -> Tensor:
    """int64 [N, T] → float [N, e]; T may be shorter than the context, since nothing behind an end token reaches it."""
    x = clip.token_embedding(ids) + clip.positional_embedding[: ids.shape[1]]
    mask = x.new_full((ids.shape[1],) * 2, float("-inf")).triu_(1)
    x = clip.ln_final(clip.transformer(x, attn_mask=mask))
    return x[torch.arange(len(x), device=x.device), ids.argmax(dim=1)] @ clip.text_projection
