"""Reports against the first of them: what differs must have been named, ratios are paired by image.

Two medians say little about two boxes that were given different images. Here each image's own median latency on one box
is divided by its median on the other, and the ratio reported is the median over images, with the interval that a sign
test gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from madclip_bench.compare.gate import Rule, Verdict, judge
from madclip_bench.compare.metrics import METRICS
from madclip_bench.compare.prices import Cost, PriceList, cost_of
from madclip_bench.intervals import sign_interval
from madclip_bench.raw import Raw
from madclip_bench.report import Report
from madclip_runtime.errors import UsageError

__all__ = ["ACROSS", "FORMAT", "Column", "Comparison", "Paired", "Row", "compare_reports", "paired_ratio"]

FORMAT = "madclip-comparison/1"
ACROSS = ("bundle", "dataset", "rules")
"""What may be named as meant to differ."""


@dataclass(frozen=True)
class Paired:
    """Median over images of (this box's median latency ÷ the baseline's), 95 % interval; below 1: faster."""

    images: int
    ratio: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Column:
    """One report. digest: of the report. paired: None for the baseline and where no image is in both."""

    name: str
    digest: str
    marks: tuple[str, ...]
    machine: str
    engine: str
    bundle: str
    paired: Paired | None
    cost: Cost | None


@dataclass(frozen=True)
class Row:
    """One figure. values, ratios: a report each; None where a report lacks it. shown: values as people read them."""

    name: str
    title: str
    lower_is_better: bool
    values: tuple[float | None, ...]
    shown: tuple[str, ...]
    ratios: tuple[float | None, ...]


@dataclass(frozen=True)
class Comparison:
    """The first column is the baseline. across: what was allowed to differ and does. currency: "" without prices."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    across: tuple[str, ...]
    notes: tuple[str, ...]
    gates: tuple[Verdict, ...]
    currency: str = ""
    format: str = FORMAT

    @property
    def failed(self) -> bool:
        """Whether any gate failed."""
        return any(gate.failed for gate in self.gates)


def compare_reports(
    reports: Sequence[Report],
    names: Sequence[str],
    *,
    across: Sequence[str] = (),
    prices: PriceList | None = None,
    rules: Sequence[Rule] = (),
) -> Comparison:
    """reports: at least two, the first is the baseline. across: of ACROSS.

    Raises: UsageError where something differs that `across` does not name, or a box has no price; SchemaError where a
    report's samples are damaged.
    """
    differing = _differing(reports, names, across)
    samples = [report.samples() for report in reports]
    columns = [
        _column(report, name, raw, samples[0] if i else None, prices)
        for i, (report, name, raw) in enumerate(zip(reports, names, samples, strict=True))
    ]
    gates = [
        judge(rule, reports[0], report, name)
        for rule in rules
        for report, name in zip(reports[1:], names[1:], strict=True)
    ]
    return Comparison(
        columns=tuple(columns),
        rows=_rows(reports),
        across=tuple(differing),
        notes=_notes(reports, names),
        gates=tuple(gates),
        currency="" if prices is None else prices.currency,
    )


def paired_ratio(ours: Raw, theirs: Raw) -> Paired | None:
    """ours ÷ theirs. None where no image was timed on both."""
    mine, base = _medians(ours), _medians(theirs)
    ratios = sorted(mine[digest] / base[digest] for digest in mine if base.get(digest, 0.0) > 0)
    if not ratios:
        return None
    ranks = sign_interval(len(ratios))
    low, high = (None, None) if ranks is None else (round(ratios[ranks[0]], 6), round(ratios[ranks[1]], 6))
    return Paired(len(ratios), round(float(np.median(ratios)), 6), low, high)


def _medians(raw: Raw) -> dict[str, float]:
    """Image's hash → its median single-stream latency, ms."""
    of_image: dict[int, list[float]] = {}
    for index, latency in zip(raw.trials.single.order, raw.trials.single.latency_ms, strict=True):
        of_image.setdefault(index, []).append(latency)
    return {raw.image_sha256[index]: float(np.median(values)) for index, values in of_image.items()}


def _differing(reports: Sequence[Report], names: Sequence[str], across: Sequence[str]) -> list[str]:
    first = reports[0]
    found: dict[str, None] = {}
    for report, name in zip(reports[1:], names[1:], strict=True):
        for what, why in _differences(first, report):
            if what not in across:
                do = f"if that is what you want to compare, say --across {','.join([*across, what])}"
                raise UsageError(f"compare {name} with {names[0]}", why, do)
            found[what] = None
    return list(found)


def _differences(first: Report, other: Report) -> list[tuple[str, str]]:
    ours, theirs = first.setting, other.setting
    sets = (first.figures.accuracy.dataset, other.figures.accuracy.dataset)
    found = {
        "bundle": (
            (ours.bundle.digest, ours.bundle.head) != (theirs.bundle.digest, theirs.bundle.head),
            f"another bundle or head was timed ({theirs.bundle.model_id}, not {ours.bundle.model_id})",
        ),
        "dataset": (
            ours.images.sha256 != theirs.images.sha256 or (all(sets) and sets[0] != sets[1]),
            "it was timed or evaluated on other images",
        ),
        "rules": (ours.rules != theirs.rules, "it was measured by other rules (duration, seed, scenarios or bounds)"),
    }
    return [(what, why) for what, (differs, why) in found.items() if differs]


def _column(report: Report, name: str, raw: Raw, base: Raw | None, prices: PriceList | None) -> Column:
    cost = None
    if prices is not None:
        if name not in prices.boxes:
            listed = ", ".join(prices.boxes) or "none"
            raise UsageError(
                "--prices", f"has no box {name!r} (it lists {listed})", "add it, or name reports by --names"
            )
        cost = cost_of(report, prices.boxes[name], prices)
    setting = report.setting
    cards = [card.name for card in setting.machine.gpus.cards]
    return Column(
        name=name,
        digest=report.digest,
        marks=report.marks,
        machine=", ".join([setting.machine.cpu, *cards]),
        engine=f"{setting.engine.name}, {setting.engine.precision}",
        bundle=setting.bundle.model_id,
        paired=None if base is None else paired_ratio(raw, base),
        cost=cost,
    )


def _rows(reports: Sequence[Report]) -> tuple[Row, ...]:
    rows = []
    for metric in METRICS:
        values = tuple(metric.read(report) for report in reports)
        if all(value is None for value in values):
            continue
        shown = tuple("–" if value is None else metric.show(value) for value in values)
        ratios = tuple(_ratio(value, values[0]) for value in values)
        rows.append(Row(metric.name, metric.title, metric.lower_is_better, values, shown, ratios))
    return tuple(rows)


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else round(value / base, 4)


def _notes(reports: Sequence[Report], names: Sequence[str]) -> tuple[str, ...]:
    notes = [f"{name}: {', '.join(report.marks)}" for report, name in zip(reports, names, strict=True) if report.marks]
    if len({report.setting.code_sha256 for report in reports}) > 1:
        notes.append("the reports were made by different versions of the bench or the runtime")
    return tuple(notes)
