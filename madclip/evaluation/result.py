"""What one checkpoint did on one data set's test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip.checkpoint import Checkpoint
from madclip.data import Case
from madclip.evaluation.bootstrap import Bootstrap
from madclip.evaluation.figures import FIGURES, Figure, interval_text
from madclip_runtime.manifest import Proportion
from madclip_runtime.schema import encode

__all__ = ["FORMAT", "Evaluation", "PointOnTest", "Scores"]

FORMAT = "madclip-evaluation/1"
_SAID_ONCE = ("method", "level", "resamples", "seed", "unit", "groups")  # intervals and notes stand elsewhere


@dataclass(frozen=True)
class Scores:
    """The test images and their scores. labels: int64 [N], 1 abnormal. by_rule: float64 [N] each, 0–1."""

    cases: tuple[Case, ...]
    labels: npt.NDArray[np.int64]
    by_rule: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class PointOnTest:
    """A stored operating point on these test images; score >= threshold is flagged.

    The threshold was chosen on validation images. Intervals: Clopper–Pearson, 95 %, images taken as independent.
    """

    threshold: float
    sensitivity: Proportion
    specificity: Proportion

    def line(self, name: str) -> str:
        """One line for a person."""
        return f"at {name} (threshold {self.threshold:.3f}): " + ", ".join(
            f"{word} {p.k}/{p.n} = {100 * p.value:.1f} % ({100 * p.low:.1f}–{100 * p.high:.1f})"
            for word, p in (("sensitivity", self.sensitivity), ("specificity", self.specificity))
        )


@dataclass(frozen=True)
class Evaluation:
    """name, dataset: as shown to a person. figures: in the order of FIGURES; missing: why others aren't there.

    points: the checkpoint's operating points on these images. scores: not part of the JSON.
    """

    name: str
    dataset: str
    checkpoint: Checkpoint
    synthetic: bool
    image_auroc_by_rule: dict[str, float]
    figures: dict[str, Figure]
    missing: dict[str, str]
    counts: dict[str, int]
    pixel_auroc_bound: float | None
    points: dict[str, PointOnTest]
    bootstrap: Bootstrap
    notes: tuple[str, ...]
    scores: Scores

    @property
    def image_score(self) -> str:
        """The checkpoint's own image-score rule."""
        return self.checkpoint.card.image_score

    @property
    def image_auroc(self) -> float:
        """Percent, by the checkpoint's own rule."""
        return self.figures["image_auroc"].percent

    @property
    def pixel_auroc(self) -> float | None:
        """Percent; None for sets without masks."""
        figure = self.figures.get("pixel_auroc")
        return None if figure is None else figure.percent

    @property
    def encoder_random(self) -> bool:
        """True where the encoder never learned anything."""
        return self.checkpoint.card.encoder.random

    @property
    def own_scores(self) -> npt.NDArray[np.float64]:
        """float64 [N], 0–1, by the checkpoint's own rule."""
        return self.scores.by_rule[self.image_score]

    def to_json(self) -> dict[str, Any]:
        """What `madclip evaluate --json` writes for it; docs/evaluation.md."""
        card = self.checkpoint.card
        return {
            "format": FORMAT,
            "image_auroc": self.image_auroc,
            "image_score": self.image_score,
            "image_auroc_by_rule": self.image_auroc_by_rule,
            "pixel_auroc": self.pixel_auroc,
            "dataset": self.dataset,
            "synthetic": self.synthetic,
            "test_normal": self.counts["normal"],
            "test_abnormal": self.counts["abnormal"],
            "encoder": card.encoder.name,
            "encoder_random": self.encoder_random,
            "checkpoint": self.name,
            "checkpoint_sha256": self.checkpoint.sha256,
            "trained_on": encode(card.data),
            "figures": encode(self.figures),
            "missing": self.missing,
            "counts": self.counts,
            "pixel_auroc_error_bound": self.pixel_auroc_bound,
            "operating_points": encode(self.points),
            "bootstrap": {key: encode(getattr(self.bootstrap, key)) for key in _SAID_ONCE},
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """For a person: the two figures the paper reports, then one line for each of the others."""
        pixel = "no masks" if self.pixel_auroc is None else f"{self.pixel_auroc:.2f} %"
        kind = ", synthetic phantoms" if self.synthetic else ""
        head = (
            f"{self.dataset} test ({self.counts['normal']} normal, {self.counts['abnormal']} abnormal{kind}): "
            f"image AUROC {self.image_auroc:.2f} % by {self.image_score}, pixel AUROC {pixel}"
        )
        figures = [f"  {FIGURES[name]}: {interval_text(figure)}" for name, figure in self.figures.items()]
        return [head, *figures, *(f"  {point.line(name)}" for name, point in self.points.items())]
