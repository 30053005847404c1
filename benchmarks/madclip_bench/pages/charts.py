"""The page's charts, each from raw samples or figures: (caption, svg), or nothing where there is nothing to draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from madclip_bench.figures import Figures
from madclip_bench.pages.names import stage_name
from madclip_bench.pages.svg import WIDTH, Frame, band, bar, chart, dots, label, polyline, rule, ticks
from madclip_bench.raw import Raw
from madclip_bench.statistics import Summary, nearest_rank
from madclip_bench.words import milliseconds, significant

__all__ = ["Drawn", "latency_charts", "rate_chart", "rooms_chart", "stage_chart", "state_charts", "throughput_chart"]

Drawn = tuple[str, str]
"""Caption (plain text), svg."""
_BINS = 60
_MOST_DOTS = 700
_KINDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def latency_charts(raw: Raw, summary: Summary) -> Iterator[Drawn]:
    """How latencies are spread, how the tail grows, and whether they drifted over the run."""
    latencies = raw.trials.single.latency_ms
    yield _spread(latencies, summary)
    yield _tail(latencies)
    yield _drift(latencies)


def _spread(latencies: Sequence[float], summary: Summary) -> Drawn:
    """Bins over all but the slowest hundredth; those are counted in words, since one stall would flatten the rest."""
    ordered = sorted(latencies)
    low, high = ordered[0], max(nearest_rank(ordered, 0.99), ordered[0] + 1e-3)
    beyond = sum(value > high for value in latencies)
    counts, edges = np.histogram([value for value in latencies if value <= high], bins=_BINS, range=(low, high))
    frame = Frame(230, low, high, 0.0, float(counts.max()) * 1.1)
    bars = [bar(frame, edges[i], edges[i + 1], float(counts[i])) for i in range(_BINS) if counts[i]]
    shown = [p for p in summary.percentiles if p.value_ms is not None and low <= p.value_ms <= high]
    marks = [
        rule(frame, p.value_ms or 0.0, f"{p.name} {milliseconds(p.value_ms or 0.0)}", row=i)
        for i, p in enumerate(shown)
    ]
    slower = f" {beyond} slower, up to {milliseconds(ordered[-1])}, lie beyond the right edge." if beyond else ""
    parts = [*ticks(frame, _number, _number), *bars, *marks]
    svg = chart("Histogram of latencies", frame, parts, x_name="latency (ms)", y_name="queries")
    return f"How long one image takes, over all {len(latencies):,} queries.{slower}", svg


def _tail(latencies: Sequence[float]) -> Drawn:
    """Latency against rarity: each step to the right is ten times rarer."""
    ordered = sorted(latencies)
    count = len(ordered)
    ranks = sorted({min(count - 1, int(count * (1 - 10 ** -(k / 20)))) for k in range(20 * 5)})
    points = [(-math.log10(1 - rank / count), ordered[rank]) for rank in ranks]
    frame = Frame(210, 0.0, max(points[-1][0], 1.0), 0.0, ordered[-1] * 1.08)
    marks = [(0.30103, "half"), (1.0, "1 in 10"), (2.0, "1 in 100"), (3.0, "1 in 1000")]
    named = [rule(frame, at, words) for at, words in marks if at <= frame.x_high]
    parts = [*ticks(frame, lambda _: "", _number), *named, polyline(frame, points)]
    svg = chart("Latency against rarity", frame, parts, x_name="rarer →", y_name="latency (ms)")
    return "The slowest answers: how long it takes in the worst half, tenth, hundredth of all cases.", svg


def _drift(latencies: Sequence[float]) -> Drawn:
    """Every query, or the fastest and slowest of each group where there are too many to draw."""
    points: list[tuple[float, float]] = []
    step = max(1, math.ceil(2 * len(latencies) / _MOST_DOTS))
    for first in range(0, len(latencies), step):
        group = latencies[first : first + step]
        points += [(first, value) for value in ({min(group), max(group)} if step > 1 else group)]
    frame = Frame(190, 0.0, float(max(len(latencies) - 1, 1)), 0.0, max(latencies) * 1.08)
    parts = [*ticks(frame, _number, _number), dots(frame, points, radius=1.6)]
    svg = chart("Latency of each query in turn", frame, parts, x_name="query", y_name="latency (ms)")
    return (
        "The run from its first to its last query: a rising band means heat, or other work.",
        svg,
    )


def stage_chart(figures: Figures) -> Drawn:
    """One bar, cut by stage; what comes after the result stands beside it."""
    medians = {stage: max(ms, 0.0) for stage, ms in figures.single.stage_median_ms.items()}
    if figures.delivery is not None:
        medians |= {"overlay": figures.delivery.postprocess_ms, "write": figures.delivery.write_ms}
    total = sum(medians.values()) or 1.0
    parts, x = [], 1.0
    for i, (stage, ms) in enumerate(medians.items()):
        width, kind = ms / total * (WIDTH - 2), _KINDS[i % len(_KINDS)]
        parts.append(f'<rect class="{kind}" x="{x:.1f}" y="6" width="{max(width - 1, 0.5):.1f}" height="34"/>')
        x += width
        left, top = 4 + 380 * (i % 2), 54 + 20 * (i // 2)
        parts.append(f'<rect class="{kind}" x="{left}" y="{top}" width="11" height="11"/>')
        parts.append(label(left + 18, top + 10, f"{stage_name(stage)}: {milliseconds(ms)}"))
    height = 64 + 20 * ((len(medians) + 1) // 2)
    svg = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Stages of one image">{"".join(parts)}</svg>'
    return (
        "From a file's bytes to a picture on disk, medians; the overlay and the disk are not part of the latency.",
        svg,
    )


def throughput_chart(figures: Figures) -> Drawn | None:
    """Images a second against images handed over at once."""
    if figures.offline is None or len(figures.offline.sweep) < 2:
        return None
    points = [(float(i), point.images_per_s) for i, point in enumerate(figures.offline.sweep)]
    names = [str(point.batch) for point in figures.offline.sweep]
    frame = Frame(210, -0.2, len(points) - 0.8, 0.0, max(y for _, y in points) * 1.15)
    below = [
        label(frame.x(x), frame.floor + 15, name, anchor="middle", soft=True)
        for (x, _), name in zip(points, names, strict=True)
    ]
    parts = [*ticks(frame, lambda _: "", _number), *below, polyline(frame, points), dots(frame, points)]
    svg = chart("Throughput against images at once", frame, parts, x_name="at once", y_name="images/s")
    return "Throughput against concurrency: what handing over several images together gains.", svg


def rate_chart(figures: Figures) -> Drawn | None:
    """p99 against the rate of arrivals, with the bound."""
    if figures.server is None:
        return None
    rated = [(p.rate_per_s, p.percentile.early_stopping_ms) for p in figures.server.tried]
    points = [(rate, bound) for rate, bound in rated if bound is not None]
    if len(points) < 2:
        return None
    highest = max(figures.server.bound_ms, *(y for _, y in points))
    frame = Frame(200, min(x for x, _ in points) * 0.97, max(x for x, _ in points) * 1.03, 0.0, highest * 1.15)
    line = rule(frame, figures.server.bound_ms, f"bound {milliseconds(figures.server.bound_ms)}", upright=False)
    parts = [*ticks(frame, _number, _number), line, polyline(frame, points), dots(frame, points)]
    svg = chart("p99 against rate", frame, parts, x_name="images a second", y_name="p99 (ms)")
    return "Random arrivals: what 99 of 100 wait and take, against the rate.", svg


def rooms_chart(raw: Raw, figures: Figures) -> Drawn | None:
    """How long each exam took with the most rooms that were tried, against the deadline."""
    if not raw.trials.scanner or figures.scanner is None:
        return None
    trial = max(raw.trials.scanner, key=lambda one: one.rooms)
    took = [(done - arrived) / 1e3 for arrived, done in zip(trial.arrived_ms, trial.done_ms, strict=True)]
    deadline = figures.scanner.deadline_s * figures.scanner.scale
    frame = Frame(190, 0.0, float(len(took)), 0.0, max(deadline, *took) * 1.15)
    bars = [bar(frame, i, i + 1, seconds, "bad" if seconds > deadline else "one") for i, seconds in enumerate(took)]
    line = rule(frame, deadline, f"deadline {milliseconds(deadline * 1e3)}", upright=False)
    parts = [*ticks(frame, lambda _: "", _number), *bars, line]
    svg = chart("Exams", frame, parts, x_name="exams in order of arrival", y_name="s an exam")
    return (
        f"Exams with {trial.rooms} room(s), from the last slice's arrival to its answer, waiting in line included.",
        svg,
    )


def state_charts(raw: Raw) -> Iterator[Drawn]:
    """Temperature, clock, power and load over time, one small chart each; the first of several sensors of a kind."""
    wanted = {
        "temperature_c": ("Temperature", "°C"),
        "cpu_mhz": ("Processor clock", "MHz"),
        "gpu_sm_mhz": ("GPU clock", "MHz"),
        "power_w": ("Power", "W"),
        "energy_j_total": ("Power", "W"),
        "others_busy": ("Processors used by others", "%"),
    }
    series = {name: raw.monitor.series(name) for name in raw.monitor.columns} | {"others_busy": _others(raw)}
    for kind, (title, unit) in wanted.items():
        name = next((n for n, values in series.items() if n.partition(":")[0] == kind and len(values) > 2), None)
        if name is not None:
            of = name.partition(":")[2]
            points = _slope(series[name]) if kind == "energy_j_total" else series[name]
            yield _over_time(raw, f"{title}{f', {of}' if of else ''}", unit, points)


def _over_time(raw: Raw, title: str, unit: str, points: list[tuple[float, float]]) -> Drawn:
    start = points[0][0]
    moved = [(at - start, value) for at, value in points]
    values = [value for _, value in moved]
    low = min(values) - 3 if unit == "°C" else 0.0  # all others begin at zero, where a fall shows in its true size
    frame = Frame(160, 0.0, moved[-1][0] or 1.0, low, 105.0 if unit == "%" else max(values) * 1.1 or 1.0)
    bands = [band(frame, w.began_s - start, w.ended_s - start) for w, _ in raw.windows().values()]
    parts = [*bands, *ticks(frame, _number, _number), polyline(frame, moved)]
    return f"{title} over time; shaded: single stream, multi-stream, offline.", chart(
        title, frame, parts, x_name="s", y_name=unit
    )


def _slope(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Power from an energy counter."""
    pairs = itertools.pairwise(points)
    return [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairs if b[0] > a[0]]


def _others(raw: Raw) -> list[tuple[float, float]]:
    """Percent of all processors used by neither the timed process nor the sampler, from sample to sample."""
    names = ("cpu_busy_s_total", "timed_s_total", "sampler_s_total", "cpu_all_s_total")
    columns = [dict(raw.monitor.series(name)) for name in names]
    if not all(columns):
        return []
    shared = [at for at in raw.monitor.at_s if all(at in column for column in columns)]
    rows = [(at, *(column[at] for column in columns)) for at in shared]
    found = []
    for before, after in itertools.pairwise(rows):
        busy, timed, sampler, every = (after[i] - before[i] for i in range(1, 5))
        if every > 0:
            found.append((after[0], min(100.0, max(0.0, 100 * (busy - timed - sampler) / every))))
    return found


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e5 else significant(value)
