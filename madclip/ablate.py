"""The paper's ablations (a) to (f) in one run: what each part of the method is worth on a data set. Paper, section 3.

Each variant trains on the same shots with the same seeds as the whole method; a drop is the whole method's mean AUROC
minus the variant's, in points, as the paper lists them. Features are computed once an image and shared by all runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from madclip.config import MethodConfig, TrainConfig
from madclip.data import Dataset
from madclip.encoder import Encoder
from madclip.evaluation import evaluate
from madclip.features import FeatureCache
from madclip.train import Surroundings, train

__all__ = ["ABLATIONS", "Row", "ablate", "table"]

ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("the whole method", {}),
    "a": ("hand-crafted prompts", {"prompts": "fixed"}),
    "b": ('objective "medical image"', {"objective": "medical image"}),
    "c": ("one shared set of adapters", {"branches": "shared"}),
    "d": ("no subtraction of the opposite class", {"subtraction": False}),
    "e": ("softmax loss for SigLIP", {"image_loss": "softmax"}),
    "f": ("one head for image and map", {"heads": "common"}),
}


@dataclass(frozen=True)
class Row:
    """One variant: AUROC in percent, one a seed, in the order of the seeds; pixel empty for sets without masks."""

    letter: str
    words: str
    image: tuple[float, ...]
    pixel: tuple[float, ...]


def ablate(
    dataset: Dataset,
    encoder: Encoder,
    method: MethodConfig,
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    cache: Path | None,
    say: Callable[[str], None],
) -> list[Row]:
    """Train and evaluate every variant with every seed. cache: where features stay; None: a folder that goes after.

    Raises: InputRefused, UsageError, OutputNotWritten.
    """
    with tempfile.TemporaryDirectory(prefix="madclip-ablate-") as temporary:
        around = Surroundings(cache=FeatureCache(cache or Path(temporary)))
        rows = []
        for letter, (words, change) in ABLATIONS.items():
            variant = replace(method, **change)
            runs = [_run(dataset, encoder, variant, replace(config, seed=seed), around) for seed in seeds]
            image, pixel = tuple(run[0] for run in runs), tuple(run[1] for run in runs if run[1] is not None)
            rows.append(Row(letter, words, image, pixel))
            say(f"{letter}: {words}: image AUROC {_list(image)}" + (f", pixel {_list(pixel)}" if pixel else ""))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Markdown: mean AUROCs and, against the first row, the drops."""
    whole = rows[0]
    lines = ["| | variant | image AUROC | drop | pixel AUROC | drop |", "|---|---|---|---|---|---|"]
    for row in rows:
        image = _cells(row.image, whole.image, first=row is whole)
        pixel = _cells(row.pixel, whole.pixel, first=row is whole)
        lines.append(f"| {row.letter} | {row.words} | {image} | {pixel} |")
    return "\n".join(lines)


def _run(
    dataset: Dataset, encoder: Encoder, method: MethodConfig, config: TrainConfig, around: Surroundings
) -> tuple[float, float | None]:
    checkpoint = train(dataset, encoder, method, config, around)
    result = evaluate(checkpoint, dataset, model=checkpoint.model_on(encoder))
    return result.image_auroc, result.pixel_auroc


def _cells(values: tuple[float, ...], whole: tuple[float, ...], *, first: bool) -> str:
    if not values:
        return "no masks | –"
    return f"{fmean(values):.2f} | " + ("–" if first else f"{fmean(whole) - fmean(values):+.2f}")


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
