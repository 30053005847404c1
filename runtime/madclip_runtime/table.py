"""All results as one CSV table, written whole at the end."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from madclip_runtime.files import make_folder, write_whole

__all__ = ["COLUMNS", "Table"]

COLUMNS = (
    *("file", "head", "score", "decision", "threshold", "operating_point", "score_error", "map_max", "regions"),
    *("area_px", "area_mm2", "width", "height", "engine", "precision", "bundle", "bundle_digest", "overlay", "notes"),
    "refused",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Table:
    """Rows as text in memory, some hundred bytes each. regions: their count; area: of all that are told."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = io.StringIO()
        self._writer = csv.writer(self._rows, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def add(self, line: dict[str, Any]) -> None:
        """One row from a JSON line."""
        regions = line.get("regions")
        areas = [region["area_mm2"] for region in regions or ()]
        values = {
            **line,
            "regions": None if regions is None else len(regions),
            "area_px": None if regions is None else sum(region["area_px"] for region in regions),
            "area_mm2": sum(areas) if regions and None not in areas else None,
            "notes": "; ".join(line.get("notes", ())),
            "refused": line["refused"]["why"] if "refused" in line else None,
        }
        self._writer.writerow([_cell(values.get(column)) for column in COLUMNS])

    def write(self) -> None:
        """Raises: OutputNotWritten."""
        make_folder(self._path.parent)
        write_whole(self._path, self._rows.getvalue().encode("utf-8", "backslashreplace"))


def _cell(value: object) -> object:
    """A name from a stranger must not become a formula in somebody's spreadsheet: such a text gets a ' in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
