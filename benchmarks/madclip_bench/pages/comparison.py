"""A comparison as people read it: terminal, Markdown, CSV, one page. Ratios are to the first report."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from html import escape

from madclip_bench.compare.comparison import Column, Comparison, Paired, Row
from madclip_bench.pages.comparison_chart import latency_bars
from madclip_bench.pages.html import document, table_html
from madclip_bench.pages.markdown import markdown_table
from madclip_bench.pages.tables import Table
from madclip_bench.verdict import NOT_FOR_PROCUREMENT
from madclip_bench.words import significant

__all__ = ["comparison_csv", "comparison_markdown", "comparison_page", "comparison_text"]


def comparison_page(found: Comparison) -> str:
    """One self-contained HTML page."""
    stamp = _stamp(found)
    body = ['<header><p class="kind">madclip bench comparison</p>', f"<h1>{escape(_title(found))}</h1>"]
    body += [f'<p class="stamp">{escape(stamp)}</p>'] if stamp else []
    spoken = "".join(
        f"<p{' class=first' if i == 0 else ''}>{escape(line)}</p>" for i, line in enumerate(_sentences(found))
    )
    body.append(f'<div class="verdict">{spoken}</div></header>')
    body += [table_html(table, latency_bars(found) if table.key == "figures" else ()) for table in _tables(found)]
    body.append(
        f"<footer>{escape(found.format)}; digests: {escape(', '.join(c.digest for c in found.columns))}</footer>"
    )
    return document("madclip bench comparison", body, stamp)


def comparison_markdown(found: Comparison) -> str:
    """The same as Markdown."""
    lines = [f"# {_title(found)}", "", *(f"{line}\n" for line in _sentences(found))]
    for table in _tables(found):
        lines += markdown_table(table)
    return "\n".join(lines)


def comparison_csv(found: Comparison) -> str:
    """A row a figure: name, then value and ratio of each report."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["figure", *(f"{c.name} {what}" for c in found.columns for what in ("value", "ratio"))])
    for row in found.rows:
        cells = [cell for pair in zip(row.values, row.ratios, strict=True) for cell in pair]
        writer.writerow([row.name, *("" if cell is None else cell for cell in cells)])
    return text.getvalue()


def comparison_text(found: Comparison) -> Iterator[str]:
    """A few lines for a terminal."""
    yield from _sentences(found)
    width = max(len(row.title) for row in found.rows)
    for row in found.rows:
        yield f"{row.title:{width}}  {'  '.join(f'{cell:>22}' for cell in _cells(row))}"


def _title(found: Comparison) -> str:
    return f"{', '.join(column.name for column in found.columns[1:])} against {found.columns[0].name}"


def _stamp(found: Comparison) -> str:
    marked = [column.name for column in found.columns if NOT_FOR_PROCUREMENT in column.marks]
    return f"{NOT_FOR_PROCUREMENT.capitalize()}: {', '.join(marked)}" if marked else ""


def _sentences(found: Comparison) -> Iterator[str]:
    for column in found.columns[1:]:
        yield f"{column.name}: {_paired(column.paired, found.columns[0].name)}."
    for gate in found.gates:
        yield f"Gate {gate.rule} {'FAILS' if gate.failed else 'is passed'} for {gate.report}: {gate.why}."
    if found.across:
        yield f"Compared across different {' and '.join(found.across)}, as was asked for."
    yield from (f"{note}." for note in found.notes)


def _paired(paired: Paired | None, base: str) -> str:
    if paired is None:
        return f"no image was timed on both, so there is no paired ratio to {base}"
    interval = "" if paired.low is None or paired.high is None else f", 95 % sure {paired.low:.3f} to {paired.high:.3f}"
    faster = f", so it is {1 / paired.ratio:.2f} times as fast" if paired.ratio < 0.98 else ""
    basis = f"median of {paired.images} images{interval}"
    return f"an image takes {paired.ratio:.3f} times as long as on {base}{faster} ({basis})"


def _tables(found: Comparison) -> Iterator[Table]:
    names = tuple(column.name for column in found.columns)
    figures = tuple((row.title, *_cells(row)) for row in found.rows)
    lead = "In brackets: divided by the first report's figure. ▲ better, ▼ worse than that by more than 2 %."
    yield Table("figures", "Figures", lead, ("", *names), figures)
    if found.currency:
        lead = "Purchase and electricity over the box's years, over the images of those years, from the price file."
        yield Table("cost", f"Cost of 1,000 images ({found.currency})", lead, ("", *names), _costs(found.columns))
    yield Table("reports", "The reports", "", ("", *names), _about(found.columns))


def _cells(row: Row) -> tuple[str, ...]:
    return tuple(_cell(row, i) for i in range(len(row.values)))


def _cell(row: Row, index: int) -> str:
    ratio = row.ratios[index]
    if index == 0 or ratio is None:
        return row.shown[index]
    better = ratio < 1 if row.lower_is_better else ratio > 1
    sign = "" if abs(ratio - 1) <= 0.02 else " ▲" if better else " ▼"
    return f"{row.shown[index]} (× {ratio:.3f}{sign})"


def _costs(columns: tuple[Column, ...]) -> tuple[tuple[str, ...], ...]:
    costs = [column.cost for column in columns]
    return (
        ("purchase", *("" if cost is None else f"{cost.purchase:,.2f}" for cost in costs)),
        ("electricity", *("" if cost is None else f"{cost.electricity:,.2f}" for cost in costs)),
        (
            "1,000 images",
            *(
                "" if c is None else c.note if c.per_1000_images is None else significant(c.per_1000_images)
                for c in costs
            ),
        ),
    )


def _about(columns: tuple[Column, ...]) -> tuple[tuple[str, ...], ...]:
    return (
        ("machine", *(column.machine for column in columns)),
        ("engine", *(column.engine for column in columns)),
        ("bundle", *(column.bundle for column in columns)),
        ("marks", *(", ".join(column.marks) or "none" for column in columns)),
        ("digest", *(f"{column.digest[:16]}…" for column in columns)),
    )
