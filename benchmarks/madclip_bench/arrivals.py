"""When queries arrive that don't wait for each other, and what a queue makes of them. Pure arithmetic, no clock.

`lindley_waits` is the textbook recursion (Lindley 1952): a query waits for what is left of the work before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from madclip_bench.statistics import nearest_rank

__all__ = ["exam_arrivals", "lindley_waits", "poisson_arrivals", "predicted_rate"]

Floats = npt.NDArray[np.float64]
_SIMULATED = 20_000
_STEPS = 20


def poisson_arrivals(rate_per_s: float, count: int, seed: int) -> tuple[float, ...]:
    """`count` arrival times in ms, ascending, to four decimals: independent gaps of mean 1 / rate."""
    gaps = np.random.default_rng([seed, count]).exponential(1e3 / rate_per_s, count)
    return tuple(round(float(when), 4) for when in np.cumsum(gaps))


def exam_arrivals(rooms: int, exams_a_room: int, period_s: float, seed: int) -> tuple[tuple[int, float], ...]:
    """(room, arrival in ms) of every exam, in order of arrival. Each room has its own seeded phase in the period."""
    phases = np.random.default_rng([seed, rooms]).uniform(0.0, period_s, rooms)
    phases -= phases.min()  # the stretch begins with the first exam
    exams = [
        (room, round(1e3 * (phases[room] + k * period_s), 4)) for room in range(rooms) for k in range(exams_a_room)
    ]
    return tuple(sorted(exams, key=lambda exam: exam[1]))


def lindley_waits(arrival_ms: Floats, service_ms: Floats) -> Floats:
    """What each query waits, ms, in a queue of one server, first come first served: float64 [n] from two of [n]."""
    steps = np.concatenate([[0.0], service_ms[:-1] - np.diff(arrival_ms)])
    total = np.cumsum(steps)
    waits: Floats = total - np.minimum.accumulate(np.minimum(total, 0.0))
    return waits


def predicted_rate(service_ms: Sequence[float], bound_ms: float, percentile: float, seed: int) -> float:
    """The rate, images a second, at which a simulated queue with these service times just holds the bound; 0: none.

    A guess of where to begin measuring; never a result.
    """
    generator = np.random.default_rng(seed)
    services = generator.choice(np.asarray(service_ms, dtype=np.float64), _SIMULATED)
    unit_gaps = generator.exponential(1.0, _SIMULATED)
    if nearest_rank(sorted(services), percentile) > bound_ms:
        return 0.0
    low, high = 0.0, 1e3 / float(services.mean())
    for _ in range(_STEPS):
        rate = (low + high) / 2
        latencies = services + lindley_waits(np.cumsum(unit_gaps * (1e3 / rate)), services)
        low, high = (rate, high) if nearest_rank(sorted(latencies), percentile) <= bound_ms else (low, rate)
    return low
