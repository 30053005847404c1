"""Which test images belong to one patient: those are drawn together when figures are resampled.

Slices of one patient resemble each other; taken as independent they make every interval too narrow.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip.data import Case, Dataset

__all__ = ["Groups", "find_groups"]

_COLUMNS = frozenset({"set", "split", "label", "file", "patient_or_group"})


@dataclass(frozen=True)
class Groups:
    """of: int64 [N], each image's group, 0…count−1. unit: "patient" or "image". notes: what a reader must know."""

    of: npt.NDArray[np.int64]
    count: int
    unit: str
    notes: tuple[str, ...] = ()


def find_groups(dataset: Dataset) -> Groups:
    """Patients of the test images, from a manifest.csv in the data folder or its parent; else each image for itself.

    Columns set (the folder's name), split, label, file, patient_or_group; an image without a patient is a group alone.
    """
    root = dataset.root.resolve()
    for path in (root / "manifest.csv", root.parent / "manifest.csv"):
        if path.is_file():
            return _from_manifest(path, root.name, dataset.test)
    return _singly(len(dataset.test))


def _from_manifest(path: Path, folder: str, cases: tuple[Case, ...]) -> Groups:
    name = path.name if path.parent.name == folder else f"../{path.name}"
    rows, fault = _read(path)
    if fault:
        return _singly(len(cases), f"{name} {fault}: images are taken as independent")
    patients = {
        (row["label"], row["file"]): row["patient_or_group"]
        for row in rows
        if row["set"] == folder and row["split"] == "test" and row["patient_or_group"]
    }
    found = [patients.get(("Ungood" if case.abnormal else "good", case.image.name)) for case in cases]
    missing = found.count(None)
    if missing == len(cases):
        return _singly(len(cases), f"{name} names no patient of these test images: images are taken as independent")
    keys = [("patient", who) if who else ("image", str(number)) for number, who in enumerate(found)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    note = (f"{name} names no patient for {missing} of {len(cases)} test images: each is a group of its own",)
    return Groups(np.array([numbers[key] for key in keys]), len(numbers), "patient", note if missing else ())


def _read(path: Path) -> tuple[list[dict[str, str]], str]:
    """The rows, or what is wrong with the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lacking = sorted(_COLUMNS - set(reader.fieldnames or ()))
            if lacking:
                return [], f"has no column {', '.join(lacking)}"
            return [{name: (row[name] or "").strip() for name in _COLUMNS} for row in reader], ""
    except (OSError, UnicodeDecodeError, csv.Error):
        return [], "can't be read"


def _singly(count: int, *notes: str) -> Groups:
    return Groups(np.arange(count), count, "image", notes)
