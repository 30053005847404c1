"""A few labelled images → a checkpoint. Paper, section 3; the encoder runs once, then adapters and prompts move."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from madclip.adapters import DualBranchAdapters
from madclip.augment import VARIANTS, augment
from madclip.calibrate import calibrate
from madclip.checkpoint import Card, Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.data import Case, Dataset, choose_shots, listed_shots
from madclip.encoder import Encoder
from madclip.features import FeatureCache, FeatureStore
from madclip.fit import Batchable, Listener, Trained, fit
from madclip.model import Model, image_scores, to_unit_floats
from madclip.patients import find_groups, unseen
from madclip.progress import TrainingLog, TrainingState
from madclip.prompts import PromptLearner, TextTower
from madclip.reading import Loaded, check_cases, load_cases, scored_chunks
from madclip.rule import Evidence, choose_rule, named_rule, patients_in_words
from madclip_runtime.errors import UsageError
from madclip_runtime.manifest import Calibration, DataCard
from madclip_runtime.schema import encode

__all__ = ["Surroundings", "train"]


@dataclass(frozen=True)
class Surroundings:
    """What a run uses but doesn't depend on: memory, folders, and who listens.

    budget_bytes: features past this go to a file. cache: where features are kept for other runs. state: where an
    interrupted run is picked up. log: a CSV line an epoch. each_epoch: told the epoch, from 1, and what moves.
    """

    budget_bytes: int = 4 * 10**9
    cache: FeatureCache | None = None
    state: Path | None = None
    log: Path | None = None
    say: Callable[[str], None] = lambda _: None
    each_epoch: Callable[[int, Trained], None] = lambda _, __: None


def train(
    dataset: Dataset, encoder: Encoder, method: MethodConfig, config: TrainConfig, around: Surroundings
) -> Checkpoint:
    """Learn adapters and prompts; choose rule and thresholds on validation images that were not shots.

    Test images stay unseen.

    encoder: on config.device. Raises: InputRefused, UsageError, EngineRefused, OutputNotWritten.
    """
    shots, rest = _choose(dataset, config)
    size = encoder.spec.image_size
    check_cases((*shots, *rest), size)
    loaded = load_cases(shots, size)
    generator = torch.Generator().manual_seed(config.seed)
    images, masks = _expand(loaded)
    length, width = encoder.tap_shape()
    trained = _fresh(encoder, method, width, generator, config.seed)
    listener = Listener(
        around.say, TrainingLog(around.log), _state(around, encoder, trained, config, loaded), around.each_epoch
    )
    with FeatureStore.compute(encoder, images, budget_bytes=around.budget_bytes, cache=around.cache) as features:
        where = f"{features.nbytes / 1e6:.0f} MB in {'a file' if features.on_disk else 'memory'}"
        reused = f", {features.reused} of them from the cache" if around.cache else ""
        around.say(f"features of {len(images)} images, {length} tokens × {width} a tap: {where}{reused}")
        labels = torch.from_numpy(loaded.labels).float().repeat_interleave(VARIANTS)
        masked = torch.from_numpy(_map_trains_on(loaded, around)).repeat_interleave(VARIANTS)
        fit(trained, Batchable(features, masks, labels, masked), config, generator, listener)
    data = _data_card(dataset, method, config, loaded)
    draft = _draft(trained, encoder, config, data, width)
    return _calibrated(draft, _evidence(dataset, draft.model_on(encoder), shots, rest), around.say)


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


def _map_trains_on(shots: Loaded, around: Surroundings) -> np.ndarray:
    """bool [shots]: those whose mask is known, or none at all where no abnormal one has a mask."""
    abnormal = shots.labels == 1
    with_mask = int((shots.mask_known & abnormal).sum())
    if with_mask == 0:
        return np.zeros_like(shots.mask_known)
    if with_mask < abnormal.sum():
        without = int(abnormal.sum()) - with_mask
        around.say(f"{without} of {int(abnormal.sum())} abnormal shots have no mask: they train the image score only")
    return shots.mask_known


def _fresh(encoder: Encoder, method: MethodConfig, width: int, generator: torch.Generator, seed: int) -> Trained:
    prompts = PromptLearner(TextTower(encoder), method, generator)
    with torch.no_grad():
        embed_dim = len(prompts()[0])
    with torch.random.fork_rng(devices=[]):  # Linear's own initialisation draws from the global generator
        torch.manual_seed(seed)
        adapters = DualBranchAdapters(width, embed_dim, len(encoder.spec.taps), method)
    return Trained(adapters.to(encoder.device), prompts, method)


def _state(
    around: Surroundings, encoder: Encoder, trained: Trained, config: TrainConfig, shots: Loaded
) -> TrainingState | None:
    """The fingerprint is of everything that makes the numbers: pixels and masks of the shots, not their file names."""
    if around.state is None:
        return None
    made_of = (encoder.spec.sha256, encode(encoder.spec), encode(trained.method), encode(config), torch.__version__)
    digest = hashlib.sha256(repr(made_of).encode())
    for array in (shots.images, shots.labels, shots.masks, shots.mask_known):
        digest.update(array.tobytes())
    return TrainingState(around.state, digest.hexdigest())


def _draft(trained: Trained, encoder: Encoder, config: TrainConfig, data: DataCard, width: int) -> Checkpoint:
    """Everything but rule and thresholds, which need the finished model."""
    with torch.no_grad():
        t_normal, t_abnormal = trained.prompts()
    card = Card(
        encoder=encoder.spec,
        method=trained.method,
        train=config,
        data=data,
        image_score="map_max" if data.masks else "det",
        calibration=Calibration(reason="not calibrated yet"),
        width=width,
        embed_dim=len(t_normal),
    )
    states = [
        {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        for module in (trained.adapters, trained.prompts)
    ]
    return Checkpoint(card, states[0], states[1], t_normal.cpu().clone(), t_abnormal.cpu().clone())


def _evidence(dataset: Dataset, model: Model, shots: tuple[Case, ...], rest: tuple[Case, ...]) -> Evidence:
    """What the finished model says of the validation images that were not shots."""
    answers = [found for _, _, found in scored_chunks(model, rest)]
    groups, strangers = find_groups(dataset, "valid"), unseen(dataset, shots)
    place = {case.image: number for number, case in enumerate(dataset.valid)}
    unknown = {case.image for case in strangers or ()}
    return Evidence(
        labels=np.array([case.abnormal for case in rest], dtype=np.int64),
        det=np.concatenate([np.zeros(0), *(found.det for found in answers)]),
        map_max=np.concatenate([np.zeros(0), *(found.map_max for found in answers)]),
        groups=replace(groups, of=groups.of[[place[case.image] for case in rest]]),
        unseen=None if strangers is None else np.array([case.image in unknown for case in rest], dtype=np.bool_),
    )


def _calibrated(draft: Checkpoint, evidence: Evidence, say: Callable[[str], None]) -> Checkpoint:
    asked = draft.card.train.image_score
    masks = draft.card.data.masks
    rule = choose_rule(evidence, masks=masks) if asked == "auto" else named_rule(asked, evidence, masks=masks)
    say(f"image score: {rule.image_score}, {rule.reason}")
    scores = image_scores(rule.image_score, rule.map_share, evidence.det, evidence.map_max)
    card = replace(
        draft.card,
        image_score=rule.image_score,
        map_share=rule.map_share,
        image_score_reason=rule.reason,
        calibration=calibrate(evidence.labels, scores, patients_in_words(evidence)),
    )
    return replace(draft, card=card)


def _data_card(dataset: Dataset, method: MethodConfig, config: TrainConfig, shots: Loaded) -> DataCard:
    return DataCard(
        dataset=dataset.name,
        objective=method.objective,
        synthetic=dataset.synthetic,
        normal_shots=int((shots.labels == 0).sum()),
        abnormal_shots=int((shots.labels == 1).sum()),
        masks=bool((shots.mask_known & (shots.labels == 1)).any()),
        epochs=config.epochs,
        seed=config.seed,
        window=dataset.window,
    )
