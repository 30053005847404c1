"""The report's figures as CSV: path, value. For spreadsheets that collect many boxes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from madclip_bench.report import Report

__all__ = ["figures_csv", "leaves"]

_DANGEROUS = ("=", "+", "-", "@", "\t")
"""What a spreadsheet would run as a formula."""


def figures_csv(report: Report) -> str:
    """Header "figure,value", then setting and figures, one a line, in the JSON's order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["figure", "value"])
    for part in ("format", "verdict", "marks", "warnings", "setting", "figures", "digest"):
        writer.writerows((path, _cell(value)) for path, value in leaves(report.document()[part], part))
    return text.getvalue()


def leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Every number, text, truth or null of a JSON value with its path: "figures.single.latency.percentiles[1]…"."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_DANGEROUS):
        return f"'{value}"
    return "" if value is None else value
