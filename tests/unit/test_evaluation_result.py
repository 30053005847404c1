"""The evaluation of one checkpoint: reading in chunks, rules, thresholds, refusals, and what its JSON says."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from madclip import reading
from madclip.checkpoint import Checkpoint
from madclip.data import Case, Dataset, open_dataset
from madclip.encoder import Encoder
from madclip.evaluation import evaluate
from madclip.model import Answers, Model
from madclip.reading import CHUNK, Loaded, load_cases, read_chunks, scored_chunks
from madclip_runtime.errors import BundleRefused, InputRefused
from madclip_runtime.manifest import Calibration


@pytest.fixture(scope="module")
def mini(mini_checkpoint: Path) -> Checkpoint:
    return Checkpoint.load(mini_checkpoint)


@pytest.fixture(scope="module")
def mini_model(mini: Checkpoint, mini_encoder: Encoder) -> Model:
    return mini.model_on(mini_encoder)


def test_figures_are_those_of_all_images_at_once(mini: Checkpoint, mini_model: Model, phantom_data: Dataset) -> None:
    result = evaluate(mini, phantom_data, model=mini_model, name="mini", resamples=50)
    loaded = load_cases(phantom_data.test, 240)
    answers = mini_model.reference(loaded.images)
    for rule in ("det", "map_max"):
        exact = 100 * roc_auc_score(loaded.labels, answers.image_scores(rule))
        assert result.image_auroc_by_rule[rule] == pytest.approx(exact)
    assert result.image_auroc == result.image_auroc_by_rule["map_max"]
    exact = 100 * roc_auc_score(loaded.masks.ravel(), answers.maps.ravel())
    assert result.pixel_auroc == pytest.approx(exact, abs=1e-2)
    assert result.pixel_auroc_bound is not None
    assert abs((result.pixel_auroc or 0) - exact) <= result.pixel_auroc_bound + 1e-9


def test_chunks_do_not_change_anything(
    mini: Checkpoint, mini_model: Model, phantom_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(mini, phantom_data, model=mini_model, resamples=20).to_json()
    monkeypatch.setattr(read_chunks, "__defaults__", (5,))
    assert evaluate(mini, phantom_data, model=mini_model, resamples=20).to_json() == whole


def test_json_holds_the_old_keys_and_can_be_written(mini: Checkpoint, mini_model: Model, phantom_data: Dataset) -> None:
    result = evaluate(mini, phantom_data, model=mini_model, name="mini", resamples=50)
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["format"] == "madclip-evaluation/1" and content["image_auroc"] == result.image_auroc
    assert content["synthetic"] is True and content["encoder_random"] is True
    assert content["test_normal"] == content["test_abnormal"] == 6
    assert content["bootstrap"]["groups"] == 12 and content["bootstrap"]["unit"] == "image"
    assert content["figures"]["image_auroc"]["low"] <= content["image_auroc"]
    assert "pixel_aupro_30" in content["figures"] and content["counts"]["regions"] >= 6
    assert "upper bound" in "\n".join(result.lines())


def test_stored_thresholds_are_judged_and_none_is_chosen(
    mini: Checkpoint, mini_model: Model, phantom_data: Dataset
) -> None:
    result = evaluate(mini, phantom_data, model=mini_model, resamples=5)
    stored = mini.card.calibration.points
    assert stored and set(result.points) == set(stored)
    for name, point in result.points.items():
        assert point.threshold == stored[name].threshold
        flagged = result.own_scores >= point.threshold
        assert point.sensitivity.k == flagged[result.scores.labels == 1].sum() and point.sensitivity.n == 6
        assert point.specificity.k == (~flagged[result.scores.labels == 0]).sum()
        assert point.sensitivity.low <= point.sensitivity.value <= point.sensitivity.high
    said = json.dumps(result.to_json()) + "\n".join(result.lines())
    assert said.count('"threshold":') == len(stored), "no threshold but the stored ones"


def test_a_missing_figure_says_why(
    mini: Checkpoint, det_checkpoint: Checkpoint, mini_model: Model, phantom_data: Dataset
) -> None:
    det = evaluate(det_checkpoint, phantom_data, model=mini_model, resamples=5)
    assert det.image_auroc == det.image_auroc_by_rule["det"]
    assert "det scores" in det.missing["pixel_dice"] and "pixel_auroc" in det.figures
    raw = replace(mini, card=replace(mini.card, calibration=Calibration("too few")))
    uncalibrated = evaluate(raw, phantom_data, model=mini_model, resamples=5)
    assert not uncalibrated.points and "uncalibrated" in uncalibrated.missing["pixel_dice"]
    plain = replace(phantom_data, masks=False, test=tuple(replace(c, mask=None) for c in phantom_data.test))
    unmasked = evaluate(mini, plain, model=mini_model, resamples=5)
    assert unmasked.pixel_auroc is None and unmasked.missing["pixel_auroc"] == "the set has no masks"
    assert "no masks" in unmasked.lines()[0]


def test_abnormal_images_without_a_mask_stay_out_of_pixel_figures(
    mini: Checkpoint, mini_model: Model, phantom_data: Dataset
) -> None:
    kept = [case for case in phantom_data.test if case.abnormal][1:]
    normal = [case for case in phantom_data.test if not case.abnormal]
    bare = next(case for case in phantom_data.test if case.abnormal)
    partly = replace(phantom_data, test=(*normal, replace(bare, mask=None), *kept))
    without = replace(phantom_data, test=(*normal, *kept))
    results = [evaluate(mini, dataset, model=mini_model, resamples=5) for dataset in (partly, without)]
    assert results[0].figures["pixel_auroc"].percent == results[1].figures["pixel_auroc"].percent
    assert results[0].counts["abnormal_without_mask"] == 1 and "left out" in " ".join(results[0].notes)


def test_one_class_is_refused_before_scoring(mini: Checkpoint, phantom_data: Dataset) -> None:
    one = replace(phantom_data, test=tuple(case for case in phantom_data.test if case.abnormal))
    with pytest.raises(InputRefused, match="only one class"):
        evaluate(mini, one, model=cast(Model, None))


def test_scores_that_are_no_numbers_are_refused(mini: Checkpoint, mini_model: Model, phantom_data: Dataset) -> None:
    broken = replace(mini_model, t_abnormal=mini_model.t_abnormal * float("nan"))
    with pytest.raises(BundleRefused, match="not finite"):
        evaluate(mini, phantom_data, model=broken)


def test_all_unreadable_test_images_are_named_at_once(phantom_data: Dataset, tmp_path: Path) -> None:
    opened = open_dataset(Path(shutil.copytree(phantom_data.root, tmp_path / "Brain-phantoms_AD")))
    bad = [opened.test[0], opened.test[5], opened.test[-1]]
    bad[0].image.write_bytes(b"not an image")
    bad[1].image.write_bytes(b"")
    assert bad[2].mask is not None
    Image.new("L", (10, 10), 255).save(bad[2].mask)
    with pytest.raises(InputRefused) as caught:
        list(read_chunks(opened.test, 64, chunk=4))
    assert "3 of 12" in str(caught.value) and all(case.image.name in str(caught.value) for case in bad)


def test_only_one_chunk_is_alive_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand images pass; never more than two chunks of pixels exist, the old one while the new one is read."""
    alive: list[weakref.ref[Any]] = []
    most = 0

    def load(cases: tuple[Case, ...], size: int) -> Loaded:
        nonlocal most
        images = np.zeros((len(cases), size, size, 3), dtype=np.uint8)
        alive.append(weakref.ref(images))
        most = max(most, sum(ref() is not None for ref in alive))
        known = np.ones(len(cases), dtype=np.bool_)
        return Loaded(images, np.zeros(len(cases), dtype=np.int64), np.zeros(images.shape[:3], dtype=np.bool_), known)

    def reference(images: np.ndarray, *, progress: bool) -> Answers:
        return Answers(np.zeros(len(images)), np.zeros(images.shape[:3], dtype=np.float32))

    monkeypatch.setattr(reading, "load_cases", load)
    model = SimpleNamespace(encoder=SimpleNamespace(spec=SimpleNamespace(image_size=16)), reference=reference)
    cases = (Case(Path("x.png"), False, None),) * 1000
    seen = sum(len(loaded.images) for _, loaded, _ in scored_chunks(cast(Model, model), cases))
    gc.collect()
    assert seen == 1000 and len(alive) == -(-1000 // CHUNK) and most <= 2
