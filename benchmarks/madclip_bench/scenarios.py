"""All scenarios of a run, one after the other, on one loaded detector. Leaves trials; figures are made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from madclip_bench.rules import Limits, Rules
from madclip_bench.scanner import RoomsTrial, find_rooms
from madclip_bench.server import RateTrial, find_rate
from madclip_bench.trial import Bench, Trial, Warmup, closed_loop, warm_up

__all__ = ["Trials", "run_scenarios"]


@dataclass(frozen=True)
class Trials:
    """What the scenarios left. multi, offline: None, server, scanner: empty, where the scenario was not asked for."""

    warmup: Warmup
    single: Trial
    multi: Trial | None = None
    sweep: tuple[Trial, ...] = ()
    offline: Trial | None = None
    server: tuple[RateTrial, ...] = ()
    scanner: tuple[RoomsTrial, ...] = ()


def run_scenarios(bench: Bench, rules: Rules) -> Trials:
    """Warm up, then single stream, then the others that were asked for.

    Raises: what the subject raises; nothing is kept then.
    """
    warmup = warm_up(bench, rules.warmup_least_ms, rules.warmup_least_queries)
    single = closed_loop(bench, "single stream", rules.single)
    multi = closed_loop(bench, "multi-stream", rules.multi, batch=rules.multi_images) if rules.wants("multi") else None
    sweep = _sweep(bench, rules) if rules.wants("offline") or rules.wants("scanner") else ()
    best = max(sweep, key=lambda trial: trial.images_per_s, default=single)
    offline = closed_loop(bench, "offline", rules.offline, batch=best.batch) if rules.wants("offline") else None
    fastest = offline or best
    server = find_rate(bench, rules.server, single.latency_ms) if rules.wants("server") else ()
    scanner: tuple[RoomsTrial, ...] = ()
    if rules.wants("scanner"):
        scanner = find_rooms(bench, rules.scanner, images_per_s=fastest.images_per_s, batch=fastest.batch)
    return Trials(warmup, single, multi, sweep, offline, server, scanner)


def _sweep(bench: Bench, rules: Rules) -> tuple[Trial, ...]:
    """A short stretch a batch size, after one query that is not counted. A size whose one query would fill a stretch is
    not tried: it could show nothing, and on a slow box it would cost minutes.
    """
    trials: list[Trial] = []
    limits = Limits(rules.sweep_s, rules.sweep_s)
    for batch in rules.batches:
        if trials and batch / trials[-1].images_per_s > rules.sweep_s:
            break
        bench.ask(range(min(batch, len(bench.images))))
        trials.append(closed_loop(bench, f"offline, {batch} at once", limits, batch=batch))
    return tuple(trials)
