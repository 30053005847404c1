"""Image figures against scikit-learn, and against the slow and obvious way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from madclip.evaluation.ranking import Ranking, image_figures

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def _draw(seed: int, normal: int, abnormal: int, digits: int) -> tuple[Labels, Floats]:
    rng = np.random.default_rng(seed)
    labels = np.array([0] * normal + [1] * abnormal)
    return labels, np.clip(rng.random(len(labels)) + 0.2 * labels, 0, 1).round(digits)


def _naive(labels: Labels, scores: Floats) -> dict[str, float]:
    """Try every threshold, none flagged among them."""
    tries = [scores >= t for t in (*np.unique(scores), np.inf)]
    rates = [((flags & (labels == 1)).sum() / labels.sum(), (~flags & (labels == 0)).mean()) for flags in tries]
    rates = [(hit, passed / (labels == 0).mean()) for hit, passed in rates]
    return {
        "image_auroc": roc_auc_score(labels, scores),
        "image_aupr": average_precision_score(labels, scores),
        "image_f1_max": max(f1_score(labels, flags, zero_division=0) for flags in tries),
        "image_sensitivity_at_95_specificity": max(hit for hit, passed in rates if passed >= 0.95 - 1e-9),
        "image_specificity_at_95_sensitivity": max(passed for hit, passed in rates if hit >= 0.95 - 1e-9),
    }


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), normal=st.integers(1, 45), abnormal=st.integers(1, 45), digits=st.sampled_from([1, 9])
)
def test_every_figure_is_the_naive_one(seed: int, normal: int, abnormal: int, digits: int) -> None:
    labels, scores = _draw(seed, normal, abnormal, digits)
    expected = _naive(labels, scores)
    by_curve = Ranking(labels, scores).curve().figures()
    for name, value in image_figures(labels, scores).items():
        assert value == pytest.approx(expected[name], abs=1e-12), name
        assert float(by_curve[name]) == pytest.approx(expected[name], abs=1e-12), f"{name}, by the curve"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), digits=st.sampled_from([1, 9]))
def test_a_weight_is_so_many_copies_of_the_image(seed: int, digits: int) -> None:
    labels, scores = _draw(seed, 12, 9, digits)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(labels))).astype(float)
    weights[:, [0, -1]] = 1.0
    together = Ranking(labels, scores).curve(weights).figures()
    for row, of_row in enumerate(weights.astype(int)):
        expected = _naive(np.repeat(labels, of_row), np.repeat(scores, of_row))
        for name, values in together.items():
            assert values[row] == pytest.approx(expected[name], abs=1e-12), name


def test_images_of_one_score_are_flagged_together() -> None:
    labels = np.array([0] * 20 + [1] * 20)
    figures = image_figures(labels, np.full(40, 0.5))
    assert figures["image_auroc"] == 0.5
    assert figures["image_sensitivity_at_95_specificity"] == 0.0, "flagging the tie would pass no normal"
    assert figures["image_specificity_at_95_sensitivity"] == 0.0


def test_exactly_one_in_twenty_is_95_percent() -> None:
    """0.05 × 20 is a hair above 1 in binary; one false alarm in twenty must be let through, two must not."""
    labels = np.array([0] * 20 + [1] * 2)
    scores = np.concatenate([np.linspace(0, 0.4, 18), [0.7, 0.9], [0.8, 0.6]])
    assert image_figures(labels, scores)["image_sensitivity_at_95_specificity"] == 0.5
