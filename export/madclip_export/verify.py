"""The gate on real images: the staged bundle, through the runtime's engine, against the checkpoint in PyTorch.

An `_AD` folder's test images give figures (AUROC, pixel AUROC, Dice) and decisions; any other folder of images gives
differences, ranks and decisions. Nothing is chosen here, so test images may be used. Images stream; maps are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from madclip.checkpoint import Checkpoint
from madclip.data import Case, open_dataset
from madclip.evaluation.pixels import PixelFigures, PixelTally
from madclip.model import Answers, Model
from madclip.reading import Loaded, scored_chunks
from madclip_export.limits import LEAST_FOR_RANK, NUMERIC, VERIFIED, keeps
from madclip_runtime.engines import Engine
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import SUFFIXES
from madclip_runtime.manifest import Gate

__all__ = ["Verified", "verify"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verified:
    """What one head did on one folder. score, map_max, map_mean: float64 [N], absolute differences, in `files` order.

    figures: "auroc", "pixel_auroc", "dice" → (checkpoint's, bundle's), 0–1. flips: files whose decision changed.
    """

    head: str
    precision: str
    engine: str
    files: tuple[Path, ...]
    score: Floats
    map_max: Floats
    map_mean: Floats
    spearman: float | None
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)
    flips: tuple[Path, ...] = ()

    def gate(self) -> Gate:
        """As the manifest keeps it: counts and numbers, no file names."""
        measured = {name: float(getattr(self, name).max()) for name in ("score", "map_max", "map_mean")}
        limits = {name: NUMERIC[self.precision][name] for name in measured}
        wanted = VERIFIED[self.precision]
        if self.spearman is not None:
            measured["spearman"], limits["spearman"] = self.spearman, wanted["spearman"]
        for name in ("auroc", "pixel_auroc"):
            if name in self.figures:
                ours, theirs = self.figures[name][1], self.figures[name][0]
                measured[f"{name}_share"], limits[f"{name}_share"] = ours / theirs, wanted[f"{name}_share"]
        if "dice" in self.figures:
            measured["dice_drop"], limits["dice_drop"] = (
                self.figures["dice"][0] - self.figures["dice"][1],
                wanted["dice_drop"],
            )
        passed = all(keeps(name, measured[name], limit) for name, limit in limits.items())
        measured["flips"] = float(len(self.flips))
        return Gate(
            name="verification data",
            reference="PyTorch fp32, two-channel form",
            engine=self.engine,
            images=len(self.files),
            passed=passed,
            measured=measured,
            limits=limits,
            head=self.head,
        )

    def lines(self) -> list[str]:
        """For a person: the worst images by name, figures side by side, every changed decision."""
        found = [f"{self.head}: {len(self.files)} images against the checkpoint"]
        for name in ("score", "map_max", "map_mean"):
            values = getattr(self, name)
            worst = int(np.argmax(values))
            found.append(f"  worst {name}: {values[worst]:.2e} ({self.files[worst].name})")
        if self.spearman is not None:
            found.append(f"  rank correlation of scores: {self.spearman:.6f}")
        for name, (theirs, ours) in self.figures.items():
            found.append(f"  {name}: checkpoint {100 * theirs:.3f} %, bundle {100 * ours:.3f} %")
        found.append(f"  decisions changed: {len(self.flips)}" + "".join(f"\n    {path}" for path in self.flips))
        return found


def verify(engine: Engine, checkpoint: Checkpoint, model: Model, head: str, precision: str, folder: Path) -> Verified:
    """Raises: InputRefused for a folder or images that can't be used; EngineRefused."""
    cases, masks = _cases(folder)
    threshold = _threshold(checkpoint)
    tallies = _Tallies(threshold if checkpoint.card.image_score == "map_max" else None) if masks else None
    rows: list[tuple[float, float, float, float, float]] = []
    for _, loaded, answers in scored_chunks(model, cases):
        maps, scores = _run(engine, loaded.images, head)
        expected = answers.image_scores(checkpoint.card.image_score, checkpoint.card.map_share)
        difference = np.abs(maps.astype(np.float64) - answers.maps)
        columns = (expected, scores, np.abs(scores - expected), difference.max((1, 2)), difference.mean((1, 2)))
        rows += [tuple(map(float, row)) for row in zip(*columns, strict=True)]  # type: ignore[misc]
        if tallies is not None:
            tallies.add(loaded, answers, maps)
    expected, scores, score, map_max, map_mean = np.array(rows).T
    changed = np.zeros(len(cases), dtype=np.bool_)
    if threshold is not None:
        changed = (expected >= threshold) != (scores >= threshold)
    labels = np.array([case.abnormal for case in cases]) if masks is not None else None
    return Verified(
        head=head,
        precision=precision,
        engine=f"{engine.info.name} ({engine.info.library})",
        files=tuple(case.image for case in cases),
        score=score,
        map_max=map_max,
        map_mean=map_mean,
        spearman=_rank(expected, scores),
        figures=_figures(labels, expected, scores, tallies),
        flips=tuple(cases[int(i)].image for i in np.flatnonzero(changed)),
    )


