"""`madclip prepare nifti`: from folders of volumes to a plan of slices, matched in height within each split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from madclip.prepare.labels import read_table
from madclip.prepare.layout import SplitOptions
from madclip.prepare.nifti import Scan, Volume, find_pairs, scan, slice_pixels
from madclip.prepare.sample import Findings, Plan, Planned, need
from madclip.prepare.slices import (
    Slice,
    abnormal_slices,
    match_positions,
    normal_slices,
    relative_positions,
    thin_out,
)
from madclip.prepare.split import SPLITS, Patient, assign_splits
from madclip_runtime.errors import UsageError
from madclip_runtime.window import Window

__all__ = ["SliceOptions", "plan_nifti"]


@dataclass(frozen=True)
class SliceOptions:
    """Which slices are taken, and how they look. gap, per_volume: slices. tolerance: of relative position, 0–1."""

    window: Window
    axis: int = 2
    lesions: tuple[int, ...] = ()
    min_lesion_pixels: int = 50
    gap: int = 5
    per_volume: int | None = None
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        least = (
            ("--min-lesion-pixels", self.min_lesion_pixels, 1),
            ("--gap", self.gap, 1),
            ("--per-volume", self.per_volume, 1),
            *(("--lesion-label", label, 1) for label in self.lesions),
        )
        for name, value, smallest in least:
            if value is not None and value < smallest:
                raise UsageError(f"{name} {value}", f"must be at least {smallest}")
        if self.axis not in (0, 1, 2):
            raise UsageError(f"--axis {self.axis}", "no such axis", "0 sagittal, 1 coronal, 2 axial")
        if not 0.0 <= self.tolerance <= 1.0:
            raise UsageError(f"--tolerance {self.tolerance}", "must lie between 0 and 1")


@dataclass(frozen=True)
class _Candidates:
    """One volume's slices that may be taken, and what it takes to place and draw them. split: where it is fixed."""

    volume: Volume
    patient: str
    split: str | None
    scan: Scan
    abnormal: tuple[Slice, ...]
    normal: tuple[Slice, ...]


def plan_nifti(
    images: Path, labels: Path, patients: Path | None, options: SliceOptions, split: SplitOptions, findings: Findings
) -> Plan:
    """Read every volume once, split by patient, and pair slices by position within each split.

    patients: CSV `file,patient[,split]`; without it each volume counts as a patient.
    """
    need("nibabel", "madclip prepare nifti")
    volumes = find_pairs(images, labels, options.lesions, findings)
    people = _people(volumes, patients, findings)
    found = []
    for number, volume in enumerate(tqdm(volumes, desc="volumes", unit="volume", disable=None, leave=False)):
        with findings.catching():
            found.append(_candidates(number, volume, people.get(volume.name, ("", None)), options, findings))
    splits = _splits(found, split, findings)
    # Everything has been read by now, so a list of faults is complete, and slices need not be chosen.
    samples = [] if findings.faults else _choose(found, splits, options, split.seed, findings)
    return Plan("nifti", tuple(samples), _written_options(images, labels, options))


def _candidates(
    number: int, volume: Volume, person: tuple[str, str | None], options: SliceOptions, findings: Findings
) -> _Candidates:
    seen = scan(volume, options.axis, options.window, findings)
    positions = relative_positions(seen.body)
    abnormal = thin_out(abnormal_slices(seen.lesion, options.min_lesion_pixels), options.per_volume)
    normal = normal_slices(seen.lesion, seen.body, options.gap)
    slices = [tuple(Slice(number, int(k), float(positions[k])) for k in kind) for kind in (abnormal, normal)]
    return _Candidates(volume, *person, seen, slices[0], slices[1])


