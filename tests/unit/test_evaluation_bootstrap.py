"""Intervals: the same every time, about as wide as they should be, and by patient where patients are known."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from madclip.data import Dataset
from madclip.evaluation.bootstrap import FEW_GROUPS, MIN_GROUPS, bootstrap, resample
from madclip.evaluation.pixels import COARSE_BINS, binned_auroc
from madclip.patients import Groups, find_groups

_HEAD = ["set", "split", "label", "file", "patient_or_group"]


def _singly(count: int) -> Groups:
    return Groups(np.arange(count), count, "image")


def _case(seed: int, each: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], each)
    return labels, rng.standard_normal(2 * each) + labels


def test_the_same_seed_gives_the_same_interval_and_it_holds_the_value() -> None:
    labels, scores = _case(1)
    first, again = (bootstrap(labels, scores, _singly(120), resamples=250) for _ in range(2))
    other = bootstrap(labels, scores, _singly(120), resamples=250, seed=1)
    assert first == again and first.intervals != other.intervals
    assert set(first.intervals) == {
        "image_auroc",
        "image_aupr",
        "image_f1_max",
        "image_sensitivity_at_95_specificity",
        "image_specificity_at_95_sensitivity",
    }
    assert all(0 <= low < high <= 1 for low, high in first.intervals.values())


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    """Two normals one standard deviation apart: AUROC Φ(1/√2)."""
    truth = NormalDist().cdf(1 / np.sqrt(2))
    held = 0
    for seed in range(120):
        low, high = bootstrap(*_case(seed), _singly(120), resamples=200).intervals["image_auroc"]
        held += low <= truth <= high
    assert 0.87 * 120 <= held <= 120


def test_slices_of_one_patient_make_the_interval_wider() -> None:
    """Forty patients of ten equal slices each say as much as forty images, not as four hundred."""
    labels, scores = _case(3, each=20)
    many, often = np.repeat(labels, 10), np.repeat(scores, 10)
    patients = Groups(np.repeat(np.arange(40), 10), 40, "patient")
    widths = []
    for groups in (patients, _singly(400)):
        low, high = bootstrap(many, often, groups, resamples=400).intervals["image_auroc"]
        widths.append(high - low)
    assert widths[0] > 2.0 * widths[1]


def test_every_resample_keeps_the_classes() -> None:
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0, 1])
    groups = Groups(np.array([0, 1, 2, 3, 4, 5, 5, 6, 6]), 7, "patient")
    drawn = np.concatenate(list(resample(labels, groups, 250, seed=0)))
    assert drawn.shape == (250, 7)
    assert (drawn[:, [0, 1, 2]].sum(1) == 3).all(), "groups of normal images only"
    assert (drawn[:, [3, 4]].sum(1) == 2).all() and (drawn[:, [5, 6]].sum(1) == 2).all()
    assert drawn.std(axis=0).min() > 0


def test_few_groups_give_a_note_and_very_few_no_interval() -> None:
    labels, scores = _case(4, each=30)
    for count, said in ((MIN_GROUPS - 1, "no intervals"), (FEW_GROUPS - 1, "too narrow"), (30, "")):
        of = np.concatenate([np.arange(30) % count, count + np.arange(30)])
        done = bootstrap(labels, scores, Groups(of, count + 30, "patient"), resamples=20)
        assert bool(done.intervals) == (said != "no intervals")
        assert (said in " ".join(done.notes)) if said else not done.notes


def test_pixel_interval_is_that_of_whole_images_drawn_again() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 12)
    by_group = rng.integers(0, 50, (24, 2, COARSE_BINS)).astype(np.float32)
    by_group[:12, 0] = 0
    by_group[12:, 0] *= np.linspace(0, 2, COARSE_BINS) ** rng.random((12, 1))
    value = float(binned_auroc(*by_group.sum(0)))
    done = bootstrap(labels, labels + rng.random(24), _singly(24), (by_group, value), resamples=300)
    rows = np.concatenate(list(resample(labels, _singly(24), 300, seed=0)))
    each = [binned_auroc(*(by_group * row[:, None, None]).sum(0, dtype=np.float64)) for row in rows]
    assert done.intervals["pixel_auroc"] == pytest.approx(tuple(np.percentile(each, [2.5, 97.5])), abs=1e-6)
    far = bootstrap(labels, labels + rng.random(24), _singly(24), (by_group, value + 0.01), resamples=20)
    assert "pixel_auroc" not in far.intervals and "coarse bins" in " ".join(far.notes)


def _manifest(path: Path, dataset: Dataset, patients: dict[str, str], head: list[str] | None = None) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head or _HEAD)
        for case in dataset.test:
            who = patients.get(case.image.name, "")
            writer.writerow([dataset.root.name, "test", "Ungood" if case.abnormal else "good", case.image.name, who])


@pytest.fixture
def elsewhere(phantom_data: Dataset, tmp_path: Path) -> Dataset:
    """The phantoms under another, empty root: only names count here."""
    root = tmp_path / "sets" / "Brain-phantoms_AD"
    root.mkdir(parents=True)
    return replace(phantom_data, root=root)


@pytest.mark.parametrize("place", [".", ".."])
def test_patients_of_a_manifest_are_the_groups(elsewhere: Dataset, place: str) -> None:
    names = [case.image.name for case in elsewhere.test]
    patients = {name: f"p{number % 4}" for number, name in enumerate(names)}
    _manifest(elsewhere.root / place / "manifest.csv", elsewhere, patients)
    groups = find_groups(elsewhere, "test")
    assert groups.unit == "patient" and groups.count == 4 and not groups.notes
    assert list(groups.of[:6]) == [0, 1, 2, 3, 0, 1]
    without = replace(elsewhere, root=elsewhere.root.parent.parent)
    assert find_groups(without, "test").count == 12, "no manifest, no groups"


def test_images_without_a_patient_stay_alone_and_are_told_of(elsewhere: Dataset) -> None:
    names = [case.image.name for case in elsewhere.test]
    _manifest(elsewhere.root / "manifest.csv", elsewhere, dict.fromkeys(names[:5], "p"))
    groups = find_groups(elsewhere, "test")
    assert groups.count == 1 + 7 and "7 of 12" in groups.notes[0]


@pytest.mark.parametrize("fault", ["columns", "other set", "bytes"])
def test_a_manifest_that_names_no_patient_is_told_of(elsewhere: Dataset, fault: str) -> None:
    path = elsewhere.root / "manifest.csv"
    if fault == "columns":
        _manifest(path, elsewhere, {}, ["set", "split", "label", "file", "source"])
    elif fault == "other set":
        _manifest(path, replace(elsewhere, root=elsewhere.root.with_name("Liver_AD")), {})
    else:
        path.write_bytes(b"\xff\xfe\x00set")
    groups = find_groups(elsewhere, "test")
    assert groups.unit == "image" and groups.count == 12 and "independent" in groups.notes[0]
