"""A checkpoint on a data set's test images. Nothing is chosen here: rule and thresholds are the checkpoint's own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from madclip.checkpoint import Checkpoint
from madclip.data import Dataset
from madclip.evaluation.bootstrap import RESAMPLES, Bootstrap, bootstrap
from madclip.evaluation.figures import FIGURES, Figure
from madclip.evaluation.pixels import PixelFigures, PixelTally
from madclip.evaluation.ranking import image_figures
from madclip.evaluation.result import Evaluation, PointOnTest, Scores
from madclip.model import Answers, Model
from madclip.patients import Groups, find_groups
from madclip.reading import Loaded, scored_chunks
from madclip_runtime.errors import BundleRefused, InputRefused
from madclip_runtime.manifest import Proportion

__all__ = ["evaluate"]


def evaluate(
    checkpoint: Checkpoint,
    dataset: Dataset,
    *,
    weights: str | None = None,
    model: Model | None = None,
    name: str = "",
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Score every test image with PyTorch, fp32, chunk by chunk.

    model: the checkpoint's, if it is already loaded. name: what to call the checkpoint.
    Raises: InputRefused, BundleRefused.
    """
    _refuse_one_class(dataset)
    groups = find_groups(dataset, "test")
    tally = PixelTally(groups.count, _map_threshold(checkpoint)) if dataset.masks else None
    scores = _score(checkpoint, dataset, model or checkpoint.model(weights), groups, tally)
    own = scores.by_rule[checkpoint.card.image_score]
    pixels = tally.figures() if tally is not None else None
    by_group = (tally.by_group, pixels.auroc) if tally is not None and pixels is not None else None
    intervals = bootstrap(scores.labels, own, groups, by_group, resamples=resamples)
    figures, missing = _figures(checkpoint, dataset, image_figures(scores.labels, own), pixels, intervals)
    return Evaluation(
        name=name,
        dataset=dataset.name,
        checkpoint=checkpoint,
        synthetic=dataset.synthetic,
        image_auroc_by_rule={
            rule: 100 * image_figures(scores.labels, values)["image_auroc"] for rule, values in scores.by_rule.items()
        },
        figures=figures,
        missing=missing,
        counts=_counts(scores, pixels),
        pixel_auroc_bound=None if pixels is None else 100 * pixels.auroc_bound,
        points=_points(checkpoint, scores.labels, own),
        bootstrap=intervals,
        notes=(*_notes(checkpoint, dataset, pixels, groups), *intervals.notes),
        scores=scores,
    )


def _refuse_one_class(dataset: Dataset) -> None:
    """Before scoring, not after it."""
    if len({case.abnormal for case in dataset.test}) < 2:
        raise InputRefused(str(dataset.root / "test"), "holds only one class, so there is no AUROC", "add the other")


def _score(checkpoint: Checkpoint, dataset: Dataset, model: Model, groups: Groups, tally: PixelTally | None) -> Scores:
    rules = tuple(dict.fromkeys(("det", "map_max", checkpoint.card.image_score)))
    found: dict[str, list[npt.NDArray[np.float64]]] = {rule: [] for rule in rules}
    for part, loaded, answers in scored_chunks(model, dataset.test):
        _refuse_not_finite(checkpoint, answers)
        for rule in rules:
            found[rule].append(answers.image_scores(rule, checkpoint.card.map_share))
        if tally is not None:
            _tally(tally, loaded, answers, groups.of[part])
    by_rule = {rule: np.concatenate(chunks) for rule, chunks in found.items()}
    labels = np.array([case.abnormal for case in dataset.test], dtype=np.int64)
    return Scores(dataset.test, labels, by_rule)


def _refuse_not_finite(checkpoint: Checkpoint, answers: Answers) -> None:
    if not (np.isfinite(answers.det).all() and np.isfinite(answers.maps).all()):
        which = f"the checkpoint trained on {checkpoint.card.data.dataset}"
        raise BundleRefused(which, "its scores are not finite numbers", "train it again")


