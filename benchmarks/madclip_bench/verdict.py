"""The report's words: the verdict a buyer reads first, the marks that must be quoted with any figure, the warnings."""

from __future__ import annotations

from madclip_bench.accuracy import SPEED_ONLY
from madclip_bench.figures import Figures
from madclip_bench.images import LEAST_DISTINCT
from madclip_bench.report import Report, Setting
from madclip_bench.statistics import MAX_WINDOW_SPREAD, Percentile
from madclip_bench.streams import IMAGE_STAGES, StreamFigures
from madclip_bench.words import duration, joules, milliseconds, per_second, percent, rooms

__all__ = [
    "NOT_FOR_PROCUREMENT",
    "REASONS",
    "STREAMS",
    "marks_of",
    "named_percentile",
    "stamp_of",
    "verdict_of",
    "warnings_of",
]

NOT_FOR_PROCUREMENT = "not for procurement"
REASONS = {
    "quick run": "a quick run, too short for its figures to be relied on",
    "synthetic images": "made-up images",
    "few images": f"fewer than {LEAST_DISTINCT} different images",
    "unstable": "the machine was disturbed or not steady",
    "answers differ": "the engine gave one image different answers",
    "degraded bundle": "a bundle that missed a check at export",
}
"""Each of these marks makes a report "not for procurement"; in plain words."""
STREAMS = {"single": "single stream", "multi": "multi-stream", "offline": "offline work"}
MAX_VARIATION = 0.025
MAX_OUTSIDE_SHARE = 0.01
MAX_SPREAD = {"fp32": 1e-3}
MAX_SPREAD_ELSE = 1e-2
"""Of two answers to one image by one engine on one box, alone and in a batch; by precision."""


def marks_of(setting: Setting, figures: Figures) -> tuple[str, ...]:
    """Short labels, "not for procurement" first where a rule is broken."""
    broken = {
        "quick run": setting.rules.quick,
        "synthetic images": setting.images.synthetic,
        "few images": setting.images.used < LEAST_DISTINCT,
        "unstable": figures.single.stability.verdict != "stable" or bool(figures.quiet.noise),
        "answers differ": max(figures.answers.spread, figures.answers.gap or 0.0) > _tolerance(setting),
        "degraded bundle": bool(setting.bundle.degraded),
    }
    others = {
        "random weights": setting.bundle.encoder.random,
        SPEED_ONLY: figures.accuracy.status == SPEED_ONLY,
        "accuracy below its promise": any(promise.verdict == "worse" for promise in figures.accuracy.promises),
    }
    reasons = [mark for mark, holds in broken.items() if holds]
    found = [mark for mark, holds in others.items() if holds]
    return (*([NOT_FOR_PROCUREMENT] if reasons else []), *reasons, *found)


def warnings_of(setting: Setting, figures: Figures) -> tuple[str, ...]:
    """Sentences on everything that limits the figures."""
    images, single, answers = setting.images, figures.single, figures.answers
    steady, tolerance = single.stability, _tolerance(setting)
    found = {
        f"only {images.used} distinct images, fewer than {LEAST_DISTINCT}": images.used < LEAST_DISTINCT,
        f"{len(images.refused)} image(s) of the folder could not be read": bool(images.refused),
        f"the windows' medians differ by {percent(steady.window_spread)}, more than {percent(MAX_WINDOW_SPREAD)}: "
        "the machine was not steady": steady.window_spread > MAX_WINDOW_SPREAD,
        f"latencies scatter: coefficient of variation {percent(steady.coefficient_of_variation)}, more than "
        f"{percent(MAX_VARIATION)}": (steady.coefficient_of_variation > MAX_VARIATION),
        f"{percent(single.outside_share)} of single stream lies outside every latency": (
            single.outside_share > MAX_OUTSIDE_SHARE
        ),
        "copying takes longer than computing": _copies_dominate(single),
        f"two timed answers to one image differ by {answers.spread:.2g}": answers.spread > tolerance,
        f"a timed answer differs from the evaluated one by {answers.gap or 0:.2g}": (answers.gap or 0) > tolerance,
        "nothing watched the machine during the run": figures.quiet.samples == 0,
        **_others(figures),
        f"the bundle missed a gate at export and was kept all the same: {setting.bundle.degraded}": bool(
            setting.bundle.degraded
        ),
    }
    return (*(sentence for sentence, holds in found.items() if holds), *figures.quiet.noise)


def verdict_of(report: Report) -> tuple[str, ...]:
    """Plain sentences for someone who buys boxes, the most important first."""
    setting, figures = report.setting, report.figures
    stamp = stamp_of(report.marks)
    sentences = [
        f"{stamp}." if stamp else "",
        f"{_latency(figures.single)} on {setting.machine.cpu}{_cards(setting)}, engine {setting.engine.name}, "
        f"{setting.engine.precision}.",
        _rooms(figures),
        _server(figures),
        _offline(figures),
        _accuracy(figures),
        _energy(figures),
        "The encoder's weights are random: scores mean nothing, only speed does."
        if setting.bundle.encoder.random
        else "",
    ]
    return tuple(sentence for sentence in sentences if sentence)


