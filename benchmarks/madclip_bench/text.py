"""The report in a few lines for a person; every number in them is also in the JSON."""

from __future__ import annotations

from madclip_bench.machine import NOT_MEASURED
from madclip_bench.report import NOT_FOR_PROCUREMENT, Figures, Report, Setting
from madclip_bench.statistics import Percentile, Summary

__all__ = ["lines"]


def lines(report: Report) -> tuple[str, ...]:
    """Verdict first, then how it was measured, then what holds it back."""
    setting, figures = report.setting, report.figures
    shouted = (f"{NOT_FOR_PROCUREMENT.upper()}: {_reasons(report)}",) if NOT_FOR_PROCUREMENT in report.marks else ()
    return (
        report.verdict,
        *shouted,
        _how(setting, figures),
        f"latency      {_summary(figures.latency)}",
        f"engine only  {_summary(figures.engine_only)}",
        "medians      " + ", ".join(f"{stage} {value:.2f} ms" for stage, value in figures.stage_median_ms.items()),
        _start(setting),
        _machine(setting),
        f"images       {setting.images.used} distinct, {setting.images.source}, seed {setting.rules.seed}",
        f"bundle       {setting.bundle.model_id}, manifest {setting.bundle.digest[:16]}",
        f"accuracy     {report.accuracy.status}: {report.accuracy.why}",
        f"energy       {report.energy.status}: {report.energy.why}",
        *(f"refused      {image.file}: {image.why}" for image in setting.images.refused),
        *(f"warning      {warning}" for warning in report.warnings),
        *(f"notice       {notice}" for notice in setting.bundle.notices),
    )


def _reasons(report: Report) -> str:
    reasons = ("quick run", "synthetic images", "few images", "unstable")
    return ", ".join(mark for mark in report.marks if mark in reasons)


def _how(setting: Setting, figures: Figures) -> str:
    return (
        f"measured     {setting.rules.style}, {setting.rules.scenario}: {figures.latency.queries} queries in "
        f"{setting.duration_s:.1f} s ({figures.images_per_s:.1f} a second) after {setting.warmup.queries} of warm-up"
    )


def _summary(summary: Summary) -> str:
    percentiles = ", ".join(_percentile(percentile) for percentile in summary.percentiles)
    return f"{percentiles}; mean {summary.mean_ms:.2f}, max {summary.max_ms:.2f} ms"


def _percentile(percentile: Percentile) -> str:
    if percentile.value_ms is None or percentile.early_stopping_ms is None:
        return f"{percentile.name} {percentile.note}"
    return f"{percentile.name} {percentile.value_ms:.2f} ms (≤ {percentile.early_stopping_ms:.2f})"


def _start(setting: Setting) -> str:
    peak = setting.peak_memory_bytes
    memory = NOT_MEASURED if peak is None else f"{peak / 1e6:.0f} MB"
    return (
        f"start        load {setting.load_ms:.0f} ms, first result {setting.warmup.first_result_ms:.1f} ms; "
        f"peak memory {memory}, bundle {setting.bundle.disk_bytes / 1e6:.1f} MB on disk"
    )


def _machine(setting: Setting) -> str:
    machine = setting.machine
    memory = NOT_MEASURED if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.1f} GiB"
    return (
        f"machine      {machine.cpu}, {_number(machine.usable_cpus)} of {_number(machine.logical_cpus)} logical CPUs, "
        f"{_number(machine.physical_cores)} physical cores, {memory}, {machine.os}, container: {machine.container}, "
        f"load {_number(machine.load_before)} → {_number(machine.load_after)}; {setting.engine.library}"
    )


def _number(value: float | None) -> str:
    return NOT_MEASURED if value is None else str(value)
