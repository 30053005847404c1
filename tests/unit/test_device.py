"""Devices and precision by name: what isn't there is refused, and every tensor of a step is where the model is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from madclip.adapters import DualBranchAdapters
from madclip.checkpoint import Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.data import Dataset
from madclip.device import CPU, Place, choose_place
from madclip.encoder import Encoder, load_encoder
from madclip.features import FeatureStore
from madclip.fit import Batchable, Trained, step_loss
from madclip.prompts import PromptLearner, TextTower
from madclip.train import Surroundings, train
from madclip_runtime.errors import EngineRefused, UsageError

METHODS = [
    MethodConfig("Brain"),
    MethodConfig("Brain", prompts="fixed"),
    MethodConfig("Brain", prompts="abnormal", branches="shared", subtraction=False, image_loss="softmax"),
]


class _Features:
    """Stands in for a FeatureStore: 8 images, 4 levels, 36 tokens of 32."""

    def batch(self, indices: torch.Tensor) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        return list(torch.randn(8, 4, 36, 32, generator=generator)[indices].unbind(1))


def _batch(masked: torch.Tensor) -> Batchable:
    masks = torch.zeros(8, 240, 240)
    masks[4:, 60:120, 60:120] = 1
    return Batchable(cast(FeatureStore, _Features()), masks, torch.tensor([0.0] * 4 + [1.0] * 4), masked)


def _trained(encoder: Encoder, method: MethodConfig) -> Trained:
    prompts = PromptLearner(TextTower(encoder), method, torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    return Trained(DualBranchAdapters(32, 24, 4, method), prompts, method)


def test_what_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_place("auto") == choose_place("cpu") == CPU
    assert choose_place("cpu", mixed=True) == Place("cpu", "bf16")
    with pytest.raises(EngineRefused, match="--device cuda"):
        choose_place("cuda")
    with pytest.raises(UsageError, match="must be one of"):
        choose_place("gpu")


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.prompts)
def test_a_step_runs_on_any_device_and_leaves_nothing_behind(
    mini_config: Path, method: MethodConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's `meta` device, which exists everywhere and refuses to mix with tensors of the CPU."""
    encoder = load_encoder(str(mini_config), "random").to("meta")
    assert all(tap.device.type == "meta" for tap in encoder.taps(torch.zeros(1, 3, 240, 240)))
    trained = _trained(encoder, method)
    trained.adapters.to("meta")
    monkeypatch.setattr(Place, "torch_device", property(lambda self: torch.device("meta")))
    loss = step_loss(trained, _batch(torch.ones(8, dtype=torch.bool)), torch.arange(8))
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in trained.parameters() if p.numel())


def test_the_meta_device_would_catch_a_tensor_left_on_the_cpu(mini_config: Path) -> None:
    encoder = load_encoder(str(mini_config), "random").to("meta")
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        encoder.visual(torch.zeros(1, 3, 240, 240))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_products_change_little_and_keep_float32_weights(mini_encoder: Encoder, precision: str) -> None:
    trained = _trained(mini_encoder, METHODS[0])
    batch, indices = _batch(torch.ones(8, dtype=torch.bool)), torch.arange(8)
    exact = step_loss(trained, batch, indices)
    rough = step_loss(trained, batch, indices, Place("cpu", precision))
    rough.backward()
    assert rough != exact and rough.item() == pytest.approx(exact.item(), rel=1e-2)
    for p in trained.parameters():
        assert p.dtype == torch.float32 and p.grad is not None and p.grad.isfinite().all()


def test_images_without_masks_train_the_image_score_only(mini_encoder: Encoder) -> None:
    trained = _trained(mini_encoder, METHODS[0])
    indices = torch.arange(8)
    some = torch.tensor([True] * 6 + [False] * 2)
    step_loss(trained, _batch(torch.zeros(8, dtype=torch.bool)), indices).backward()
    seg = [adapter.seg.weight for branch in (trained.adapters.normal, trained.adapters.abnormal) for adapter in branch]
    assert all(weight.grad is None or not weight.grad.any() for weight in seg)
    partly = step_loss(trained, _batch(some), indices)
    changed = _batch(some)
    changed.masks[6:] = 1 - changed.masks[6:]
    assert torch.equal(partly, step_loss(trained, changed, indices)), "a mask that isn't known has no say"
    changed.masks[:2] = 1
    assert not torch.equal(partly, step_loss(trained, changed, indices))


def test_mixed_precision_is_recorded_and_repeats_bit_for_bit(phantom_data: Dataset, mini_encoder: Encoder) -> None:
    def run() -> Checkpoint:
        config = TrainConfig(shots=1, seed=5, epochs=2, precision="bf16")
        return train(phantom_data, mini_encoder, METHODS[0], config, Surroundings())

    first, second = run(), run()
    assert first.card.train.precision == "bf16" and first.card.train.device == "cpu"
    assert all(torch.equal(first.adapters[name], second.adapters[name]) for name in first.adapters)


def test_a_loss_that_is_no_number_leaves_no_checkpoint(phantom_data: Dataset, mini_encoder: Encoder) -> None:
    config = TrainConfig(shots=1, seed=5, epochs=2, learning_rate=1e30)
    with pytest.raises(EngineRefused, match="the loss of epoch"):
        train(phantom_data, mini_encoder, METHODS[0], config, Surroundings())


def test_partial_masks_train_whole_and_say_so(phantom_data: Dataset, mini_encoder: Encoder) -> None:
    seen = iter(range(100))
    valid = tuple(replace(case, mask=None) if case.abnormal and next(seen) % 2 else case for case in phantom_data.valid)
    said: list[str] = []
    config = TrainConfig(shots=4, seed=5, epochs=1)
    partial = replace(phantom_data, valid=valid)
    checkpoint = train(partial, mini_encoder, METHODS[0], config, Surroundings(say=said.append))
    assert checkpoint.card.data.masks and any("have no mask: they train the image score only" in line for line in said)
    none = replace(phantom_data, valid=tuple(replace(case, mask=None) for case in phantom_data.valid))
    assert not train(none, mini_encoder, METHODS[0], config, Surroundings()).card.data.masks
