"""The checkpoint: what training leaves and everything else starts from. The one-page contract is docs/checkpoint.md.

A torch file of tensors, numbers and strings only, read with weights_only=True: opening one can't run code.
The encoder is not inside; its name, config and hash are.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from madclip.adapters import DualBranchAdapters
from madclip.config import EncoderSpec, MethodConfig, TrainConfig
from madclip.encoder import Encoder, reload_encoder
from madclip.model import Model
from madclip_runtime.errors import BundleRefused
from madclip_runtime.files import write_whole
from madclip_runtime.manifest import Calibration, DataCard
from madclip_runtime.schema import SchemaError, decode, encode

__all__ = ["FORMAT", "Checkpoint"]

FORMAT = "madclip-checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Card:
    """The checkpoint's words and numbers: what made it.

    map_share: of the map's maximum, in a "blend". image_score_reason: why this rule, one sentence.
    """

    encoder: EncoderSpec
    method: MethodConfig
    train: TrainConfig
    data: DataCard
    image_score: str
    calibration: Calibration
    width: int
    embed_dim: int
    map_share: float = 1.0
    image_score_reason: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """card: config and provenance. adapters, prompts: state dicts. t_normal, t_abnormal: float [e], unit length.

    sha256: of the file it was read from, "" before it is written.
    """

    card: Card
    adapters: dict[str, Tensor]
    prompts: dict[str, Tensor]
    t_normal: Tensor
    t_abnormal: Tensor
    sha256: str = ""

    def save(self, path: Path) -> None:
        """Written whole or not at all. Raises: OutputNotWritten."""
        buffer = io.BytesIO()
        torch.save(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "card": json.dumps(encode(self.card), sort_keys=True, allow_nan=False),
                "adapters": self.adapters,
                "prompts": self.prompts,
                "t_normal": self.t_normal,
                "t_abnormal": self.t_abnormal,
            },
            buffer,
        )
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Raises: BundleRefused for anything that is not a whole madclip checkpoint."""
        data = _read(path)
        try:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds on a bad file; none of them may run code
            first = str(error).partition("\n")[0][:120]
            raise BundleRefused(str(path), f"not a checkpoint ({first})", "give a file from `madclip train`") from None
        return _from_content(content, path, hashlib.sha256(data).hexdigest())

    def model(self, weights: str | None = None) -> Model:
        """Load the encoder (proven by hash) and put the trained parts on it. Raises: InputRefused."""
        return self.model_on(reload_encoder(self.card.encoder, weights))

    def model_on(self, encoder: Encoder) -> Model:
        """The trained parts on an encoder that is already loaded, where it is."""
        card = self.card
        adapters = DualBranchAdapters(card.width, card.embed_dim, len(card.encoder.taps), card.method)
        adapters.load_state_dict(self.adapters)
        frozen = adapters.eval().requires_grad_(False).to(encoder.device)
        t_normal, t_abnormal = self.t_normal.to(encoder.device), self.t_abnormal.to(encoder.device)
        return Model(encoder, frozen, t_normal, t_abnormal, card.method.subtraction, card.method.map_smoothing_px)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleRefused(str(path), error.strerror or str(error), "give a file from `madclip train`") from None


def _from_content(content: Any, path: Path, sha256: str) -> Checkpoint:
    again = "train again, or give a file from `madclip train`"
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleRefused(str(path), f"a torch file, but not a {FORMAT}", again)
    if content.get("format_version") != FORMAT_VERSION:
        why = f"format version {content.get('format_version')}; this madclip reads {FORMAT_VERSION}"
        raise BundleRefused(str(path), why, again)
    try:
        return Checkpoint(
            card=decode(Card, json.loads(content["card"])),
            adapters=content["adapters"],
            prompts=content["prompts"],
            t_normal=content["t_normal"],
            t_abnormal=content["t_abnormal"],
            sha256=sha256,
        )
    except (KeyError, ValueError, SchemaError) as error:
        raise BundleRefused(str(path), f"damaged: {error}", again) from None
