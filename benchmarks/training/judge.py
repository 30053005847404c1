"""What trials.py recorded, as figures: image and pixel AUROC of any version of the weights under any score rule.

    python benchmarks/training/judge.py --data ../shared/data --work trials --variants base --versions e20 mean10

Columns: mean over sets and seeds of the AUROC on validation images that were not shots, of those among them whose
patient has no shot (sets with at least 10 of each class), and on test images; then the test figures of each set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from madclip.data import listed_shots, open_dataset
from madclip.patients import unseen
from madclip.reading import load_cases
from madclip.scores import upsample

SIZE = 240
SEEDS = (111, 222, 333)
Arrays = dict[str, np.ndarray]


def maps_of(logits: np.ndarray) -> np.ndarray:
    """float32 [N, levels, L] → [N, S, S]: mean over levels of the sigmoid after upsampling."""
    levels = [upsample(torch.from_numpy(logits[:, i].copy()), SIZE)[:, 0].sigmoid() for i in range(logits.shape[1])]
    return torch.stack(levels).mean(0).numpy()


def smooth(maps: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(heat, (0, 0), sigma) for heat in maps]) if sigma else maps


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def top(values: np.ndarray, share: float) -> np.ndarray:
    """Mean of the highest `share` of the last axis."""
    count = max(1, round(share * values.shape[-1]))
    return np.sort(values, axis=-1)[..., -count:].mean(-1)


def parts(logits: np.ndarray) -> Arrays:
    """Every image score that one number a patch can give: name → float [N]."""
    det, seg = sigmoid(logits[..., 0]), logits[..., 1]
    maps = maps_of(seg)
    flat = maps.reshape(len(maps), -1)
    found = {
        "det": det.mean(-1).mean(1),
        "det top10": top(det, 0.1).mean(1),
        "det level-mean top10": top(det.mean(1), 0.1),
        "det max": det.max(-1).mean(1),
        "map": flat.max(1),
        "map mean": flat.mean(1),
        "map top0.1": top(flat, 0.001),
        "map top1": top(flat, 0.01),
        "map top5": top(flat, 0.05),
        "map s2": smooth(maps, 2).reshape(len(maps), -1).max(1),
        "map s4": smooth(maps, 4).reshape(len(maps), -1).max(1),
        "map s8": smooth(maps, 8).reshape(len(maps), -1).max(1),
    }
    return found


def blend(valid: Arrays, test: Arrays, first: str, second: str, weight: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Both scores divided by their spread on the validation images, then weighed."""
    a, b = valid[first].std(), valid[second].std()
    return tuple((1 - weight) * part[first] / a + weight * part[second] / b for part in (valid, test))  # type: ignore


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    return 100 * float(roc_auc_score(labels, scores))


def authors_rule(valid: Arrays, test: Arrays, masks: bool) -> tuple[np.ndarray, np.ndarray]:
    name = "map" if masks else "det"
    return valid[name], test[name]


