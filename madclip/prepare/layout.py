"""The writer: samples into `<Name>_AD`, built beside its place and moved there only when it is whole."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

import madclip
from madclip.prepare.giveaway import CLASSES, Measured, give_aways, measure, warnings_of
from madclip.prepare.sample import Findings, Pixels, Plan, Planned
from madclip.prepare.split import SPLITS, Patient, assign_splits
from madclip_runtime.errors import InputRefused, OutputNotWritten, UsageError, one_line

__all__ = ["COLUMNS", "Card", "SplitOptions", "check_out", "patients_of", "write_set"]

COLUMNS = ("set", "split", "label", "file", "patient_or_group", "source", "has_mask")
_MASKS = "anomaly_mask"

Card = dict[str, Any]


@dataclass(frozen=True)
class SplitOptions:
    """How patients are divided. test_share: of each class's images, between 0 and 1."""

    test_share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.test_share < 1.0:
            raise UsageError(f"--test-share {self.test_share}", "must lie between 0 and 1", "0.5 is the default")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}", "must be at least 0")


@dataclass(frozen=True)
class _Written:
    """A row of the manifest, with what was measured on its image."""

    row: tuple[str, ...]
    measured: Measured


def check_out(out: Path) -> None:
    """Say before the work that the set has no place to go. Raises: UsageError, OutputNotWritten."""
    if not out.name.endswith("_AD") or out.name == "_AD":
        raise UsageError(f"--out {out}", "a set's folder is named <Name>_AD", f"for example {out.name or 'Brain'}_AD")
    if not out.resolve().parent.is_dir():
        raise OutputNotWritten(str(out), "its folder does not exist", f"mkdir -p {out.parent}")
    try:
        used = out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir())))
    except OSError:
        used = True  # a folder that can't be looked into can't be known to be empty
    if used:
        raise OutputNotWritten(str(out), "is not an empty folder", "name a folder that does not exist yet")


def patients_of(samples: Sequence[Planned], findings: Findings) -> list[Patient]:
    """Images of each class by patient, in order of first appearance; two fixed splits for one patient are a fault."""
    found: dict[str, Patient] = {}
    for sample in samples:
        known = found.get(sample.patient, Patient(sample.patient, 0, 0))
        if sample.split and known.split and sample.split != known.split:
            findings.fault(sample.source, "its patient has images in valid and in test", "keep a patient in one split")
        split = known.split or sample.split
        counted = replace(known, normal=known.normal + (not sample.abnormal), abnormal=known.abnormal + sample.abnormal)
        found[sample.patient] = replace(counted, split=split)
    return list(found.values())