class _Tallies:
    """Pixel figures of both sides, counted as maps come."""

    def __init__(self, threshold: float | None) -> None:
        self.theirs, self.ours = PixelTally(1, threshold), PixelTally(1, threshold)

    def add(self, loaded: Loaded, answers: Answers, maps: npt.NDArray[np.float32]) -> None:
        known = loaded.mask_known
        if not known.any():
            return
        rest = loaded.masks[known], np.zeros(int(known.sum()), dtype=np.int64), loaded.labels[known] == 1
        self.theirs.add(answers.maps[known], *rest)
        self.ours.add(np.clip(maps[known], 0, 1), *rest)

    def figures(self) -> dict[str, tuple[float, float]]:
        theirs, ours = self.theirs.figures(), self.ours.figures()
        if theirs is None or ours is None:
            return {}
        pairs = {"pixel_auroc": _pair(theirs, ours, "auroc"), "dice": _pair(theirs, ours, "dice")}
        return {name: pair for name, pair in pairs.items() if pair is not None}


def _pair(theirs: PixelFigures, ours: PixelFigures, name: str) -> tuple[float, float] | None:
    first, second = getattr(theirs, name), getattr(ours, name)
    return None if first is None or second is None else (float(first), float(second))


def _cases(folder: Path) -> tuple[tuple[Case, ...], bool | None]:
    """The images, and whether they have masks; None where they are not labelled."""
    if (folder / "test").is_dir():
        dataset = open_dataset(folder, partial_masks=True)
        return dataset.test, dataset.masks
    images = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not images:
        raise InputRefused(str(folder), "no images there", "give an _AD folder, or a folder of images")
    return tuple(Case(path, False, None) for path in images), None


def _run(engine: Engine, images: npt.NDArray[np.uint8], head: str) -> tuple[npt.NDArray[np.float32], Floats]:
    """One at a time, as a hospital does."""
    answers = [engine.run(images[i : i + 1], [head])[head] for i in range(len(images))]
    scores = np.concatenate([answer.scores for answer in answers]).astype(np.float64)
    return np.concatenate([answer.maps for answer in answers]), scores


def _threshold(checkpoint: Checkpoint) -> float | None:
    calibration = checkpoint.card.calibration
    return None if calibration.default is None else calibration.points[calibration.default].threshold


def _rank(expected: Floats, scores: Floats) -> float | None:
    if len(expected) < LEAST_FOR_RANK or np.ptp(expected) == 0 or np.ptp(scores) == 0:
        return None
    found: Any = spearmanr(expected, scores)
    return float(found.statistic)


def _figures(
    labels: npt.NDArray[np.bool_] | None, expected: Floats, scores: Floats, tallies: _Tallies | None
) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    if labels is not None and 0 < labels.sum() < len(labels):
        found["auroc"] = float(roc_auc_score(labels, expected)), float(roc_auc_score(labels, scores))
    return found | (tallies.figures() if tallies is not None else {})
