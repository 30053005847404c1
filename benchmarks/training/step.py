"""What one training step costs, and what the hand-written gradients save. Random numbers: this measures time only.

    python benchmarks/training/step.py            # DeiT-Tiny's sizes, 16 images, no encoder needed

Alternating order, medians; the last line is one JSON document.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from madclip.adapters import DualBranchAdapters
from madclip.config import MethodConfig
from madclip.losses import dice_loss, focal_loss, segmentation_loss, siglip_loss
from madclip.scores import abnormal_logit, class_scores, upsample

IMAGES, TOKENS, WIDTH, EMBED, LEVELS, SIZE, ROUNDS = 16, 225, 192, 192, 4, 240, 15


def main() -> None:
    torch.manual_seed(0)
    adapters = DualBranchAdapters(WIDTH, EMBED, LEVELS, MethodConfig("time only"))
    taps = [torch.randn(IMAGES, TOKENS, WIDTH) for _ in range(LEVELS)]
    w = F.normalize(torch.randn(EMBED), dim=0).requires_grad_()
    masks = (torch.rand(IMAGES, SIZE, SIZE) > 0.97).float()
    labels = torch.arange(IMAGES).remainder(2).float()

    def step(plain: bool) -> Callable[[], None]:
        def run() -> None:
            total = torch.zeros(())
            for normal, abnormal in adapters(taps):
                scores = plain_scores(normal, abnormal, w) if plain else class_scores(normal, abnormal, w, -w)
                det, seg = scores.unbind(dim=2)
                total = total + siglip_loss(det, labels) + segmentation(abnormal_logit(seg), masks, plain)
            total.backward()

        return run

    timed = alternate({"autograd": step(True), "by hand": step(False)})
    ratio = timed["autograd"] / timed["by hand"]
    print(f"one step without prompts and optimiser: {timed} ms, ratio {ratio:.2f}")
    machine = {"threads": torch.get_num_threads(), "cpu": platform.machine(), "torch": torch.__version__}
    print(json.dumps({"step_ms": timed, "ratio": round(ratio, 3), **machine}))


def plain_scores(o_n: Tensor, o_ab: Tensor, w: Tensor) -> Tensor:
    """class_scores as autograd would take it."""
    return torch.stack([F.normalize(o_n, dim=-1) @ w, -(F.normalize(o_ab, dim=-1) @ w)], dim=-1)


def segmentation(logit: Tensor, masks: Tensor, plain: bool) -> Tensor:
    grid = round(logit.shape[1] ** 0.5)
    if not plain:
        return segmentation_loss(logit.unflatten(1, (grid, grid)), masks)
    probability = upsample(logit, SIZE)[:, 0].sigmoid()
    return dice_loss(probability, masks) + focal_loss(probability, masks)


def alternate(candidates: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median ms of each, taken in turns so that a slow minute of the machine falls on all."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: round(statistics.median(values), 1) for name, values in times.items()}


if __name__ == "__main__":
    main()
