"""Tables of labels (CSV with a header) and mask images, read with every fault listed."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip.prepare.sample import Bools, Findings
from madclip.prepare.split import SPLITS
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import read_image

__all__ = ["Row", "check_masks", "inside", "parse_label", "read_mask", "read_rows", "read_table"]

_LABELS = {"good": False, "normal": False, "0": False, "ungood": True, "abnormal": True, "1": True}
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Row:
    """One line of a table. where: "labels.csv line 3", for errors. cells: by lower-case column name, stripped."""

    where: str
    cells: dict[str, str]

    def get(self, name: str) -> str | None:
        """A cell's text, None where the column is missing or the cell is empty."""
        return self.cells.get(name) or None

    @property
    def split(self) -> str | None:
        """The split column's word, lower-case; read_table has checked it."""
        word = self.get("split")
        return None if word is None else word.lower()


def read_table(path: Path, known: tuple[str, ...], needed: tuple[str, ...], findings: Findings) -> list[Row]:
    """Rows of a CSV file (UTF-8, comma or semicolon). Unknown columns are noted; a bad split word is a fault."""
    rows: list[Row] = []
    with findings.catching():
        header, lines = read_rows(path)
        missing = [name for name in needed if name not in header]
        if missing:
            do = f"the columns are {', '.join(known)}"
            raise InputRefused(str(path), f"has no column named {', '.join(missing)}", do)
        unknown = [name for name in header if name not in known]
        if unknown:
            findings.notes.append(f"{path.name}: columns that are not used: {', '.join(unknown)}")
        rows = [Row(f"{path.name} line {number}", cells) for number, cells in lines]
        for row in rows:
            if row.split not in (None, *SPLITS):
                findings.fault(row.where, f"split {row.get('split')!r} is not known", "valid or test")
    return rows


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header's names (lower-case) and each line's number and cells. Raises: InputRefused."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputRefused(str(path), f"larger than {_MOST_BYTES // 2**20} MiB", "is that the table of labels?")
        text = path.read_text(encoding="utf-8-sig")
        mark = ";" if ";" in text.partition("\n")[0] else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        header = [name.strip().lower() for name in next(reader, [])]
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))]
    except OSError as error:
        raise InputRefused(str(path), f"can't be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputRefused(str(path), f"is no CSV file in UTF-8 ({error})", "export the table again") from None
    if len(set(header)) < len(header):
        raise InputRefused(str(path), "names a column twice", "name each column once")
    if ragged := [str(number) for number, line in lines if len(line) != len(header)]:
        raise InputRefused(str(path), f"line {', '.join(ragged[:5])}: not one cell for each column")
    return header, [(number, dict(zip(header, line, strict=True))) for number, line in lines]


def parse_label(row: Row, findings: Findings) -> bool | None:
    """True for abnormal; None, and a fault, where the label is not one of the known words."""
    word = row.get("label") or ""
    if word.lower() not in _LABELS:
        findings.fault(row.where, f"label {word!r} is not known", "good, normal or 0; Ungood, abnormal or 1")
    return _LABELS.get(word.lower())


def inside(folder: Path, name: str, row: Row) -> Path:
    """The file `name` of `folder`. Raises: InputRefused where it is not there, or not inside the folder."""
    path = folder / name
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise InputRefused(row.where, f"{name!r} leads out of {folder}", "name files relative to the folder")
    if not path.is_file():
        raise InputRefused(row.where, f"no such file: {path}")
    return path


def read_mask(path: Path, shape: tuple[int, ...]) -> Bools:
    """A mask image as bool [H, W]. Black is healthy, and one other colour, whichever it is, is lesion.

    Raises: InputRefused where it holds more than two colours or has not the image's size.
    """
    pixels = read_image(path).pixels
    if pixels.shape[:2] != shape[:2]:
        raise InputRefused(str(path), f"is {pixels.shape[:2]}, its image {shape[:2]}", "both must have one size")
    lesion: Bools = pixels.max(axis=2) > 0
    marked: npt.NDArray[np.uint8] = pixels[lesion]
    if marked.size and bool((marked != marked[0]).any()):
        raise InputRefused(str(path), "is no mask: it holds more than black and one other grey or colour", "0 and 255")
    return lesion


def check_masks(name: str, abnormal: bool, mask: Bools | None) -> None:
    """Raises: InputRefused where label and mask contradict each other."""
    if mask is None:
        return
    if abnormal and not mask.any():
        raise InputRefused(name, "is labelled abnormal, but its mask is empty", "mend the label or the mask")
    if not abnormal and mask.any():
        raise InputRefused(name, f"is labelled good, but its mask marks {int(mask.sum())} pixels", "mend one of them")
