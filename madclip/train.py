"""A few labelled images → a checkpoint. Paper, section 3; the encoder runs once, then adapters and prompts move."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from madclip.features import FeatureCache, FeatureStore
from madclip.losses import segmentation_loss, siglip_loss, softmax_loss
from madclip.memory import keep_freed_memory
from madclip.model import to_unit_floats
from madclip.progress import TrainingLog, TrainingState
from madclip.prompts import PromptLearner, TextTower
from madclip.scores import abnormal_logit, class_scores, directions
from madclip_runtime.errors import UsageError
from madclip_runtime.manifest import Calibration, DataCard
from madclip_runtime.schema import encode

__all__ = ["Surroundings", "Trained", "train"]

Say = Callable[[str], None]


@dataclass
class Trained:
    """The parts that move."""

    adapters: DualBranchAdapters
    prompts: PromptLearner
    method: MethodConfig

    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that moves, each once."""
        return [*self.adapters.parameters(), *self.prompts.parameters()]


@dataclass(frozen=True)
class _Batchable:
    """Expanded shots: features of N = shots × 2 × 16 images, masks float [N, S, S], labels float [N]."""

    features: FeatureStore
    masks: Tensor
    labels: Tensor
    has_masks: bool


@dataclass(frozen=True)
class Surroundings:
    """What a run uses but doesn't depend on: memory, folders, and who listens.

    budget_bytes: features past this go to a file. cache: where features are kept for other runs. state: where an
    interrupted run is picked up. log: a CSV line an epoch.
    """

    budget_bytes: int = 4 * 10**9
    cache: FeatureCache | None = None
    state: Path | None = None
    log: Path | None = None
    say: Say = lambda _: None


def train(
    dataset: Dataset, encoder: Encoder, method: MethodConfig, config: TrainConfig, around: Surroundings
) -> Checkpoint:
    """Learn adapters and prompts; choose thresholds on validation images that were not shots; test images stay unseen.

    Raises: InputRefused, UsageError, OutputNotWritten.
    """
    shots, rest = _choose(dataset, config)
    size = encoder.spec.image_size
    loaded = load_cases(shots, size)
    held_out = load_cases(rest, size) if rest else None
    generator = torch.Generator().manual_seed(config.seed)
    images, masks = _expand(loaded)
    length, width = encoder.tap_shape()
    trained = _fresh(encoder, method, width, generator, config.seed)
    with FeatureStore.compute(encoder, images, budget_bytes=around.budget_bytes, cache=around.cache) as features:
        where = f"{features.nbytes / 1e6:.0f} MB in {'a file' if features.on_disk else 'memory'}"
        reused = f", {features.reused} of them from the cache" if around.cache else ""
        around.say(f"features of {len(images)} images, {length} tokens × {width} a tap: {where}{reused}")
        labels = torch.from_numpy(loaded.labels).float().repeat_interleave(VARIANTS)
        state = _state(around, encoder, trained, config, loaded)
        _fit(trained, _Batchable(features, masks, labels, dataset.masks), config, generator, state, around)
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


def _expand(loaded: Loaded) -> tuple[Tensor, Tensor]:
    pairs = [
        augment(image, torch.from_numpy(mask).float())
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


def _fit(
    trained: Trained,
    data: _Batchable,
    config: TrainConfig,
    generator: torch.Generator,
    state: TrainingState | None,
    around: Surroundings,
) -> None:
    keep_freed_memory()
    optimiser = torch.optim.Adam(trained.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)
    done = _resume(trained, optimiser, generator, state, around.say)
    log = TrainingLog(around.log)
    log.start(done)
    epochs = tqdm(range(done, config.epochs), initial=done, total=config.epochs, desc="training", disable=None)
    for epoch in epochs:
        start = time.perf_counter()
        loss = _epoch(trained, data, optimiser, config.batch_size, generator)
        log.add(epoch + 1, loss, time.perf_counter() - start)
        if state is not None and epoch + 1 < config.epochs:
            state.save(_content(trained, optimiser, generator, epoch + 1))
        if epoch == 0 or epoch + 1 == config.epochs:
            around.say(f"epoch {epoch + 1}/{config.epochs}: mean loss {loss:.4f}")


def _epoch(
    trained: Trained, data: _Batchable, optimiser: torch.optim.Adam, batch: int, generator: torch.Generator
) -> float:
    losses = []
    for indices in torch.randperm(len(data.labels), generator=generator).split(batch):
        optimiser.zero_grad(set_to_none=True)
        loss = _loss(trained, data, indices)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _state(
    around: Surroundings, encoder: Encoder, trained: Trained, config: TrainConfig, shots: Loaded
) -> TrainingState | None:
    """The fingerprint is of everything that makes the numbers: pixels and masks of the shots, not their file names."""
    if around.state is None:
        return None
    made_of = (encoder.spec.sha256, encode(encoder.spec), encode(trained.method), encode(config), torch.__version__)
    digest = hashlib.sha256(repr(made_of).encode())
    for array in (shots.images, shots.labels, shots.masks):
        digest.update(array.tobytes())
    return TrainingState(around.state, digest.hexdigest())


def _content(trained: Trained, optimiser: torch.optim.Adam, generator: torch.Generator, epochs: int) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "adapters": trained.adapters.state_dict(),
        "prompts": trained.prompts.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
    }


def _resume(
    trained: Trained,
    optimiser: torch.optim.Adam,
    generator: torch.Generator,
    state: TrainingState | None,
    say: Say,
) -> int:
    """Epochs already done: 0, or what an interrupted run of the same making left."""
    content = None if state is None else state.load()
    if content is None:
        return 0
    trained.adapters.load_state_dict(content["adapters"])
    trained.prompts.load_state_dict(content["prompts"])
    optimiser.load_state_dict(content["optimiser"])
    generator.set_state(content["generator"])
    say(f"going on after epoch {content['epochs']} of an interrupted run")
    return int(content["epochs"])


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
