"""Which images belong to one patient.

Slices of one patient resemble each other: taken as independent they make every interval too narrow, and a threshold
chosen on other slices of the very patients that were shots looks better than it is.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip.data import Case, Dataset

__all__ = ["Groups", "find_groups", "unseen"]

_COLUMNS = frozenset({"set", "split", "label", "file", "patient_or_group"})


@dataclass(frozen=True)
class Groups:
    """of: int64 [N], each image's group, 0…count−1. unit: "patient" or "image". notes: what a reader must know."""

    of: npt.NDArray[np.int64]
    count: int
    unit: str
    notes: tuple[str, ...] = ()


def find_groups(dataset: Dataset, split: str) -> Groups:
    """Patients of one split's images, from a manifest.csv in the data folder or its parent; else each image for itself.

    split: "valid" or "test". Columns set (the folder's name), split, label, file, patient_or_group; an image without a
    patient is a group alone.
    """
    cases = dataset.valid if split == "valid" else dataset.test
    root = dataset.root.resolve()
    for path in (root / "manifest.csv", root.parent / "manifest.csv"):
        if path.is_file():
            return _from_manifest(path, root.name, split, cases)
    return _singly(len(cases))


def unseen(dataset: Dataset, shots: tuple[Case, ...]) -> tuple[Case, ...] | None:
    """Validation images of patients of whom no image is a shot; None where no manifest names patients."""
    groups = find_groups(dataset, "valid")
    if groups.unit != "patient":
        return None
    taken = {case.image for case in shots}
    seen = {int(who) for case, who in zip(dataset.valid, groups.of, strict=True) if case.image in taken}
    return tuple(case for case, who in zip(dataset.valid, groups.of, strict=True) if int(who) not in seen)


def _from_manifest(path: Path, folder: str, split: str, cases: tuple[Case, ...]) -> Groups:
    name = path.name if path.parent.name == folder else f"../{path.name}"
    rows, fault = _read(path)
    if fault:
        return _singly(len(cases), f"{name} {fault}: images are taken as independent")
    patients = {
        (row["label"], row["file"]): row["patient_or_group"]
        for row in rows
        if row["set"] == folder and row["split"] == split and row["patient_or_group"]
    }
    found = [patients.get(("Ungood" if case.abnormal else "good", case.image.name)) for case in cases]
    missing = found.count(None)
    if missing == len(cases):
        return _singly(len(cases), f"{name} names no patient of these {split} images: images are taken as independent")
    keys = [("patient", who) if who else ("image", str(number)) for number, who in enumerate(found)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    note = (f"{name} names no patient for {missing} of {len(cases)} {split} images: each is a group of its own",)
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
