"""From a score to a decision: which heads answer, at which operating point, and when a score is too close to call."""

from __future__ import annotations

import math
from dataclasses import dataclass

from madclip_runtime.bundle import Bundle
from madclip_runtime.errors import UsageError

__all__ = ["ALL_HEADS", "Point", "choose_heads", "choose_point"]

ALL_HEADS = "all"


@dataclass(frozen=True)
class Point:
    """What decides. threshold: 0–1, None where the head is uncalibrated. name: in the bundle, "given", or None."""

    threshold: float | None
    name: str | None

    def decide(self, score: float, error: float) -> str:
        """abnormal from the threshold on; borderline where `error`, measured by the export, could turn it over."""
        if self.threshold is None:
            return "uncalibrated"
        if error > 0 and abs(score - self.threshold) <= error:
            return "borderline"
        return "abnormal" if score >= self.threshold else "normal"


def choose_heads(bundle: Bundle, name: str | None) -> tuple[str, ...]:
    """The head named, all of them for "all", the only one for None. Raises: UsageError."""
    heads = bundle.manifest.heads
    if name == ALL_HEADS and ALL_HEADS not in heads:
        return tuple(heads)
    if name is None and bundle.manifest.only_head is not None:
        return (bundle.manifest.only_head,)
    if name is None or name not in heads:
        why = "the bundle has several heads" if name is None else f"the bundle has no head {name!r}"
        raise UsageError(str(bundle.path), why, f"name one: --head {' | '.join(heads)}, or --head all")
    return (name,)


def choose_point(bundle: Bundle, head: str, threshold: float | None, operating_point: str | None) -> Point:
    """The threshold given, the operating point named, or the head's default. Raises: UsageError."""
    if threshold is not None:
        if operating_point is not None:
            raise UsageError("--threshold and --operating-point", "both say what decides", "give one of them")
        if not (math.isfinite(threshold) and 0 <= threshold <= 1):
            raise UsageError(f"threshold {threshold}", "a score lies in 0–1", "give a number from 0 to 1")
        return Point(threshold, "given")
    calibration = bundle.manifest.heads[head].calibration
    name = operating_point or calibration.default
    if name is None:
        return Point(None, None)
    if name not in calibration.points:
        why = calibration.refused.get(name) or f"head {head} has no such point ({calibration.reason})"
        choice = " | ".join(calibration.points)
        raise UsageError(f"--operating-point {name}", why, f"choose from {choice}" if choice else "give --threshold T")
    return Point(calibration.points[name].threshold, name)
