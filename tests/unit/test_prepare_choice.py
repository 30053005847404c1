"""Which slices and which patients: positions that don't tell the label, and nobody in both splits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from madclip.prepare.slices import (
    Slice,
    abnormal_slices,
    match_positions,
    normal_slices,
    relative_positions,
    thin_out,
)
from madclip.prepare.split import Patient, assign_splits
from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.window import Window, foreground, limits_of, parse_window, to_grey


def test_slices_by_lesion_size_and_by_distance() -> None:
    lesion = np.zeros(30, dtype=np.int64)
    lesion[[14, 15, 16]] = 3, 60, 49
    body = np.ones(30)
    body[:4] = 0.0
    assert abnormal_slices(lesion, 50).tolist() == [15]
    assert abnormal_slices(lesion, 1).tolist() == [14, 15, 16]
    # A slice of 3 lesion pixels is not abnormal, but it still keeps normal ones at a distance.
    assert normal_slices(lesion, body, 5).tolist() == [4, 5, 6, 7, 8, 9, *range(21, 30)]
    assert normal_slices(lesion, body, 1).tolist() == [*range(4, 14), *range(17, 30)]


def test_position_is_relative_to_the_body_and_not_to_the_scan() -> None:
    body = np.zeros(40)
    body[10:31] = 0.5
    positions = relative_positions(body)
    assert positions[10] == 0.0 and positions[30] == 1.0 and positions[20] == 0.5
    assert positions[0] == 0.0 and positions[39] == 1.0
    assert relative_positions(np.zeros(5)).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_cap_spreads_and_leaves_the_ends_out() -> None:
    assert thin_out(np.arange(10), None).size == 10
    assert thin_out(np.arange(10), 2).tolist() == [2, 7]
    assert thin_out(np.arange(3), 5).tolist() == [0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 80), st.floats(0.1, 0.9), st.floats(0.05, 0.3))
def test_matched_positions_do_not_tell_the_label(seed: int, count: int, middle: float, spread: float) -> None:
    """Normal slices everywhere, abnormal ones anywhere: whatever the lesions' heights, the pairs hide them."""
    rng = np.random.default_rng(seed)
    bad = np.clip(rng.normal(middle, spread, count), 0.0, 1.0)
    abnormal = [Slice(0, k, float(p)) for k, p in enumerate(bad)]
    normal = [Slice(v, k, k / 60) for v in range(1, 40) for k in range(61)]
    kept, partners = match_positions(abnormal, normal, tolerance=0.05, cap=None, seed=1)
    assert len(kept) == len(partners) == count
    assert len(set(partners)) == count
    labels = [1] * count + [0] * count
    assert 0.4 <= roc_auc_score(labels, [s.position for s in kept + partners]) <= 0.6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0.0, 0.3), st.integers(1, 5))
def test_pairs_keep_to_tolerance_and_cap(seed: int, bad: int, good: int, tolerance: float, cap: int) -> None:
    rng = np.random.default_rng(seed)
    abnormal = [Slice(0, k, float(p)) for k, p in enumerate(rng.random(bad))]
    normal = [Slice(int(rng.integers(1, 4)), k, float(p)) for k, p in enumerate(rng.random(good))]
    kept, partners = match_positions(abnormal, normal, tolerance=tolerance, cap=cap, seed=0)
    assert len(kept) == len(partners) <= min(bad, 3 * cap)
    assert all(sum(p.volume == v for p in partners) <= cap for v in (1, 2, 3))
    # Sorted on both sides, pairs within the tolerance stay within it.
    pairs = zip(sorted(s.position for s in kept), sorted(s.position for s in partners), strict=True)
    assert all(abs(a - n) <= tolerance + 1e-12 for a, n in pairs)
    assert (kept, partners) == match_positions(abnormal[::-1], normal[::-1], tolerance=tolerance, cap=cap, seed=0)


_PATIENTS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([None, None, None, "valid", "test"])),
    min_size=1,
    max_size=7,
)


def _patients(raw: list[tuple[int, int, str | None]]) -> list[Patient]:
    return [Patient(f"p{k}", normal, abnormal, split) for k, (normal, abnormal, split) in enumerate(raw)]


def _missing(patients: list[Patient], splits: dict[str, str]) -> int:
    sums = [
        sum(getattr(p, kind) for p in patients if splits[p.key] == name)
        for name in ("valid", "test")
        for kind in ("normal", "abnormal")
    ]
    return sum(total == 0 for total in sums)


@settings(max_examples=150, deadline=None)
@example(raw=[(0, 1, "valid"), (1, 0, None), (1, 1, None)], share=0.25, seed=0)
@given(raw=_PATIENTS, share=st.floats(0.05, 0.95), seed=st.integers(0, 50))
def test_splits_have_both_classes_whenever_any_assignment_does(
    raw: list[tuple[int, int, str | None]], share: float, seed: int
) -> None:
    patients = _patients(raw)
    splits = assign_splits(patients, share, seed)
    assert splits == assign_splits(patients, share, seed)
    assert all(p.split in (None, splits[p.key]) for p in patients)
    every = [
        dict(zip(splits, choice, strict=True))
        for choice in itertools.product(("valid", "test"), repeat=len(patients))
        if all(p.split in (None, word) for p, word in zip(patients, choice, strict=True))
    ]
    assume(any(_missing(patients, option) == 0 for option in every))
    assert _missing(patients, splits) == 0


def test_the_share_is_kept_and_the_seed_matters() -> None:
    patients = [Patient(f"p{k}", 1 + k % 3, (k * 7) % 4) for k in range(60)]
    splits = assign_splits(patients, 0.3, 0)
    for kind in ("normal", "abnormal"):
        total = sum(getattr(p, kind) for p in patients)
        test = sum(getattr(p, kind) for p in patients if splits[p.key] == "test")
        assert abs(test / total - 0.3) < 0.03
    assert splits != assign_splits(patients, 0.3, 1)


def test_a_lonely_patient_goes_to_valid() -> None:
    assert assign_splits([Patient("only", 4, 4)], 0.9, 3) == {"only": "valid"}
    assert assign_splits([], 0.5, 0) == {}


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("brain", 0.0, 80.0), ("liver", -45.0, 105.0), ("lung", -1350.0, 150.0), ("-100,240", -100.0, 240.0)],
)
def test_windows_by_name_and_numbers(text: str, low: float, high: float) -> None:
    window = parse_window(text)
    assert (window.low, window.high) == (low, high)
    grey = to_grey(np.array([low - 9, low, (low + high) / 2, high, high + 9]), low, high)
    assert grey.dtype == np.uint8 and grey.tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("text", ["bone", "5", "7,7", "9,1", "nan,3", "1,2,3", "file", ""])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no window"):
        parse_window(text)


def test_foreground_of_ct_of_noisy_mr_and_of_a_standardised_volume() -> None:
    rng = np.random.default_rng(0)
    body = np.zeros((20, 20, 20), dtype=np.bool_)
    body[4:16, 4:16, 4:16] = True
    ct = np.where(body, 30, -1000).astype(np.int16)
    noisy = np.where(body, rng.integers(300, 500, body.shape), rng.integers(0, 20, body.shape)).astype(np.int16)
    standardised = np.where(body, rng.normal(0.0, 1.0, body.shape), 0.0).astype(np.float32)
    for volume in (ct, noisy, standardised):
        assert (foreground(volume) == body).all()
    low, high = limits_of(Window("percentile"), noisy, body, "x")
    assert 295 < low < 310 and 490 < high < 505
    with pytest.raises(InputRefused, match="no contrast"):
        limits_of(Window("percentile"), ct, body, "x")
