"""The loop: single stream, one query at a time, from an image file's bytes to a Result.

MLPerf-style, not MLPerf: the next query is issued when the last one is answered, and its latency runs from issue to
answer on one clock, so an engine that stalls is charged for every moment of it. What this module does not know:
percentiles, machines, or how a report looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from madclip_bench.images import ImageSet, query_order
from madclip_bench.statistics import least_queries
from madclip_runtime.result import Result

__all__ = ["STAGES", "Answer", "Rules", "Run", "Samples", "Warmup", "measure", "silent"]

STAGES = ("decode", "preprocess", "compute")
"""What Result.times_ms splits a query into; compute is the engine alone."""

Answer = Callable[[bytes], Result]
"""A Detector, or what stands in for one."""

_SUPPORTS_P90 = least_queries(0.90)
_SUPPORTS_P99 = least_queries(0.99)


@dataclass(frozen=True)
class Rules:
    """When a run may end. Full: after 600 s and enough queries for p99, whichever is later.

    enough_queries: ends the run at once (a quick run has what it came for); None: nothing does.
    least_queries: holds it past duration_s.
    """

    quick: bool
    seed: int
    duration_s: float
    least_queries: int
    enough_queries: int | None
    scenario: str = "single stream"
    style: str = "MLPerf-style; not an MLPerf result"
    warmup_least_ms: float = 200.0
    warmup_least_queries: int = 3

    @classmethod
    def full(cls, seed: int) -> Rules:
        """At least 600 s and 662 queries."""
        return cls(False, seed, duration_s=600.0, least_queries=_SUPPORTS_P99, enough_queries=None)

    @classmethod
    def fast(cls, seed: int) -> Rules:
        """Until 662 queries or 30 s, but never fewer than 64 queries. Not for procurement."""
        return cls(True, seed, duration_s=30.0, least_queries=_SUPPORTS_P90, enough_queries=_SUPPORTS_P99)

    def done(self, queries: int, elapsed_s: float) -> bool:
        """Whether no further query is issued."""
        if self.enough_queries is not None and queries >= self.enough_queries:
            return True
        return elapsed_s >= self.duration_s and queries >= self.least_queries


@dataclass(frozen=True)
class Warmup:
    """Queries that were run first and not counted. first_result_ms: the very first query after loading."""

    queries: int
    total_ms: float
    first_result_ms: float


@dataclass(frozen=True)
class Samples:
    """Everything that was taken, in query order, milliseconds to four decimals; all figures come from these.

    order: which image each query used, an index into image_sha256.
    """

    image_sha256: tuple[str, ...]
    order: tuple[int, ...]
    latency_ms: tuple[float, ...]
    stage_ms: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Run:
    """What the loop leaves. duration_s: of the counted part, first issue to last answer."""

    warmup: Warmup
    samples: Samples
    duration_s: float


@dataclass
class _Taken:
    order: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    stage_ms: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def add(self, index: int, latency_ms: float, times_ms: dict[str, float]) -> None:
        self.order.append(index)
        self.latency_ms.append(latency_ms)
        for stage, values in self.stage_ms.items():
            values.append(round(times_ms[stage], 4))

    def samples(self, hashes: tuple[str, ...]) -> Samples:
        stages = {stage: tuple(values) for stage, values in self.stage_ms.items()}
        return Samples(hashes, tuple(self.order), tuple(self.latency_ms), stages)


def silent(queries: int, elapsed_s: float) -> None:
    """The tick that says nothing."""


def measure(
    answer: Answer,
    images: ImageSet,
    rules: Rules,
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    tick: Callable[[int, float], None] = silent,
) -> Run:
    """Warm up, then query until the rules are met.

    tick: called between queries with how many are done and the seconds since the start; its time falls between two
    latencies, never into one. Raises: what `answer` raises; no part of a run is kept then.
    """
    encoded = images.encoded
    warmup = _warm_up(answer, encoded, rules, clock_ns)
    order, taken = query_order(len(encoded), rules.seed), _Taken()
    start = now = clock_ns()
    while not rules.done(len(taken.order), (now - start) / 1e9):
        tick(len(taken.order), (now - start) / 1e9)
        index = next(order)
        issued = clock_ns()
        result = answer(encoded[index])
        now = clock_ns()
        taken.add(index, _milliseconds(now - issued), result.times_ms)
    return Run(warmup, taken.samples(images.hashes), round((now - start) / 1e9, 4))


def _warm_up(answer: Answer, encoded: Sequence[bytes], rules: Rules, clock_ns: Callable[[], int]) -> Warmup:
    start = now = clock_ns()
    first_ns, queries = 0, 0
    while queries < rules.warmup_least_queries or now - start < rules.warmup_least_ms * 1e6:
        answer(encoded[queries % len(encoded)])
        now = clock_ns()
        queries += 1
        first_ns = first_ns or now - start
    return Warmup(queries, _milliseconds(now - start), _milliseconds(first_ns))


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 4)
