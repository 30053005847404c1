"""Regions: together they are the mask, an abnormal image has one, and borderline means within the measured error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_edits import edit_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from madclip_runtime import Detector, Result
from madclip_runtime.decision import Point
from madclip_runtime.errors import UsageError
from madclip_runtime.regions import MOST_REGIONS, find_regions

PROPERTY = settings(max_examples=80, deadline=None, derandomize=True, database=None)


def result(model_map: np.ndarray, height: int, width: int, threshold: float | None = 0.5, **fields: object) -> Result:
    peak = float(model_map.max())
    made = Result(
        *(
            "x",
            peak,
            Point(threshold, "t").decide(peak, 0.0),
            threshold,
            "t",
            peak,
            "e",
            "l",
            "fp32",
            "b",
            "0" * 64,
            "h",
        ),
        "map_max",
        np.zeros((height, width, 3), np.uint8),
        model_map.astype(np.float32),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


@PROPERTY
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([8, 16, 32]),
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    threshold=st.floats(0.01, 0.99),
)
def test_regions_cover_the_mask_and_abnormal_means_at_least_one(
    seed: int, size: int, height: int, width: int, threshold: float
) -> None:
    heat = np.random.default_rng(seed).random((size, size)) ** 3
    found = result(heat, height, width, threshold)
    assert found.mask is not None and found.regions is not None
    assert (found.decision == "abnormal") == bool(found.regions) == bool(found.mask.any())
    covered = np.zeros_like(found.mask)
    for region in found.regions:
        left, top, across, down = region.box
        assert region.area_px <= across * down and 0 <= left <= left + across <= width and top + down <= height
        covered[top : top + down, left : left + across] = True
    if len(found.regions) < MOST_REGIONS:
        assert sum(region.area_px for region in found.regions) == int(found.mask.sum())
        assert (covered | ~found.mask).all()
    assert [r.area_px for r in found.regions] == sorted((r.area_px for r in found.regions), reverse=True)


def test_two_squares_with_areas_boxes_and_means() -> None:
    heat = np.zeros((10, 20), np.float32)
    heat[1:4, 2:6], heat[7, 11:13] = 0.75, 1.0
    large, small = find_regions(heat, heat > 0.5, (0.5, 2.0))
    assert (large.area_px, large.area_mm2, large.box, large.mean_score) == (12, 12.0, (2, 1, 4, 3), 0.75)
    assert (small.area_px, small.box, small.mean_score) == (2, (11, 7, 2, 1), 1.0)


def test_pixels_that_touch_at_a_corner_are_one_region_and_the_list_ends() -> None:
    diagonal = np.eye(9, dtype=np.float32)
    assert [r.area_px for r in find_regions(diagonal, diagonal > 0.5, None)] == [9]
    dots = np.zeros((40, 40), np.float32)
    dots[::2, ::2] = 1
    assert len(find_regions(dots, dots > 0.5, None)) == MOST_REGIONS


def test_where_the_threshold_says_nothing_of_pixels_there_is_no_mask() -> None:
    heat = np.ones((8, 8))
    for changed in (
        result(heat, 8, 8, None),
        result(heat, 8, 8, image_score="det"),
        result(heat, 8, 8, image_score="blend"),
    ):
        assert changed.mask is None and changed.regions is None and changed.to_json()["regions"] is None


@pytest.mark.parametrize(
    ("score", "error", "decision"),
    [(0.5, 0.0, "abnormal"), (0.5, 0.01, "borderline"), (0.49, 0.01, "borderline"), (0.51, 0.01, "borderline"),
     (0.48, 0.01, "normal"), (0.52, 0.01, "abnormal")],
)  # fmt: skip
def test_borderline_is_within_the_measured_error(score: float, error: float, decision: str) -> None:
    assert Point(0.5, "x").decide(score, error + 1e-12 if error else 0.0) == decision


def test_the_heads_own_error_is_used(tiny_bundle: Path) -> None:
    edit_manifest(tiny_bundle, lambda manifest: manifest["heads"]["brightness"].update(score_error=0.2))
    levels = [Detector.load(tiny_bundle)(np.full((9, 9), level, np.uint8)).decision for level in (60, 100, 150, 200)]
    assert levels == ["normal", "borderline", "borderline", "abnormal"]


def test_an_operating_point_is_named_or_refused_with_its_reason(tiny_bundle: Path) -> None:
    def add(manifest: dict) -> None:
        calibration = manifest["heads"]["brightness"]["calibration"]
        calibration["points"]["sens95"] = {**calibration["points"]["test"], "threshold": 0.25}
        calibration["refused"] = {"spec95": "needs 60 normal images, there are 4"}

    edit_manifest(tiny_bundle, add)
    detector = Detector.load(tiny_bundle, operating_point="sens95")
    assert (detector.threshold, detector.operating_point) == (0.25, "sens95")
    with pytest.raises(UsageError, match="needs 60 normal images"):
        Detector.load(tiny_bundle, operating_point="spec95")
    with pytest.raises(UsageError, match=r"choose from test \| sens95"):
        Detector.load(tiny_bundle, operating_point="f9")
    with pytest.raises(UsageError, match="both say"):
        Detector.load(tiny_bundle, operating_point="sens95", threshold=0.5)
