"""A very small CLIP, phantoms and a quickly trained checkpoint: enough to exercise the method in seconds.

Random weights: these test the pipeline and its arithmetic, never detection.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from madclip.checkpoint import Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.data import Dataset, open_dataset
from madclip.encoder import Encoder, load_encoder
from madclip.phantoms import write_phantoms
from madclip.train import Surroundings, train

MINI = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 240, "layers": 4, "width": 32, "head_width": 16, "patch_size": 40},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def mini_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip model config of a 4-block, 32-wide ViT with 6 × 6 patches."""
    path = tmp_path_factory.mktemp("mini") / "mini.json"
    path.write_text(json.dumps(MINI))
    return path


@pytest.fixture(scope="session")
def mini_encoder(mini_config: Path) -> Encoder:
    return load_encoder(str(mini_config), "random")


@pytest.fixture(scope="session")
def phantom_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """12 normal and 12 abnormal phantoms, half of them valid, with masks."""
    made = write_phantoms(tmp_path_factory.mktemp("data") / "Brain-phantoms_AD", normal=12, abnormal=12, seed=3)
    return open_dataset(made.root)


@pytest.fixture(scope="session")
def mini_checkpoint(mini_encoder: Encoder, phantom_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots, one epoch, saved; four of each class were left for the threshold."""
    config = TrainConfig(shots=2, seed=5, epochs=1)
    trained = train(phantom_data, mini_encoder, MethodConfig("Brain"), config, Surroundings())
    path = tmp_path_factory.mktemp("checkpoint") / "mini.pt"
    trained.save(path)
    return path


@pytest.fixture(scope="session")
def det_checkpoint(mini_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The same, but scored by the mean over patches, as sets without masks are."""
    import dataclasses

    loaded = Checkpoint.load(mini_checkpoint)
    return dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, image_score="det"))


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def unit(tensor: Tensor) -> Tensor:
    return torch.nn.functional.normalize(tensor, dim=-1)
