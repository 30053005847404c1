"""Confidence intervals without a statistics library, which an edge box does not have. Tests hold them to SciPy.

- A proportion k of n: Clopper & Pearson 1934, exact, two-sided 95 %.
- The area under a ROC curve from m abnormal and n normal images: Newcombe 2006 (Statistics in Medicine 25:559, method
  5), which keeps its promise at small numbers and at an area of 1, where the usual ones collapse to a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from madclip_runtime.manifest import Proportion

__all__ = ["Interval", "auroc_interval", "binomial_at_most", "proportion", "sign_interval"]

_Z95 = 1.959963984540054
_TAIL = 0.025
_HALVINGS = 60


@dataclass(frozen=True)
class Interval:
    """A figure with its two-sided 95 % interval."""

    value: float
    low: float
    high: float


def proportion(k: int, n: int) -> Proportion:
    """k of n, 0 ≤ k ≤ n, n ≥ 1. Interval ends to six decimals."""
    low = 0.0 if k == 0 else _root(lambda p: 1 - binomial_at_most(k - 1, n, p) - _TAIL)
    high = 1.0 if k == n else _root(lambda p: _TAIL - binomial_at_most(k, n, p))
    return Proportion(k=k, n=n, value=k / n, low=round(low, 6), high=round(high, 6))


def auroc_interval(area: float, abnormal: int, normal: int) -> Interval:
    """area: 0–1. Images are taken as independent: with several of one patient it is too narrow."""

    def distance(theta: float) -> float:
        return abs(area - theta) - _Z95 * math.sqrt(_newcombe_variance(theta, abnormal, normal))

    low = 0.0 if area <= 0 else _root(lambda theta: -distance(theta), 0.0, area)
    high = 1.0 if area >= 1 else _root(distance, area, 1.0)
    return Interval(round(area, 6), round(low, 6), round(high, 6))


def sign_interval(count: int) -> tuple[int, int] | None:
    """Ranks (from 0) of the sorted values between which the median lies with ≥ 95 % confidence; None below 6 values."""
    rank = -1
    while binomial_at_most(rank + 1, count, 0.5) <= _TAIL:
        rank += 1
    return None if rank < 0 else (rank, count - 1 - rank)


def binomial_at_most(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) ≤ k), summed as exponentials of logarithms so that large n do not underflow."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    log_p, log_q, log_n = math.log(p), math.log1p(-p), math.lgamma(n + 1)
    terms = (log_n - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q for i in range(k + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def _newcombe_variance(theta: float, abnormal: int, normal: int) -> float:
    half = (abnormal + normal) / 2 - 1
    spread = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
    return theta * (1 - theta) * spread / (abnormal * normal)


def _root(rising: Callable[[float], float], low: float = 0.0, high: float = 1.0) -> float:
    """Where a function that changes from negative to positive crosses zero."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
