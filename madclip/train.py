"""A few labelled images → a checkpoint. Paper, section 3; the encoder runs once, then adapters and prompts move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from madclip.adapters import DualBranchAdapters
from madclip.augment import VARIANTS, augment
from madclip.calibrate import calibrate
from madclip.checkpoint import Card, Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.data import Case, Dataset, Loaded, choose_shots, listed_shots, load_cases
from madclip.encoder import Encoder
from madclip.features import FeatureStore
from madclip.losses import segmentation_loss, siglip_loss, softmax_loss
from madclip.model import to_unit_floats
from madclip.prompts import PromptLearner, TextTower
from madclip.scores import abnormal_logit, class_scores, directions
from madclip_runtime.errors import UsageError
from madclip_runtime.manifest import Calibration, DataCard

__all__ = ["Trained", "train"]

Say = Callable[[str], None]


@dataclass
class Trained:
    """The parts that move."""

    adapters: DualBranchAdapters
    prompts: PromptLearner
    method: MethodConfig


@dataclass(frozen=True)
class _Batchable:
    """Expanded shots: features of N = shots × 2 × 16 images, masks float [N, S, S], labels float [N]."""

    features: FeatureStore
    masks: Tensor
    labels: Tensor
    has_masks: bool


def train(
    dataset: Dataset, encoder: Encoder, method: MethodConfig, config: TrainConfig, *, budget_bytes: int, say: Say
) -> Checkpoint:
    """Learn adapters and prompts; choose thresholds on validation images that were not shots; test images stay unseen.

    Raises: InputRefused, UsageError.
    """
    shots, rest = _choose(dataset, config)
    size = encoder.spec.image_size
    loaded = load_cases(shots, size)
    held_out = load_cases(rest, size) if rest else None
    generator = torch.Generator().manual_seed(config.seed)
    images, masks = _expand(loaded, generator)
    length, width = encoder.tap_shape()
    trained = _fresh(encoder, method, width, generator, config.seed)
    with FeatureStore.compute(encoder, images, budget_bytes=budget_bytes) as features:
        where = f"{features.nbytes / 1e6:.0f} MB in {'a file' if features.on_disk else 'memory'}"
        say(f"features of {len(images)} images, {length} tokens × {width} a tap: {where}")
        labels = torch.from_numpy(loaded.labels).float().repeat_interleave(VARIANTS)
        _fit(trained, _Batchable(features, masks, labels, dataset.masks), config, generator, say)
    data = _data_card(dataset, method, config, loaded)
    return _calibrated(_draft(trained, encoder, config, data, width), encoder, held_out)


def _choose(dataset: Dataset, config: TrainConfig) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    if not config.shot_list:
        return choose_shots(dataset.valid, config.shots, config.seed)
    shots, rest = listed_shots(dataset.valid, Path(config.shot_list), config.list_index)
    abnormal = sum(case.abnormal for case in shots)
    if 2 * abnormal != len(shots) and not config.allow_unbalanced:
        counts = f"{len(shots) - abnormal} normal and {abnormal} abnormal shots"
        raise UsageError(config.shot_list, f"{counts}; the method is made for equal counts", "--allow-unbalanced")
    return shots, rest


def _expand(loaded: Loaded, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    pairs = [
        augment(image, torch.from_numpy(mask).float(), generator)
        for image, mask in zip(to_unit_floats(loaded.images), loaded.masks, strict=True)
    ]
    return torch.cat([image for image, _ in pairs]), torch.cat([mask for _, mask in pairs])


def _fresh(encoder: Encoder, method: MethodConfig, width: int, generator: torch.Generator, seed: int) -> Trained:
    prompts = PromptLearner(TextTower(encoder), method, generator)
    with torch.no_grad():
        embed_dim = len(prompts()[0])
    with torch.random.fork_rng(devices=[]):  # Linear's own initialisation draws from the global generator
        torch.manual_seed(seed)
        adapters = DualBranchAdapters(width, embed_dim, len(encoder.spec.taps), method)
    return Trained(adapters, prompts, method)


def _fit(trained: Trained, data: _Batchable, config: TrainConfig, generator: torch.Generator, say: Say) -> None:
    parameters = [*trained.adapters.parameters(), *trained.prompts.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, betas=config.betas)
    for epoch in tqdm(range(config.epochs), desc="training", unit="epoch", disable=None):
        losses = []
        for indices in torch.randperm(len(data.labels), generator=generator).split(config.batch_size):
            optimiser.zero_grad(set_to_none=True)
            loss = _loss(trained, data, indices)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        if epoch == 0 or epoch + 1 == config.epochs:
            say(f"epoch {epoch + 1}/{config.epochs}: mean loss {np.mean(losses):.4f}")


def _loss(trained: Trained, data: _Batchable, indices: Tensor) -> Tensor:
    """Sum over levels of Dice + Focal + image loss; image-only sets train on the image loss alone."""
    d_n, d_ab = directions(*trained.prompts(), subtraction=trained.method.subtraction)
    image_loss = {"siglip": siglip_loss, "softmax": softmax_loss}[trained.method.image_loss]
    labels = data.labels[indices]
    masks = data.masks[indices]
    total = torch.zeros(())
    for normal, abnormal in trained.adapters(data.features.batch(indices)):
        det, seg = class_scores(normal, abnormal, d_n, d_ab).unbind(dim=2)
        total = total + image_loss(det, labels)
        if data.has_masks:
            logit = abnormal_logit(seg)
            grid = round(logit.shape[1] ** 0.5)
            total = total + segmentation_loss(logit.unflatten(1, (grid, grid)), masks)
    return total


def _draft(trained: Trained, encoder: Encoder, config: TrainConfig, data: DataCard, width: int) -> Checkpoint:
    """Everything but the thresholds, which need the finished model."""
    with torch.no_grad():
        t_normal, t_abnormal = trained.prompts()
    card = Card(
        encoder=encoder.spec,
        method=trained.method,
        train=config,
        data=data,
        # The authors' rule: where there are masks the map is trained on them, and its maximum ranks images better.
        image_score="map_max" if data.masks else "det",
        calibration=Calibration(reason="not calibrated yet"),
        width=width,
        embed_dim=len(t_normal),
    )
    states = [
        {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        for module in (trained.adapters, trained.prompts)
    ]
    return Checkpoint(card, states[0], states[1], t_normal.clone(), t_abnormal.clone())


def _calibrated(draft: Checkpoint, encoder: Encoder, held_out: Loaded | None) -> Checkpoint:
    if held_out is None:
        calibration = calibrate(np.zeros(0, np.int64), np.zeros(0))
    else:
        answers = draft.model_on(encoder).reference(held_out.images)
        calibration = calibrate(held_out.labels, answers.image_scores(draft.card.image_score))
    return replace(draft, card=replace(draft.card, calibration=calibration))


def _data_card(dataset: Dataset, method: MethodConfig, config: TrainConfig, shots: Loaded) -> DataCard:
    return DataCard(
        dataset=dataset.name,
        objective=method.objective,
        synthetic=dataset.synthetic,
        normal_shots=int((shots.labels == 0).sum()),
        abnormal_shots=int((shots.labels == 1).sum()),
        masks=dataset.masks,
        epochs=config.epochs,
        seed=config.seed,
    )
