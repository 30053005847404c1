"""Checkpoint → bundle: trace, write, load through the runtime, compare, and only then keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from madclip.checkpoint import Checkpoint
from madclip.model import Model
from madclip_export import __version__
from madclip_export.bundle_writer import file_entries, staging, write_golden
from madclip_export.golden import golden_images
from madclip_export.graph import FusedDetector
from madclip_export.onnx_file import OPSET, write_onnx
from madclip_export.parity import Parity, ParityMissed, measure_parity
from madclip_runtime.bundle import MANIFEST, Bundle, Golden
from madclip_runtime.engines import load_engine
from madclip_runtime.files import write_whole
from madclip_runtime.manifest import NOTICE, EncoderCard, InputContract, Manifest

__all__ = ["Exported", "export_bundle"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What an export left. bytes: of all files together."""

    out: Path
    manifest: Manifest
    parity: Parity
    bytes: int


def export_bundle(
    checkpoint: Checkpoint, out: Path, *, precision: str, weights: str | None, golden: Sequence[Path], say: Say
) -> Exported:
    """precision: "fp32" or "fp16". golden: images the user lets travel in the bundle.

    Raises: ParityMissed (and leaves no bundle), InputRefused, BundleRefused, EngineRefused, OutputNotWritten.
    """
    model = checkpoint.model(weights)
    rule = checkpoint.card.image_score
    size = checkpoint.card.encoder.image_size
    images = golden_images(size, golden)
    with staging(out) as folder:
        say(f"tracing {checkpoint.card.encoder.name} at {size} px, {precision}")
        module = FusedDetector(model, image_score=rule, half=precision == "fp16").eval()
        write_onnx(module, folder, size=size, metadata=_metadata(checkpoint, precision))
        del module
        write_golden(folder, _reference(model, images, rule))
        manifest = _manifest(checkpoint, precision, folder)
        say(f"comparing with the checkpoint on {len(images)} golden images")
        manifest, parity = _gated(manifest, folder)
        total = sum(entry.bytes for entry in manifest.files.values())
    return Exported(out, manifest, parity, total)


def _reference(model: Model, images: np.ndarray, rule: str) -> Golden:
    answers = model.reference(images)
    return Golden(images, answers.image_scores(rule).astype(np.float32), answers.maps.astype(np.float32))


def _gated(manifest: Manifest, folder: Path) -> tuple[Manifest, Parity]:
    """Load the staged bundle exactly as a hospital would, compare, and write the numbers into its manifest."""
    write_whole(folder / MANIFEST, manifest.to_json())
    bundle = Bundle.load(folder)
    parity = measure_parity(load_engine(bundle, "cpu"), bundle.golden(), manifest.precision)
    gate = parity.gate()
    if not gate.passed:
        missed = [n for n, limit in gate.limits.items() if not gate.measured[n] <= limit]
        raise ParityMissed(
            "export refused",
            f"{', '.join(missed)} beyond the limit for {manifest.precision}; no bundle was left\n{parity.table()}",
        )
    final = replace(manifest, gates=(gate,))
    write_whole(folder / MANIFEST, final.to_json())
    return final, parity


def _manifest(checkpoint: Checkpoint, precision: str, folder: Path) -> Manifest:
    card, spec = checkpoint.card, checkpoint.card.encoder
    files = file_entries(folder)
    return Manifest(
        model_id=_model_id(card.data.dataset, precision, [entry.sha256 for entry in files.values()]),
        precision=precision,
        image_score=card.image_score,
        input=InputContract(size=spec.image_size, mean=spec.mean, std=spec.std),
        calibration=card.calibration,
        encoder=EncoderCard(spec.name, _weights_in_words(spec.weights), spec.sha256, spec.random, spec.taps),
        data=card.data,
        gates=(),
        checkpoint_sha256=checkpoint.sha256,
        versions=_versions(),
        files=files,
        notices=_notices(checkpoint),
    )


def _model_id(dataset: str, precision: str, hashes: list[str]) -> str:
    import hashlib

    digest = hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    return f"{dataset}-{precision}-{digest}"


def _weights_in_words(reference: str) -> str:
    """No folder of the machine that exported may travel: of a file, only its name."""
    kind, _, where = reference.partition(":")
    words = {"file": f"local file {Path(where).name}", "tag": f"hub tag {where}", "random": f"random, seed {where}"}
    return words.get(kind, "the hub's own")


def _notices(checkpoint: Checkpoint) -> tuple[str, ...]:
    notices = [NOTICE]
    if checkpoint.card.data.synthetic:
        notices.append("trained on synthetic phantoms")
    if checkpoint.card.encoder.random:
        notices.append("random weights, a pipeline test only")
    return tuple(notices)


def _metadata(checkpoint: Checkpoint, precision: str) -> dict[str, str]:
    spec = checkpoint.card.encoder
    return {
        "madclip": __version__,
        "dataset": checkpoint.card.data.dataset,
        "precision": precision,
        "image_score": checkpoint.card.image_score,
        "input": f"image uint8 [N, {spec.image_size}, {spec.image_size}, 3] RGB",
        "checkpoint_sha256": checkpoint.sha256,
        "notice": NOTICE,
    }


def _versions() -> dict[str, str]:
    packages = ("torch", "open_clip_torch", "onnx", "onnxscript", "onnxruntime")
    return {"madclip": __version__, "opset": str(OPSET)} | {name: version(name) for name in packages}