def _people(volumes: list[Volume], table: Path | None, findings: Findings) -> dict[str, tuple[str, str | None]]:
    """(patient, fixed split) by volume name."""
    if table is None:
        findings.notes.append("no --patients table: each volume counts as a patient of its own")
        return {volume.name: (volume.name, None) for volume in volumes}
    rows = read_table(table, ("file", "patient", "split"), ("file", "patient"), findings)
    people = {row.get("file") or "": (row.get("patient") or "", row.split) for row in rows}
    for volume in volumes:
        if rows and not people.get(volume.name, ("", None))[0]:
            findings.fault(volume.name, f"{table.name} names no patient for it")
    for name in sorted(people.keys() - {volume.name for volume in volumes}):
        findings.fault(table.name, f"names {name!r}, and there is no such volume")
    return people


def _splits(found: list[_Candidates], options: SplitOptions, findings: Findings) -> dict[str, str]:
    """A split for each patient, by how many slices of each class their volumes could bring."""
    patients: dict[str, Patient] = {}
    for item in found:
        known = patients.get(item.patient, Patient(item.patient, 0, 0))
        if item.split and known.split and item.split != known.split:
            findings.fault(item.volume.name, "its patient has volumes in valid and in test")
        counts = known.normal + len(item.normal), known.abnormal + len(item.abnormal)
        patients[item.patient] = Patient(item.patient, *counts, known.split or item.split)
    splits = assign_splits(list(patients.values()), options.test_share, options.seed)
    for name in SPLITS:
        inside = [patient for patient in patients.values() if splits[patient.key] == name]
        if not sum(p.normal for p in inside) or not sum(p.abnormal for p in inside):
            # Slices are paired within a split: one without a class would lose all it has. Keep what is free together.
            return {patient.key: patient.split or "valid" for patient in patients.values()}
    return splits


def _choose(
    found: list[_Candidates], splits: dict[str, str], options: SliceOptions, seed: int, findings: Findings
) -> list[Planned]:
    chosen: list[tuple[Slice, bool]] = []
    for name in SPLITS:
        members = [item for item in found if splits[item.patient] == name]
        bad, good = [s for m in members for s in m.abnormal], [s for m in members for s in m.normal]
        kept = match_positions(bad, good, tolerance=options.tolerance, cap=options.per_volume, seed=seed)
        _note_left_out(name, len(bad), len(kept[0]), options, findings)
        chosen += [(place, True) for place in kept[0]] + [(place, False) for place in kept[1]]
    chosen.sort(key=lambda pair: (pair[0].volume, pair[0].index))
    if not any(item.abnormal for item in found):
        findings.fault(
            "slices", f"none has {options.min_lesion_pixels} lesion pixels", "--lesion-label, another --axis"
        )
    elif not chosen:
        do = "raise --tolerance, lower --gap or --min-lesion-pixels, or add volumes"
        findings.fault("slices", "no abnormal slice has a normal one at its height", do)
    return [_planned(found[place.volume], place, kind, splits, options) for place, kind in chosen]


def _planned(item: _Candidates, place: Slice, abnormal: bool, splits: dict[str, str], options: SliceOptions) -> Planned:
    seen = item.scan
    inside = f"axis={options.axis},slice={place.index},window={options.window.name},position={place.position:.3f}"
    return Planned(
        abnormal=abnormal,
        patient=item.patient,
        source=f"{item.volume.name}[{inside}]",
        load=partial(slice_pixels, item.volume, options.axis, place.index, seen.low, seen.high),
        split=splits[item.patient],
        position=place.position,
    )


def _note_left_out(split: str, before: int, after: int, options: SliceOptions, findings: Findings) -> None:
    if before > after:
        findings.notes.append(
            f"{split}: {before - after} of {before} abnormal slices left out, since no normal slice is within "
            f"{options.tolerance:g} of their relative position (--tolerance, --gap)"
        )


def _written_options(images: Path, labels: Path, options: SliceOptions) -> dict[str, object]:
    return {
        "images": images.resolve().name,
        "labels": labels.resolve().name,
        "axis": options.axis,
        "window": options.window.name,
        "window_low_high": [options.window.low, options.window.high],
        "lesion_labels": list(options.lesions),
        "min_lesion_pixels": options.min_lesion_pixels,
        "gap": options.gap,
        "per_volume": options.per_volume,
        "tolerance": options.tolerance,
    }
