"""95 % intervals by resampling: the percentile bootstrap, by group, stratified by class.

Groups (patients, or single images) are drawn with replacement; groups of only normal images, of only abnormal ones, and
of both are drawn apart, so that every resample holds both classes in about their own numbers.

What it does not know: test sets other than this one. An interval says how much the figure would move with other
patients of the same kind; not with another scanner, hospital or choice of shots (for that: several seeds and sets).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from madclip.evaluation.pixels import binned_auroc
from madclip.evaluation.ranking import Ranking
from madclip.patients import Groups

__all__ = ["FEW_GROUPS", "MIN_GROUPS", "RESAMPLES", "SEED", "Bootstrap", "bootstrap", "resample"]

RESAMPLES = 1000
SEED = 0
MIN_GROUPS = 5
"""Fewest groups of each class from which an interval is given at all."""
FEW_GROUPS = 20
"""Below this, percentile intervals are known to be too narrow, and a note says so."""
_LARGEST_SHIFT = 1e-3
"""The interval of the pixel AUROC uses coarse bins; where they move the AUROC itself by more, there is none."""
_AT_ONCE = 100

Floats = npt.NDArray[np.float64]
_Resampled = Callable[[npt.NDArray[np.float32]], Mapping[str, Floats]]


@dataclass(frozen=True)
class Bootstrap:
    """intervals: (low, high) in 0–1 by figure; notes: why some are missing, or not to be leaned on."""

    method: str
    level: float
    resamples: int
    seed: int
    unit: str
    groups: int
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def bootstrap(
    labels: npt.NDArray[np.int64],
    scores: Floats,
    groups: Groups,
    pixels: tuple[npt.NDArray[np.float32], float] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Bootstrap:
    """Intervals of all image figures, and of the pixel AUROC where its histograms are given.

    labels: int64 [N], 1 abnormal. scores: float64 [N]. pixels: their histograms by group, float32 [groups, 2, bins],
    lesion and other pixels; and the pixel AUROC, 0–1, of the fine bins.
    """
    notes = list(groups.notes)
    found: dict[str, tuple[float, float]] = {}
    fewest = min(len(np.unique(groups.of[labels == kind])) for kind in (0, 1))
    if fewest < MIN_GROUPS:
        notes.append(f"no intervals: one class comes from {_count(fewest, groups.unit)}, and {MIN_GROUPS} is the least")
    else:
        if fewest < FEW_GROUPS:
            notes.append(f"one class comes from {_count(fewest, groups.unit)} only: the intervals are too narrow")
        found = _intervals(_image_figures(labels, scores, groups), labels, groups, resamples, seed)
        if pixels is not None and _fine_enough(*pixels, notes):
            found |= _intervals(_pixel_auroc(pixels[0]), labels, groups, resamples, seed)
    method = "percentile, stratified by class"
    return Bootstrap(method, 0.95, resamples, seed, groups.unit, groups.count, found, tuple(notes))


def resample(
    labels: npt.NDArray[np.int64], groups: Groups, resamples: int, seed: int
) -> Iterator[npt.NDArray[np.float32]]:
    """How often each group is drawn: float32 [≤ 100, groups] at a time, `resamples` rows in all."""
    generator = np.random.default_rng(seed)
    classes = np.zeros(groups.count, dtype=np.int64)
    np.bitwise_or.at(classes, groups.of, labels + 1)  # 1: normal images only, 2: abnormal only, 3: both
    strata = [members for kind in (1, 2, 3) if len(members := np.flatnonzero(classes == kind))]
    for start in range(0, resamples, _AT_ONCE):
        rows = min(_AT_ONCE, resamples - start)
        drawn = np.zeros((rows, groups.count), dtype=np.float32)
        for members in strata:
            n = len(members)
            drawn[:, members] = generator.multinomial(n, np.full(n, 1 / n), size=rows)
        yield drawn


def _intervals(
    figures: _Resampled, labels: npt.NDArray[np.int64], groups: Groups, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    parts = [figures(drawn) for drawn in resample(labels, groups, resamples, seed)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ends = {name: np.percentile(values, [2.5, 97.5]) for name, values in whole.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _image_figures(labels: npt.NDArray[np.int64], scores: Floats, groups: Groups) -> _Resampled:
    ranking = Ranking(labels, scores)
    return lambda drawn: ranking.curve(drawn[:, groups.of].astype(np.float64)).figures()


def _pixel_auroc(pixels: npt.NDArray[np.float32]) -> _Resampled:
    flat = pixels.reshape(len(pixels), -1)

    def figures(drawn: npt.NDArray[np.float32]) -> dict[str, Floats]:
        counts = (drawn @ flat).reshape(len(drawn), 2, -1)
        whole = counts.any(-1).all(-1)  # a resample of partly masked images may hold no lesion pixel
        return {"pixel_auroc": binned_auroc(counts[whole, 0], counts[whole, 1])}

    return figures


def _fine_enough(by_group: npt.NDArray[np.float32], auroc: float, notes: list[str]) -> bool:
    lesion, other = by_group.sum(axis=0, dtype=np.float64)
    shift = abs(float(binned_auroc(lesion, other)) - auroc)
    if shift > _LARGEST_SHIFT:
        notes.append(f"no interval for the pixel AUROC: its coarse bins move it by {100 * shift:.2f} points")
    return shift <= _LARGEST_SHIFT


def _count(groups: int, unit: str) -> str:
    return f"{groups} {unit}" + ("" if groups == 1 else "s")
