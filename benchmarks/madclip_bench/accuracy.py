"""How right the timed engine is: the very Detector that was timed, on a data set's test images.

Nothing is chosen here: the threshold is the bundle's own. What this module does not know: patients. Intervals take
images as independent; with several images of one patient they are too narrow, and the report says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from madclip_bench.cases import Case, TestSet, read_mask
from madclip_bench.intervals import Interval, auroc_interval, proportion
from madclip_bench.pixels import PixelCounts, PixelFigures, PixelTally
from madclip_runtime.detector import Detector
from madclip_runtime.errors import InputRefused
from madclip_runtime.manifest import Gate, OperatingPoint, Proportion

__all__ = ["MEASURED", "SPEED_ONLY", "AccuracyFigures", "Evaluated", "Promise", "evaluate", "image_auroc"]

MEASURED, SPEED_ONLY = "measured", "speed only"
_AUROC_KEYS = ("image_auroc", "pixel_auroc")


@dataclass(frozen=True)
class Evaluated:
    """What the engine said of each test image. image_sha256, abnormal, scores (0–1): of image i in turn.

    refused: files that could not be read, by their name within the set. pixels: None where the set has no masks.
    """

    dataset: str
    synthetic: bool
    image_sha256: tuple[str, ...]
    abnormal: tuple[bool, ...]
    scores: tuple[float, ...]
    pixels: PixelCounts | None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Promise:
    """A figure the manifest holds beside the same figure measured here.

    verdict: "agrees" (the intervals overlap), "worse" or "better" (they don't), "for comparison" (no interval).
    """

    name: str
    promised: Interval
    measured: Interval
    source: str
    verdict: str


@dataclass(frozen=True)
class AccuracyFigures:
    """status: "measured" or "speed only"; why: a sentence for the latter. Areas and proportions in 0–1.

    point, threshold: the bundle's default operating point; None where it has none, and then sensitivity and specificity
    are None too. notes: sentences on what limits these figures. refused: test images that could not be read, and why.
    """

    status: str
    why: str = ""
    dataset: str = ""
    normal: int = 0
    abnormal: int = 0
    image_auroc: Interval | None = None
    pixel_auroc: PixelFigures | None = None
    point: str | None = None
    threshold: float | None = None
    sensitivity: Proportion | None = None
    specificity: Proportion | None = None
    promises: tuple[Promise, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Evaluated, promised: PromisedFigures) -> AccuracyFigures:
        """All figures from the kept answers."""
        scores, abnormal = np.array(found.scores), np.array(found.abnormal)
        area = auroc_interval(image_auroc(scores, abnormal), int(abnormal.sum()), int((~abnormal).sum()))
        pixels = None if found.pixels is None else PixelFigures.of(found.pixels)
        sensitivity = specificity = None
        if promised.point is not None:
            flagged = scores >= promised.point.threshold
            sensitivity = proportion(int((flagged & abnormal).sum()), int(abnormal.sum()))
            specificity = proportion(int((~flagged & ~abnormal).sum()), int((~abnormal).sum()))
        return cls(
            status=MEASURED,
            dataset=found.dataset,
            normal=int((~abnormal).sum()),
            abnormal=int(abnormal.sum()),
            image_auroc=area,
            pixel_auroc=pixels,
            point=promised.name,
            threshold=None if promised.point is None else promised.point.threshold,
            sensitivity=sensitivity,
            specificity=specificity,
            promises=_promises(promised, area, pixels, sensitivity, specificity),
            notes=_notes(found, promised),
            refused=found.refused,
        )


@dataclass(frozen=True)
class PromisedFigures:
    """What the manifest says of the timed head: its default operating point, its gates, the set it was trained on."""

    name: str | None
    point: OperatingPoint | None
    gates: tuple[Gate, ...]
    dataset: str


def evaluate(
    detector: Detector, cases: TestSet, *, tick: Callable[[str, int, float], None] = lambda *_: None
) -> Evaluated:
    """Ask the detector about every test image, one at a time. Raises: EngineRefused; InputRefused where fewer than
    one image of each class can be read.
    """
    hashes, abnormal, scores, refused = [], [], [], []
    tally = PixelTally()
    for number, case in enumerate(cases.cases):
        tick("accuracy", number, 0.0)
        try:
            digest, score = _ask(detector, case, tally if cases.masks else None)
        except InputRefused as error:
            refused.append(f"{case.image.name}: {error.why}")
            continue
        hashes.append(digest)
        abnormal.append(case.abnormal)
        scores.append(score)
    if len(set(abnormal)) < 2:
        raise InputRefused(cases.name, "its test split has no readable image of one class", "there is no AUROC then")
    pixels = tally.counts() if cases.masks else None
    return Evaluated(cases.name, cases.synthetic, tuple(hashes), tuple(abnormal), tuple(scores), pixels, tuple(refused))


def image_auroc(scores: Sequence[float] | np.ndarray, abnormal: Sequence[bool] | np.ndarray) -> float:
    """The chance that an abnormal image scores above a normal one, a tie counting one half: 0–1. Both classes there."""
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(abnormal, dtype=bool)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # of ties, their mean
    m = int(positive.sum())
    return float((ranks[positive].sum() - m * (m + 1) / 2) / (m * (len(values) - m)))


def _ask(detector: Detector, case: Case, tally: PixelTally | None) -> tuple[str, float]:
    try:
        data = case.image.read_bytes()
    except OSError as error:
        raise InputRefused(case.image.name, error.strerror or str(error)) from None
    result = detector(data, name=case.image.name)
    if tally is not None:
        _count(tally, case, result.model_map, result.image.shape)
    return hashlib.sha256(data).hexdigest(), result.score


def _count(tally: PixelTally, case: Case, heat: np.ndarray, shape: tuple[int, ...]) -> None:
    size = heat.shape[0]
    if case.abnormal and case.mask is None:
        tally.unmasked += 1
        return
    empty = np.zeros((size, size), dtype=np.bool_)
    tally.add(heat, empty if case.mask is None else read_mask(case.mask, (shape[0], shape[1]), size))


def _promises(
    promised: PromisedFigures,
    area: Interval,
    pixels: PixelFigures | None,
    sensitivity: Proportion | None,
    specificity: Proportion | None,
) -> tuple[Promise, ...]:
    found = []
    if promised.point is not None and sensitivity is not None and specificity is not None:
        source = f"at {promised.name}, on the validation images it was chosen on"
        for name, theirs, ours in (
            ("sensitivity", promised.point.sensitivity, sensitivity),
            ("specificity", promised.point.specificity, specificity),
        ):
            found.append(_beside(name, _interval(theirs), _interval(ours), source))
    measured = {"image_auroc": area, "pixel_auroc": None if pixels is None else pixels.auroc}
    for gate in promised.gates:
        for key in _AUROC_KEYS:
            value, ours_ = gate.measured.get(key), measured[key]
            if value is not None and ours_ is not None:
                at = value / 100 if value > 1 else value  # a gate may count in percent
                found.append(Promise(key, Interval(at, at, at), ours_, f"export gate {gate.name}", "for comparison"))
    return tuple(found)


def _beside(name: str, theirs: Interval, ours: Interval, source: str) -> Promise:
    verdict = "worse" if ours.high < theirs.low else "better" if ours.low > theirs.high else "agrees"
    return Promise(name, theirs, ours, source, verdict)


def _interval(share: Proportion) -> Interval:
    return Interval(share.value, share.low, share.high)


def _notes(found: Evaluated, promised: PromisedFigures) -> tuple[str, ...]:
    unmasked = 0 if found.pixels is None else found.pixels.unmasked
    notes = {
        "images are taken as independent: with several of one patient the intervals are too narrow": True,
        "the test images are synthetic phantoms, not patients": found.synthetic,
        f"the head was trained on {promised.dataset}, this is {found.dataset}": promised.dataset != found.dataset,
        f"{len(found.refused)} test images could not be read and are left out": bool(found.refused),
        f"{unmasked} abnormal images have no mask and are left out of the pixel figure": unmasked > 0,
        "the bundle has no threshold, so there is no sensitivity or specificity": promised.point is None,
    }
    return tuple(note for note, holds in notes.items() if holds)
