"""MODEL_CARD.md: what a person must know before trusting a bundle, made from its manifest and from what was measured.

It holds nothing that the manifest doesn't, but for the table of stages; and no figure without what it was measured on.
"""

from __future__ import annotations

from collections.abc import Iterator

from madclip_export.gates import Measured
from madclip_runtime.manifest import Calibration, Gate, Head, Manifest, OperatingPoint

__all__ = ["CARD", "model_card"]

CARD = "MODEL_CARD.md"
_RULES = {
    "det": "mean over patches and levels of the abnormal share",
    "map_max": "maximum of the heat map",
    "blend": "a blend of the mean over patches and the heat map's maximum",
}


def model_card(manifest: Manifest, measured: Measured) -> str:
    """Markdown. The same manifest and measurements give the same text."""
    parts = [
        f"# {manifest.model_id}",
        "\n".join(f"- **{notice}**" for notice in manifest.notices),
        "\n".join(_use(manifest)),
        *("\n".join(_head(name, head)) for name, head in manifest.heads.items()),
        "\n".join(_export(manifest)),
        "\n".join(_gate(gate) for gate in manifest.gates),
        "\n".join(_stages(measured)),
        "\n".join(_untested(manifest)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _use(manifest: Manifest) -> Iterator[str]:
    yield "## Intended use"
    yield "Research on few-shot anomaly detection in medical images: one score and one heat map per image, for a person"
    yield "to look at. Not for diagnosis, triage or any clinical decision."
    encoder = manifest.encoder
    yield ""
    origin = f"{encoder.weights}; licence: {encoder.licence}"
    yield f"Encoder: {encoder.name} ({origin}), frozen, SHA-256 {encoder.sha256[:16]}…"


def _head(name: str, head: Head) -> Iterator[str]:
    data = head.data
    yield f"## Head `{name}`"
    kind = "synthetic phantoms" if data.synthetic else "images"
    counts = f"{data.normal_shots} normal and {data.abnormal_shots} abnormal {kind}"
    yield f'- Trained on {data.dataset}: {counts} ("{data.objective}"),'
    yield f"  {'with' if data.masks else 'without'} lesion masks, {data.epochs} epochs, seed {data.seed}."
    yield f"- Score: {_RULES[head.image_score]}."
    if data.window is not None:
        limits = "per volume" if data.window.low is None else f"{data.window.low:g} to {data.window.high:g}"
        yield f"- Measured values are windowed: {data.window.name}, {limits}."
    yield from _points(head.calibration)


def _points(calibration: Calibration) -> Iterator[str]:
    if not calibration.points:
        yield f"- Uncalibrated, scores only: {calibration.reason}."
        return
    yield f"- Operating points, from {calibration.reason}:"
    yield ""
    yield "| point | threshold | sensitivity (95 % interval) | specificity (95 % interval) |"
    yield "|---|---|---|---|"
    for name, point in calibration.points.items():
        words = f"{name} (default)" if name == calibration.default else name
        yield f"| {words} | {point.threshold:.4f} | {_both(point)} |"
    for name, why in calibration.refused.items():
        yield f"| {name} | refused | {why} | |"


def _both(point: OperatingPoint) -> str:
    cells = []
    for found in (point.sensitivity, point.specificity):
        cells.append(f"{found.k}/{found.n} = {100 * found.value:.0f} % ({100 * found.low:.0f}–{100 * found.high:.0f})")
    return " | ".join(cells)


def _export(manifest: Manifest) -> Iterator[str]:
    yield "## The exported graph against the checkpoint"
    how = f", quantised: {manifest.quantisation}" if manifest.quantisation else ""
    yield f"Precision {manifest.precision}{how}. Differences are absolute, of scores and maps in 0–1."


def _gate(gate: Gate) -> str:
    cells = [
        f"{name} {value:.3g}" + (f" (limit {gate.limits[name]:.3g})" if name in gate.limits else "")
        for name, value in gate.measured.items()
    ]
    head = f" of `{gate.head}`" if gate.head else ""
    state = "kept" if gate.passed else "**MISSED**"
    return f"- {gate.name}{head}, {gate.images} images, against {gate.reference}: {state}. {', '.join(cells)}."


def _stages(measured: Measured) -> Iterator[str]:
    yield "<details><summary>Every stage against the checkpoint</summary>"
    yield ""
    yield "| stage | difference, share of the stage's root mean square | worst golden image |"
    yield "|---|---|---|"
    for stage in measured.stages:
        yield f"| {stage.name} | {stage.worst:.2e} | {stage.worst_image} |"
    yield ""
    yield "</details>"


def _untested(manifest: Manifest) -> Iterator[str]:
    yield "## What was not tested"
    yield "- Patients, scanners, hospitals and kinds of disease other than the data set's own."
    if not any(gate.name == "verification data" for gate in manifest.gates):
        yield "- Real images: the comparison above used golden images only (synthetic unless the user named others)."
    yield "- Any engine but ONNX Runtime on the exporting machine's CPU: run `madclip-run --selftest` on each box."
