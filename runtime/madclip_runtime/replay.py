"""`madclip-run --selftest`: the bundle's golden inputs on the engine that would run here, against the known answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import EXIT_OK, EngineRefused
from madclip_runtime.manifest import Manifest
from madclip_runtime.run import load_detector

if TYPE_CHECKING:
    from madclip_runtime.bundle import Golden
    from madclip_runtime.engines import Answer, Engine

__all__ = ["Differences", "differences", "run_selftest"]

Scores = npt.NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Differences:
    """One head's worst absolute differences over its golden images.

    score: of a score. map_max: of a pixel. map_mean: of an image's mean over pixels. batch: of a score, alone or
    together. limits: the gate's for this head, empty where the manifest has none.
    """

    head: str
    images: int
    worst: dict[str, float]
    limits: dict[str, float]

    @property
    def missed(self) -> list[str]:
        """Names beyond their limit; a NaN is beyond any."""
        return [name for name, value in self.worst.items() if name in self.limits and not value <= self.limits[name]]


def run_selftest(arguments: argparse.Namespace, emit: Say, talk: Say) -> int:
    """Print a line a head. Raises: EngineRefused where a difference is beyond the gate's limit."""
    detector = load_detector(arguments, talk)
    bundle, info = detector.bundle, detector.engine.info
    talk(f"bundle {bundle.manifest.model_id}, {info.precision}, on {info.name} ({info.library})")
    found = [differences(detector.engine, bundle.golden(head), head, bundle.manifest) for head in detector.heads]
    for each in found:
        emit(_json(each, info.name) if arguments.json else _text(each))
    missed = [f"{each.head}: {name}" for each in found for name in each.missed]
    if missed:
        raise EngineRefused(info.name, f"beyond the gate's limit: {', '.join(missed)}", "do not use it on this machine")
    return EXIT_OK


def differences(engine: Engine, golden: Golden, head: str, manifest: Manifest) -> Differences:
    """Run the golden images together, and each alone. Raises: EngineRefused."""
    together = engine.run(golden.images, [head])[head]
    alone = [engine.run(image[None], [head])[head] for image in golden.images]
    apart = np.abs(together.maps - golden.maps)
    worst = {
        "score": _largest(together.scores, golden.scores),
        "map_max": float(apart.max()),
        "map_mean": float(apart.mean(axis=(1, 2)).max()),
        "batch": _largest(together.scores, _joined(alone)),
    }
    limits = next((gate.limits for gate in manifest.gates if gate.head in (head, "")), {})
    return Differences(head, len(golden.images), worst, limits)


def _joined(answers: list[Answer]) -> Scores:
    return np.array([answer.scores[0] for answer in answers], dtype=np.float32)


def _largest(one: Scores, other: Scores) -> float:
    return float(np.abs(one - other).max())


def _json(each: Differences, engine: str) -> str:
    verdict = "not judged" if not each.limits else "missed" if each.missed else "ok"
    content = {"head": each.head, "engine": engine, "images": each.images, "worst": each.worst, "limits": each.limits}
    return json.dumps({"format": "madclip-selftest/1", **content, "verdict": verdict}, allow_nan=False)


def _text(each: Differences) -> str:
    parts = []
    for name, value in each.worst.items():
        limit = each.limits.get(name)
        parts.append(f"{name} {value:.2e}" + ("" if limit is None else f" (limit {limit:.0e})"))
    verdict = "no gate in the manifest, not judged" if not each.limits else "MISSED" if each.missed else "ok"
    return f"{each.head}: worst of {each.images} golden images: {', '.join(parts)}: {verdict}"
