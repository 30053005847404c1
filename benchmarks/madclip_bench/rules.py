"""The rules of a run, the same for every box: what is timed, for how long, and what may end it.

Two sets exist: `Rules.full` (what procurement may rely on) and `Rules.fast` (a look, marked "not for procurement").
Every number of them is written into the report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from madclip_bench.statistics import least_queries

__all__ = ["EXTRA", "SCENARIOS", "STYLE", "Limits", "Rules", "ScannerRules", "ServerRules"]

STYLE = "MLPerf-style; not an MLPerf result"
EXTRA = ("multi", "offline", "server", "scanner")
"""Scenarios that can be left out; single stream is the base of all and never is."""
SCENARIOS = ("single", *EXTRA)

_SUPPORTS_P99 = least_queries(0.99)
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Limits:
    """When a stretch of queries may end: after least_s and least_queries, but never later than most_s (one query at
    least). enough_queries: ends it at once, since it has what it came for; None: nothing does.
    """

    least_s: float
    most_s: float
    least_queries: int = 1
    enough_queries: int | None = None

    def done(self, queries: int, elapsed_s: float) -> bool:
        """Whether no further query is issued."""
        if self.enough_queries is not None and queries >= self.enough_queries:
            return True
        if elapsed_s >= self.most_s and queries >= 1:
            return True
        return elapsed_s >= self.least_s and queries >= self.least_queries

    def arrivals(self, rate_per_s: float) -> int:
        """How many arrivals at this rate make a stretch that keeps these limits; at least one."""
        wanted = max(rate_per_s * self.least_s, self.least_queries)
        if self.enough_queries is not None:
            wanted = min(wanted, self.enough_queries)
        return max(1, round(min(wanted, rate_per_s * self.most_s)))


@dataclass(frozen=True)
class ServerRules:
    """Poisson arrivals, one query an image. bound_ms: what p99 of the latency, waiting included, must not exceed.

    start_share: of the rate that a queue fed with the measured service times would hold, where the search begins.
    up, down: factors to the next rate after one that held, or missed. most_trials: real stretches that are run.
    """

    bound_ms: float
    limits: Limits
    percentile: float = 0.99
    start_share: float = 0.95
    up: float = 1.05
    down: float = 0.90
    most_trials: int = 4


@dataclass(frozen=True)
class ScannerRules:
    """Rooms that each send an exam of `slices` images every period_s; all slices arrive when the exam ends.

    An exam is in time when its last slice is answered deadline_s after it arrived. A quick run scales slices and
    seconds down together, so that the images a second stay what they are; `scale` says by how much (1: not).
    most_busy: rooms only count as kept up with where the box was busy for no more than this share of the stretch.
    """

    slices: int = 400
    period_s: float = 240.0
    deadline_s: float = 240.0
    scale: float = 1.0
    least_s: float = 600.0
    least_exams_a_room: int = 3
    most_busy: float = 0.95
    most_trials: int = 3

    @property
    def images_per_s(self) -> float:
        """What one room sends on average."""
        return self.slices / self.period_s

    def scaled_to(self, slices: int) -> ScannerRules:
        """The same rate in smaller exams; unchanged where exams are no larger than that."""
        if slices >= self.slices:
            return self
        share = slices / self.slices
        return replace(
            self,
            slices=slices,
            period_s=self.period_s * share,
            deadline_s=self.deadline_s * share,
            scale=self.scale * share,
        )


@dataclass(frozen=True)
class Rules:
    """Everything that decides how long a run takes and what it may say.

    scenarios: which were asked for, "single" always among them. seed: of images, orders and arrivals.
    multi_images: images of one multi-stream query. batches: how many images at once the offline scenario tries, sweep_s
    seconds each. idle_s: quiet seconds before the first scenario, for idle power and the load of others. sample_s:
    from one of the sampler's samples to the next.
    starts, starts_from_disk: fresh processes that are started to time a cold start, the latter after the kernel was
    asked to forget the bundle's files. deliveries: results drawn and written.
    """

    quick: bool
    seed: int
    scenarios: tuple[str, ...]
    single: Limits
    multi: Limits
    offline: Limits
    server: ServerRules
    scanner: ScannerRules
    sweep_s: float
    idle_s: float
    sample_s: float
    starts: int
    starts_from_disk: int
    deliveries: int
    multi_images: int = 8
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    warmup_least_ms: float = 200.0
    warmup_least_queries: int = 3
    style: str = STYLE

    @classmethod
    def full(
        cls,
        seed: int,
        *,
        scenarios: tuple[str, ...] = SCENARIOS,
        bound_ms: float = 1000.0,
        scanner: ScannerRules | None = None,
    ) -> Rules:
        """Each scenario ≥ 600 s and, where a percentile decides, the queries p99 needs (at most an hour for them)."""
        stretch = Limits(600.0, _HOUR_S, least_queries=_SUPPORTS_P99)
        return cls(
            quick=False,
            seed=seed,
            scenarios=scenarios,
            single=stretch,
            multi=stretch,
            offline=Limits(600.0, _HOUR_S),
            server=ServerRules(bound_ms, stretch),
            scanner=scanner or ScannerRules(),
            sweep_s=20.0,
            idle_s=10.0,
            sample_s=1.0,
            starts=5,
            starts_from_disk=5,
            deliveries=64,
        )

    @classmethod
    def fast(
        cls,
        seed: int,
        *,
        scenarios: tuple[str, ...] = SCENARIOS,
        bound_ms: float = 1000.0,
        scanner: ScannerRules | None = None,
    ) -> Rules:
        """Everything within a minute where an image takes half a second or less. Not for procurement."""
        short = replace(scanner or ScannerRules(), least_s=4.0, least_exams_a_room=2, most_trials=2)
        return cls(
            quick=True,
            seed=seed,
            scenarios=scenarios,
            single=Limits(15.0, 15.0, enough_queries=_SUPPORTS_P99),
            multi=Limits(4.0, 4.0, enough_queries=_SUPPORTS_P99),
            offline=Limits(3.0, 3.0),
            server=ServerRules(bound_ms, Limits(3.0, 3.0), most_trials=2),
            scanner=short.scaled_to(4),
            sweep_s=0.6,
            idle_s=1.0,
            sample_s=0.2,
            starts=1,
            starts_from_disk=0,
            deliveries=4,
        )

    def wants(self, scenario: str) -> bool:
        """Whether a scenario was asked for."""
        return scenario in self.scenarios
