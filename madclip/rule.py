"""What the image score is made of: det, the map's maximum, or a blend; chosen on validation images, never on test ones.

The authors' rule stands (the map's maximum where masks were trained on, det elsewhere) unless validation images of
patients of whom no image was a shot prove another one better. Of the very patients that were shots, other slices prove
nothing: chosen on those, the rule lost up to 7 points of AUROC on test images (docs/experiments.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from madclip.evaluation.bootstrap import resample
from madclip.evaluation.ranking import Ranking
from madclip.patients import Groups

__all__ = ["LEAST_IMAGES", "LEAST_PATIENTS", "Evidence", "Rule", "choose_rule", "named_rule", "patients_in_words"]

LEAST_IMAGES = 10
"""Of each class, of unseen patients, below which nothing is chosen."""
LEAST_PATIENTS = 5
_SHARES = (0.5, 0.75)
"""Of the map in the blends that are tried, when both scores are scaled to the same spread."""
_RESAMPLES, _SEED, _DOUBT = 500, 0, 5.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """image_score: "det", "map_max" or "blend". map_share: of the map's maximum in a blend. reason: one sentence."""

    image_score: str
    map_share: float
    reason: str


@dataclass(frozen=True)
class Evidence:
    """Validation images that were not shots. labels: int64 [N], 1 abnormal. det, map_max: float64 [N].

    groups: their patients. unseen: bool [N], whose patient has no shot; None where patients aren't known.
    """

    labels: npt.NDArray[np.int64]
    det: Floats
    map_max: Floats
    groups: Groups
    unseen: npt.NDArray[np.bool_] | None

    def only_unseen(self) -> Evidence:
        """The images of unseen patients, their groups numbered anew."""
        assert self.unseen is not None
        kept = self.unseen
        _, of = np.unique(self.groups.of[kept], return_inverse=True)
        groups = Groups(of.astype(np.int64), int(of.max(initial=-1)) + 1, self.groups.unit)
        return Evidence(self.labels[kept], self.det[kept], self.map_max[kept], groups, None)


def choose_rule(evidence: Evidence, *, masks: bool) -> Rule:
    """masks: whether the map was trained on masks; else it never learned what a lesion covers, and det stands."""
    if not masks:
        return Rule("det", 1.0, "trained without masks, so the map has no say")
    doubt = _too_little(evidence)
    if doubt:
        return Rule("map_max", 1.0, f"the authors' rule; nothing was chosen, since {doubt}")
    seen = evidence.only_unseen()
    gains = {share: _gain(seen, share) for share in (0.0, *(_share(seen, part) for part in _SHARES))}
    best = max(gains, key=lambda share: gains[share][1])
    images, patients = len(seen.labels), seen.groups.count
    basis = f"on {images} validation images of {patients} patients without a shot"
    mean, least = gains[best]
    if least <= 0:
        return Rule("map_max", 1.0, f"the authors' rule; no other was proven better {basis}")
    rule = "det" if best == 0 else "blend"
    words = f"AUROC {100 * mean:+.1f} points, more than 0 with 95 % confidence"
    return Rule(rule, best if rule == "blend" else 1.0, f"better than the map's maximum {basis} ({words})")


def named_rule(name: str, evidence: Evidence, *, masks: bool) -> Rule:
    """What the user asked for: "authors", "det", "map_max" or "blend", which weighs both alike on these images."""
    if name == "authors":
        return Rule("map_max" if masks else "det", 1.0, "the authors' rule")
    share = _share(evidence, 0.5) if name == "blend" else 1.0
    return Rule(name, share, "asked for")


def patients_in_words(evidence: Evidence) -> str:
    """How independent the validation images are, for whoever reads a threshold: "" where nothing is known."""
    if evidence.unseen is None or not len(evidence.labels):
        return ""
    patients, shared = len(np.unique(evidence.groups.of)), int((~evidence.unseen).sum())
    return f", of {patients} patients; {shared} of them show a patient who was a shot"


def _too_little(evidence: Evidence) -> str:
    if evidence.unseen is None:
        return "no manifest names the patients of the validation images"
    kept = evidence.unseen
    least = int(np.bincount(evidence.labels[kept], minlength=2).min())
    patients = len(np.unique(evidence.groups.of[kept]))
    if least < LEAST_IMAGES or patients < LEAST_PATIENTS:
        return f"only {patients} patients without a shot are left, with {least} images of the rarer class"
    return ""


def _share(evidence: Evidence, part: float) -> float:
    """The map_share that gives the map's maximum `part` of the say once both scores have the same spread."""
    spread_det, spread_map = (float(values.std()) or 1.0 for values in (evidence.det, evidence.map_max))
    return part / spread_map / (part / spread_map + (1 - part) / spread_det) if len(evidence.labels) else part


def _gain(evidence: Evidence, share: float) -> tuple[float, float]:
    """AUROC of this map_share minus that of the map's maximum: as it is, and its 5th percentile over resamples."""
    blend = Ranking(evidence.labels, (1 - share) * evidence.det + share * evidence.map_max)
    plain = Ranking(evidence.labels, evidence.map_max)
    gains = []
    for drawn in resample(evidence.labels, evidence.groups, _RESAMPLES, _SEED):
        weights = drawn[:, evidence.groups.of].astype(np.float64)
        gains.append(blend.curve(weights).auroc - plain.curve(weights).auroc)
    mean = float(blend.curve().auroc - plain.curve().auroc)
    return mean, float(np.percentile(np.concatenate(gains), _DOUBT))
