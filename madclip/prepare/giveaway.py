"""Does something trivial give the label away? AUROC of what can be told without looking for a lesion.

A model learns the easiest difference there is. Where normal images come from another scanner, height or crop than
abnormal ones, a high score on the set says nothing about lesions.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip.prepare.sample import Findings
from madclip.prepare.split import SPLITS
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import SUFFIXES, read_image

__all__ = ["CLASSES", "LIMIT", "Measured", "check_folder", "give_aways", "measure", "table", "warnings_of"]

LIMIT = 0.75
"""An AUROC past this, or below 1 minus this, is warned of."""
CLASSES = ("good", "Ungood")
_BODY_GREY = 25
"""A tenth of the grey range; above it a pixel counts as foreground."""
_FEATURES = {
    "height": "image height",
    "width": "image width",
    "mean_intensity": "mean intensity",
    "foreground_area": "foreground area",
    "slice_position": "relative slice position",
}

Table = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Measured:
    """One image's trivial figures. values: by name as in `_FEATURES`, None where unknown. digest: of its pixels."""

    split: str
    abnormal: bool
    values: dict[str, float | None]
    digest: str


def measure(image: npt.NDArray[np.uint8], *, split: str, abnormal: bool, position: float | None) -> Measured:
    """image: uint8 [H, W] or [H, W, 3], 0–255. Grey is the mean of the channels; area is the share above a tenth."""
    grey = image.astype(np.float64) if image.ndim == 2 else image.mean(axis=2)
    values: dict[str, float | None] = {
        "height": float(image.shape[0]),
        "width": float(image.shape[1]),
        "mean_intensity": float(grey.mean()),
        "foreground_area": float((grey > _BODY_GREY).mean()),
        "slice_position": position,
    }
    shape = repr(grey.shape).encode()
    return Measured(split, abnormal, values, hashlib.sha256(shape + grey.tobytes()).hexdigest())


def give_aways(measured: Sequence[Measured]) -> Table:
    """Per split and figure the AUROC of abnormal over normal, 0–1; None where a class or the figure is missing."""
    return {
        split: {name: _auroc([m for m in measured if m.split == split], name) for name in _FEATURES} for split in SPLITS
    }


def warnings_of(aurocs: Table, measured: Sequence[Measured]) -> list[str]:
    """One sentence for each figure past the limit, and one for images that stand in both splits."""
    lines = []
    for split, row in aurocs.items():
        counts = [sum(m.split == split and m.abnormal is kind for m in measured) for kind in (False, True)]
        for name, value in row.items():
            if value is not None and not 1 - LIMIT <= value <= LIMIT:
                lines.append(
                    f"WARNING: {split}: {_FEATURES[name]} alone tells Ungood from good with AUROC {value:.2f} "
                    f"({counts[0]} + {counts[1]} images); a model can score as well without seeing one lesion"
                )
    return lines + _twins(measured)


def table(aurocs: Table) -> list[str]:
    """The figures for a terminal, one line a split."""
    return [
        f"{split}: " + ", ".join(f"{_FEATURES[name]} {'–' if v is None else f'{v:.2f}'}" for name, v in row.items())
        for split, row in aurocs.items()
    ]


def check_folder(folder: Path) -> list[Measured]:
    """Measure a finished set; slice positions come from its manifest.csv. Raises: InputRefused listing every fault."""
    findings, measured = Findings(), []
    positions = _positions(folder / "manifest.csv")
    for split in SPLITS:
        for label in CLASSES:
            for path in _images(folder / split / label / "img"):
                with findings.catching():
                    known = positions.get((split, label, path.name))
                    pixels = _plain(read_image(path).pixels)
                    measured.append(measure(pixels, split=split, abnormal=label == CLASSES[1], position=known))
    findings.refuse_if_any(str(folder))
    if not measured:
        raise InputRefused(str(folder), "no images in the <Name>_AD layout there", "docs/data.md describes it")
    return measured


def _auroc(measured: Iterable[Measured], name: str) -> float | None:
    from sklearn.metrics import roc_auc_score

    known = [(m.abnormal, m.values[name]) for m in measured if m.values[name] is not None]
    labels = [abnormal for abnormal, _ in known]
    if len(set(labels)) < 2:
        return None
    return round(float(roc_auc_score(labels, [value for _, value in known])), 4)


def _twins(measured: Sequence[Measured]) -> list[str]:
    homes: dict[str, set[str]] = {}
    for item in measured:
        homes.setdefault(item.digest, set()).add(item.split)
    count = sum(len(splits) > 1 for splits in homes.values())
    if not count:
        return []
    return [f"WARNING: {count} images stand in valid and in test with the same pixels; the test images are not unseen"]


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def _plain(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey stored as RGB back to [H, W], so that a set measures the same before and after it is written."""
    grey = pixels[:, :, 0]
    return grey if bool((pixels == grey[:, :, None]).all()) else pixels


def _positions(manifest: Path) -> dict[tuple[str, str, str], float]:
    """(split, label, file) → position, read from `position=0.431` in the source column; empty without a manifest."""
    try:
        with manifest.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    found = {}
    for row in rows:
        match = re.search(r"[\[,]position=([01]\.\d+)", row.get("source") or "")
        if match:
            found[(row.get("split", ""), row.get("label", ""), row.get("file", ""))] = float(match.group(1))
    return found
