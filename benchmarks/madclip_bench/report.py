"""The report: figures and verdict from samples, as JSON first. The one-page contract is docs/report.md.

Every figure here is computed from the rounded samples that the report itself carries, so that whoever holds the file
can compute it again. What this module does not know: how anything was timed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from madclip_bench.images import LEAST_DISTINCT, ImageCard
from madclip_bench.machine import NOT_MEASURED, Machine
from madclip_bench.run import Rules, Samples, Warmup
from madclip_bench.statistics import MAX_WINDOW_SPREAD, Percentile, Stability, Summary, stability, summarise
from madclip_runtime.bundle import MANIFEST, Bundle
from madclip_runtime.engines import EngineInfo
from madclip_runtime.manifest import DataCard, EncoderCard
from madclip_runtime.schema import SchemaError, decode, encode

__all__ = [
    "FORMAT",
    "NOT_FOR_PROCUREMENT",
    "SPEED_ONLY",
    "Absent",
    "BundleCard",
    "Figures",
    "Report",
    "Setting",
    "build",
]

FORMAT = "madclip-report/1"
NOT_FOR_PROCUREMENT = "not for procurement"
SPEED_ONLY = "speed only"
MAX_VARIATION = 0.025
MAX_OUTSIDE_SHARE = 0.01


@dataclass(frozen=True)
class Absent:
    """A part of the report this run did not measure: status says so in a word, why in a sentence."""

    status: str
    why: str


@dataclass(frozen=True)
class BundleCard:
    """Which bundle. digest: SHA-256 of its manifest, which holds the hash of every file that ran."""

    model_id: str
    digest: str
    precision: str
    head: str
    image_score: str
    input_size: int
    disk_bytes: int
    encoder: EncoderCard
    data: DataCard
    notices: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle, name: str) -> BundleCard:
        """From a checked bundle and the head that is timed; disk_bytes: the files its manifest lists, and itself."""
        manifest, head = bundle.manifest, bundle.manifest.heads[name]
        return cls(
            model_id=manifest.model_id,
            digest=bundle.digest,
            precision=manifest.precision,
            head=name,
            image_score=head.image_score,
            input_size=manifest.input.size,
            disk_bytes=sum(entry.bytes for entry in manifest.files.values()) + (bundle.path / MANIFEST).stat().st_size,
            encoder=manifest.encoder,
            data=head.data,
            notices=manifest.notices,
        )


@dataclass(frozen=True)
class Setting:
    """What was timed, on what, by which rules: everything but the samples.

    load_ms: wall time of Detector.load: hashing the bundle's files, importing the engine's library, its session.
    """

    started_utc: str
    bench_version: str
    rules: Rules
    bundle: BundleCard
    engine: EngineInfo
    machine: Machine
    images: ImageCard
    warmup: Warmup
    load_ms: float
    duration_s: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Figures:
    """What the samples say.

    latency: bytes of an encoded image → Result (decode, preprocess, compute and the little around them).
    engine_only: compute alone. stage_median_ms: decode, preprocess, compute, and "other" (the rest of the latency).
    outside_share: the part of the counted duration that lies in no latency, i.e. the bench's own work.
    """

    latency: Summary
    engine_only: Summary
    stage_median_ms: dict[str, float]
    images_per_s: float
    outside_share: float
    stability: Stability

    @classmethod
    def of(cls, samples: Samples, duration_s: float) -> Figures:
        """Compute every figure from the samples."""
        total_s = math.fsum(samples.latency_ms) / 1e3
        return cls(
            latency=summarise(samples.latency_ms),
            engine_only=summarise(samples.stage_ms["compute"]),
            stage_median_ms=_stage_medians(samples),
            images_per_s=round(len(samples.order) / duration_s, 4) if duration_s > 0 else 0.0,
            outside_share=round(max(0.0, 1 - total_s / duration_s), 6) if duration_s > 0 else 0.0,
            stability=stability(samples.latency_ms),
        )


@dataclass(frozen=True)
class Report:
    """One run. marks: short labels that must stand beside any figure quoted from it; warnings: sentences.

    samples: None only in what was read from the summary that a run prints.
    """

    verdict: str
    marks: tuple[str, ...]
    warnings: tuple[str, ...]
    setting: Setting
    figures: Figures
    accuracy: Absent
    energy: Absent
    samples: Samples | None = None
    format: str = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise SchemaError(f"format {self.format!r}; this version reads {FORMAT}")

    def to_json(self) -> bytes:
        """UTF-8 JSON, indented for people but for the samples, which stand last on one line."""
        head = json.dumps(self.summary(), indent=2, ensure_ascii=False, allow_nan=False)
        samples = json.dumps(encode(self.samples), separators=(",", ":"), allow_nan=False)
        return f'{head[:-2]},\n  "samples": {samples}\n}}\n'.encode()

    def summary(self) -> dict[str, Any]:
        """The report without its samples, `format` first."""
        everything = encode(self)
        kept = {key: value for key, value in everything.items() if key not in ("format", "samples")}
        return {"format": self.format, **kept}

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """Raises: SchemaError with the path of the first fault."""
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"not JSON ({str(error)[:80]})") from None
        return decode(cls, parsed)


def build(setting: Setting, samples: Samples) -> Report:
    """The whole report of one run."""
    figures = Figures.of(samples, setting.duration_s)
    draft = Report(
        verdict="",
        marks=_marks(setting, figures),
        warnings=_warnings(setting, figures),
        setting=setting,
        figures=figures,
        accuracy=Absent(SPEED_ONLY, "this version does not evaluate the bundle it times"),
        energy=Absent(NOT_MEASURED, "this version reads no power counter"),
        samples=samples,
    )
    return replace(draft, verdict=_verdict(draft))


def _stage_medians(samples: Samples) -> dict[str, float]:
    medians = {stage: float(np.median(values)) for stage, values in samples.stage_ms.items()}
    inside = np.sum([np.asarray(values) for values in samples.stage_ms.values()], axis=0)
    medians["other"] = float(np.median(np.asarray(samples.latency_ms) - inside))
    return {stage: round(value, 4) for stage, value in medians.items()}


def _marks(setting: Setting, figures: Figures) -> tuple[str, ...]:
    unstable = figures.stability.verdict != "stable"
    synthetic, few = setting.images.synthetic, setting.images.used < LEAST_DISTINCT
    marks = {
        NOT_FOR_PROCUREMENT: setting.rules.quick or synthetic or few or unstable,
        "quick run": setting.rules.quick,
        "synthetic images": synthetic,
        "few images": few,
        "unstable": unstable,
        "random weights": setting.bundle.encoder.random,
        SPEED_ONLY: True,
    }
    return tuple(mark for mark, holds in marks.items() if holds)


def _warnings(setting: Setting, figures: Figures) -> tuple[str, ...]:
    images, steady, cpus = setting.images, figures.stability, setting.machine.logical_cpus or 1
    load = setting.machine.load_before
    found = {
        f"only {images.used} distinct images, fewer than {LEAST_DISTINCT}": images.used < LEAST_DISTINCT,
        f"{len(images.refused)} image(s) of the folder could not be read": bool(images.refused),
        f"the windows' medians differ by {steady.window_spread:.1%}, more than {MAX_WINDOW_SPREAD:.0%}: "
        "the machine was not steady": steady.verdict != "stable",
        f"coefficient of variation {steady.coefficient_of_variation:.1%}, more than {MAX_VARIATION:.1%}": (
            steady.coefficient_of_variation > MAX_VARIATION
        ),
        f"{figures.outside_share:.1%} of the run lies outside every latency": figures.outside_share > MAX_OUTSIDE_SHARE,
        f"load average {load} before the run: other work was, or had just been, going on": (
            load is not None and load > cpus / 2
        ),
    }
    return tuple(sentence for sentence, holds in found.items() if holds)


def _verdict(report: Report) -> str:
    """The headline in plain words: p90 is what single stream is judged by."""
    setting, engine = report.setting, report.setting.engine
    p90 = next(item for item in report.figures.latency.percentiles if item.name == "p90")
    marks = f" ({', '.join(report.marks)})" if report.marks else ""
    return (
        f"{_headline(p90)} an image on {setting.machine.cpu}, engine {engine.name} {engine.precision}, "
        f"{report.figures.stability.verdict}{marks}"
    )


def _headline(percentile: Percentile) -> str:
    if percentile.value_ms is None or percentile.early_stopping_ms is None:
        return f"{percentile.name} {percentile.note}"
    return f"{percentile.name} {percentile.value_ms:.1f} ms (99 % sure: ≤ {percentile.early_stopping_ms:.1f} ms)"
