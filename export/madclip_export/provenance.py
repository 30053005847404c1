"""Who and what made a bundle, as the manifest and the graph's own metadata keep it: no clock, no path of a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from madclip.checkpoint import Checkpoint
from madclip.config import EncoderSpec
from madclip_export import __version__
from madclip_export.onnx_file import OPSET
from madclip_export.request import Request
from madclip_runtime.manifest import NOTICE, EncoderCard, FileEntry, Head, InputContract, Manifest

__all__ = ["draft_manifest", "metadata"]


def draft_manifest(checkpoints: Mapping[str, Checkpoint], request: Request, files: dict[str, FileEntry]) -> Manifest:
    """Everything but what the gates will measure."""
    spec = next(iter(checkpoints.values())).card.encoder
    return Manifest(
        model_id=_model_id(checkpoints, request.precision, [entry.sha256 for entry in files.values()]),
        precision=request.precision,
        input=InputContract(size=spec.image_size, mean=spec.mean, std=spec.std),
        encoder=_encoder_card(spec, request.encoder_licence),
        heads={name: _head(checkpoint) for name, checkpoint in checkpoints.items()},
        gates=(),
        versions=_versions(),
        files=files,
        notices=(*_notices(checkpoints), *request.notices),
        quantisation=_quantisation(request),
    )


def metadata(checkpoints: Mapping[str, Checkpoint], precision: str) -> dict[str, str]:
    """What model.onnx says of itself (metadata_props, each under "madclip.")."""
    spec = next(iter(checkpoints.values())).card.encoder
    return {
        "madclip": __version__,
        "model": f"{'+'.join(checkpoints)}-{precision}",
        "heads": ",".join(checkpoints),
        "precision": precision,
        "image_score": ",".join(checkpoint.card.image_score for checkpoint in checkpoints.values()),
        "input": f"image uint8 [N, {spec.image_size}, {spec.image_size}, 3] RGB",
        "outputs": "score float32 [N] and map float32 [N, S, S] a head, 0–1",
        "checkpoint_sha256": ",".join(checkpoint.sha256 for checkpoint in checkpoints.values()),
        "notice": NOTICE,
    }


def _encoder_card(spec: EncoderSpec, licence: str) -> EncoderCard:
    known = "MIT" if spec.weights == "tag:openai" else "not stated"
    known = "Apache-2.0" if spec.weights.startswith("built-in:") else known
    words = _weights_in_words(spec.weights)
    return EncoderCard(spec.name, words, spec.sha256, spec.random, spec.taps, licence or known)


def _head(checkpoint: Checkpoint) -> Head:
    card = checkpoint.card
    return Head(
        image_score=card.image_score,
        calibration=card.calibration,
        data=card.data,
        checkpoint_sha256=checkpoint.sha256,
        map_share=card.map_share,
        map_smoothing_px=card.method.map_smoothing_px,
    )


def _quantisation(request: Request) -> str:
    if request.precision != "int8":
        return ""
    return "dynamic" if request.calibration is None else "static, Q/DQ"


def _model_id(checkpoints: Mapping[str, Checkpoint], precision: str, hashes: list[str]) -> str:
    digest = hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    return f"{'+'.join(checkpoints)}-{precision}-{digest}"


def _weights_in_words(reference: str) -> str:
    """No folder of the machine that exported may travel: of a file, only its name."""
    kind, _, where = reference.partition(":")
    words = {
        "file": f"local file {Path(where).name}",
        "tag": f"hub tag {where}",
        "random": f"random, seed {where}",
        "built-in": f"built in, {where}",
    }
    return words.get(kind, "the hub's own")


def _notices(checkpoints: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    notices = [NOTICE]
    cards = [checkpoint.card for checkpoint in checkpoints.values()]
    if any(card.data.synthetic for card in cards):
        notices.append("trained on synthetic phantoms")
    if any(card.encoder.random for card in cards):
        notices.append("random weights, a pipeline test only")
    return tuple(notices)


def _versions() -> dict[str, str]:
    packages = ("torch", "open_clip_torch", "onnx", "onnxscript", "onnxruntime")
    return {"madclip": __version__, "opset": str(OPSET)} | {name: version(name) for name in packages}
