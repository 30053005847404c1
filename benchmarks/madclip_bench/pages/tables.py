"""What the pages show, as plain tables of text: the measured part. Renderers differ only in how a table looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from madclip_bench.accuracy import AccuracyFigures
from madclip_bench.delivery import DeliveryFigures
from madclip_bench.energy import EnergyFigures
from madclip_bench.figures import Figures
from madclip_bench.intervals import Interval
from madclip_bench.pages.names import stage_name
from madclip_bench.scanner import RoomsPoint, ScannerFigures
from madclip_bench.server import HELD, RatePoint, ServerFigures
from madclip_bench.statistics import Percentile
from madclip_bench.streams import OfflineFigures, StreamFigures
from madclip_bench.verdict import STREAMS
from madclip_bench.words import duration, joules, megabytes, milliseconds, number, percent, significant
from madclip_runtime.manifest import Proportion

__all__ = ["Table", "measured_tables"]


@dataclass(frozen=True)
class Table:
    """title; lead: a sentence under it; header: one word a column; rows: text. key: a short name for links."""

    key: str
    title: str
    lead: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def measured_tables(figures: Figures) -> tuple[Table, ...]:
    """Every measured figure, scenario by scenario; what was not measured says so."""
    tables = [
        _stream("single", "One image at a time", figures.single),
        _stages(figures.single, figures.delivery),
        None if figures.multi is None else _stream("multi", f"{figures.multi.batch} images at a time", figures.multi),
        None if figures.offline is None else _offline(figures.offline),
        None if figures.server is None else _server(figures.server),
        None if figures.scanner is None else _scanner(figures.scanner),
        _accuracy(figures.accuracy),
        _energy(figures.energy),
        _starts(figures),
        _quiet(figures),
    ]
    return tuple(table for table in tables if table is not None)


def _stream(key: str, title: str, found: StreamFigures) -> Table:
    latency, steady = found.latency, found.stability
    rows = [_percentile_row(one) for one in latency.percentiles]
    rows += [
        ("mean", milliseconds(latency.mean_ms), ""),
        ("fastest, slowest", f"{milliseconds(latency.min_ms)}, {milliseconds(latency.max_ms)}", ""),
        ("images a second", significant(found.images_per_s), ""),
        ("steadiness", f"{steady.verdict}: windows differ by {percent(steady.window_spread)}", ""),
    ]
    lead = (
        f"{latency.queries:,} queries, the next issued when the last is answered. Time from a file's bytes in memory "
        "to the result, waiting included; nothing is left out."
    )
    return Table(key, title, lead, ("latency", "measured", "99 % sure: at most"), tuple(rows))


def _percentile_row(one: Percentile) -> tuple[str, str, str]:
    words = {"p50": "half of all", "p90": "9 of 10", "p99": "99 of 100", "p99.9": "999 of 1000"}
    label = f"{one.name} ({words.get(one.name, '')})"
    if one.value_ms is None or one.early_stopping_ms is None:
        return (label, one.note, "")
    return (label, milliseconds(one.value_ms), milliseconds(one.early_stopping_ms))


def _stages(single: StreamFigures, delivery: DeliveryFigures | None) -> Table:
    medians = single.stage_median_ms
    total = sum(medians.values()) or 1.0
    rows = [(stage_name(stage), milliseconds(ms), percent(ms / total)) for stage, ms in medians.items()]
    if delivery is not None:
        rows.append((f"after that: {stage_name('overlay')}", milliseconds(delivery.postprocess_ms), ""))
        rows.append((f"after that: {stage_name('write')}", milliseconds(delivery.write_ms), ""))
    lead = "Medians of each stage, one image at a time. What comes after the result is not part of the latency."
    return Table("stages", "Where the time goes", lead, ("stage", "median", "share"), tuple(rows))


def _offline(found: OfflineFigures) -> Table:
    rows = [
        (str(point.batch), significant(point.images_per_s), milliseconds(point.median_ms), str(point.queries))
        for point in found.sweep
    ]
    lead = (
        f"A pile of images, {found.batch} handed over at once: {significant(found.images_per_s)} images a second over "
        f"{found.queries:,} queries ({found.stability.verdict}). The table is from short stretches."
    )
    header = ("at once", "images a second", "median of a query", "queries")
    return Table("offline", "Throughput", lead, header, tuple(rows))


def _server(found: ServerFigures) -> Table:
    bound = duration(found.bound_ms / 1e3)
    held = "no rate" if found.held_per_s is None else f"{significant(found.held_per_s)} images a second"
    missed = "" if found.missed_per_s is None else f" At {significant(found.missed_per_s)} it was lost."
    note = f" ({found.note})" if found.note else ""
    lead = (
        f"Images arrive at random (Poisson) and wait in line; 99 of 100 must be answered within {bound}, counted from "
        f"their arrival. Held: {held}{note}.{missed}"
    )
    header = ("images a second", "queries", "p99, 99 % sure: at most", "later than that", "busy", "verdict")
    return Table("server", "Random arrivals", lead, header, tuple(_rate_row(point) for point in found.tried))


def _rate_row(point: RatePoint) -> tuple[str, ...]:
    bound = point.percentile.early_stopping_ms
    return (
        significant(point.rate_per_s),
        f"{point.queries:,}",
        point.percentile.note if bound is None else milliseconds(bound),
        str(point.over_bound),
        percent(point.busy_share),
        "holds" if point.verdict == HELD else point.verdict,
    )


def _scanner(found: ScannerFigures) -> Table:
    scaled = ""
    if found.scale != 1:
        small = f"{found.slices * found.scale:.0f} slices every {duration(found.period_s * found.scale)}"
        scaled = f" In this quick run it was tried as {small}: the same images a second, in smaller exams."
    lead = (
        f"Each room sends {found.slices} slices every {duration(found.period_s)}; an exam is in time when its last "
        f"slice is answered within {duration(found.deadline_s)}. The box keeps up with {found.rooms}.{scaled}"
    )
    header = ("rooms", "exams", "late", "slowest exam", "busy", "verdict")
    return Table("scanner", "Scanner rooms", lead, header, tuple(_rooms_row(point) for point in found.tried))


def _rooms_row(point: RoomsPoint) -> tuple[str, ...]:
    return (
        str(point.rooms),
        str(point.exams),
        str(point.late),
        milliseconds(point.slowest_s * 1e3),
        percent(point.busy_share),
        "keeps up" if point.keeps_up else "falls behind",
    )


def _accuracy(found: AccuracyFigures) -> Table:
    title = "Accuracy from the same engine"
    if found.image_auroc is None:
        return Table("accuracy", title, f"Speed only: {found.why}.", ("figure", "measured"), ())
    rows = [("image AUROC", _area(found.image_auroc), "")]
    if found.pixel_auroc is not None:
        rows.append(("pixel AUROC", _area(found.pixel_auroc.auroc), ""))
    for name, share in (("sensitivity", found.sensitivity), ("specificity", found.specificity)):
        if share is not None:
            rows.append((f"{name} at {found.point}", _share(share), ""))
    rows += [
        (f"{one.name} by the manifest", _area(one.promised), f"{one.verdict} ({one.source})") for one in found.promises
    ]
    at = "" if found.threshold is None else f" Abnormal means a score of at least {found.threshold:.4f}."
    lead = (
        f"{found.dataset}, test images: {found.normal} normal, {found.abnormal} abnormal, answered by the engine that "
        f"was timed.{at} 95 % intervals. " + " ".join(f"{note.capitalize()}." for note in found.notes)
    )
    return Table("accuracy", title, lead, ("figure", "measured (95 % interval)", ""), tuple(rows))


def _area(interval: Interval) -> str:
    if interval.low == interval.high:
        return percent(interval.value)
    return f"{percent(interval.value)} ({percent(interval.low)} to {percent(interval.high)})"


def _share(share: Proportion) -> str:
    return f"{share.k} of {share.n}: {percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _energy(found: EnergyFigures) -> Table:
    header = ("source", "work", "an image", "mean power", "at rest")
    rows = [
        (
            source.covers,
            STREAMS[name],
            joules(one.joules_per_image),
            f"{significant(one.mean_w)} W",
            _watts(source.idle_w),
        )
        for source in found.sources
        for name, one in source.scenarios.items()
    ]
    lead = f"Not measured: {found.why}." if not rows else "What the source draws at rest is part of an image's share."
    return Table("energy", "Energy", lead, header, tuple(rows))


def _watts(value: float | None) -> str:
    return number(None) if value is None else f"{significant(value)} W"


def _starts(figures: Figures) -> Table:
    words = {"first": "first start, empty cache", "again": "started again", "from disk": "again, files not in memory"}
    rows = []
    if figures.starts is not None:
        for kind in figures.starts.kinds:
            name = f"{words.get(kind.kind, kind.kind)} ({kind.starts})"
            rows.append(
                (name, milliseconds(kind.total_ms), milliseconds(kind.load_ms), milliseconds(kind.first_result_ms))
            )
    header = ("fresh process", "launch to first answer", "of that: loading", "of that: first image")
    return Table("starts", "Starting up", " ".join(_start_lead(figures)), header, tuple(rows))


def _start_lead(figures: Figures) -> Iterator[str]:
    yield f"The timed process loaded the bundle in {milliseconds(figures.load_ms)}"
    yield f"and answered its first image in {milliseconds(figures.warmup.first_result_ms)}."
    if figures.starts is not None:
        build = figures.starts.engine_build_ms
        if build is not None:
            words = f"{milliseconds(abs(build))} {'longer' if build >= 0 else 'less'} than with a filled one"
            yield f"Loading with an empty cache took {words}: an engine that is built on the box shows here."
        yield f"Largest memory of a process that answers one image: {megabytes(figures.starts.peak_memory_bytes)};"
    yield f"of the timed process, its images in memory included: {megabytes(figures.peak_memory_bytes)}."


def _quiet(figures: Figures) -> Table:
    found = figures.quiet
    shares = {
        "processors used by other processes": found.others_share,
        "processors taken by a hypervisor": found.steal_share,
        "processors used by the sampler": found.sampler_share,
        "held back by a CPU quota": found.cgroup_throttled_share,
    }
    rows = [(name, number(None) if share is None else percent(share), "", "") for name, share in shares.items()]
    rows += [
        (_reading(name), significant(one.low), significant(one.median), significant(one.high))
        for name, one in found.ranges.items()
    ]
    problems = " ".join(f"{reason[0].upper()}{reason[1:]}." for reason in found.noise)
    lead = f"{found.samples} samples by a process of its own. {problems or 'Nothing disturbed it.'}"
    if not found.samples:
        lead = "Nothing watched the machine during this run."
    return Table(
        "machine-state", "The machine during the run", lead, ("reading", "lowest", "median", "highest"), tuple(rows)
    )


def _reading(name: str) -> str:
    quantity, _, of = name.partition(":")
    units = {"_c": " (°C)", "_mhz": " (MHz)", "_w": " (W)", "_mb": " (MB)"}
    for suffix, unit in units.items():
        if quantity.endswith(suffix):
            quantity = f"{quantity.removesuffix(suffix)}{unit}"
    return f"{quantity.replace('_', ' ')}{f', {of}' if of else ''}"
