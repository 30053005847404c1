"""A folder of images and a table of labels: `file,label[,patient][,mask][,split]`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from madclip.prepare.labels import Row, check_masks, inside, parse_label, read_mask, read_table
from madclip.prepare.sample import Findings, Pixels, Plan, Planned
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import read_image

__all__ = ["plan_folder"]

_COLUMNS = ("file", "label", "patient", "mask", "split")


def plan_folder(images: Path, labels: Path, masks: Path | None, findings: Findings) -> Plan:
    """One sample per line. images: folder of the `file` column. masks: of the `mask` column, default the same."""
    if not images.is_dir():
        raise InputRefused(str(images), "no such folder", "give the folder of the images")
    rows = read_table(labels, _COLUMNS, ("file", "label"), findings)
    seen: set[str] = set()
    samples = []
    for row in rows:
        with findings.catching():
            sample = _plan_row(row, images, masks or images, findings)
            _refuse_twice(row, images, seen)
            if sample is not None:
                samples.append(sample)
    if rows and not any(row.get("patient") for row in rows):
        findings.notes.append(
            "no patient column: each image counts as a patient of its own, so a patient with several images "
            "can be in valid and in test"
        )
    options: dict[str, object] = {"images": images.resolve().name, "labels": labels.name}
    return Plan("folder", tuple(sorted(samples, key=lambda sample: sample.source)), options)


def _plan_row(row: Row, images: Path, masks: Path, findings: Findings) -> Planned | None:
    abnormal = parse_label(row, findings)
    name = row.get("file") or ""
    path = inside(images, name, row)
    mask = row.get("mask")
    mask_path = None if mask is None else inside(masks, mask, row)
    if abnormal is None:
        return None
    return Planned(
        abnormal=abnormal,
        patient=f"patient {row.get('patient')}" if row.get("patient") else f"file {name}",
        source=Path(name).as_posix(),
        load=partial(_load, path, mask_path, abnormal),
        split=row.split,
    )


def _load(path: Path, mask_path: Path | None, abnormal: bool) -> Pixels:
    """uint8 pixels as the decoder gives them (16-bit scaled from 0–65535); grey goes back to one channel."""
    pixels = read_image(path).pixels
    grey = pixels[:, :, 0]
    mask = None if mask_path is None else read_mask(mask_path, pixels.shape)
    check_masks(str(path), abnormal, mask)
    return Pixels(grey if bool((pixels == grey[:, :, None]).all()) else pixels, mask)


def _refuse_twice(row: Row, images: Path, seen: set[str]) -> None:
    path = str((images / (row.get("file") or "")).resolve())
    if path in seen:
        raise InputRefused(row.where, f"{row.get('file')!r} is named twice", "one line for each image")
    seen.add(path)
