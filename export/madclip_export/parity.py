"""The numeric gate on golden images: what the runtime computes from the bundle, against the checkpoint in PyTorch.

The reference is the paper's two-channel form in float32; the candidate runs through the very engine a hospital uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from madclip_export.limits import NUMERIC, keeps
from madclip_runtime.bundle import Golden
from madclip_runtime.engines import Answer, Engine
from madclip_runtime.manifest import Gate

__all__ = ["Parity", "measure_parity"]

Row = tuple[float, ...]
"""A number an image."""


@dataclass(frozen=True)
class Parity:
    """One row an image: absolute differences of score, of the worst pixel, and the mean over pixels."""

    head: str
    precision: str
    engine: str
    score: Row
    map_max: Row
    map_mean: Row
    batch: float

    @property
    def measured(self) -> dict[str, float]:
        """The worst image of each."""
        return {
            "score": max(self.score),
            "map_max": max(self.map_max),
            "map_mean": max(self.map_mean),
            "batch": self.batch,
        }

    def gate(self) -> Gate:
        """As the manifest keeps it."""
        limits = NUMERIC[self.precision]
        passed = all(keeps(name, self.measured[name], limit) for name, limit in limits.items())
        return Gate(
            name="numeric parity",
            reference="PyTorch fp32, CPU, two-channel form",
            engine=self.engine,
            images=len(self.score),
            passed=passed,
            measured=self.measured,
            limits=limits,
            head=self.head,
        )

    def or_worse(self, golden: Golden, answer: Answer) -> Parity:
        """With another graph's answers to the same images: image by image the larger difference."""
        score, map_max, map_mean = _differences(golden, answer)
        return replace(
            self,
            score=_larger(self.score, score),
            map_max=_larger(self.map_max, map_max),
            map_mean=_larger(self.map_mean, map_mean),
        )

    @property
    def worst_image(self) -> int:
        """Which golden image has the largest difference of any pixel or of the score."""
        both = [max(a, b) for a, b in zip(self.score, self.map_max, strict=True)]
        return both.index(max(both))

    def table(self) -> str:
        """What a person reads: one line an image, then worst against limit."""
        rows = [f"{'golden image':>12} {'score':>10} {'map max':>10} {'map mean':>10}"]
        for i, row in enumerate(zip(self.score, self.map_max, self.map_mean, strict=True)):
            rows.append(f"{i:>12} " + " ".join(f"{value:>10.2e}" for value in row))
        for name, limit in NUMERIC[self.precision].items():
            value = self.measured[name]
            rows.append(f"worst {name:>8}: {value:.2e}, limit {limit:.0e}  {'ok' if value <= limit else 'MISSED'}")
        return "\n".join(rows)


def measure_parity(engine: Engine, golden: Mapping[str, Golden], precision: str) -> dict[str, Parity]:
    """Each golden image alone, then all in one batch, with all heads at once. Raises: EngineRefused."""
    images = next(iter(golden.values())).images
    singles = [engine.run(images[i : i + 1]) for i in range(len(images))]
    batch = engine.run(images)
    found = {}
    for head, expected in golden.items():
        scores = np.concatenate([answers[head].scores for answers in singles])
        maps = np.concatenate([answers[head].maps for answers in singles])
        apart = max(np.abs(batch[head].scores - scores).max(), np.abs(batch[head].maps - maps).max())
        library = f"{engine.info.name} ({engine.info.library})"
        rows = _differences(expected, Answer(scores, maps))
        found[head] = Parity(head, precision, library, *rows, batch=float(apart))
    return found


def _differences(golden: Golden, answer: Answer) -> tuple[Row, Row, Row]:
    """Of each image: its score, its worst pixel, the mean over its pixels."""
    score = np.abs(answer.scores.astype(np.float64) - golden.scores)
    pixels = np.abs(answer.maps.astype(np.float64) - golden.maps)
    return _row(score), _row(pixels.max(axis=(1, 2))), _row(pixels.mean(axis=(1, 2)))


def _row(values: np.ndarray) -> Row:
    return tuple(float(value) for value in values)


def _larger(one: Row, other: Row) -> Row:
    return tuple(max(pair) for pair in zip(one, other, strict=True))
