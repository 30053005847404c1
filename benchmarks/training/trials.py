"""Trials that could lift the figures: train once, keep the patch logits of many versions of the weights, judge later.

    python benchmarks/training/trials.py record --data ../shared/data --shots ../shared/reference/shots \
        --encoder ../shared/weights/deit-tiny-clip.json --weights ../shared/weights/deit-tiny-clip.safetensors \
        --work trials --variant base
    python benchmarks/training/trials.py judge --work trials --variant base

`record` trains every set with every list and leaves, a version of the weights (an epoch, or a mean of late epochs), the
det and seg logits of all validation images that were not shots and of all test images, on the patch grid. `judge` turns
them into figures under any rule for the image score. Choices are made by the validation column; test is only read off.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from madclip import fit
from madclip.checkpoint import Checkpoint
from madclip.config import MethodConfig, TrainConfig, objective_for
from madclip.data import Case, Dataset, listed_shots, open_dataset
from madclip.encoder import Encoder, load_encoder
from madclip.features import FeatureCache
from madclip.fit import Trained
from madclip.losses import siglip_loss
from madclip.model import to_unit_floats
from madclip.reading import load_cases
from madclip.scores import abnormal_logit, class_scores, directions
from madclip.train import Surroundings, train

SETS = ("BrainLGG", "BrainBraTS", "BreastBUSI", "RetinaOCTDL", "ChestNIH", "LungLC25000")
SEEDS = (111, 222, 333)


def _pooled_siglip(share: float) -> Callable[[Tensor, Tensor], Tensor]:
    """SigLIP on the mean of the most abnormal `share` of the patches, instead of on every patch."""

    def loss(scores: Tensor, label: Tensor) -> Tensor:
        count = max(1, round(share * scores.shape[1]))
        chosen = abnormal_logit(scores).topk(count, dim=1).indices
        pooled = scores.gather(1, chosen[..., None].expand(-1, -1, 2)).mean(1, keepdim=True)
        return siglip_loss(pooled, label)

    return loss


def _scaled_siglip(factor: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda scores, label: siglip_loss(factor * scores, label)


VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "raw": {"encoder": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}},
    "fixed": {"method": {"prompts": "fixed"}},
    "softmax": {"method": {"image_loss": "softmax"}},
    "lr3e-4": {"train": {"learning_rate": 3e-4}},
    "lr3e-3": {"train": {"learning_rate": 3e-3}},
    "decay": {"optimiser": partial(torch.optim.AdamW, weight_decay=0.05)},
    "loss on top 10 %": {"siglip": _pooled_siglip(0.1)},
    "loss on top 30 %": {"siglip": _pooled_siglip(0.3)},
    "loss on mean": {"siglip": _pooled_siglip(1.0)},
    "loss x4": {"siglip": _scaled_siglip(4.0)},
}
"""What each changes; those that are no option of the method are put into the training loop from outside."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("record", "judge"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--variant", choices=VARIANTS, default="base")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--weights")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--lists", nargs="*", type=int, default=(0, 1, 2))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record_all(args)


def record_all(args: argparse.Namespace) -> None:
    change = VARIANTS[args.variant]
    fit.siglip_loss = change.get("siglip", fit.siglip_loss)
    torch.optim.Adam = change.get("optimiser", torch.optim.Adam)  # type: ignore[misc]
    loaded = load_encoder(args.encoder, args.weights)
    encoder = Encoder(loaded.clip, replace(loaded.spec, **change.get("encoder", {})))
    for index in args.lists:
        for name in args.sets:
            out = args.work / args.variant / f"{name}-{SEEDS[index]}.npz"
            if not out.is_file():
                record(args, encoder, change, name, index, out)


