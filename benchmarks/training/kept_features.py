"""What keeping the encoder's features is worth: training as this code does it, against the plain way, in one run.

    python benchmarks/training/kept_features.py --data ../shared/data/BrainBraTS_AD --shots 16 --rounds 2 \
        --encoder ../shared/weights/deit-tiny-clip.json --weights ../shared/weights/deit-tiny-clip.safetensors

The plain way, written here from the paper: every epoch runs the encoder over all augmented images again, encodes every
prompt at the text tower's whole context, and takes each level's two-channel map at full size through autograd. In
between stands "kept features only": the plain step, but features read from memory. Epochs of all alternate, so that a
slow minute falls on each; medians; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from madclip.augment import augment
from madclip.config import MethodConfig, TrainConfig, objective_for
from madclip.data import choose_shots, open_dataset
from madclip.encoder import Encoder, load_encoder
from madclip.features import FeatureStore
from madclip.fit import Batchable, Trained, _Run
from madclip.losses import dice_loss, focal_loss, siglip_loss
from madclip.model import to_unit_floats
from madclip.prompts import PromptLearner, TextTower
from madclip.reading import load_cases
from madclip.scores import level_map, reference_scores
from madclip.train import _fresh

EPOCHS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    encoder = load_encoder(args.encoder, args.weights)
    dataset = open_dataset(args.data)
    method, config = MethodConfig(objective_for(dataset.name)[0]), TrainConfig(shots=args.shots, epochs=EPOCHS)
    shots, _ = choose_shots(dataset.valid, args.shots, config.seed)
    loaded = load_cases(shots, encoder.spec.image_size)
    pairs = [
        augment(image, torch.from_numpy(mask).float())
        for image, mask in zip(to_unit_floats(loaded.images), loaded.masks, strict=True)
    ]
    images, masks = (torch.cat(part) for part in zip(*pairs, strict=True))
    labels = torch.from_numpy(loaded.labels).float().repeat_interleave(16)
    start = time.perf_counter()
    features = FeatureStore.compute(encoder, images, budget_bytes=8 * 10**9)
    features_s = time.perf_counter() - start
    data = Batchable(features, masks, labels, torch.ones(len(labels), dtype=torch.bool))
    candidates = {
        "plain": plain_epoch(encoder, method, data, config, images),
        "kept features only": plain_epoch(encoder, method, data, config, None),
        "madclip": our_epoch(encoder, method, data, config),
    }
    seconds = alternate(candidates, args.rounds)
    report(seconds, features_s, len(images))


def our_epoch(encoder: Encoder, method: MethodConfig, data: Batchable, config: TrainConfig) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(config.seed)
    run = _Run(_fresh(encoder, method, encoder.tap_shape()[1], generator, config.seed), config, generator)
    return lambda: print(f"  madclip: loss {run.epoch(data, 1):.4f}")


def plain_epoch(
    encoder: Encoder, method: MethodConfig, data: Batchable, config: TrainConfig, images: Tensor | None
) -> Callable[[], None]:
    """images: run through the encoder in every step; None: read what is kept."""
    generator = torch.Generator().manual_seed(config.seed)
    trained = _fresh(encoder, method, encoder.tap_shape()[1], generator, config.seed)
    trained.prompts = WholeContext(TextTower(encoder), method, torch.Generator().manual_seed(config.seed))
    optimiser = torch.optim.Adam(trained.parameters(), lr=config.learning_rate, betas=config.betas)

    def epoch() -> None:
        losses = []
        for indices in torch.randperm(len(data.labels), generator=generator).split(config.batch_size):
            taps = data.features.batch(indices) if images is None else encoder.taps(images[indices])
            optimiser.zero_grad()
            loss = plain_loss(trained, taps, data.masks[indices], data.labels[indices])
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        print(f"  {'kept' if images is None else 'plain'}: loss {statistics.fmean(losses):.4f}")

    return epoch


class WholeContext(PromptLearner):
    """Every prompt padded to the tower's whole context, as it comes."""

    def _prepare(self, classes: tuple[tuple[str, ...], ...], method: MethodConfig) -> None:
        self._tower.padded_length = lambda longest: self._tower._context_length  # type: ignore[method-assign]
        super()._prepare(classes, method)


def plain_loss(trained: Trained, taps: list[Tensor], masks: Tensor, labels: Tensor) -> Tensor:
    """The paper's two-channel form, every map at full size."""
    t_n, t_ab = trained.prompts()
    total = torch.zeros(())
    for normal, abnormal in trained.adapters(taps):
        scores = reference_scores(normal, abnormal, t_n, t_ab)
        heat = level_map(scores[:, :, 1], masks.shape[-1])
        total = total + dice_loss(heat, masks) + focal_loss(heat, masks) + siglip_loss(scores[:, :, 0], labels)
    return total


def alternate(candidates: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds an epoch of each, taken in turns, forwards and backwards."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        order = list(candidates) if number % 2 == 0 else list(reversed(candidates))
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(seconds: dict[str, float], features_s: float, images: int) -> None:
    whole = {name: EPOCHS * value + (0.0 if name == "plain" else features_s) for name, value in seconds.items()}
    print(f"features of {images} images, once: {features_s:.1f} s")
    for name, value in seconds.items():
        ratio = whole["plain"] / whole[name]
        print(f"{name:20} {value:6.1f} s an epoch, {whole[name]:7.0f} s for {EPOCHS} epochs, ratio {ratio:.2f}")
    machine = {"threads": torch.get_num_threads(), "cpu": platform.machine(), "torch": torch.__version__}
    figures = {
        "epoch_s": {name: round(value, 2) for name, value in seconds.items()},
        "features_s": round(features_s, 2),
        "epochs": EPOCHS,
        "ratio": {name: round(whole["plain"] / value, 2) for name, value in whole.items()},
    }
    print(json.dumps({**figures, **machine}))


if __name__ == "__main__":
    main()
