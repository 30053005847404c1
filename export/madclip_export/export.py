"""Checkpoints → bundle: trace, write, load through the runtime, compare, and only then keep."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from madclip.checkpoint import Checkpoint
from madclip.model import Model
from madclip_export import __version__
from madclip_export.bundle_writer import file_entries, staging, write_golden
from madclip_export.golden import golden_images
from madclip_export.graph import FusedDetector, HeadSource
from madclip_export.onnx_file import OPSET, write_onnx
from madclip_export.parity import Parity, ParityMissed, measure_parity
from madclip_runtime.bundle import MANIFEST, Bundle, Golden
from madclip_runtime.engines import load_engine
from madclip_runtime.errors import UsageError
from madclip_runtime.files import write_whole
from madclip_runtime.manifest import NOTICE, EncoderCard, Head, InputContract, Manifest, output_names

__all__ = ["Exported", "export_bundle"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What an export left. parity: by head. bytes: of all files together."""

    out: Path
    manifest: Manifest
    parity: dict[str, Parity]
    bytes: int


def export_bundle(
    checkpoints: Mapping[str, Checkpoint],
    out: Path,
    *,
    precision: str,
    weights: str | None,
    golden: Sequence[Path],
    say: Say,
) -> Exported:
    """checkpoints: by head, all on one encoder. precision: "fp32" or "fp16". golden: images that may travel.

    Raises: ParityMissed (and leaves no bundle), UsageError, InputRefused, BundleRefused, EngineRefused,
    OutputNotWritten.
    """
    models = _models(checkpoints, weights)
    spec = next(iter(models.values())).encoder.spec
    images = golden_images(spec.image_size, golden)
    with staging(out) as folder:
        say(f"tracing {spec.name} at {spec.image_size} px, {precision}, {', '.join(checkpoints)}")
        sources = [HeadSource(models[name], c.card.image_score, c.card.map_share) for name, c in checkpoints.items()]
        module = FusedDetector(sources, half=precision == "fp16").eval()
        outputs = [name for pair in output_names(checkpoints).values() for name in pair]
        metadata = _metadata(checkpoints, precision)
        write_onnx(module, folder, size=spec.image_size, outputs=outputs, metadata=metadata)
        del module
        write_golden(folder, images, {name: _reference(models[name], images, c) for name, c in checkpoints.items()})
        manifest = _manifest(checkpoints, precision, folder)
        say(f"comparing with the checkpoint on {len(images)} golden images")
        manifest, parity = _gated(manifest, folder)
        total = sum(entry.bytes for entry in manifest.files.values())
    return Exported(out, manifest, parity, total)


def _models(checkpoints: Mapping[str, Checkpoint], weights: str | None) -> dict[str, Model]:
    """All on one encoder, loaded once. Raises: UsageError where they were trained on different ones."""
    first_name, first = next(iter(checkpoints.items()))
    for name, checkpoint in checkpoints.items():
        ours, theirs = first.card.encoder, checkpoint.card.encoder
        if replace(theirs, weights=ours.weights, causal_mask=ours.causal_mask) != ours:
            why = (
                f"is on encoder {theirs.name} {theirs.sha256[:12]}, head {first_name} on {ours.name} {ours.sha256[:12]}"
            )
            raise UsageError(f"head {name}", why, "heads share one encoder and one input contract: export them apart")
    model = first.model(weights)
    return {name: checkpoint.model_on(model.encoder) for name, checkpoint in checkpoints.items()}


def _reference(model: Model, images: np.ndarray, checkpoint: Checkpoint) -> Golden:
    answers = model.reference(images)
    scores = answers.image_scores(checkpoint.card.image_score, checkpoint.card.map_share)
    return Golden(images, scores.astype(np.float32), answers.maps.astype(np.float32))


def _gated(manifest: Manifest, folder: Path) -> tuple[Manifest, dict[str, Parity]]:
    """Load the staged bundle exactly as a hospital would, compare, and write the numbers into its manifest."""
    write_whole(folder / MANIFEST, manifest.to_json())
    bundle = Bundle.load(folder)
    engine = load_engine(bundle, "cpu")
    parity = {head: measure_parity(engine, bundle.golden(head), manifest.precision, head) for head in manifest.heads}
    gates = tuple(found.gate() for found in parity.values())
    for gate, found in zip(gates, parity.values(), strict=True):
        if not gate.passed:
            missed = [n for n, limit in gate.limits.items() if not gate.measured[n] <= limit]
            raise ParityMissed(
                "export refused",
                f"{gate.head}: {', '.join(missed)} beyond the limit for {manifest.precision}; no bundle was left\n"
                f"{found.table()}",
            )
    heads = {name: replace(head, score_error=parity[name].measured["score"]) for name, head in manifest.heads.items()}
    final = replace(manifest, gates=gates, heads=heads)
    write_whole(folder / MANIFEST, final.to_json())
    return final, parity


def _manifest(checkpoints: Mapping[str, Checkpoint], precision: str, folder: Path) -> Manifest:
    spec = next(iter(checkpoints.values())).card.encoder
    files = file_entries(folder)
    return Manifest(
        model_id=_model_id(checkpoints, precision, [entry.sha256 for entry in files.values()]),
        precision=precision,
        input=InputContract(size=spec.image_size, mean=spec.mean, std=spec.std),
        encoder=EncoderCard(spec.name, _weights_in_words(spec.weights), spec.sha256, spec.random, spec.taps),
        heads={name: _head(checkpoint) for name, checkpoint in checkpoints.items()},
        gates=(),
        versions=_versions(),
        files=files,
        notices=_notices(checkpoints),
    )


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


def _model_id(checkpoints: Mapping[str, Checkpoint], precision: str, hashes: list[str]) -> str:
    digest = hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    return f"{'+'.join(checkpoints)}-{precision}-{digest}"


def _weights_in_words(reference: str) -> str:
    """No folder of the machine that exported may travel: of a file, only its name."""
    kind, _, where = reference.partition(":")
    words = {"file": f"local file {Path(where).name}", "tag": f"hub tag {where}", "random": f"random, seed {where}"}
    return words.get(kind, "the hub's own")


def _notices(checkpoints: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    notices = [NOTICE]
    cards = [checkpoint.card for checkpoint in checkpoints.values()]
    if any(card.data.synthetic for card in cards):
        notices.append("trained on synthetic phantoms")
    if any(card.encoder.random for card in cards):
        notices.append("random weights, a pipeline test only")
    return tuple(notices)


def _metadata(checkpoints: Mapping[str, Checkpoint], precision: str) -> dict[str, str]:
    spec = next(iter(checkpoints.values())).card.encoder
    return {
        "madclip": __version__,
        "heads": ",".join(checkpoints),
        "precision": precision,
        "image_score": ",".join(checkpoint.card.image_score for checkpoint in checkpoints.values()),
        "input": f"image uint8 [N, {spec.image_size}, {spec.image_size}, 3] RGB",
        "checkpoint_sha256": ",".join(checkpoint.sha256 for checkpoint in checkpoints.values()),
        "notice": NOTICE,
    }


def _versions() -> dict[str, str]:
    packages = ("torch", "open_clip_torch", "onnx", "onnxscript", "onnxruntime")
    return {"madclip": __version__, "opset": str(OPSET)} | {name: version(name) for name in packages}
