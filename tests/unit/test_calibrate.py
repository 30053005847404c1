"""Thresholds and what may be said of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_curve

from madclip.calibrate import GUARANTEE, MIN_PER_CLASS, calibrate


def test_sixteen_of_sixteen_is_only_79_percent() -> None:
    labels = np.repeat([0, 1], 16)
    calibration = calibrate(labels, np.linspace(0, 1, 32))
    point = calibration.points["f1"]
    assert point.sensitivity.k == point.sensitivity.n == 16 and point.sensitivity.value == 1.0
    assert 0.79 < point.sensitivity.low < 0.80 and point.sensitivity.high == 1.0
    assert 15 / 31 < point.threshold < 16 / 31, "between the classes, not on an image"


def test_too_few_images_means_uncalibrated_with_the_reason() -> None:
    for normal, abnormal in ((0, 0), (MIN_PER_CLASS - 1, 50), (50, MIN_PER_CLASS - 1)):
        labels = np.array([0] * normal + [1] * abnormal)
        calibration = calibrate(labels, np.linspace(0, 1, len(labels)))
        assert calibration.points == {} and calibration.default is None
        assert str(MIN_PER_CLASS) in calibration.reason


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), normal=st.integers(4, 30), abnormal=st.integers(4, 30), ties=st.booleans())
def test_no_threshold_has_a_higher_f1(seed: int, normal: int, abnormal: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([0] * normal + [1] * abnormal)
    scores = rng.random(len(labels)).round(1 if ties else 12)
    point = calibrate(labels, scores).points["f1"]
    got = f1_score(labels, scores >= point.threshold)
    best = max(f1_score(labels, scores >= t) for t in np.unique(scores))
    assert got == best
    assert point.sensitivity.k == ((scores >= point.threshold) & (labels == 1)).sum()
    assert point.sensitivity.low <= point.sensitivity.value <= point.sensitivity.high


def test_what_the_data_cannot_support_is_refused_with_the_sentence_why() -> None:
    labels = np.repeat([0, 1], 16)
    calibration = calibrate(labels, np.linspace(0, 1, 32))
    assert set(calibration.points) == {"youden", "f1"} and set(calibration.refused) == {"sens95", "spec95"}
    assert "16 of 16" in calibration.refused["sens95"] and "≥ 79 %" in calibration.refused["sens95"]


def test_seventy_two_without_an_error_are_enough_and_one_fewer_is_not() -> None:
    for count, supported in ((72, True), (71, False)):
        labels = np.repeat([0, 1], count)
        points = calibrate(labels, np.linspace(0, 1, 2 * count)).points
        assert ("sens95" in points) is supported and ("spec95" in points) is supported


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), overlap=st.floats(0.5, 3.0))
def test_guaranteed_points_keep_their_word_and_no_neighbour_does_better(seed: int, overlap: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], (150, 130))
    scores = 1 / (1 + np.exp(-(rng.normal(size=280) + (2 * labels - 1) * overlap)))
    points = calibrate(labels, scores).points
    if (sens := points.get("sens95")) is not None:
        assert sens.sensitivity.low >= GUARANTEE
        higher = scores[(labels == 1) & (scores >= sens.threshold)].min() + 1e-12
        k = int(((scores >= higher) & (labels == 1)).sum())
        assert k < sens.sensitivity.k, "a higher threshold loses an abnormal image"
    if (spec := points.get("spec95")) is not None:
        assert spec.specificity.low >= GUARANTEE


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), normal=st.integers(4, 30), abnormal=st.integers(4, 30))
def test_no_threshold_has_a_higher_youden_index(seed: int, normal: int, abnormal: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([0] * normal + [1] * abnormal)
    scores = rng.random(len(labels)).round(2)
    calibration = calibrate(labels, scores)
    assert calibration.default == "youden"
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    point = calibration.points["youden"]
    assert point.sensitivity.value + point.specificity.value - 1 >= (tpr - fpr)[1:].max() - 1e-12
