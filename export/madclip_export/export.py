"""Checkpoints → bundle: trace, write, load through the runtime, compare, and only then keep."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip.checkpoint import Checkpoint
from madclip.model import Model
from madclip_export.bundle_writer import file_entries, staging, write_golden
from madclip_export.calibration import calibration_images
from madclip_export.gates import Measured, ParityMissed, measure
from madclip_export.golden import golden_images
from madclip_export.graph import FusedDetector, HeadSource
from madclip_export.head_graphs import write_head_graphs
from madclip_export.model_card import CARD, model_card
from madclip_export.onnx_file import write_onnx
from madclip_export.plans import build_plans
from madclip_export.provenance import draft_manifest, metadata
from madclip_export.quantise import quantise_dynamic, quantise_static
from madclip_export.request import Request
from madclip_runtime.bundle import MANIFEST, Golden
from madclip_runtime.errors import UsageError
from madclip_runtime.files import write_whole
from madclip_runtime.manifest import Manifest, output_names

__all__ = ["Exported", "Sources", "export_bundle", "load_sources", "stage_bundle"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sources:
    """Checkpoints by head, and their models on one encoder."""

    checkpoints: Mapping[str, Checkpoint]
    models: Mapping[str, Model]

    @property
    def size(self) -> int:
        """S, pixels a side."""
        return next(iter(self.models.values())).encoder.spec.image_size


@dataclass(frozen=True)
class Exported:
    """What an export left. bytes: of all files together."""

    out: Path
    manifest: Manifest
    measured: Measured
    bytes: int


def export_bundle(sources: Sources, out: Path, request: Request, say: Say) -> Exported:
    """Raises: ParityMissed (and leaves no bundle), UsageError, InputRefused, BundleRefused, EngineRefused,
    OutputNotWritten.
    """
    with staging(out) as folder:
        manifest, measured = stage_bundle(sources, folder, request, say)
        total = sum(entry.bytes for entry in manifest.files.values())
    return Exported(out, manifest, measured, total)


def load_sources(checkpoints: Mapping[str, Checkpoint], weights: str | None) -> Sources:
    """All on one encoder, loaded once. Raises: UsageError where they were trained on different ones."""
    first_name, first = next(iter(checkpoints.items()))
    ours = first.card.encoder
    for name, checkpoint in checkpoints.items():
        theirs = checkpoint.card.encoder
        if replace(theirs, weights=ours.weights, causal_mask=ours.causal_mask) != ours:
            of = f"{theirs.name} {theirs.sha256[:12]}, head {first_name} on {ours.name} {ours.sha256[:12]}"
            do = "heads share one encoder and one input contract: export them apart"
            raise UsageError(f"head {name}", f"is on encoder {of}", do)
    model = first.model(weights)
    return Sources(checkpoints, {name: checkpoint.model_on(model.encoder) for name, checkpoint in checkpoints.items()})


def stage_bundle(sources: Sources, folder: Path, request: Request, say: Say) -> tuple[Manifest, Measured]:
    """Everything of a bundle into `folder`, gated. Raises: as export_bundle."""
    images = golden_images(sources.size, request.golden)
    _write_graph(sources, folder, request, say)
    write_head_graphs(folder, output_names(sources.models))
    answers = {name: _reference(sources.models[name], images, c) for name, c in sources.checkpoints.items()}
    write_golden(folder, images, answers)
    manifest = draft_manifest(sources.checkpoints, request, file_entries(folder))
    write_whole(folder / MANIFEST, manifest.to_json())
    measured = measure(folder, sources.checkpoints, sources.models, request.verify, say)
    if measured.missed and not request.degraded:
        raise ParityMissed(
            "export refused", f"{measured.refusal()}; no bundle was left\n" + "\n".join(measured.lines())
        )
    build_plans(folder, request.plans, say)
    return _finish(manifest, measured, folder, request), measured


def _write_graph(sources: Sources, folder: Path, request: Request, say: Say) -> None:
    first = next(iter(sources.models.values())).encoder.spec
    say(f"tracing {first.name} at {first.image_size} px, {request.precision}, {', '.join(sources.models)}")
    if request.precision != "int8":
        _trace(sources, folder, request, half=request.precision == "fp16")
        return
    images = None if request.calibration is None else calibration_images(request.calibration, first.image_size)
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=folder.parent) as temporary:
        heads = _trace(sources, Path(temporary), request, half=False)
        _quantise(Path(temporary), folder, images, heads, say)


def _trace(sources: Sources, folder: Path, request: Request, *, half: bool) -> int:
    """Returns the number of attention heads of the tower's blocks, 0 where that isn't known."""
    heads = {
        name: HeadSource(sources.models[name], checkpoint.card.image_score, checkpoint.card.map_share)
        for name, checkpoint in sources.checkpoints.items()
    }
    outputs = [name for pair in output_names(heads).values() for name in pair]
    module = FusedDetector(heads, half=half).eval()
    write_onnx(module, folder, outputs=outputs, metadata=metadata(sources.checkpoints, request.precision))
    return module.tower.heads


def _quantise(source: Path, folder: Path, images: list[npt.NDArray[np.uint8]] | None, heads: int, say: Say) -> None:
    if images is None:
        say("quantising weights to int8, activations on the fly")
        quantise_dynamic(source, folder, heads)
        return
    say(f"quantising to int8 by the ranges of {len(images)} calibration images")
    quantise_static(source, folder, images)


def _reference(model: Model, images: npt.NDArray[np.uint8], checkpoint: Checkpoint) -> Golden:
    answers = model.reference(images)
    scores = answers.image_scores(checkpoint.card.image_score, checkpoint.card.map_share)
    return Golden(images, scores.astype(np.float32), answers.maps.astype(np.float32))


def _finish(manifest: Manifest, measured: Measured, folder: Path, request: Request) -> Manifest:
    """Write what was measured into the manifest and the model card."""
    heads = {
        name: replace(head, score_error=min(measured.score_error(name), 1.0)) for name, head in manifest.heads.items()
    }
    reason = f"{measured.refusal()}; accepted: {request.degraded}" if measured.missed else ""
    notices = (*manifest.notices, f"degraded: {reason}") if reason else manifest.notices
    done = replace(manifest, gates=measured.gates, heads=heads, degraded=reason, notices=notices)
    write_whole(folder / CARD, model_card(done, measured).encode())
    done = replace(done, files=file_entries(folder))
    write_whole(folder / MANIFEST, done.to_json())
    return done
