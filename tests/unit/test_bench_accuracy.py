"""Accuracy figures against scikit-learn, SciPy and `madclip evaluate`; intervals by simulation."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from bench_fakes import GATE, POINT, evaluated
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from sklearn.metrics import roc_auc_score

from madclip.evaluation.pixels import PixelTally as ReferenceTally
from madclip_bench.accuracy import AccuracyFigures, PromisedFigures, evaluate, image_auroc
from madclip_bench.cases import open_test_set, read_mask
from madclip_bench.intervals import auroc_interval, binomial_at_most, proportion, sign_interval
from madclip_bench.pixels import BINS, PixelFigures, PixelTally, Sparse
from madclip_runtime.detector import Detector
from madclip_runtime.errors import InputRefused

PROMISED = PromisedFigures("youden", POINT, (GATE,), "Brain")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=80))
@settings(deadline=None)
def test_image_auroc_is_scikit_learns_ties_included(rows: list[tuple[bool, int]]) -> None:
    labels, scores = [label for label, _ in rows], [score / 12 for _, score in rows]
    if len(set(labels)) == 2:
        assert image_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_clopper_pearson_is_scipys(pair: tuple[int, int]) -> None:
    k, n = pair
    found, expected = proportion(k, n), stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert (found.k, found.n, found.value) == (k, n, k / n)


@given(st.integers(0, 3000), st.integers(1, 3000), st.floats(0, 1))
@settings(deadline=None)
def test_the_binomial_sum_is_scipys(k: int, n: int, p: float) -> None:
    assert binomial_at_most(k, n, p) == pytest.approx(float(stats.binom.cdf(k, n, p)), abs=1e-9)


def test_the_area_interval_covers_what_it_promises() -> None:
    """2,000 simulated sets of 30 + 20 images with normal scores: the true area is Φ(d / √2)."""
    generator = np.random.default_rng(5)
    true = float(stats.norm.cdf(1.5 / math.sqrt(2)))
    labels = np.arange(50) < 30
    inside = 0
    for _ in range(2000):
        scores = generator.standard_normal(50) + 1.5 * labels
        found = auroc_interval(image_auroc(scores, labels), 30, 20)
        inside += found.low <= true <= found.high
    assert 0.935 <= inside / 2000 <= 0.985


def test_a_perfect_area_still_has_an_honest_lower_end() -> None:
    found = auroc_interval(1.0, 10, 10)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.75 < found.low < 0.95
    assert auroc_interval(1.0, 200, 200).low > 0.98
    assert auroc_interval(0.0, 10, 10).low == 0.0
    half = auroc_interval(0.5, 50, 50)
    assert half.low == pytest.approx(1 - half.high, abs=1e-6)


def test_the_sign_interval_holds_the_median_19_times_in_20() -> None:
    assert sign_interval(5) is None and sign_interval(6) == (0, 5)
    assert sign_interval(100) == (39, 60)  # the textbook's 40th and 61st of 100
    low, high = sign_interval(41) or (0, 0)
    draws = np.sort(np.random.default_rng(2).exponential(size=(4000, 41)), axis=1)
    inside = (draws[:, low] <= math.log(2)) & (math.log(2) <= draws[:, high])
    assert inside.mean() >= 0.95


@pytest.fixture(scope="module")
def maps() -> tuple[np.ndarray, np.ndarray]:
    """12 maps of smooth noise, lesions on eight of them where it is somewhat higher."""
    generator = np.random.default_rng(7)
    masks = np.zeros((12, 24, 24), bool)
    for i in range(8):
        masks[i, i : i + 6, 3:12] = True
    heat = np.clip(generator.normal(0.4, 0.12, masks.shape) + 0.2 * masks, 0, 1).astype(np.float32)
    return heat, masks


def _tally(maps: tuple[np.ndarray, np.ndarray]) -> PixelFigures:
    tally = PixelTally()
    for heat, mask in zip(*maps, strict=True):
        tally.add(heat, mask)
    found = PixelFigures.of(tally.counts())
    assert found is not None
    return found


def test_pixel_auroc_is_scikit_learns_and_evaluates_within_its_bound(maps: tuple[np.ndarray, np.ndarray]) -> None:
    heat, masks = maps
    found = _tally(maps)
    exact = roc_auc_score(masks.ravel(), heat.ravel())
    assert abs(found.auroc.value - exact) <= found.bound + 1e-6
    assert found.bound < 1e-4
    reference = ReferenceTally(groups=1, threshold=None)
    reference.add(heat, masks, np.zeros(12, np.int64), masks.any((1, 2)))
    theirs = reference.figures()
    assert theirs is not None and found.auroc.value == pytest.approx(theirs.auroc, abs=found.bound + theirs.auroc_bound)


def test_the_pixel_interval_covers_the_spread_of_new_images() -> None:
    """Lesions differ from image to image far more than pixels within one do."""
    generator = np.random.default_rng(11)

    def one_set() -> PixelFigures:
        tally = PixelTally()
        for _ in range(20):
            mask = np.zeros((16, 16), bool)
            mask[2:8, 2:8] = True
            heat = generator.normal(0.4, 0.05, mask.shape) + mask * generator.normal(0.05, 0.05)
            tally.add(np.clip(heat, 0, 1).astype(np.float32), mask)
        found = PixelFigures.of(tally.counts())
        assert found is not None
        return found

    sets = [one_set() for _ in range(120)]
    true = float(np.mean([found.auroc.value for found in sets]))
    inside = sum(found.auroc.low <= true <= found.auroc.high for found in sets)
    assert inside / len(sets) > 0.85


def test_counts_survive_their_sparse_form_and_memory_stays_bounded(maps: tuple[np.ndarray, np.ndarray]) -> None:
    tally = PixelTally()
    for heat, mask in zip(*maps, strict=True):
        tally.add(heat, mask)
    counts = tally.counts()
    assert np.array_equal(counts.lesion.full(BINS), tally.lesion)
    assert tally.lesion.nbytes + tally.other.nbytes == 2**20
    assert all(len(sparse.at) <= 256 for pair in counts.by_image for sparse in pair)
    with pytest.raises(ValueError, match="outside"):
        Sparse((BINS,), (1,)).full(BINS)


def test_no_lesion_pixel_gives_no_pixel_figure() -> None:
    tally = PixelTally()
    tally.add(np.full((4, 4), 0.5, np.float32), np.zeros((4, 4), bool))
    assert PixelFigures.of(tally.counts()) is None


def test_figures_at_the_bundles_own_threshold_beside_its_manifest() -> None:
    found = AccuracyFigures.of(evaluated(), PROMISED)
    assert found.image_auroc is not None and found.sensitivity is not None and found.specificity is not None
    assert found.image_auroc.value == pytest.approx(roc_auc_score(evaluated().abnormal, evaluated().scores), abs=1e-6)
    assert (found.sensitivity.k, found.sensitivity.n) == (41, 50)
    assert (found.specificity.k, found.specificity.n) == (40, 50)
    assert {one.name: one.verdict for one in found.promises} == {
        "sensitivity": "agrees",
        "specificity": "agrees",
        "image_auroc": "for comparison",
    }
    assert (found.normal, found.abnormal, found.point, found.threshold) == (50, 50, "youden", 0.5)
    assert found.notes == ("images are taken as independent: with several of one patient the intervals are too narrow",)


def test_an_engine_worse_than_its_manifest_is_called_so() -> None:
    flat = dataclasses.replace(evaluated(), scores=tuple(0.3 for _ in range(100)))
    verdicts = {one.name: one.verdict for one in AccuracyFigures.of(flat, PROMISED).promises}
    assert verdicts["sensitivity"] == "worse" and verdicts["specificity"] == "better"


def test_without_a_threshold_there_is_no_decision() -> None:
    found = AccuracyFigures.of(evaluated(masks=False), PromisedFigures(None, None, (), "Liver"))
    assert found.sensitivity is None and found.pixel_auroc is None and found.promises == ()
    assert "the bundle has no threshold, so there is no sensitivity or specificity" in found.notes
    assert "the head was trained on Liver, this is Brain" in found.notes


def _folder(root: Path, *, masks: bool = True) -> Path:
    """Ten dark normal and ten bright abnormal images; the bright square is the lesion."""
    for label, place in (("good", "test/good/img"), ("bad", "test/Ungood/img")):
        (root / place).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 90, (40, 60), dtype=np.uint8)
            if label == "bad":
                pixels[10:30, 20 + i : 40 + i] = 200
            Image.fromarray(pixels).save(root / place / f"{i}.png")
    if masks:
        (root / "test/Ungood/anomaly_mask").mkdir()
        for i in range(10):
            mask = np.zeros((40, 60), np.uint8)
            mask[10:30, 20 + i : 40 + i] = 255
            Image.fromarray(mask).save(root / f"test/Ungood/anomaly_mask/{i}.png")
    return root


def test_the_timed_engine_is_asked_about_every_test_image(tiny_bundle: Path, tmp_path: Path) -> None:
    """The tiny bundle scores an image by its brightest pixel, so every answer is known."""
    cases = open_test_set(_folder(tmp_path / "Toy_AD"))
    assert (cases.name, len(cases.cases), cases.masks, cases.synthetic) == ("Toy", 20, True, False)
    found = AccuracyFigures.of(evaluate(Detector.load(tiny_bundle), cases), PROMISED)
    assert found.image_auroc is not None and found.image_auroc.value == 1.0
    assert found.pixel_auroc is not None and found.pixel_auroc.auroc.value > 0.98
    assert found.pixel_auroc.images == 20
    assert found.sensitivity is not None and (found.sensitivity.k, found.sensitivity.n) == (10, 10)


def test_an_image_that_cannot_be_read_is_left_out_by_name(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "Toy_AD")
    (folder / "test/good/img/3.png").write_bytes(b"\x89PNG broken")
    Image.new("L", (9, 9), 255).save(folder / "test/Ungood/anomaly_mask/4.png")
    found = evaluate(Detector.load(tiny_bundle), open_test_set(folder))
    assert [line.partition(":")[0] for line in found.refused] == ["3.png", "4.png"]
    assert len(found.scores) == 18
    assert str(tmp_path) not in repr(found.refused)


def test_an_abnormal_image_without_a_mask_stays_out_of_the_pixels(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "Toy_AD")
    (folder / "test/Ungood/anomaly_mask/0.png").unlink()
    found = evaluate(Detector.load(tiny_bundle), open_test_set(folder))
    assert found.pixels is not None and (found.pixels.unmasked, len(found.pixels.by_image)) == (1, 19)
    notes = AccuracyFigures.of(found, PROMISED).notes
    assert any("1 abnormal images have no mask" in note for note in notes)


def test_a_set_without_masks_has_image_figures_only(tiny_bundle: Path, tmp_path: Path) -> None:
    found = evaluate(Detector.load(tiny_bundle), open_test_set(_folder(tmp_path / "Toy_AD", masks=False)))
    assert found.pixels is None


def test_what_is_no_test_set_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="no such folder"):
        open_test_set(tmp_path / "absent")
    with pytest.raises(InputRefused, match="no images there"):
        open_test_set(tmp_path)
    folder = _folder(tmp_path / "Toy_AD")
    for path in (folder / "test/Ungood/img").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputRefused, match="one class"):
        evaluate(Detector.load(tiny_bundle), open_test_set(folder))


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((40, 60), np.uint8), "1 grey levels"),
        (np.tile(np.arange(60, dtype=np.uint8), (40, 1)), "60 grey levels"),
        (np.full((40, 61), 255, np.uint8), "one size"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, pixels: np.ndarray, why: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "m.png")
    with pytest.raises(InputRefused, match=why):
        read_mask(tmp_path / "m.png", (40, 60), 32)


def test_masks_land_where_training_puts_them(tmp_path: Path) -> None:
    from madclip.data import Case
    from madclip.reading import load_cases

    folder = _folder(tmp_path / "Toy_AD")
    image, mask = folder / "test/Ungood/img/7.png", folder / "test/Ungood/anomaly_mask/7.png"
    reference = load_cases((Case(image, True, mask),), 32).masks[0]
    assert np.array_equal(read_mask(mask, (40, 60), 32), reference)


@pytest.mark.shared
def test_a_real_sets_figures_are_evaluates_own(shared: Path, tiny_bundle: Path) -> None:
    """Brightness on real brain slices: a poor detector, but the same poor one by both ways of counting."""
    from madclip.data import open_dataset
    from madclip.evaluation.ranking import image_figures

    folder = shared / "data/BrainBraTS_AD"
    found = evaluate(Detector.load(tiny_bundle), open_test_set(folder))
    assert len(found.scores) == len(open_dataset(folder).test)
    figures = AccuracyFigures.of(found, PROMISED)
    labels = np.array(found.abnormal, np.int64)
    assert figures.image_auroc is not None
    expected = image_figures(labels, np.array(found.scores))["image_auroc"]
    assert figures.image_auroc.value == pytest.approx(expected, abs=1e-6)
