"""The report as Markdown: the same tables, to paste into a tender or an issue."""

from __future__ import annotations

from collections.abc import Iterator

from madclip_bench.pages.sheet import LIMITS, sheet_tables
from madclip_bench.pages.tables import Table, measured_tables
from madclip_bench.report import Report

__all__ = ["markdown", "markdown_table"]


def markdown(report: Report) -> str:
    """The whole report."""
    return "\n".join(_lines(report))


def markdown_table(table: Table) -> Iterator[str]:
    """One table, title and lead first."""
    yield from (f"## {table.title}", "")
    if table.lead:
        yield from (_plain(table.lead), "")
    if table.rows:
        yield _row(table.header)
        yield _row(["---"] * len(table.header))
        yield from map(_row, table.rows)
        yield ""


def _lines(report: Report) -> Iterator[str]:
    yield from ("# madclip bench report", "")
    yield from (f"{'**' if i < 2 else ''}{_plain(s)}{'**' if i < 2 else ''}\n" for i, s in enumerate(report.verdict))
    if report.marks:
        yield from (f"Marks: {', '.join(report.marks)}", "")
    if report.warnings:
        yield from ("## Warnings", "", *(f"- {_plain(warning)}" for warning in report.warnings), "")
    method, *sheet = sheet_tables(report)
    yield from markdown_table(method)
    yield from ("## What this report does not say", "", *(f"- {limit}" for limit in LIMITS), "")
    for table in (*measured_tables(report.figures), *sheet):
        yield from markdown_table(table)


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Nothing that a bundle or a file name says may become markup."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
