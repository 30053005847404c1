"""The figures that reports are compared by, each under one short name that `--fail-if` takes too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from madclip_bench.figures import Figures
from madclip_bench.report import Report
from madclip_bench.words import joules, megabytes, milliseconds, percent, significant

__all__ = ["METRICS", "Metric"]

Show = Callable[[float], str]


@dataclass(frozen=True)
class Metric:
    """name: as in `--fail-if`. unit: of an absolute limit there. read: None where a report does not have it."""

    name: str
    title: str
    unit: str
    lower_is_better: bool
    show: Show
    read: Callable[[Report], float | None]


def _percentile(name: str) -> Callable[[Report], float | None]:
    return lambda report: report.figures.single.latency.percentile(name).value_ms


def _start(kind: str) -> Callable[[Report], float | None]:
    def read(report: Report) -> float | None:
        kinds = () if report.figures.starts is None else report.figures.starts.kinds
        return next((one.total_ms for one in kinds if one.kind == kind), None)

    return read


def _of(read: Callable[[Figures], float | None]) -> Callable[[Report], float | None]:
    return lambda report: read(report.figures)


def _joules(figures: Figures) -> float | None:
    """Of the first source, in single stream."""
    found = [source.scenarios["single"] for source in figures.energy.sources if "single" in source.scenarios]
    return found[0].joules_per_image if found else None


def _count(value: float) -> str:
    return f"{value:.0f}"


METRICS: tuple[Metric, ...] = (
    *(
        Metric(name, f"one image, {name}", "ms", True, milliseconds, _percentile(name))
        for name in ("p50", "p90", "p99", "p99.9")
    ),
    Metric("max", "one image, slowest", "ms", True, milliseconds, _of(lambda f: f.single.latency.max_ms)),
    Metric(
        "multi_p99",
        "several images, p99",
        "ms",
        True,
        milliseconds,
        _of(lambda f: None if f.multi is None else f.multi.latency.percentile("p99").value_ms),
    ),
    Metric(
        "offline",
        "pile of images, images/s",
        "images/s",
        False,
        significant,
        _of(lambda f: None if f.offline is None else f.offline.images_per_s),
    ),
    Metric(
        "server",
        "random arrivals, images/s",
        "images/s",
        False,
        significant,
        _of(lambda f: None if f.server is None else f.server.held_per_s),
    ),
    Metric(
        "rooms",
        "scanner rooms",
        "rooms",
        False,
        _count,
        _of(lambda f: None if f.scanner is None else float(f.scanner.rooms)),
    ),
    Metric("start", "cold start, launch to answer", "ms", True, milliseconds, _start("again")),
    Metric("first_start", "the very first start", "ms", True, milliseconds, _start("first")),
    Metric(
        "memory",
        "peak memory, one image",
        "bytes",
        True,
        megabytes,
        _of(
            lambda f: (
                None if f.starts is None or f.starts.peak_memory_bytes is None else float(f.starts.peak_memory_bytes)
            )
        ),
    ),
    Metric("disk", "bundle on disk", "bytes", True, megabytes, lambda report: float(report.setting.bundle.disk_bytes)),
    Metric("packages", "packages on disk", "bytes", True, megabytes, lambda r: float(r.setting.packages.total_bytes)),
    Metric("energy", "energy an image", "J", True, joules, _of(_joules)),
    Metric(
        "image_auroc",
        "image AUROC",
        "0–1",
        False,
        percent,
        _of(lambda f: None if f.accuracy.image_auroc is None else f.accuracy.image_auroc.value),
    ),
    Metric(
        "pixel_auroc",
        "pixel AUROC",
        "0–1",
        False,
        percent,
        _of(lambda f: None if f.accuracy.pixel_auroc is None else f.accuracy.pixel_auroc.auroc.value),
    ),
    Metric(
        "sensitivity",
        "sensitivity",
        "0–1",
        False,
        percent,
        _of(lambda f: None if f.accuracy.sensitivity is None else f.accuracy.sensitivity.value),
    ),
    Metric(
        "specificity",
        "specificity",
        "0–1",
        False,
        percent,
        _of(lambda f: None if f.accuracy.specificity is None else f.accuracy.specificity.value),
    ),
)
