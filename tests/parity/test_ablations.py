"""Every ablation of the paper trains, comes back from its checkpoint, and fuses to the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from madclip.checkpoint import Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.data import Dataset
from madclip.encoder import Encoder
from madclip.train import Surroundings, train
from madclip_export.graph import FusedDetector, HeadSource
from madclip_runtime.errors import UsageError

ABLATIONS: dict[str, dict[str, Any]] = {
    "a": {"prompts": "fixed"},
    "abnormal prompts only": {"prompts": "abnormal"},
    "c": {"branches": "shared"},
    "d": {"subtraction": False},
    "e": {"image_loss": "softmax"},
    "f": {"heads": "common"},
    "all at once": {"prompts": "fixed", "branches": "shared", "subtraction": False, "heads": "common"},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_trains_reloads_and_fuses(name: str, phantom_data: Dataset, mini_encoder: Encoder, tmp_path: Path) -> None:
    method = MethodConfig("Brain", **ABLATIONS[name])
    config = TrainConfig(shots=1, seed=3, epochs=1)
    trained = train(phantom_data, mini_encoder, method, config, Surroundings())
    trained.save(tmp_path / "x.pt")
    loaded = Checkpoint.load(tmp_path / "x.pt")
    assert loaded.card.method == method
    model = loaded.model_on(mini_encoder)
    images = torch.randint(0, 256, (2, 240, 240, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    reference = model.reference(images.numpy())
    for rule in ("map_max", "det"):
        with torch.no_grad():
            score, heat = FusedDetector({"brain": HeadSource(model, rule)}, half=False)(images)
        assert np.abs(score.numpy() - reference.image_scores(rule)).max() < 2e-6
        assert np.abs(heat.numpy() - reference.maps).max() < 2e-6


def test_what_is_shared_is_trained_once(mini_encoder: Encoder, phantom_data: Dataset) -> None:
    from madclip.adapters import DualBranchAdapters

    def count(**change: Any) -> int:
        adapters = DualBranchAdapters(32, 24, 4, MethodConfig("Brain", **change))
        return sum(p.numel() for p in adapters.parameters())

    one = 32 * 32 + 2 * 32 * 24
    assert count() == 8 * one and count(branches="shared") == 4 * one
    assert count(heads="common") == 8 * (32 * 32 + 32 * 24)


@pytest.mark.parametrize("field", ["prompts", "branches", "image_loss", "heads"])
def test_unknown_choices_are_refused(field: str) -> None:
    with pytest.raises(UsageError, match="must be one of"):
        MethodConfig("Brain", **{field: "other"})  # type: ignore[arg-type]
