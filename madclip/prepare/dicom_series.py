"""`madclip prepare dicom`: single-frame files of one or more series, put in order, labelled by a table.

Nothing that names a person or an instance leaves this module: patients become running numbers, series too, and a file
is named by the SHA-256 of its bytes, which only someone who has the file can match. The mapping is not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from madclip.prepare.labels import Row, check_masks, inside, parse_label, read_mask, read_table
from madclip.prepare.sample import Findings, Pixels, Plan, Planned, need
from madclip_runtime.dicom import Header, Values, is_dicom, read_header, read_values
from madclip_runtime.dicom_series import Series, group_series, shade
from madclip_runtime.errors import InputRefused
from madclip_runtime.files import sha256_of
from madclip_runtime.window import Window

__all__ = ["plan_dicom"]

_COLUMNS = ("file", "sop_uid", "series_uid", "label", "mask", "patient", "split")


@dataclass(frozen=True)
class _Placed:
    """A file in its series. number: of that series. slice: place in order. position: 0–1, None where unknown."""

    header: Header
    series: Series
    number: int
    slice: int
    position: float | None


def plan_dicom(folders: Sequence[Path], labels: Path, masks: Path | None, window: Window, findings: Findings) -> Plan:
    """Headers of all files, the order of each series, and the label of each file.

    labels: CSV with `label` and one of `file`, `sop_uid`, `series_uid` (all of a series); may have `mask` (relative to
    `masks`, default the table's folder), `patient`, `split`. Files without a label only help to place the others.
    """
    need("pydicom", "madclip prepare dicom")
    series = group_series(_headers(folders, findings), _patient)
    placed = [item for number, files in enumerate(series, 1) for item in _in_order(files, number)]
    rows = read_table(labels, _COLUMNS, ("label",), findings)
    samples = _label(placed, rows, masks or labels.parent, window, findings)
    if len(samples) < len(placed):
        findings.notes.append(f"{len(placed) - len(samples)} of {len(placed)} files have no usable label: left out")
    _note_nameless(placed, rows, findings)
    options: dict[str, object] = {"series": len({p.number for p in placed}), "labels": labels.name}
    options |= {"window": window.name, "window_low_high": [window.low, window.high]}
    return Plan("dicom", tuple(samples), options)


def _headers(folders: Sequence[Path], findings: Findings) -> list[Header]:
    found: dict[Path, Header] = {}
    others = 0
    for folder in folders:
        if not folder.is_dir():
            raise InputRefused(str(folder), "no such folder", "give the folder of a series")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in tqdm(files, desc="headers", unit="file", disable=None, leave=False):
            with findings.catching():
                if is_dicom(path):
                    found.setdefault(path.resolve(), read_header(path, path.relative_to(folder).as_posix()))
                else:
                    others += 1
    if others:
        findings.notes.append(f"{others} files are not DICOM (no DICM mark): left out")
    if not found and not findings.faults:
        raise InputRefused(", ".join(map(str, folders)), "no DICOM files there")
    return list(found.values())


def _in_order(series: Series, number: int) -> list[_Placed]:
    last = len(series.files) - 1
    known = series.placed and last > 0
    return [_Placed(item, series, number, k, k / last if known else None) for k, item in enumerate(series.files)]


def _label(placed: list[_Placed], rows: list[Row], masks: Path, window: Window, findings: Findings) -> list[Planned]:
    """One sample for each file that a row names, in order of series and slice."""
    chosen: dict[int, tuple[Row, Planned]] = {}
    limits = _Limits(window)
    for row in rows:
        with findings.catching():
            abnormal = parse_label(row, findings)
            mask = row.get("mask")
            mask_path = None if mask is None else inside(masks, mask, row)
            for number in _named(row, placed):
                if number in chosen:
                    raise InputRefused(row.where, f"labels a file that {chosen[number][0].where} labels already")
                chosen[number] = row, _planned(placed[number], row, bool(abnormal), mask_path, limits)
    return [chosen[number][1] for number in sorted(chosen)]


def _named(row: Row, placed: list[_Placed]) -> list[int]:
    """Numbers of the files that a row means, by the first of file, sop_uid, series_uid that it fills in."""
    if name := row.get("file"):
        found = [n for n, item in enumerate(placed) if name in (item.header.name, item.header.path.name)]
    elif name := row.get("sop_uid"):
        found = [n for n, item in enumerate(placed) if item.header.instance == name]
    elif name := row.get("series_uid"):
        found = [n for n, item in enumerate(placed) if item.header.series == name]
    else:
        raise InputRefused(row.where, "names no file, sop_uid or series_uid")
    if not found:
        raise InputRefused(row.where, f"{name!r} is none of the DICOM files that could be read")
    if len(found) > 1 and (row.get("mask") or not row.get("series_uid") or row.get("file") or row.get("sop_uid")):
        raise InputRefused(row.where, f"{name!r} means {len(found)} files", "name one file")
    return found


def _planned(item: _Placed, row: Row, abnormal: bool, mask: Path | None, limits: _Limits) -> Planned:
    where = [f"slice={item.slice}", f"window={'none' if item.header.colour else limits.window.name}"]
    if item.position is not None:
        where.append(f"position={item.position:.3f}")
    try:
        digest = sha256_of(item.header.path)
    except OSError as error:
        raise InputRefused(item.header.name, f"can't be read: {error.strerror or error}") from None
    return Planned(
        abnormal=abnormal,
        patient=f"table {row.get('patient')}" if row.get("patient") else _patient(item.header),
        source=f"series{item.number:03d}[{','.join([*where, f'sha256={digest}'])}]",
        load=partial(_load, item, abnormal, mask, limits),
        split=row.split,
        position=item.position,
    )


def _load(item: _Placed, abnormal: bool, mask_path: Path | None, limits: _Limits) -> Pixels:
    values = read_values(item.header)
    image = values.values if item.header.colour else limits.grey(item, values)
    mask = None if mask_path is None else read_mask(mask_path, image.shape)
    check_masks(item.header.name, abnormal, mask)
    return Pixels(image, mask)


class _Limits:
    """Black and white for each file."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def grey(self, item: _Placed, values: Values) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """uint8 [H, W]: windowed, MONOCHROME1 turned over, padding black."""
        return shade(values, *self._of(item, values))

    def _of(self, item: _Placed, values: Values) -> tuple[float, float]:
        name = item.header.name
        if self.window.in_hounsfield and not item.header.hounsfield:
            why = "is not CT with a rescale slope and intercept, so its values are not HU"
            raise InputRefused(name, f"{why} and --window {self.window.name} means nothing", "percentile, or LOW,HIGH")
        if self.window.name == "file":
            if values.window is None:
                raise InputRefused(name, "has no linear window of its own", "give --window by name or LOW,HIGH")
            return values.window
        if self.window.low is not None and self.window.high is not None:
            return self.window.low, self.window.high
        return item.series.percentiles


def _patient(header: Header) -> str:
    """The patient's ID, else the study, the series, the folder: what is unknown is kept together, not torn apart."""
    return (
        f"id {header.patient}"
        if header.patient
        else f"study {header.study}"
        if header.study
        else f"series {header.series}"
        if header.series
        else f"folder {header.path.parent}"
    )


def _note_nameless(placed: list[_Placed], rows: list[Row], findings: Findings) -> None:
    count = sum(not item.header.patient for item in placed)
    if count and not any(row.get("patient") for row in rows):
        findings.notes.append(
            f"{count} files have no PatientID: grouped by study, series or folder; a patient column says it better"
        )
