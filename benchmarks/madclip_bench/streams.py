"""Figures of closed-loop stretches: single stream, multi-stream, offline. Each comes from a Trial and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from madclip_bench.statistics import Stability, Summary, stability, summarise
from madclip_bench.trial import Trial

__all__ = ["IMAGE_STAGES", "OTHER", "OfflineFigures", "StreamFigures", "SweepPoint"]

IMAGE_STAGES = ("decode", "preprocess", "postprocess")
"""Stages that are work on an image in the CPU's memory; every other one belongs to the engine."""
OTHER = "other"


@dataclass(frozen=True)
class StreamFigures:
    """latency: issue to answer of a whole query of `batch` images. engine_only: the stages that are the engine's.

    stage_median_ms: of each stage, and "other", the rest of the latency. outside_share: the part of the duration that
    lies in no latency, i.e. the bench's own work.
    """

    batch: int
    latency: Summary
    engine_only: Summary
    stage_median_ms: dict[str, float]
    images_per_s: float
    outside_share: float
    stability: Stability

    @classmethod
    def of(cls, trial: Trial) -> StreamFigures:
        """Compute every figure from the samples."""
        inside_s = math.fsum(trial.latency_ms) / 1e3
        outside = 1 - inside_s / trial.duration_s if trial.duration_s > 0 else 0.0
        return cls(
            batch=trial.batch,
            latency=summarise(trial.latency_ms),
            engine_only=summarise(_engine_ms(trial)),
            stage_median_ms=_stage_medians(trial),
            images_per_s=round(trial.images_per_s, 4),
            outside_share=round(max(0.0, outside), 6),
            stability=stability(trial.latency_ms),
        )


@dataclass(frozen=True)
class SweepPoint:
    """A short stretch at one number of images handed over together. median_ms: of a whole query."""

    batch: int
    queries: int
    images_per_s: float
    median_ms: float


@dataclass(frozen=True)
class OfflineFigures:
    """Throughput where all images are there at once. batch: the best of the sweep; the long stretch was run with it."""

    batch: int
    images_per_s: float
    queries: int
    stability: Stability
    sweep: tuple[SweepPoint, ...]

    @classmethod
    def of(cls, trial: Trial, sweep: tuple[Trial, ...]) -> OfflineFigures:
        """Compute every figure from the samples."""
        points = tuple(_point(one) for one in sweep)
        rate = round(trial.images_per_s, 4)
        return cls(trial.batch, rate, trial.queries, stability(trial.latency_ms), points)


def _point(trial: Trial) -> SweepPoint:
    median = round(float(np.median(trial.latency_ms)), 4)
    return SweepPoint(trial.batch, trial.queries, round(trial.images_per_s, 4), median)


def _engine_ms(trial: Trial) -> list[float]:
    columns = [values for name, values in trial.stage_ms.items() if name not in IMAGE_STAGES]
    return [round(math.fsum(parts), 4) for parts in zip(*columns, strict=True)] or [0.0] * trial.queries


def _stage_medians(trial: Trial) -> dict[str, float]:
    medians = {stage: float(np.median(values)) for stage, values in trial.stage_ms.items()}
    rest = np.array(trial.latency_ms, dtype=np.float64)
    for values in trial.stage_ms.values():
        rest -= np.asarray(values)
    medians[OTHER] = float(np.median(rest))
    return {stage: round(value, 4) for stage, value in medians.items()}
