"""What a list of latencies supports: percentiles with a confidence, and whether the run was steady.

The early-stopping rule is MLPerf Inference's (its rules document, and loadgen's single-stream result): a sample
speaks for a percentile only where, were the true one any higher, seeing so few slow queries would be a chance of
at most 1 in 100. What this module does not know: what was timed, or by which clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "CONFIDENCE",
    "PERCENTILES",
    "Percentile",
    "Stability",
    "Summary",
    "early_stopping_rank",
    "least_queries",
    "nearest_rank",
    "percentile_of",
    "stability",
    "summarise",
]

CONFIDENCE = 0.99
PERCENTILES = (0.50, 0.90, 0.99, 0.999)
WINDOWS = 3
MAX_WINDOW_SPREAD = 0.10


@dataclass(frozen=True)
class Percentile:
    """One percentile of a sample, or why there is none.

    value_ms: nearest rank, so always a latency that was seen (numpy's "inverted_cdf").
    early_stopping_ms: what the true percentile does not exceed, with 99 % confidence; never below value_ms.
    Both are None where the sample is smaller than least_queries, and `note` says so.
    """

    name: str
    value_ms: float | None
    early_stopping_ms: float | None
    least_queries: int
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """A list of latencies in short. Outliers are in it: nothing is clipped."""

    queries: int
    mean_ms: float
    min_ms: float
    max_ms: float
    percentiles: tuple[Percentile, ...]

    def percentile(self, name: str) -> Percentile:
        """By its name, "p50", "p90", "p99" or "p99.9"."""
        return next(item for item in self.percentiles if item.name == name)


@dataclass(frozen=True)
class Stability:
    """Whether the run was one run: coefficient of variation (sd / mean), and the medians of three equal windows.

    verdict: "stable" or "unstable"; a sample too small for three windows shows nothing, and is "unstable".
    window_spread: (largest − smallest window median) / median of all; above 0.10 the verdict is "unstable".
    """

    verdict: str
    coefficient_of_variation: float
    window_medians_ms: tuple[float, ...]
    window_spread: float


def least_queries(percentile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest queries that support a percentile: P(at most one of n is over it) ≤ 1 − confidence.

    One, because the estimate itself is the sample's largest latency then. p90 → 64, p99 → 662, p99.9 → 6,636.
    """
    _check(percentile, confidence)

    def enough(n: int) -> bool:
        return percentile**n + n * (1 - percentile) * percentile ** (n - 1) <= 1 - confidence

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def early_stopping_rank(queries: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Which of the sorted latencies, counted from the slowest (1), is the early-stopping estimate; 0: none is.

    The largest t with P(Binomial(queries, 1 − percentile) ≤ t) ≤ 1 − confidence.
    """
    _check(percentile, confidence)
    if queries < 1:
        return 0
    cumulative = _binomial_cumulative(queries, 1 - percentile)
    return max(0, int(np.searchsorted(cumulative, 1 - confidence, side="right")) - 1)


def nearest_rank(ordered_ms: Sequence[float], percentile: float) -> float:
    """The smallest latency that at least this share of the sample does not exceed. ordered_ms: ascending, not empty."""
    # 0.99 · 700 may come out a hair over 693 in binary; that hair must not cost a rank.
    rank = math.ceil(percentile * len(ordered_ms) - 1e-9)
    return ordered_ms[max(rank, 1) - 1]


def summarise(latencies_ms: Sequence[float]) -> Summary:
    """Percentiles, mean and extremes of a sample that is not empty."""
    ordered = sorted(latencies_ms)
    return Summary(
        queries=len(ordered),
        mean_ms=round(math.fsum(ordered) / len(ordered), 4),
        min_ms=ordered[0],
        max_ms=ordered[-1],
        percentiles=tuple(_percentile(ordered, percentile) for percentile in PERCENTILES),
    )


def percentile_of(latencies_ms: Sequence[float], percentile: float) -> Percentile:
    """One percentile of a sample in any order that is not empty."""
    return _percentile(sorted(latencies_ms), percentile)


def stability(latencies_ms: Sequence[float]) -> Stability:
    """Judge a run from its latencies in the order they were taken, at least one; fewer than three are unstable."""
    if len(latencies_ms) < WINDOWS:
        return Stability("unstable", 0.0, tuple(latencies_ms), 0.0)
    values = np.asarray(latencies_ms, dtype=np.float64)
    medians = [float(np.median(window)) for window in np.array_split(values, WINDOWS)]
    mean, median = float(values.mean()), float(np.median(values))
    spread = (max(medians) - min(medians)) / median if median > 0 else 0.0
    return Stability(
        verdict="stable" if spread <= MAX_WINDOW_SPREAD else "unstable",
        coefficient_of_variation=round(float(values.std()) / mean, 6) if mean > 0 else 0.0,
        window_medians_ms=tuple(round(value, 4) for value in medians),
        window_spread=round(spread, 6),
    )


def _percentile(ordered_ms: Sequence[float], percentile: float) -> Percentile:
    name, least = f"p{100 * percentile:g}", least_queries(percentile)
    if len(ordered_ms) < least:
        return Percentile(name, None, None, least, f"not supported, needs {least} queries")
    rank = early_stopping_rank(len(ordered_ms), percentile)
    return Percentile(name, nearest_rank(ordered_ms, percentile), ordered_ms[-rank], least)


def _binomial_cumulative(n: int, q: float) -> npt.NDArray[np.float64]:
    """P(Binomial(n, q) ≤ k) for k = 0 … ⌊n·q⌋ + 1, which is past every k of a small probability. float64.

    Summed as logarithms of successive ratios: the same number as the regularised incomplete beta function
    I_{1−q}(n − k, k + 1) that MLPerf writes, without needing that function.
    """
    k = np.arange(1, min(n, int(n * q) + 1) + 1, dtype=np.float64)
    steps = np.log((n - k + 1) / k) + math.log(q) - math.log1p(-q)
    logarithms = n * math.log1p(-q) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.cumsum(np.exp(logarithms)), dtype=np.float64)


def _check(percentile: float, confidence: float) -> None:
    if not (0 < percentile < 1 and 0 < confidence < 1):
        raise ValueError(f"percentile {percentile} and confidence {confidence} must lie between 0 and 1")