def record(
    args: argparse.Namespace, encoder: Encoder, change: dict[str, Any], name: str, index: int, out: Path
) -> None:
    dataset = open_dataset(args.data / f"{name}_AD")
    method = replace(MethodConfig(objective_for(name)[0]), **change.get("method", {}))
    config = TrainConfig(
        seed=SEEDS[index], epochs=args.epochs, shot_list=str(args.shots / f"{name}-16.txt"), list_index=index
    )
    kept = Versions(args.epochs)
    around = Surroundings(cache=FeatureCache(args.work / "features"), each_epoch=kept.add, say=print)
    checkpoint = train(dataset, encoder, method, replace(config, **change.get("train", {})), around)
    _, rest = listed_shots(dataset.valid, Path(config.shot_list), index)
    arrays: dict[str, Any] = {}
    for split, cases in (("valid", rest), ("test", dataset.test)):
        arrays[f"{split}/labels"] = np.array([case.abnormal for case in cases])
        taps = kept_taps(args.work / "taps", encoder, dataset, split, cases)
        for version, (adapters, t_n, t_ab) in kept.versions().items():
            arrays[f"{split}/{version}"] = logits(adapters, t_n, t_ab, checkpoint, encoder, taps)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **arrays)


class Versions:
    """The weights after chosen epochs, and means over the last ones."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._states: dict[int, tuple[dict[str, Tensor], Tensor, Tensor]] = {}
        self._prompts: dict[int, Tensor] = {}

    def add(self, epoch: int, trained: Trained) -> None:
        with torch.no_grad():
            t_n, t_ab = trained.prompts()
        self._states[epoch] = copy.deepcopy(trained.adapters.state_dict()), t_n.clone(), t_ab.clone()

    def versions(self) -> dict[str, tuple[dict[str, Tensor], Tensor, Tensor]]:
        last = self.epochs
        single = {f"e{epoch}": self._states[epoch] for epoch in (6, 10, 15, last) if epoch <= last}
        means = {f"mean{k}": self._mean(range(last - k + 1, last + 1)) for k in (5, 10) if k <= last}
        return single | means

    def _mean(self, epochs: range) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        states = [self._states[epoch] for epoch in epochs]
        adapters = {key: torch.stack([s[0][key] for s in states]).mean(0) for key in states[0][0]}
        t_n, t_ab = (torch.stack([s[i] for s in states]).mean(0) for i in (1, 2))  # type: ignore[misc]
        return adapters, t_n / t_n.norm(), t_ab / t_ab.norm()


def kept_taps(folder: Path, encoder: Encoder, dataset: Dataset, split: str, cases: tuple[Case, ...]) -> np.ndarray:
    """float32 [N, levels, L, d] of `cases`: all images of a split are computed once and kept."""
    every = dataset.valid if split == "valid" else dataset.test
    key = hashlib.sha256(repr((encoder.spec.mean, encoder.spec.sha256)).encode()).hexdigest()[:8]
    path = folder / f"{dataset.name}-{split}-{key}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        size = encoder.spec.image_size
        parts = []
        for start in tqdm(range(0, len(every), 16), desc=f"{dataset.name} {split}"):
            images = to_unit_floats(load_cases(every[start : start + 16], size).images)
            parts.append(torch.stack(encoder.taps(images), dim=1).numpy())
        np.save(path, np.concatenate(parts))
    place = {case.image: i for i, case in enumerate(every)}
    return np.load(path, mmap_mode="r")[[place[case.image] for case in cases]]


@torch.no_grad()
def logits(
    state: dict[str, Tensor], t_n: Tensor, t_ab: Tensor, checkpoint: Checkpoint, encoder: Encoder, taps: np.ndarray
) -> np.ndarray:
    """float32 [N, levels, L, 2]: S_ab − S_n of det and seg."""
    adapters = checkpoint.model_on(encoder).adapters
    adapters.load_state_dict(state)
    d_n, d_ab = directions(t_n, t_ab, subtraction=checkpoint.card.method.subtraction)
    parts = []
    for start in range(0, len(taps), 32):
        tokens = list(torch.from_numpy(taps[start : start + 32]).unbind(1))
        levels = [abnormal_logit(class_scores(n, ab, d_n, d_ab)) for n, ab in adapters(tokens)]
        parts.append(torch.stack(levels, dim=1).numpy())
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
