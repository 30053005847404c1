"""Server scenario: Poisson arrivals, and the search for the highest rate whose p99 holds a bound.

Where to begin comes from a simulated queue; what counts was really run at that rate, for the full time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from madclip_bench.arrivals import poisson_arrivals, predicted_rate
from madclip_bench.rules import ServerRules
from madclip_bench.statistics import Percentile, percentile_of
from madclip_bench.trial import Bench, Trial, open_loop

__all__ = ["HELD", "MISSED", "UNDECIDED", "RatePoint", "RateTrial", "ServerFigures", "find_rate"]

HELD, MISSED, UNDECIDED = "held", "missed", "not supported"


@dataclass(frozen=True)
class RateTrial:
    """One stretch at one rate of arrivals, images a second."""

    rate_per_s: float
    trial: Trial


@dataclass(frozen=True)
class RatePoint:
    """What one rate came to. verdict: "held", "missed", or "not supported" where the queries are too few to say.

    over_bound: queries whose latency, waiting included, exceeded the bound. percentile: of the latency; without values
    where the stretch was cut short. busy_share: of the stretch, in which a query was being worked on.
    """

    rate_per_s: float
    queries: int
    over_bound: int
    percentile: Percentile
    max_ms: float
    median_wait_ms: float
    busy_share: float
    cut: bool
    verdict: str

    @classmethod
    def of(cls, tried: RateTrial, rules: ServerRules) -> RatePoint:
        """Judge one stretch: the early-stopping estimate, not the sample's own percentile, must hold the bound."""
        trial = tried.trial
        found = percentile_of(trial.latency_ms, rules.percentile)
        if trial.cut:
            found = Percentile(found.name, None, None, found.least_queries, "stretch ended early, the bound was lost")
        busy_ms = math.fsum(trial.latency_ms) - math.fsum(trial.waited_ms)
        return cls(
            rate_per_s=tried.rate_per_s,
            queries=trial.queries,
            over_bound=sum(latency > rules.bound_ms for latency in trial.latency_ms),
            percentile=found,
            max_ms=max(trial.latency_ms),
            median_wait_ms=sorted(trial.waited_ms)[len(trial.waited_ms) // 2],
            busy_share=round(busy_ms / 1e3 / trial.duration_s, 4) if trial.duration_s > 0 else 0.0,
            cut=trial.cut,
            verdict=_verdict(found, trial, rules),
        )


@dataclass(frozen=True)
class ServerFigures:
    """held_per_s: the highest rate that was run and held the bound; None where none did.

    missed_per_s: the lowest rate that was run and missed it; the true limit lies between the two.
    """

    bound_ms: float
    held_per_s: float | None
    missed_per_s: float | None
    tried: tuple[RatePoint, ...]
    note: str = ""

    @classmethod
    def of(cls, trials: tuple[RateTrial, ...], rules: ServerRules) -> ServerFigures:
        """From all stretches of a run; none: one image alone takes as long as the bound, or nearly."""
        tried = tuple(sorted((RatePoint.of(one, rules) for one in trials), key=lambda point: point.rate_per_s))
        held = [point.rate_per_s for point in tried if point.verdict == HELD]
        missed = [point.rate_per_s for point in tried if point.verdict == MISSED]
        return cls(
            bound_ms=rules.bound_ms,
            held_per_s=max(held, default=None),
            missed_per_s=min(missed, default=None),
            tried=tried,
            note=_note(tried, bool(held)),
        )


def find_rate(bench: Bench, rules: ServerRules, service_ms: tuple[float, ...]) -> tuple[RateTrial, ...]:
    """Run stretches until one rate has held and the next higher one missed, or the trials are used up.

    service_ms: latencies of single stream. Empty where these alone already miss the bound.
    """
    rate = predicted_rate(service_ms, rules.bound_ms, rules.percentile, bench.seed) * rules.start_share
    trials: list[RateTrial] = []
    verdicts: set[str] = set()
    while rate * rules.limits.most_s >= 1 and len(trials) < rules.most_trials and not {HELD, MISSED} <= verdicts:
        trials.append(_try(bench, rules, round(rate, 4)))
        verdict = RatePoint.of(trials[-1], rules).verdict
        verdicts.add(verdict)
        if verdict == UNDECIDED:
            break
        rate *= rules.up if verdict == HELD else rules.down
    return tuple(trials)


def _try(bench: Bench, rules: ServerRules, rate_per_s: float) -> RateTrial:
    arrivals = _arrivals(rate_per_s, rules, bench.seed)
    planned, over = len(arrivals), 0

    def hopeless(latency_ms: float) -> bool:
        """More over the bound than the planned number of queries could forgive."""
        nonlocal over
        over += latency_ms > rules.bound_ms
        return over > 1 + (1 - rules.percentile) * planned

    return RateTrial(rate_per_s, open_loop(bench, "server", arrivals, hopeless=hopeless))


def _arrivals(rate_per_s: float, rules: ServerRules, seed: int) -> tuple[float, ...]:
    """As many as the limits ask for, and on until the last of them comes after the least time: chance alone would end
    half of all stretches a little early. The first comes at once, none after the most time.
    """
    limits = rules.limits
    least = limits.arrivals(rate_per_s)
    drawn = poisson_arrivals(rate_per_s, 50 + round(1.2 * least), seed)
    more = [round(when - drawn[0], 4) for when in drawn]
    enough = next((i for i in range(least - 1, len(more)) if more[i] >= 1e3 * limits.least_s), len(more) - 1)
    return tuple(when for when in more[: enough + 1] if when <= 1e3 * limits.most_s)


def _verdict(found: Percentile, trial: Trial, rules: ServerRules) -> str:
    if trial.cut:
        return MISSED
    if found.early_stopping_ms is None:
        return UNDECIDED
    return HELD if found.early_stopping_ms <= rules.bound_ms else MISSED


def _note(tried: tuple[RatePoint, ...], held: bool) -> str:
    if not tried:
        return "one image alone already takes as long, or nearly"
    if held:
        return ""
    undecided = [point for point in tried if point.verdict == UNDECIDED]
    return undecided[0].percentile.note if undecided else "no rate that was tried held the bound"
