"""Learnable prompts: seven states a class, eight vectors each, in three places. Paper, section 2, Learnable Prompts.

A prompt is `[start] vectors and state words . [end]`; the vectors stand before the words, after them, or half and
half. 21 encodings a class are averaged and made unit length: t_n and t_ab.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madclip.config import MethodConfig
from madclip.encoder import Encoder
from madclip_runtime.errors import UsageError

__all__ = ["ABNORMAL_STATES", "NORMAL_STATES", "PHOTO_TEMPLATES", "PromptLearner", "TextTower", "fixed_embedding"]

NORMAL_STATES = (
    "{o}",
    "flawless {o}",
    "perfect {o}",
    "unblemished {o}",
    "{o} without flaw",
    "{o} without defect",
    "{o} without damage",
)
ABNORMAL_STATES = (
    "damaged {o}",
    "broken {o}",
    "{o} with flaw",
    "{o} with defect",
    "{o} with damage",
    "disease {o}",
    "abnormal {o}",
)
_POSITIONS = ("end", "front", "middle")

_A_THE = ("a", "the")
PHOTO_TEMPLATES = (
    *(
        f"a {kind} photo of {article} {{s}}."
        for kind in (
            "bad",
            "low resolution",
            "cropped",
            "bright",
            "dark",
            "black and white",
            "jpeg corrupted",
            "blurry",
        )
        for article in _A_THE
    ),
    *(f"a photo of {article} {size} {{s}}." for size in ("cool", "large", "small") for article in _A_THE),
    *(f"a {kind} photo of a {{s}}." for kind in ("good", "close-up")),
    "a close-up photo of the {s}.",
    *(f"a photo of {article} {{s}}." for article in ("a", "the", "my", "one")),
    "a good photo of the {s}.",
    *(f"{start} in the scene." for start in ("there is a {s}", "there is the {s}")),
    *(f"this is {article} {{s}} in the scene." for article in ("a", "the", "one")),
)
"""The 35 hand-crafted templates that WinCLIP, MVFA and the paper's ablation (a) share."""


class TextTower:
    """open_clip's frozen text tower, asked to encode embeddings instead of token ids."""

    def __init__(self, encoder: Encoder) -> None:
        """Raises: UsageError for towers that are no plain open_clip text transformer."""
        clip: Any = encoder.clip
        self._tower: Any = getattr(clip, "text", clip)
        pool = getattr(self._tower, "pool_type", None) or getattr(clip, "text_pool_type", None)
        plain = hasattr(self._tower, "token_embedding") and getattr(self._tower, "cls_emb", None) is None
        if not plain or pool != "argmax":
            raise UsageError(f"encoder {encoder.spec.name}", "its text tower is not a plain CLIP text transformer")
        self._causal = encoder.spec.causal_mask
        self._context_length = int(self._tower.positional_embedding.shape[0])
        self._tokenizer = _tokenizer(encoder, self._context_length)

    @property
    def width(self) -> int:
        """Width of a token's embedding."""
        return int(self._tower.token_embedding.weight.shape[1])

    def tokens(self, text: str) -> Tensor:
        """Token ids of `text` without start, end and padding: int64 [T]."""
        ids = self._tokenizer([text])[0]
        return ids[1 : int(ids.argmax())]

    def embed(self, ids: Tensor) -> Tensor:
        """int64 [...] → float [..., w], constants."""
        return self._tower.token_embedding(ids.to(self.device)).detach()

    @property
    def device(self) -> torch.device:
        """Where the tower's tensors are."""
        return self._tower.positional_embedding.device

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Ids of the start and the end token: int64 [1] each."""
        ids = self._tokenizer(["x"])[0]
        return ids[:1], ids.max()[None]

    def encode(self, sequences: Tensor, last: Tensor) -> Tensor:
        """sequences: float [P, T, w], padded; last: int64 [P], where each one's end token stands → float [P, e].

        Under the causal mask nothing after an end token can reach it, so T need only span the longest prompt.
        Without the mask the padding takes part, and T is the tower's whole context.
        """
        length = sequences.shape[1]
        x = sequences + self._tower.positional_embedding[:length]
        mask = x.new_full((length, length), float("-inf")).triu_(1) if self._causal else None
        x = self._tower.transformer(x, attn_mask=mask)
        x = self._tower.ln_final(x[torch.arange(len(x), device=x.device), last])
        projection = self._tower.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def padded_length(self, longest: int) -> int:
        """How long sequences must be. Raises: UsageError where a prompt exceeds the tower's context."""
        if longest > self._context_length:
            raise UsageError("the objective", f"its prompts take {longest} tokens of {self._context_length}")
        return longest if self._causal else self._context_length