def write_set(out: Path, plan: Plan, findings: Findings, options: SplitOptions) -> Card:
    """Split by patient, read every sample, write, measure, and move the folder to its place.

    Returns what card.json holds: options, counts, notes, give-aways, warnings.

    Raises: UsageError, InputRefused with every fault at once, OutputNotWritten. `out` is untouched by a failure.
    """
    check_out(out)
    patients = patients_of(plan.samples, findings)
    splits = assign_splits(patients, options.test_share, options.seed)
    with _staging(out) as folder:
        written = _write_samples(folder, plan, patients, splits, findings)
        findings.refuse_if_any(out.name)
        _refuse_one_class(out, plan)
        card = _card(out, plan, written, findings, options)
        _write_manifest(folder / "manifest.csv", written)
        (folder / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` at the end, and is gone after an error."""
    box: Path | None = None
    try:
        box = Path(tempfile.mkdtemp(dir=out.resolve().parent, prefix=f".{out.name[:40]}.", suffix=".part"))
        folder = box / out.name
        for home in (folder / split / label / "img" for split in SPLITS for label in CLASSES):
            home.mkdir(parents=True)
        yield folder
        with suppress(FileNotFoundError):
            out.rmdir()  # empty, as was checked; a folder that has been filled meanwhile stays and refuses
        folder.rename(out)
    except OSError as error:
        raise OutputNotWritten(str(out), error.strerror or str(error), "check the folder and its space") from None
    finally:
        if box is not None:
            shutil.rmtree(box, ignore_errors=True)


def _write_samples(
    folder: Path, plan: Plan, patients: list[Patient], splits: dict[str, str], findings: Findings
) -> list[_Written]:
    names, counts = _running_numbers(patients), dict.fromkeys((p.key for p in patients), 0)
    written = []
    for sample in tqdm(plan.samples, desc=plan.kind, unit="image", disable=None, leave=False):
        counts[sample.patient] += 1
        stem = f"{names[sample.patient]}_{counts[sample.patient]:04d}"
        with findings.catching():
            pixels = sample.load()
            if not findings.faults:  # after a fault the rest is only read, to list what else is wrong
                written.append(_write_one(folder, stem, sample, splits[sample.patient], pixels))
    return sorted(written, key=lambda item: item.row)


def _running_numbers(patients: list[Patient]) -> dict[str, str]:
    width = max(3, len(str(len(patients))))
    return {patient.key: f"p{number:0{width}d}" for number, patient in enumerate(patients, 1)}


def _write_one(folder: Path, stem: str, sample: Planned, split: str, pixels: Pixels) -> _Written:
    label = CLASSES[int(sample.abnormal)]
    masked = sample.abnormal and pixels.mask is not None
    _save(folder / split / label / "img" / f"{stem}.png", pixels.image)
    if masked and pixels.mask is not None:
        home = folder / split / label / _MASKS
        home.mkdir(exist_ok=True)
        _save(home / f"{stem}.png", pixels.mask.astype(np.uint8) * np.uint8(255))
    measured = measure(
        pixels.image,
        split=split,
        abnormal=sample.abnormal,
        position=None if sample.position is None else round(sample.position, 3),  # as the manifest keeps it
    )
    row = (folder.name, split, label, f"{stem}.png", stem.split("_")[0], one_line(sample.source), str(int(masked)))
    return _Written(row, measured)


def _save(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")


def _write_manifest(path: Path, written: list[_Written]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(item.row for item in written)
    path.write_text(text.getvalue(), encoding="utf-8")


def _refuse_one_class(out: Path, plan: Plan) -> None:
    for abnormal, kind in ((False, "normal"), (True, "abnormal")):
        if not any(sample.abnormal is abnormal for sample in plan.samples):
            raise InputRefused(out.name, f"no {kind} image was found", "a set needs images of both classes")


def _gaps(written: list[_Written]) -> list[str]:
    """What the finished set lacks, so that training or evaluation would refuse it."""
    lines = []
    for split in SPLITS:
        for label in CLASSES:
            if not any(item.row[1:3] == (split, label) for item in written):
                lines.append(f"WARNING: {split} has no {label} image: too few patients to keep each in one split")
    bare = sum(item.measured.abnormal and item.row[-1] == "0" for item in written)
    masked = sum(item.row[-1] == "1" for item in written)
    if bare and masked:
        lines.append(f"WARNING: {bare} of {bare + masked} abnormal images have no mask")
    return lines


def _card(out: Path, plan: Plan, written: list[_Written], findings: Findings, options: SplitOptions) -> Card:
    measured = [item.measured for item in written]
    aurocs = give_aways(measured)
    return {
        "format": 1,
        "set": out.name,
        "made_by": f"madclip prepare {plan.kind} {madclip.__version__}",
        "options": plan.options | {"test_share": options.test_share, "seed": options.seed},
        "counts": {split: _counts(written, split) for split in SPLITS},
        "notes": findings.notes,
        "give_away_auroc": aurocs,
        "warnings": _gaps(written) + warnings_of(aurocs, measured),
    }


def _counts(written: list[_Written], split: str) -> dict[str, int]:
    rows = [item.row for item in written if item.row[1] == split]
    good, bad = (sum(row[2] == label for row in rows) for label in CLASSES)
    masks = sum(row[-1] == "1" for row in rows)
    return {CLASSES[0]: good, CLASSES[1]: bad, "masks": masks, "patients": len({row[4] for row in rows})}
