"""A checkpoint on a data set's test images: the two figures the paper reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from madclip.checkpoint import Checkpoint
from madclip.data import Dataset, load_cases
from madclip.metrics import auroc_percent
from madclip_runtime.errors import InputRefused
from madclip_runtime.manifest import IMAGE_SCORE_RULES

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """AUROCs in percent on the test split. pixel_auroc: None for sets without masks."""

    dataset: str
    synthetic: bool
    image_score: str
    image_auroc_by_rule: dict[str, float]
    pixel_auroc: float | None
    normal: int
    abnormal: int
    encoder: str
    encoder_random: bool
    checkpoint_sha256: str

    @property
    def image_auroc(self) -> float:
        """By the checkpoint's own image-score rule."""
        return self.image_auroc_by_rule[self.image_score]

    def to_json(self) -> dict[str, Any]:
        """What `madclip evaluate --json` writes."""
        return {
            "format": "madclip-evaluation/1",
            "image_auroc": self.image_auroc,
            "image_score": self.image_score,
            "image_auroc_by_rule": self.image_auroc_by_rule,
            "pixel_auroc": self.pixel_auroc,
            "dataset": self.dataset,
            "synthetic": self.synthetic,
            "test_normal": self.normal,
            "test_abnormal": self.abnormal,
            "encoder": self.encoder,
            "encoder_random": self.encoder_random,
            "checkpoint_sha256": self.checkpoint_sha256,
        }


def evaluate(checkpoint: Checkpoint, dataset: Dataset, *, weights: str | None = None) -> Evaluation:
    """Score every test image with PyTorch, fp32. Raises: InputRefused."""
    model = checkpoint.model(weights)
    loaded = load_cases(dataset.test, checkpoint.card.encoder.image_size)
    answers = model.reference(loaded.images)
    by_rule: dict[str, float] = {}
    for rule in IMAGE_SCORE_RULES:
        value = auroc_percent(loaded.labels, answers.image_scores(rule))
        if value is None:
            raise InputRefused(str(dataset.root / "test"), "holds only one class, so there is no AUROC")
        by_rule[rule] = value
    return Evaluation(
        dataset=dataset.name,
        synthetic=dataset.synthetic,
        image_score=checkpoint.card.image_score,
        image_auroc_by_rule=by_rule,
        pixel_auroc=auroc_percent(loaded.masks, answers.maps) if dataset.masks else None,
        normal=int((loaded.labels == 0).sum()),
        abnormal=int((loaded.labels == 1).sum()),
        encoder=checkpoint.card.encoder.name,
        encoder_random=checkpoint.card.encoder.random,
        checkpoint_sha256=checkpoint.sha256,
    )
