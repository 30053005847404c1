"""The report in a few lines for a terminal; every number in them is also in the JSON."""

from __future__ import annotations

from collections.abc import Iterator

from madclip_bench.figures import Figures
from madclip_bench.pages.names import stage_name
from madclip_bench.report import Report, Setting
from madclip_bench.statistics import Summary
from madclip_bench.verdict import named_percentile
from madclip_bench.words import megabytes, milliseconds, number

__all__ = ["lines"]


def lines(report: Report) -> tuple[str, ...]:
    """Verdict first, then how it was measured, then what holds it back."""
    setting, figures = report.setting, report.figures
    return (
        *report.verdict,
        *_measured(setting, figures),
        _start(setting, figures),
        _machine(setting),
        f"images       {setting.images.used} distinct, {setting.images.source}, seed {setting.rules.seed}",
        f"bundle       {setting.bundle.model_id}, manifest {setting.bundle.digest[:16]}",
        *(f"refused      {image.file}: {image.why}" for image in setting.images.refused),
        *(f"warning      {warning}" for warning in report.warnings),
        *(f"notice       {notice}" for notice in setting.bundle.notices),
        f"digest       {report.digest}",
    )


def _measured(setting: Setting, figures: Figures) -> Iterator[str]:
    single = figures.single
    yield (
        f"measured     {setting.rules.style}, single stream: {single.latency.queries} queries after "
        f"{figures.warmup.queries} of warm-up, {single.images_per_s:.1f} images a second"
    )
    yield f"latency      {_summary(single.latency)}"
    yield f"engine only  {_summary(single.engine_only)}"
    stages = (f"{stage_name(stage)} {milliseconds(value)}" for stage, value in single.stage_median_ms.items())
    yield f"medians      {', '.join(stages)}"
    if figures.multi is not None:
        yield f"{f'{figures.multi.batch} at a time':13}{_summary(figures.multi.latency)}"


def _summary(summary: Summary) -> str:
    percentiles = ", ".join(named_percentile(percentile) for percentile in summary.percentiles)
    return f"{percentiles}; mean {summary.mean_ms:.2f}, max {summary.max_ms:.2f} ms"


def _start(setting: Setting, figures: Figures) -> str:
    cold = ""
    if figures.starts is not None:
        cold = "".join(f", {kind.kind} cold start {milliseconds(kind.total_ms)}" for kind in figures.starts.kinds)
    return (
        f"start        load {milliseconds(figures.load_ms)}, first result "
        f"{milliseconds(figures.warmup.first_result_ms)}{cold}; peak memory {megabytes(figures.peak_memory_bytes)}, "
        f"bundle {megabytes(setting.bundle.disk_bytes)} on disk"
    )


def _machine(setting: Setting) -> str:
    machine = setting.machine
    memory = number(None) if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.1f} GiB"
    return (
        f"machine      {machine.cpu}, {number(machine.usable_cpus)} of {number(machine.logical_cpus)} logical CPUs, "
        f"{number(machine.physical_cores)} physical cores, {memory}, {machine.os}, container: {machine.container}, "
        f"load {number(machine.load_before)} → {number(machine.load_after)}; {setting.engine.library}"
    )