def _tally(tally: PixelTally, loaded: Loaded, answers: Answers, groups: npt.NDArray[np.intp]) -> None:
    """Abnormal images without a mask stay out: their lesion pixels would count as normal ones."""
    known = loaded.mask_known
    tally.leave_out(int((~known).sum()))
    if known.any():
        tally.add(answers.maps[known], loaded.masks[known], groups[known], loaded.labels[known] == 1)


def _map_threshold(checkpoint: Checkpoint) -> float | None:
    """The default operating point's, where it is a threshold of the map."""
    calibration = checkpoint.card.calibration
    if calibration.default is None or checkpoint.card.image_score != "map_max":
        return None
    return calibration.points[calibration.default].threshold


def _figures(
    checkpoint: Checkpoint, dataset: Dataset, image: dict[str, float], pixels: PixelFigures | None, found: Bootstrap
) -> tuple[dict[str, Figure], dict[str, str]]:
    values: dict[str, float | None] = dict(image)
    if pixels is not None:
        values |= {"pixel_auroc": pixels.auroc, "pixel_aupro_30": pixels.aupro}
        values |= {"pixel_dice": pixels.dice, "pixel_dice_pooled": pixels.dice_pooled}
    figures = {
        name: Figure.of(value, found.intervals.get(name)) for name in FIGURES if (value := values.get(name)) is not None
    }
    reason = _why_missing(checkpoint, dataset, pixels)
    return figures, {name: reason for name in FIGURES if name not in figures}


def _why_missing(checkpoint: Checkpoint, dataset: Dataset, pixels: PixelFigures | None) -> str:
    if not dataset.masks:
        return "the set has no masks"
    if pixels is None:
        return "no lesion pixel is left at the model's size"
    if checkpoint.card.calibration.default is None:
        return "the checkpoint carries no threshold (uncalibrated)"
    return f"the stored threshold is one of {checkpoint.card.image_score} scores, not of the map"


def _points(
    checkpoint: Checkpoint, labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]
) -> dict[str, PointOnTest]:
    """Every stored threshold, judged on images that had no part in choosing it."""
    points = {}
    for name, point in checkpoint.card.calibration.points.items():
        flagged = scores >= point.threshold
        points[name] = PointOnTest(
            threshold=point.threshold,
            sensitivity=_proportion(int((flagged & (labels == 1)).sum()), int((labels == 1).sum())),
            specificity=_proportion(int((~flagged & (labels == 0)).sum()), int((labels == 0).sum())),
        )
    return points


def _proportion(k: int, n: int) -> Proportion:
    interval = binomtest(k, n).proportion_ci(confidence_level=0.95, method="exact")
    return Proportion(k=k, n=n, value=k / n, low=float(interval.low), high=float(interval.high))


def _counts(scores: Scores, pixels: PixelFigures | None) -> dict[str, int]:
    abnormal = int(scores.labels.sum())
    counts = {"normal": len(scores.labels) - abnormal, "abnormal": abnormal}
    if pixels is not None:
        counts |= {"regions": pixels.regions, "lesions_lost": pixels.lost, "abnormal_without_mask": pixels.unmasked}
    return counts


def _notes(checkpoint: Checkpoint, dataset: Dataset, pixels: PixelFigures | None, groups: Groups) -> Iterator[str]:
    card = checkpoint.card
    if dataset.synthetic:
        yield "the test images are synthetic phantoms, not patients"
    if card.encoder.random:
        yield "the encoder has random weights: a test of the pipeline only"
    if card.data.dataset != dataset.name:
        yield f"trained on {card.data.dataset}, tested on {dataset.name}; thresholds come from {card.data.dataset}"
    if card.calibration.points and groups.count < len(dataset.test):
        yield "operating points' intervals take images as independent: for several images a patient they are too narrow"
    if pixels is not None and not card.data.masks:
        yield "the checkpoint was trained without masks: its map never learned what a lesion covers"
    if pixels is not None and pixels.lost:
        yield f"{pixels.lost} lesions are too small to leave a pixel at the model's size"
    if pixels is not None and pixels.unmasked:
        yield f"{pixels.unmasked} abnormal images have no mask and are left out of the pixel figures"
