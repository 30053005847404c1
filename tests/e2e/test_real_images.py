"""On real images and a really pretrained tower, where they lie beside the checkout; skipped and counted without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madclip.checkpoint import Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.data import open_dataset
from madclip.encoder import load_encoder
from madclip.evaluation import evaluate
from madclip.reading import load_cases
from madclip.train import Surroundings, train
from madclip_export.export import export_bundle, load_sources
from madclip_export.limits import NUMERIC as LIMITS
from madclip_export.request import Request
from madclip_runtime import Detector

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shots, two epochs: far from the real figures, but real features of real slices."""
    weights = shared / "weights"
    encoder = load_encoder(str(weights / "deit-tiny-clip.json"), str(weights / "deit-tiny-clip.safetensors"))
    dataset = open_dataset(shared / "data/BrainBraTS_AD")
    config = TrainConfig(shots=4, seed=111, epochs=3)
    done = train(dataset, encoder, MethodConfig("Brain"), config, Surroundings())
    path = tmp_path_factory.mktemp("real") / "brats.pt"
    done.save(path)
    return path


def test_a_few_slices_already_separate(shared: Path, checkpoint: Path) -> None:
    result = evaluate(Checkpoint.load(checkpoint), open_dataset(shared / "data/BrainBraTS_AD"))
    assert result.pixel_auroc is not None and result.pixel_auroc > 90
    assert result.image_auroc > 75
    assert not result.encoder_random and not result.synthetic


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_exported_scores_are_the_checkpoints_on_real_slices(
    shared: Path, checkpoint: Path, precision: str, tmp_path: Path
) -> None:
    loaded = Checkpoint.load(checkpoint)
    out = tmp_path / "brats.madclip"
    export_bundle(load_sources({"brain": loaded}, None), out, Request(precision), lambda _: None)
    detector = Detector.load(out)
    cases = open_dataset(shared / "data/BrainBraTS_AD").test[::10]
    reference = loaded.model().reference(load_cases(cases, 240).images)
    scores = np.array([detector(case.image).score for case in cases])
    assert np.abs(scores - reference.map_max).max() <= LIMITS[precision]["score"]
    flagged = reference.map_max >= (detector.threshold or 0)
    assert (flagged == (scores >= (detector.threshold or 0))).mean() > 0.9


def test_image_level_sets_train_on_siglip_alone(shared: Path) -> None:
    weights = shared / "weights"
    encoder = load_encoder(str(weights / "deit-tiny-clip.json"), str(weights / "deit-tiny-clip.safetensors"))
    dataset = open_dataset(shared / "data/LungLC25000_AD")
    config = TrainConfig(shots=2, seed=111, epochs=2)
    method = MethodConfig("histopathological image")
    done = train(dataset, encoder, method, config, Surroundings())
    assert done.card.image_score == "det" and not done.card.data.masks
    result = evaluate(done, dataset)
    assert result.pixel_auroc is None and result.image_auroc > 70
