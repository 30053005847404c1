"""What is timed: encoded images in, answers out, with the stages in between named by whoever measured them.

One image goes through `Detector` itself, the very way a user's image goes. Several go through the same decoding and
preprocessing and then into the engine together. Stages are whatever `Result.times_ms` names; nothing here knows them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from madclip_runtime.detector import Detector
from madclip_runtime.imaging import read_image
from madclip_runtime.preprocess import to_model_input

__all__ = ["AnswerBook", "Answered", "Subject", "subject_of"]


@dataclass(frozen=True)
class Answered:
    """One query's answer. scores: one an image, 0–1. stage_ms: wall time a stage, over all images of the query."""

    scores: tuple[float, ...]
    stage_ms: dict[str, float]


Subject = Callable[[Sequence[bytes]], Answered]
"""Images' bytes, at least one → their answer. Raises: EngineRefused, InputRefused."""


@dataclass
class AnswerBook:
    """The lowest and highest score each image has had, by its index: a timed engine must not answer at random."""

    low: dict[int, float] = field(default_factory=dict)
    high: dict[int, float] = field(default_factory=dict)

    def note(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        """Add the answers of one query."""
        for index, score in zip(indices, scores, strict=True):
            self.low[index] = min(score, self.low.get(index, score))
            self.high[index] = max(score, self.high.get(index, score))

    def columns(self, count: int) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """low and high of images 0 … count − 1, None where an image was never asked about."""
        return tuple(self.low.get(i) for i in range(count)), tuple(self.high.get(i) for i in range(count))


def subject_of(detector: Detector) -> Subject:
    """A loaded detector as something to time."""

    def ask(encoded: Sequence[bytes]) -> Answered:
        if len(encoded) == 1:
            result = detector(encoded[0])
            return Answered((result.score,), dict(result.times_ms))
        return _together(detector, encoded)

    return ask


def _together(detector: Detector, encoded: Sequence[bytes]) -> Answered:
    start = time.perf_counter()
    decoded = [read_image(data) for data in encoded]
    decoded_at = time.perf_counter()
    size = detector.bundle.manifest.input.size
    squares = np.stack([to_model_input(image.pixels, size) for image in decoded])
    prepared_at = time.perf_counter()
    answer = detector.engine.run(squares, [detector.head])[detector.head]
    computed_at = time.perf_counter()
    stages = {
        "decode": (decoded_at - start) * 1e3,
        "preprocess": (prepared_at - decoded_at) * 1e3,
        "compute": (computed_at - prepared_at) * 1e3,
    }
    return Answered(tuple(float(score) for score in answer.scores), stages)