class PromptLearner(nn.Module):
    """The trained vectors: `context` float [C classes, 3 positions, 7 states, M, w], drawn with std 0.02.

    C is 2 (both classes), 1 (only the abnormal one learns) or 0 (none does); a class that doesn't learn is the mean
    over photo templates and states, as in ablation (a).
    """

    def __init__(self, tower: TextTower, method: MethodConfig, generator: torch.Generator) -> None:
        super().__init__()
        learning = {"both": (NORMAL_STATES, ABNORMAL_STATES), "abnormal": (ABNORMAL_STATES,), "fixed": ()}
        classes = learning[method.prompts]
        shape = (len(classes), len(_POSITIONS), len(NORMAL_STATES), method.context_vectors, tower.width)
        drawn = torch.randn(shape, generator=generator) * 0.02  # the same numbers for every device
        self.context = nn.Parameter(drawn.to(tower.device))
        self._tower = tower
        self._fixed = [
            fixed_embedding(tower, method.objective, states)
            for states in (NORMAL_STATES, ABNORMAL_STATES)[: 2 - len(classes)]
        ]
        if classes:
            self._prepare(classes, method)

    def _prepare(self, classes: tuple[tuple[str, ...], ...], method: MethodConfig) -> None:
        """Everything about the sequences that no step changes."""
        layouts = [
            _lay_out(self._tower, state.format(o=method.objective), position, method.context_vectors)
            for states in classes
            for position in _POSITIONS
            for state in states
        ]
        device = self._tower.device
        last = torch.tensor([len(ids) - 1 for ids, _ in layouts])
        length = self._tower.padded_length(int(last.max()) + 1)
        padded = [F.pad(ids, (0, length - len(ids))) for ids, _ in layouts]
        self._last = last.to(device)
        self._words = self._tower.embed(torch.stack(padded))
        self._rows = torch.arange(len(layouts), device=device)[:, None]
        self._columns = torch.stack([columns for _, columns in layouts]).to(device)

    def forward(self) -> tuple[Tensor, Tensor]:
        """t_n, t_ab: float [e], unit length."""
        learned: list[Tensor] = []
        if len(self.context):
            sequences = self._words.clone()
            sequences[self._rows, self._columns] = self.context.flatten(0, 2)
            encoded = self._tower.encode(sequences, self._last).chunk(len(self.context))
            learned = [F.normalize(features.mean(0), dim=0) for features in encoded]
        t_n, t_ab = (*self._fixed, *learned)
        return t_n, t_ab


@torch.no_grad()
def fixed_embedding(tower: TextTower, objective: str, states: tuple[str, ...]) -> Tensor:
    """Every photo template × state, each encoding made unit, averaged, made unit again: float [e]."""
    start, end = tower.ends
    texts = [template.format(s=state.format(o=objective)) for state in states for template in PHOTO_TEMPLATES]
    ids = [torch.cat([start, tower.tokens(text), end]) for text in texts]
    last = torch.tensor([len(sequence) - 1 for sequence in ids])
    length = tower.padded_length(int(last.max()) + 1)
    padded = torch.stack([F.pad(sequence, (0, length - len(sequence))) for sequence in ids])
    features = F.normalize(tower.encode(tower.embed(padded), last.to(tower.device)), dim=-1)
    return F.normalize(features.mean(0), dim=0)


def _lay_out(tower: TextTower, words: str, position: str, vectors: int) -> tuple[Tensor, Tensor]:
    """One prompt's token ids (0 where a learned vector goes) and the columns of those: int64 [T], int64 [M]."""
    name, dot, blank = tower.tokens(words), tower.tokens("."), torch.zeros(vectors, dtype=torch.int64)
    start, end = tower.ends
    split = {"end": vectors, "front": 0, "middle": vectors // 2}[position]  # vectors that stand before the words
    ids = torch.cat([start, blank[:split], name, blank[split:], dot, end])
    columns = torch.arange(vectors) + 1
    columns[split:] += len(name)
    return ids, columns


def _tokenizer(encoder: Encoder, context_length: int) -> Any:
    from madclip.encoder import _open_clip

    open_clip = _open_clip()
    config = encoder.spec.parsed_config()
    if config is not None:
        if config["text_cfg"].get("hf_tokenizer_name"):
            raise UsageError(f"encoder {encoder.spec.name}", "its config names a tokenizer from the hub")
        return open_clip.SimpleTokenizer(context_length=context_length)
    return open_clip.get_tokenizer(encoder.spec.name)
