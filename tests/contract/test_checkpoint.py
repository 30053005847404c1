"""The checkpoint's contract: everything comes back, and nothing but a checkpoint is opened."""

from __future__ import annotations

import os
import pickle  # noqa: TID251  (to build the hostile file)
from pathlib import Path

import numpy as np
import pytest
import torch

from madclip.checkpoint import Checkpoint
from madclip.config import EncoderSpec, MethodConfig, TrainConfig
from madclip.data import Dataset
from madclip.encoder import Encoder
from madclip.train import Surroundings, train
from madclip_runtime.errors import BundleRefused, UsageError


def test_everything_comes_back(mini_checkpoint: Path, mini_encoder: Encoder, tmp_path: Path) -> None:
    first = Checkpoint.load(mini_checkpoint)
    assert first.card.encoder == mini_encoder.spec
    assert first.card.data.synthetic and first.card.data.normal_shots == 2 and first.card.image_score == "map_max"
    again = tmp_path / "again.pt"
    first.save(again)
    second = Checkpoint.load(again)
    assert second.card == first.card and second.sha256 == first.sha256, "the same content, the same bytes"
    for name, tensor in first.adapters.items():
        assert torch.equal(tensor, second.adapters[name])
    assert torch.equal(first.t_normal, second.t_normal)
    assert set(first.prompts) == {"context"}


def test_a_reloaded_model_scores_the_same(mini_checkpoint: Path, mini_encoder: Encoder) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 240, 240, 3), dtype=np.uint8)
    checkpoint = Checkpoint.load(mini_checkpoint)
    fresh = checkpoint.model().reference(images)
    warm = checkpoint.model_on(mini_encoder).reference(images)
    assert np.array_equal(fresh.det, warm.det) and np.array_equal(fresh.maps, warm.maps)
    assert fresh.maps.shape == (2, 240, 240) and fresh.maps.min() >= 0 and fresh.maps.max() <= 1


def test_the_same_seed_gives_the_same_tensors(phantom_data: Dataset, mini_encoder: Encoder) -> None:
    def run(seed: int) -> Checkpoint:
        config = TrainConfig(shots=2, seed=seed, epochs=1)
        return train(phantom_data, mini_encoder, MethodConfig("Brain"), config, Surroundings())

    first, second, other = run(7), run(7), run(8)
    assert all(torch.equal(first.adapters[n], second.adapters[n]) for n in first.adapters)
    assert torch.equal(first.prompts["context"], second.prompts["context"])
    assert first.card.calibration == second.card.calibration
    assert not torch.equal(first.prompts["context"], other.prompts["context"])


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_opening_a_hostile_file_runs_no_code(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for name, write in (("torch.pt", torch.save), ("plain.pt", lambda o, p: p.write_bytes(pickle.dumps(o)))):
        path = tmp_path / name
        write({"format": "madclip-checkpoint", "x": _Evil(trap)}, path)
        with pytest.raises(BundleRefused, match="not a checkpoint"):
            Checkpoint.load(path)
    assert not trap.exists()


def test_damage_is_refused_by_name(mini_checkpoint: Path, tmp_path: Path) -> None:
    whole = mini_checkpoint.read_bytes()
    path = tmp_path / "x.pt"
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(BundleRefused, match=r"x\.pt"):
            Checkpoint.load(path)
    with pytest.raises(BundleRefused, match="No such file"):
        Checkpoint.load(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "not a madclip-checkpoint"),
        ({"format_version": 2}, "version 2"),
        ({"card": "{}"}, "damaged"),
    ],
)
def test_another_format_is_refused(
    mini_checkpoint: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    content = torch.load(mini_checkpoint, weights_only=True)
    path = tmp_path / "x.pt"
    torch.save({**content, **change}, path)
    with pytest.raises(BundleRefused, match=words):
        Checkpoint.load(path)


def test_a_missing_part_is_refused(mini_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(mini_checkpoint, weights_only=True)
    for key in ("card", "adapters", "prompts", "t_normal", "t_abnormal"):
        path = tmp_path / "x.pt"
        torch.save({k: v for k, v in content.items() if k != key}, path)
        with pytest.raises(BundleRefused, match="damaged"):
            Checkpoint.load(path)


def test_configs_are_validated_at_the_border() -> None:
    with pytest.raises(UsageError, match="--shots 0"):
        TrainConfig(shots=0)
    with pytest.raises(UsageError, match="--epochs 0"):
        TrainConfig(epochs=0)
    spec = EncoderSpec("n", "", "random:0", "", 240, (1,), (0.0,) * 3, (1.0,) * 3, False)  # type: ignore[arg-type]
    assert spec.random


def test_features_past_the_budget_go_to_a_file_and_change_nothing(phantom_data: Dataset, mini_encoder: Encoder) -> None:
    said: list[str] = []
    config = TrainConfig(shots=2, seed=5, epochs=1)
    run = [
        train(phantom_data, mini_encoder, MethodConfig("Brain"), config, Surroundings(budget, say=said.append))
        for budget in (10**9, 1000)
    ]
    assert "in memory" in said[0] and any("in a file" in line for line in said)
    assert all(torch.equal(run[0].adapters[n], run[1].adapters[n]) for n in run[0].adapters)
