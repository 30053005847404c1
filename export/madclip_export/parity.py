"""The numeric gate on golden images: what the runtime computes from the bundle, against the checkpoint in PyTorch.

The reference is the paper's two-channel form in float32; the candidate runs through the very engine a hospital uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from madclip_export.limits import NUMERIC, keeps
from madclip_runtime.bundle import Golden
from madclip_runtime.engines import Engine
from madclip_runtime.manifest import Gate

__all__ = ["Parity", "measure_parity"]


@dataclass(frozen=True)
class Parity:
    """One row an image: absolute differences of score, of the worst pixel, and the mean over pixels."""

    head: str
    precision: str
    engine: str
    score: tuple[float, ...]
    map_max: tuple[float, ...]
    map_mean: tuple[float, ...]
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

    def or_worse(self, other: Parity) -> Parity:
        """Image by image the larger difference of two measurements of one head."""
        return replace(
            self,
            score=_larger(self.score, other.score),
            map_max=_larger(self.map_max, other.map_max),
            map_mean=_larger(self.map_mean, other.map_mean),
            batch=max(self.batch, other.batch),
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


def measure_parity(engine: Engine, golden: Golden, precision: str, head: str) -> Parity:
    """Each golden image alone, then all in one batch. Raises: EngineRefused."""
    singles = [engine.run(golden.images[i : i + 1], [head])[head] for i in range(len(golden.images))]
    scores = np.concatenate([answer.scores for answer in singles])
    maps = np.concatenate([answer.maps for answer in singles])
    batch_scores, batch_maps = engine.run(golden.images, [head])[head]
    difference = np.abs(maps.astype(np.float64) - golden.maps)
    return Parity(
        head=head,
        precision=precision,
        engine=f"{engine.info.name} ({engine.info.library})",
        score=_row(np.abs(scores.astype(np.float64) - golden.scores)),
        map_max=_row(difference.max(axis=(1, 2))),
        map_mean=_row(difference.mean(axis=(1, 2))),
        batch=float(max(np.abs(batch_scores - scores).max(), np.abs(batch_maps - maps).max())),
    )


def _row(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _larger(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(max(pair) for pair in zip(one, other, strict=True))
