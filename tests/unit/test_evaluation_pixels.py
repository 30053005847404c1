"""Pixel figures from histograms: as close as they say to the exact ones, and the same in any chunks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score

from madclip.evaluation.pixels import BINS, PRO_LIMIT, PixelFigures, PixelTally

Maps = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


def _draw(seed: int, images: int = 6, side: int = 40) -> tuple[Maps, Masks]:
    """Maps as a model makes them, low almost everywhere; ragged masks of several regions, the first image normal."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((images, side, side)), (0, 3, 3))
    masks = field > np.quantile(field, 0.9)
    masks[0] = False
    maps = rng.beta(0.3, 6, masks.shape) + 0.25 * masks * rng.random(masks.shape)
    return np.clip(maps, 0, 1).astype(np.float32), masks


def _tally(maps: Maps, masks: Masks, chunk: int, threshold: float | None = None) -> PixelTally:
    tally = PixelTally(len(maps), threshold)
    for start in range(0, len(maps), chunk):
        part = slice(start, start + chunk)
        groups = np.arange(len(maps))[part]
        tally.add(maps[part], masks[part], groups, masks[part].any((1, 2)))
    return tally


def _figures(tally: PixelTally) -> PixelFigures:
    figures = tally.figures()
    assert figures is not None
    return figures


def _naive_aupro(maps: Maps, masks: Masks) -> float:
    """Every threshold and every region, one by one."""
    regions = []
    for heat, mask in zip(maps, masks, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [heat[labelled == number + 1] for number in range(count)]
    thresholds = np.concatenate([[np.inf], np.unique(maps)[::-1]])
    false = np.array([(maps[~masks] >= t).mean() for t in thresholds])
    overlap = np.array([np.mean([(region >= t).mean() for region in regions]) for t in thresholds])
    last = int(np.searchsorted(false, PRO_LIMIT, side="right"))
    part = (PRO_LIMIT - false[last - 1]) / (false[last] - false[last - 1])
    end = overlap[last - 1] + part * (overlap[last] - overlap[last - 1])
    return float(auc([*false[:last], PRO_LIMIT], [*overlap[:last], end]) / PRO_LIMIT)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_auroc_is_scikit_learns_to_a_ten_thousandth(seed: int) -> None:
    maps, masks = _draw(seed)
    figures = _figures(_tally(maps, masks, chunk=3))
    exact = roc_auc_score(masks.ravel(), maps.ravel())
    assert abs(figures.auroc - exact) <= figures.auroc_bound + 1e-12
    assert figures.auroc_bound <= 1e-4, "and the bound itself is small enough"


def test_the_bound_tells_when_scores_are_too_close_for_the_bins() -> None:
    """All scores in one bin: nothing is known of their order, and the figures say so."""
    masks = np.zeros((1, 8, 8), dtype=np.bool_)
    masks[0, :4] = True
    maps = np.full((1, 8, 8), 0.25, dtype=np.float32) + masks * np.float32(0.25 / BINS)
    figures = _figures(_tally(maps, masks, chunk=1))
    assert roc_auc_score(masks.ravel(), maps.ravel()) == 1.0
    assert figures.auroc == 0.5 and figures.auroc_bound == 0.5


def test_zero_and_one_have_bins() -> None:
    masks = np.array([[[True, False], [True, False]]])
    assert _figures(_tally(masks.astype(np.float32), masks, chunk=1)).auroc == 1.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_aupro_is_the_naive_one(seed: int) -> None:
    maps, masks = _draw(seed, images=4, side=24)
    got = _figures(_tally(maps, masks, chunk=2))
    assert got.aupro == pytest.approx(_naive_aupro(maps, masks), abs=1e-4)
    assert got.regions == sum(ndimage.label(mask, structure=np.ones((3, 3)))[1] for mask in masks)


def test_aupro_weighs_regions_not_pixels() -> None:
    """A large region found and a small one missed is one half; by pixels it would be nearly all."""
    masks = np.zeros((1, 30, 30), dtype=np.bool_)
    masks[0, :20, :20] = True
    masks[0, 28:, 28:] = True
    maps = np.where(masks, np.float32(0.9), np.float32(0.1)).astype(np.float32)
    maps[0, 28:, 28:] = 0.0
    assert _figures(_tally(maps, masks, chunk=1)).aupro == pytest.approx(0.5)


def test_in_chunks_or_whole_is_the_same() -> None:
    maps, masks = _draw(5)
    whole, parts = (_tally(maps, masks, chunk, threshold=0.1) for chunk in (6, 1))
    assert np.array_equal(whole.lesion, parts.lesion) and np.array_equal(whole.other, parts.other)
    assert np.array_equal(whole.by_group, parts.by_group)
    for name, value in vars(_figures(whole)).items():
        assert value == pytest.approx(getattr(_figures(parts), name), abs=1e-12), name


def test_groups_hold_every_pixel_once() -> None:
    maps, masks = _draw(6)
    tally = PixelTally(2, None)
    tally.add(maps, masks, np.array([0, 0, 1, 1, 1, 0]), masks.any((1, 2)))
    assert tally.by_group[:, 0].sum() == masks.sum() and tally.by_group[:, 1].sum() == (~masks).sum()
    assert tally.by_group[1, 0].sum() == masks[2:5].sum()


@pytest.mark.parametrize("threshold", [0.05, 0.2])
def test_dice_is_the_naive_one(threshold: float) -> None:
    maps, masks = _draw(7)
    figures = _figures(_tally(maps, masks, chunk=4, threshold=threshold))
    flagged = maps >= threshold
    each = [2 * (f & m).sum() / (f.sum() + m.sum()) for f, m in zip(flagged, masks, strict=True) if m.any()]
    assert figures.dice == pytest.approx(np.mean(each))
    assert figures.dice_pooled == pytest.approx(2 * (flagged & masks).sum() / (flagged.sum() + masks.sum()))
    without = _figures(_tally(maps, masks, chunk=4))
    assert without.dice is None and without.dice_pooled is None


def test_lost_lesions_are_counted_and_none_left_is_no_figure() -> None:
    tally = PixelTally(2, 0.5)
    nothing = np.zeros((2, 8, 8))
    tally.add(nothing.astype(np.float32), nothing.astype(np.bool_), np.arange(2), np.array([False, True]))
    assert tally.lost == 1 and tally.figures() is None
