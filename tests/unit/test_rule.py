"""The image-score rule: the authors' unless images of unseen patients prove another; never the shots' own patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from madclip.patients import Groups
from madclip.rule import Evidence, choose_rule, named_rule, patients_in_words


def evidence(*, det_knows: bool, patients: int = 20, each: int = 4, unseen: bool = True, seed: int = 0) -> Evidence:
    """Patients of `each` images, every other one abnormal; det ranks them well or not at all, the map middling."""
    draw = np.random.default_rng(seed)
    count = patients * each
    labels = (np.arange(count) // each % 2).astype(np.int64)
    det = 0.5 + 0.02 * draw.standard_normal(count) + (0.1 * labels if det_knows else 0)
    map_max = 0.5 + 0.1 * draw.standard_normal(count) + 0.1 * labels
    groups = Groups(np.arange(count) // each, patients, "patient")
    return Evidence(labels, det, map_max, groups, np.full(count, unseen))


def test_another_rule_is_taken_only_where_it_is_proven_better() -> None:
    better = choose_rule(evidence(det_knows=True), masks=True)
    assert better.image_score in ("det", "blend") and "better than" in better.reason
    plain = choose_rule(evidence(det_knows=False), masks=True)
    assert plain.image_score == "map_max" and "no other was proven" in plain.reason


def test_images_of_the_shots_own_patients_prove_nothing() -> None:
    """The same images, by which det is far better; but every patient was a shot."""
    rule = choose_rule(evidence(det_knows=True, unseen=False), masks=True)
    assert rule.image_score == "map_max" and "nothing was chosen" in rule.reason


@pytest.mark.parametrize(("patients", "each"), [(4, 10), (20, 1), (6, 3)])
def test_too_few_patients_or_images_choose_nothing(patients: int, each: int) -> None:
    kept = evidence(det_knows=True, patients=patients, each=each)
    if patients == 20:
        mask = np.zeros(20, dtype=np.bool_)
        mask[:12] = True
        kept = replace(kept, unseen=mask)
    assert "nothing was chosen" in choose_rule(kept, masks=True).reason


def test_without_a_manifest_or_masks_the_authors_rule_stands() -> None:
    unknown = replace(evidence(det_knows=True), unseen=None)
    assert "no manifest" in choose_rule(unknown, masks=True).reason and patients_in_words(unknown) == ""
    assert choose_rule(evidence(det_knows=False), masks=False).image_score == "det"


def test_one_lucky_patient_is_no_proof() -> None:
    """det beats the map only through the many images of one patient: the bootstrap by patient is not taken in."""
    lucky = evidence(det_knows=False, patients=8, each=6, seed=3)
    det = lucky.map_max.copy()
    det[:6] = 0.0
    assert choose_rule(replace(lucky, det=det), masks=True).image_score == "map_max"


def test_a_named_rule_is_obeyed_and_a_blend_weighs_both_alike() -> None:
    given = evidence(det_knows=True)
    assert named_rule("authors", given, masks=True).image_score == "map_max"
    assert named_rule("authors", given, masks=False).image_score == "det"
    blend = named_rule("blend", given, masks=True)
    det, heat = (1 - blend.map_share) * given.det.std(), blend.map_share * given.map_max.std()
    assert det == pytest.approx(heat)


def test_how_independent_the_images_are_is_said() -> None:
    half = evidence(det_knows=True)
    half = replace(half, unseen=np.arange(len(half.labels)) < 40)
    assert patients_in_words(half) == ", of 20 patients; 40 of them show a patient who was a shot"