RULES: dict[str, Callable[[Arrays, Arrays, bool, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "authors": lambda v, t, m, _: authors_rule(v, t, m),
    "det always": lambda v, t, m, _: (v["det"], t["det"]),
    "map always": lambda v, t, m, _: (v["map"], t["map"]),
}
for _weight in (0.25, 0.5, 0.75):
    RULES[f"blend {_weight}"] = lambda v, t, m, _, w=_weight: blend(v, t, "det", "map", w)  # type: ignore[misc]
    RULES[f"blend {_weight} if masks"] = lambda v, t, m, _, w=_weight: (  # type: ignore[misc]
        blend(v, t, "det", "map", w) if m else (v["det"], t["det"])
    )
for _name in ("map s2", "map s4", "map s8", "map top0.1", "map top1", "map top5"):
    RULES[f"{_name} / det"] = lambda v, t, m, _, n=_name: (v[n], t[n]) if m else (v["det"], t["det"])  # type: ignore[misc]
for _name in ("det top10", "det level-mean top10", "det max"):
    RULES[f"map / {_name}"] = lambda v, t, m, _, n=_name: (v["map"], t["map"]) if m else (v[n], t[n])  # type: ignore[misc]


def chosen(v: Arrays, t: Arrays, m: bool, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """det, map or their even blend, whichever ranks the validation images best."""
    candidates = [(v["det"], t["det"]), (v["map"], t["map"]), blend(v, t, "det", "map")]
    if not m:
        candidates = candidates[:1]
    return max(candidates, key=lambda pair: auroc(labels, pair[0]))


RULES["chosen on validation"] = chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shots", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--variants", nargs="*", default=["base"])
    parser.add_argument("--versions", nargs="*", default=["e20"])
    parser.add_argument("--rules", nargs="*", default=list(RULES))
    parser.add_argument("--smoothing", nargs="*", type=float, default=[0.0])
    args = parser.parse_args()
    masks: dict[str, np.ndarray | None] = {}
    for variant in args.variants:
        for version in args.versions:
            judge(args, variant, version, masks)


def judge(args: argparse.Namespace, variant: str, version: str, masks: dict[str, np.ndarray | None]) -> None:
    image: dict[str, dict[str, list[tuple[float, ...]]]] = {rule: {} for rule in args.rules}
    pixel: dict[str, dict[float, list[float]]] = {}
    for file in sorted((args.work / variant).glob("*.npz")):
        name, _, seed = file.stem.rpartition("-")
        if name not in masks:
            masks[name] = test_masks(args.data, name)
        arrays = np.load(file)
        if f"test/{version}" not in arrays:
            continue
        valid, test = parts(arrays[f"valid/{version}"]), parts(arrays[f"test/{version}"])
        labels, strangers = arrays["valid/labels"], unseen_of(args, name, SEEDS.index(int(seed)))
        enough = min(np.bincount(labels[strangers], minlength=2)) >= 10
        for rule in args.rules:
            v, t = RULES[rule](valid, test, masks[name] is not None, labels)
            alone = auroc(labels[strangers], v[strangers]) if enough else np.nan
            image[rule].setdefault(name, []).append((auroc(labels, v), alone, auroc(arrays["test/labels"], t)))
        wanted = masks[name]
        if wanted is not None:
            maps = maps_of(arrays[f"test/{version}"][..., 1])
            for sigma in args.smoothing:
                value = auroc(wanted.ravel(), smooth(maps, sigma).ravel())
                pixel.setdefault(name, {}).setdefault(sigma, []).append(value)
    report(variant, version, image, pixel)


def unseen_of(args: argparse.Namespace, name: str, index: int) -> np.ndarray:
    """bool, by validation image that was not a shot: whether its patient has no shot."""
    dataset = open_dataset(args.data / f"{name}_AD")
    shots, rest = listed_shots(dataset.valid, args.shots / f"{name}-16.txt", index)
    strangers = {case.image for case in unseen(dataset, shots) or rest}
    return np.array([case.image in strangers for case in rest])


def report(
    variant: str,
    version: str,
    image: dict[str, dict[str, list[tuple[float, ...]]]],
    pixel: dict[str, dict[float, list[float]]],
) -> None:
    print(f"\n{variant} {version}: {'rule':26} valid  unseen   test | test by set")
    for rule, sets in image.items():
        means = [np.nanmean([np.mean([run[i] for run in runs]) for runs in sets.values()]) for i in (0, 1, 2)]
        cells = "  ".join(
            f"{name} {np.mean([run[2] for run in runs]):.2f} ({len(runs)})" for name, runs in sets.items()
        )
        print(f"{rule:40} {means[0]:6.2f} {means[1]:6.2f} {means[2]:6.2f} | {cells}")
    for sigma in next(iter(pixel.values()), {}):
        cells = "  ".join(f"{name} {np.mean(values[sigma]):.2f}" for name, values in pixel.items())
        print(f"pixel, smoothing {sigma}: {np.mean([np.mean(v[sigma]) for v in pixel.values()]):.2f} | {cells}")


def test_masks(data: Path, name: str) -> np.ndarray | None:
    dataset = open_dataset(data / f"{name}_AD")
    return load_cases(dataset.test, SIZE).masks if dataset.masks else None


if __name__ == "__main__":
    main()