def stamp_of(marks: tuple[str, ...]) -> str:
    """What must stand on every page of a report that nobody should buy by; "" for the others."""
    reasons = [REASONS[mark] for mark in marks if mark in REASONS]
    return f"{NOT_FOR_PROCUREMENT.capitalize()}: {'; '.join(reasons)}" if reasons else ""


def _tolerance(setting: Setting) -> float:
    return MAX_SPREAD.get(setting.engine.precision, MAX_SPREAD_ELSE)


def _copies_dominate(single: StreamFigures) -> bool:
    medians = single.stage_median_ms
    copies = sum(value for stage, value in medians.items() if "copy" in stage)
    return copies > sum(v for s, v in medians.items() if "copy" not in s and s not in (*IMAGE_STAGES, "other"))


def _others(figures: Figures) -> dict[str, bool]:
    """Streams beside the first one that were not steady."""
    streams = {"multi-stream": figures.multi, "offline": figures.offline}
    return {
        f"{name} was not steady: its windows' medians differ by {percent(stream.stability.window_spread)}": (
            stream.stability.window_spread > MAX_WINDOW_SPREAD
        )
        for name, stream in streams.items()
        if stream is not None
    }


def _cards(setting: Setting) -> str:
    names = [card.name for card in setting.machine.gpus.cards]
    return f" with {', '.join(names)}" if names else ""


def _latency(single: StreamFigures) -> str:
    p90 = single.latency.percentile("p90")
    if p90.value_ms is None or p90.early_stopping_ms is None:
        had = f"the run had {single.latency.queries} queries and that needs {p90.least_queries}"
        return f"How long 9 of 10 images take can't be said ({had})"
    return (
        f"9 of 10 images are answered within {milliseconds(p90.value_ms)} "
        f"(99 % sure: within {milliseconds(p90.early_stopping_ms)})"
    )


def _rooms(figures: Figures) -> str:
    found = figures.scanner
    if found is None:
        return ""
    pattern = f"sending {found.slices} slices every {duration(found.period_s)}"
    small = f"{found.slices * found.scale:.0f} slices every {duration(found.period_s * found.scale)}"
    scaled = "" if found.scale == 1 else f" (tried as {small})"
    if found.rooms == 0:
        return f"The box does not keep up with one scanner room {pattern}{scaled}."
    behind = f"; with {found.falls_behind_at} it fell behind" if found.falls_behind_at is not None else ""
    return f"The box keeps up with {rooms(found.rooms)} {pattern}{scaled}{behind}."


def _server(figures: Figures) -> str:
    found = figures.server
    if found is None:
        return ""
    bound = duration(found.bound_ms / 1e3)
    if found.held_per_s is None:
        return f"No rate of random arrivals was shown to be answered within {bound} in 99 of 100 cases ({found.note})."
    return f"Up to {per_second(found.held_per_s)}, arriving at random, are answered within {bound} in 99 of 100 cases."


def _offline(figures: Figures) -> str:
    found = figures.offline
    if found is None:
        return ""
    return f"A pile of images is worked off at {per_second(found.images_per_s)}, {found.batch} at once."


def _accuracy(figures: Figures) -> str:
    found = figures.accuracy
    if found.image_auroc is None:
        return "Speed only: how right the engine is was not measured in this run."
    area = found.image_auroc
    words = (
        f"The same engine separates the {found.abnormal} abnormal from the {found.normal} normal test images of "
        f"{found.dataset} with an AUROC of {percent(area.value)} ({percent(area.low)} to {percent(area.high)})"
    )
    hit, rejected = found.sensitivity, found.specificity
    if hit is None or rejected is None:
        return f"{words}; the bundle has no threshold to decide by."
    decided = f"finds {hit.k} of {hit.n} abnormal and clears {rejected.k} of {rejected.n} normal"
    return f"{words}; at its threshold it {decided}."


def _energy(figures: Figures) -> str:
    if not figures.energy.sources:
        return "Energy was not measured on this machine."
    parts = []
    for source in figures.energy.sources:
        scenario, one = next(iter(source.scenarios.items()))
        parts.append(f"{joules(one.joules_per_image)} an image in {STREAMS[scenario]} ({source.covers})")
    return f"Energy: {'; '.join(parts)}."


def named_percentile(percentile: Percentile) -> str:
    """One percentile in a line: its value and bound, or why there is none."""
    if percentile.value_ms is None or percentile.early_stopping_ms is None:
        return f"{percentile.name} {percentile.note}"
    return f"{percentile.name} {percentile.value_ms:.2f} ms (≤ {percentile.early_stopping_ms:.2f})"
