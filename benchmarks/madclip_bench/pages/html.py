"""The report as one HTML page: no outside asset, no script, the same bytes for the same report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from madclip_bench.figures import Figures
from madclip_bench.pages.charts import (
    Drawn,
    latency_charts,
    rate_chart,
    rooms_chart,
    stage_chart,
    state_charts,
    throughput_chart,
)
from madclip_bench.pages.sheet import LIMITS, sheet_tables
from madclip_bench.pages.style import CSS, POLICY
from madclip_bench.pages.tables import Table, measured_tables
from madclip_bench.raw import Raw
from madclip_bench.report import Report
from madclip_bench.verdict import stamp_of
from madclip_bench.words import milliseconds, percent, significant

__all__ = ["document", "page", "table_html"]

_WORDS = {
    "p90, p99": "The time within which 9 of 10, or 99 of 100, answers came. A mean would hide the slow ones.",
    "99 % sure: at most": "In 99 of 100 such runs the true value does not lie above this.",
    "not supported, needs n": "The run was too short to say this honestly; it needs n queries.",
    "AUROC": "The chance that an abnormal image scores higher than a normal one: 50 % is guessing, 100 % is perfect.",
    "sensitivity, specificity": "Share of abnormal images found, of normal ones cleared, at the bundle's threshold.",
    "95 % interval": "Where the true figure lies in 95 of 100 such samples; few images make it wide.",
}


def page(report: Report) -> str:
    """The whole page. Raises: SchemaError where the report's samples are absent or damaged."""
    raw, figures = report.samples(), report.figures
    drawn = {
        "single": list(latency_charts(raw, figures.single.latency)),
        "stages": [stage_chart(figures)],
        "offline": _some(throughput_chart(figures)),
        "server": _some(rate_chart(figures)),
        "scanner": _some(rooms_chart(raw, figures)),
        "machine-state": list(state_charts(raw)),
    }
    return document("madclip bench report", _body(report, raw, drawn), stamp_of(report.marks))


def document(title: str, body: Iterable[str], stamp: str = "") -> str:
    """A page around a body. stamp: stands on every printed sheet, which of all browsers' ways a table's head alone does
    everywhere.
    """
    inside = "\n".join(body)
    if stamp:
        head = f'<thead><tr><td aria-hidden="true">{escape(stamp)}</td></tr></thead>'
        inside = f'<table class="sheet" role="presentation">{head}<tbody><tr><td>{inside}</td></tr></tbody></table>'
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body>\n{inside}\n</body></html>\n"
    )


def table_html(table: Table, charts: Iterable[Drawn] = ()) -> str:
    """A section: title, lead, table, charts."""
    parts = [f'<section id="{table.key}"><h2>{escape(table.title)}</h2>']
    if table.lead:
        parts.append(f'<p class="lead">{escape(table.lead)}</p>')
    if table.rows:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
        body = "".join(_row(row) for row in table.rows)
        shown = f"<thead><tr>{head}</tr></thead>" if any(table.header) else ""
        parts.append(f'<div class="wide"><table>{shown}<tbody>{body}</tbody></table></div>')
    parts += [f"<figure>{svg}<figcaption>{escape(words)}</figcaption></figure>" for words, svg in charts]
    return "".join([*parts, "</section>"])


def _row(row: tuple[str, ...]) -> str:
    first, *rest = row
    return f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'


def _body(report: Report, raw: Raw, drawn: dict[str, list[Drawn]]) -> Iterator[str]:
    """Verdict, how it was measured, limits; then everything in detail."""
    yield from _head(report)
    method, *sheet = sheet_tables(report)
    yield table_html(method)
    yield _list("limits", "What this report does not say", LIMITS)
    for table in measured_tables(report.figures):
        yield table_html(table, drawn.get(table.key, ()))
    yield from map(table_html, sheet)
    entries = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in _WORDS.items())
    yield f'<section id="words"><h2>Words</h2><dl class="words">{entries}</dl></section>'
    yield f"<footer>{escape(report.format)}, made from its JSON; digest {escape(report.digest)}</footer>"


def _head(report: Report) -> Iterator[str]:
    stamp, sentences = stamp_of(report.marks), list(report.verdict)
    machine, engine = report.setting.machine, report.setting.engine
    yield f'<header><p class="kind">madclip bench report, {escape(report.setting.started_utc)}</p>'
    yield f"<h1>{escape(report.setting.bundle.model_id)} on {escape(machine.cpu)}, {escape(engine.name)}</h1>"
    if stamp:
        yield f'<p class="stamp">{escape(stamp)}</p>'
        sentences = sentences[1:]
    spoken = "".join(f"<p{' class=first' if i == 0 else ''}>{escape(s)}</p>" for i, s in enumerate(sentences))
    yield f'<div class="verdict">{spoken}</div>{_tiles(report.figures)}</header>'
    if report.warnings:
        yield _list("warnings", "Warnings", report.warnings, kind="warnings")


def _tiles(figures: Figures) -> str:
    p90 = figures.single.latency.percentile("p90").value_ms
    area, scanner = figures.accuracy.image_auroc, figures.scanner
    tiles = {
        "an image (9 of 10)": "not supported" if p90 is None else milliseconds(p90),
        "images a second": significant(
            figures.single.images_per_s if figures.offline is None else figures.offline.images_per_s
        ),
        "scanner rooms kept up with": "not tried" if scanner is None else str(scanner.rooms),
        "AUROC, same engine": "speed only" if area is None else percent(area.value),
    }
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles.items()
    )
    return f'<div class="tiles">{cells}</div>'


def _list(key: str, title: str, items: Iterable[str], kind: str = "") -> str:
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<section id="{key}"><h2>{escape(title)}</h2><ul class="{kind}">{entries}</ul></section>'


def _some(drawn: Drawn | None) -> list[Drawn]:
    return [] if drawn is None else [drawn]
