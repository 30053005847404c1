"""One chart of a comparison: p50, p90 and p99 of one image on each box, from the table's own rows."""

from __future__ import annotations

from collections.abc import Iterator

from madclip_bench.compare.comparison import Comparison
from madclip_bench.pages.svg import WIDTH, label
from madclip_bench.words import milliseconds

__all__ = ["latency_bars"]

_SHOWN = {"p50": "one", "p90": "three", "p99": "two"}
_LEFT, _BAR, _GAP = 150, 14, 12


def latency_bars(found: Comparison) -> Iterator[tuple[str, str]]:
    """(caption, svg), or nothing where no report has a latency."""
    rows = {row.name: row for row in found.rows if row.name in _SHOWN}
    highest = max((value for row in rows.values() for value in row.values if value is not None), default=0.0)
    if highest <= 0:
        return
    parts, y = [], 4.0
    for i, column in enumerate(found.columns):
        parts.append(label(_LEFT - 8, y + 12, column.name, anchor="end"))
        for name, row in rows.items():
            value = row.values[i]
            if value is not None:
                width = value / highest * (WIDTH - _LEFT - 120)
                parts.append(
                    f'<rect class="{_SHOWN[name]}" x="{_LEFT}" y="{y:.0f}" width="{width:.1f}" height="{_BAR}"/>'
                )
                parts.append(label(_LEFT + width + 6, y + 12, f"{name} {milliseconds(value)}"))
                y += _BAR + 2
        y += _GAP
    svg = f'<svg viewBox="0 0 {WIDTH} {y:.0f}" role="img" aria-label="Latencies of all reports">{"".join(parts)}</svg>'
    yield "One image at a time: half of all, 9 of 10 and 99 of 100 are answered within this. Shorter is better.", svg
